"""What the documents tell people to type works: commands, Python, links, the example of a rule."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fedsieve.cli import main
from fedsieve.experiments import toml
from fedsieve.experiments.arena import plan

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BIN = Path(sys.executable).parent

STRUCTURAL = {
    "make": "would make .venv and run these very tests: its targets must exist",
}
"""Programs that are looked at instead of run -> why."""

FENCE = re.compile(r"^```(?P<kind>[a-z]*)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
SKIPPED = re.compile(r"<!-- not run by the tests: .+? -->\n```.*?^```$", re.MULTILINE | re.DOTALL)
"""A block that takes minutes says so in the source of its page."""
EXAMPLE = re.compile(r"<!-- example: (?P<path>\S+) -->\n```python\n(?P<code>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#\s]+)(?:#(?P<anchor>[^)\s]*))?\)")


def blocks(markdown: str, kind: str) -> list[str]:
    """Bodies of the fenced blocks of one kind, in order."""
    return [m["body"] for m in FENCE.finditer(markdown) if m["kind"] == kind]


def commands(markdown: str) -> list[str]:
    """The lines that a reader would type: ``$ ...`` in console blocks, without the prompt."""
    lines = "".join(blocks(markdown, "console")).replace("\\\n", " ").splitlines()
    return [line[2:].strip() for line in lines if line.startswith("$ ")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))


def execute(command: list[str], folder: Path, typed: str = "") -> str:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        input=typed,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_extraction_reads_what_a_reader_would_type() -> None:
    page = textwrap.dedent("""\
        ```console
        $ one --two \\
          three
        its output
        ```
        ```python
        x = 1
        ```
        ```
        $ not this
        ```
        <!-- not run by the tests: an hour -->
        ```console
        $ four
        ```
        """)
    page = SKIPPED.sub("", page)
    assert [shlex.split(c) for c in commands(page)] == [["one", "--two", "three"]]
    assert blocks(page, "python") == ["x = 1\n"]


def test_the_readme_has_commands_and_python() -> None:
    page = (ROOT / "README.md").read_text()
    assert {"make demo", "make test"} <= set(commands(page))
    assert any(c.startswith("fedsieve run") for c in commands(page))
    assert len(blocks(page, "python")) == 1
    assert page.index("<!-- demo-table:start -->") < page.index("<!-- demo-table:end -->")


@pytest.mark.parametrize(
    "document",
    [
        d
        for d in DOCUMENTS
        if d.name != "poisoning.md"  # its own test runs them
        and commands(SKIPPED.sub("", d.read_text()))
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_the_commands_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the README as processes of their own; elsewhere ours are called, which is faster."""
    monkeypatch.chdir(tmp_path)
    for command in commands(SKIPPED.sub("", document.read_text())):
        program, *arguments = shlex.split(command)
        if program == "fedsieve" and document.name != "README.md":
            assert main(arguments) == 0, command
        elif program not in STRUCTURAL:
            execute([program, *arguments], tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_make_targets_exist(document: Path) -> None:
    typed = commands(document.read_text())
    named = re.findall(r"`make ([a-z]+)`", document.read_text())
    typed_targets = [t for c in typed if c.startswith("make ") for t in c.split()[1:]]
    assert {t for t in (*named, *typed_targets) if "=" not in t} <= make_targets()


@pytest.mark.parametrize(
    "document",
    [d for d in DOCUMENTS if d.name != "CONTRIBUTING.md" and blocks(d.read_text(), "python")],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_python_blocks_run(document: Path, tmp_path: Path) -> None:
    for code in blocks(document.read_text(), "python"):
        script = tmp_path / "block.py"
        script.write_text(code)
        execute([sys.executable, "-W", "error", str(script)], tmp_path)


@pytest.mark.parametrize(
    "document",
    [d for d in DOCUMENTS if blocks(d.read_text(), "toml")],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_configurations_are_read(document: Path, tmp_path: Path) -> None:
    """Each is a run's or an arena's, and nothing in it is unknown."""
    for text in blocks(document.read_text(), "toml"):
        file = tmp_path / "documented.toml"
        file.write_text(text)
        (plan.load if "[arena]" in text else toml.load)(file)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    made_by_generate = {"components.md", "api/index.md"}
    for link in LINK.finditer(document.read_text()):
        target = document.parent / link["target"]
        if (ROOT / "docs") in document.parents and link["target"] in made_by_generate:
            continue
        assert target.exists(), f"{document.name} links to {link['target']}"
        if link["anchor"]:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert link["anchor"] in {re.sub(r"[^a-z0-9]+", "-", h.lower()) for h in headings}


def test_the_example_of_contributing_is_a_rule_in_one_file(tmp_path: Path) -> None:
    """Dropped beside the other rules, the file is listed, built and right, with no other edit."""
    (example,) = EXAMPLE.finditer((ROOT / "CONTRIBUTING.md").read_text())
    assert Path(example["path"]).parent == Path("src/fedsieve/aggregation")
    (tmp_path / Path(example["path"]).name).write_text(example["code"])
    check = textwrap.dedent(f"""
        import numpy as np, fedsieve.aggregation as room
        room.__path__.append({str(tmp_path)!r})
        from fedsieve.registry import component, components
        assert "medoid" in [c.name for c in components("rule")]
        rule = component("rule", "medoid").build(f=1)
        stack = np.array([[0.0], [1.0], [2.1], [1.2], [99.0]])
        assert rule(stack) == [1.2], rule(stack)
        distances = np.abs(stack - stack.T).sum(1)
        assert rule(stack) == stack[distances.argmin()]
        assert rule(stack, weights=[9, 1, 1, 1, 1]) == [0.0]
        """)
    execute([sys.executable, "-W", "error", "-c", check], tmp_path)
    as_if = ["--stdin-filename", example["path"], "-"]
    execute(["ruff", "check", *as_if], ROOT, example["code"])
    execute(["ruff", "format", "--check", *as_if], ROOT, example["code"])
