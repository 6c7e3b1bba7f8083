"""The list of named components: what may enter it, how it is asked, how it answers mistakes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedsieve import registry
from fedsieve.registry import UnknownComponentError, component, components, register


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty package that holds the components of a family called "toy"."""
    package = tmp_path / "toy_room"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.ROOMS, "toy", "toy_room")
    monkeypatch.setattr(registry, "_components", {})
    registry._discover.cache_clear()
    yield package
    registry._discover.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_room"]:
        del sys.modules[name]


def test_a_file_in_the_room_is_found_without_editing_anything(room: Path) -> None:
    (room / "ball.py").write_text(
        "from fedsieve.registry import register\n"
        '@register("toy", "ball", paper="Newton 1687")\n'
        "def ball(size=1):\n"
        '    """A round\n    thing.\n\n    More."""\n'
        "    return size\n"
    )
    (found,) = components("toy")
    assert (found.family, found.name, found.paper) == ("toy", "ball", "Newton 1687")
    assert found.summary == "A round thing."
    assert component("toy", "ball") is found


def test_build_offers_only_what_the_factory_names(room: Path) -> None:
    @register("toy", "pair")
    def pair(a: int, b: int = 2) -> tuple[int, int]:
        return a, b

    assert component("toy", "pair").build(a=1, c=9) == (1, 2)
    assert component("toy", "pair").build(a=1, b=5) == (1, 5)


def test_components_come_in_the_order_of_their_names(room: Path) -> None:
    for name in ("b", "c", "a"):
        register("toy", name)(type(name, (), {}))
    assert [c.name for c in components("toy")] == ["a", "b", "c"]


def test_a_taken_name_is_refused_but_a_reload_is_not(room: Path) -> None:
    def one() -> None: ...

    def two() -> None: ...

    register("toy", "x")(one)
    register("toy", "x")(one)
    with pytest.raises(ValueError, match=r"toy 'x' is already .*one"):
        register("toy", "x")(two)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="family='rulez' is not one of"):
        register("rulez", "x")
    with pytest.raises(UnknownComponentError, match="family='rulez' is not one of"):
        components("rulez")


def test_an_unknown_name_gets_the_nearest_one(room: Path) -> None:
    register("toy", "trimmed-mean")(type("T", (), {}))
    with pytest.raises(UnknownComponentError, match="did you mean 'trimmed-mean'"):
        component("toy", "trimmedmean")
    with pytest.raises(UnknownComponentError, match=r"no toy is called 'zzz' \(there are: trim"):
        component("toy", "zzz")
