"""The page on poisoning: its tables are those of the registry, its commands and example work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fedsieve.cli import main
from fedsieve.experiments import run as running
from fedsieve.poisoning import Knowledge
from fedsieve.registry import components

ATTACKS = {c.name: c for c in components("attack") if c.name != "none"}
EXAMPLE = re.compile(r"<!-- example: (?P<path>\S+) -->\n```python\n(?P<code>.*?)^```$", re.M | re.S)
BIN, ROOT = Path(sys.executable).parent, Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs/concepts/poisoning.md").read_text()


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table under this heading line."""
    table = page.split(f"| {heading} |\n", 1)[1].split("\n\n", 1)[0]
    lines = table.splitlines()[1:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def execute(command: list[str], folder: Path, typed: str = "") -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, input=typed, check=False
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"


def needs(name: str, **given: object) -> Knowledge:
    """What the attack needs with these settings, as far as it has them."""
    fields = ATTACKS[name].factory.__dataclass_fields__  # type: ignore[attr-defined]
    made = ATTACKS[name].build(**{key: value for key, value in given.items() if key in fields})
    return made.knowledge  # type: ignore[no-any-return]


def spared_by(name: str) -> list[str]:
    """The settings with which it needs less."""
    with_strength = {"strength": "published"} if name == "alie" else {}  # of its partial form
    changes = {
        "strength": {"strength": 1.0},
        "partial": {"partial": True, **with_strength},
        "norm": {"norm": 1.0},
    }
    return [key for key, change in changes.items() if needs(name, **change) != needs(name)]


def test_the_table_of_attacks_is_that_of_the_registry(page: str) -> None:
    told = {cells[0]: cells[1:] for cells in rows(page, "attack | needs | spared by")}
    assert told == {
        name: [", ".join(needs(name).words) or "nothing", ", ".join(spared_by(name))]
        for name in ATTACKS
    }


def test_every_kind_of_knowledge_has_its_word(page: str) -> None:
    assert [word for word, _ in rows(page, "word | they know")] == [
        str(flag.name).lower() for flag in Knowledge if flag
    ]


def test_every_attack_is_spoken_of(page: str) -> None:
    prose = page.split("## What the families do", 1)[1]
    assert set(ATTACKS) <= set(re.findall(r"`([a-z-]+)`", prose))
    assert {name for name, _ in rows(page, "attack | what it is made for")} <= set(ATTACKS)


def test_the_commands_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "report", lambda _: None)  # figures take longer than the runs
    typed = [shlex.split(line) for line in re.findall(r"^\$ (.*)$", page, re.M)]
    assert {words[1] for words in typed} == {"list", "run", "show"}
    for program, *words in typed:
        assert program == "fedsieve"
        assert main(words) == 0, words
    told = capsys.readouterr().out
    assert "backdoor half-life" in told


def test_the_example_is_an_attack_in_one_file(page: str, tmp_path: Path) -> None:
    """Dropped beside the other attacks it is listed, built and right, with no other edit."""
    found = re.search(
        r"<!-- example: (?P<path>\S+) -->\n```python\n(?P<code>.*?)^```$", page, re.M | re.S
    )
    assert found is not None
    path, code = Path(found["path"]), found["code"]
    assert path.parent == Path("src/fedsieve/poisoning")
    (tmp_path / path.name).write_text(code)
    check = textwrap.dedent(f"""
        import numpy as np, torch, fedsieve.poisoning as room
        room.__path__.append({str(tmp_path)!r})
        from fedsieve.registry import component, components
        assert "drag" in [c.name for c in components("attack")]
        attack = component("attack", "drag").build(strength=2.0)
        rng, last = np.random.default_rng(0), torch.tensor([1.0, -3.0])
        scene = room.Scene(torch.ones(3, 2), 2, lambda stack: stack.mean(0), rng, last=last)
        assert attack.craft(scene).tolist() == [[-2.0, 6.0]] * 2
        """)
    execute([sys.executable, "-W", "error", "-c", check], tmp_path)
    for tool in (["check"], ["format", "--check"]):
        execute([str(BIN / "ruff"), *tool, "--stdin-filename", str(path), "-"], ROOT, code)
