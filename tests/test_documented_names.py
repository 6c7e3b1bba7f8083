"""What the documents name in backticks exists: objects, commands, keys of the configuration."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from fedsieve.experiments.schema import schema
from tests.cli.telling import every_command

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FOREIGN = {"SeedSequence", "False", "None", "True"}
"""Names of numpy and of the language."""


def named(document: Path) -> list[str]:
    """What stands in backticks within the text."""
    return CODE.findall(FENCED.sub("", document.read_text()))


def found(dotted: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    head, *rest = dotted.split(".")
    held: Any = importlib.import_module(head)
    for step, name in enumerate(rest, start=1):
        if not hasattr(held, name):
            try:
                held = importlib.import_module(".".join([head, *rest[:step]]))
            except ModuleNotFoundError:
                return False
        else:
            held = getattr(held, name)
    return True


def classes() -> set[str]:
    """Every class that the sources define, and every alias of a type."""
    names: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ClassDef(name=name):
                    names.add(name)
                case ast.Assign(targets=[ast.Name(id=name)]):
                    names.add(name)
    return names


CLASSES, COMMANDS, SCHEMA = classes(), every_command(), schema()


def is_key(dotted: str) -> bool:
    """Whether a section of the configuration has such a key."""
    section, key = dotted.split(".")[:2]
    held = SCHEMA["properties"][section]
    reference = held.get("$ref") or next(o["$ref"] for o in held["anyOf"] if "$ref" in o)
    return key in SCHEMA["$defs"][reference.rsplit("/", 1)[1]]["properties"]


def test_the_finders_find_what_is_there_and_nothing_else() -> None:
    assert found("fedsieve.privacy.local_dp")
    assert found("fedsieve.Config.model_validate")
    assert not found("fedsieve.privacy.nowhere")
    assert {("run",), ("privacy", "epsilon")} <= COMMANDS
    assert "TrimmedMean" in CLASSES
    assert is_key("privacy.noise_seed")
    assert not is_key("privacy.noise_sed")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_everything_named_exists(document: Path) -> None:
    sections = [name for name in SCHEMA["properties"] if name not in ("rounds", "name")]
    absent = []
    for text in named(document):
        if match := re.match(r"(fedsieve(\.\w+)+)", text):
            there = found(match[1])
        elif match := re.match(r"fedsieve ((?:[a-z]+ ?)+)", text):
            words = tuple(match[1].split())
            there = words[:1] in COMMANDS and (words[0] != "privacy" or words[:2] in COMMANDS)
        elif match := re.match(rf"({'|'.join(sections)})\.[a-z]\w*(?![\w.])", text):
            suffix = match[0].rsplit(".", 1)[1]
            there = suffix in ("json", "toml", "py", "safetensors") or is_key(match[0])
        elif match := re.fullmatch(r"([A-Z][a-z]+(?:[A-Z]+[a-z]*)+)(\(.*\))?", text):
            there = match[1] in CLASSES | FOREIGN
        else:
            continue
        if not there:
            absent.append(text)
    assert not absent
