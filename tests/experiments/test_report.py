"""The report page: complete, self-contained, and drawn by a real browser."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from fedsieve.experiments import figures
from fedsieve.experiments.drawing import draw
from fedsieve.experiments.metrics import Metrics
from fedsieve.experiments.recorded import Run
from fedsieve.experiments.report import report
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.experiments.toml import ConfigError

ALL = {
    "progress_by_round",
    "progress_by_bits",
    "weights",
    "weights_over_time",
    "noise",
    "clipped",
    "aggregation_error",
    "partition",
    "phases",
}


def shown(page: Path) -> set[str]:
    return set(re.findall(r'<figure id="(\w+)"', page.read_text()))


def ink(png: bytes) -> float:
    """Share of the picture that is not background."""
    image = imread(io.BytesIO(png))[..., :3]
    return float((np.abs(image - image[0, 0]).sum(axis=-1) > 0.05).mean())


@pytest.fixture(scope="module")
def settled() -> Iterator[None]:
    """Drawing changes no global setting of matplotlib."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before


@pytest.mark.usefixtures("settled")
def test_one_run(tmp_path: Path, invented: Callable[..., Path]) -> None:
    page = report([invented(tmp_path / "run", rounds=12)])
    assert page == tmp_path / "run" / "report.html"
    assert shown(page) == ALL
    assert {file.stem for file in (tmp_path / "run" / "figures").iterdir()} == ALL
    for file in (tmp_path / "run" / "figures").iterdir():
        assert ink(file.read_bytes()) > 0.01, file
    text = page.read_text()
    for words in ("4 of 20", "add-remove", "Poisson", "embedded subset", "noise_seed"):
        assert words in text


def test_several_runs_side_by_side(tmp_path: Path, invented: Callable[..., Path]) -> None:
    runs = [
        invented(tmp_path / "a", rounds=5, title="first"),
        invented(tmp_path / "b", rounds=5, title="second", private=False),
        invented(tmp_path / "c", rounds=5, title="third", finished=False),
    ]
    page = report(runs)
    assert page == tmp_path / "report.html"
    assert shown(page) == {"progress_by_round", "progress_by_bits", "aggregation_error", "phases"}
    text = page.read_text()
    for words in ("first", "second", "third", "not finished: 5 rounds", "No differential privacy"):
        assert words in text
    elsewhere = report(runs[:1], tmp_path / "elsewhere" / "page.html")
    assert elsewhere.is_file()
    assert (elsewhere.parent / "figures" / "weights.png").is_file()


def test_what_does_not_apply_is_left_out(tmp_path: Path, invented: Callable[..., Path]) -> None:
    plain = invented(tmp_path / "plain", rounds=6, private=False, weights=False, byzantine=0)
    page = report([plain])
    assert shown(page) == ALL - {"weights", "weights_over_time", "noise", "clipped"}
    assert "epsilon spent" not in page.read_text()


def test_a_regression_shows_its_loss(tmp_path: Path, invented: Callable[..., Path]) -> None:
    page = report([invented(tmp_path / "run", rounds=6, regression=True)])
    assert "test loss" in page.read_text()
    assert "test accuracy</text>" not in page.read_text()


def test_a_run_without_rounds_has_a_page(tmp_path: Path, invented: Callable[..., Path]) -> None:
    path = invented(tmp_path / "run", rounds=3, finished=False)
    RunDirectory(path).save_metrics(Metrics())
    text = report([path]).read_text()
    assert "Not finished: 0 rounds so far" in text


def test_names_are_text_and_never_markup(tmp_path: Path, invented: Callable[..., Path]) -> None:
    evil = "<script>alert(1)</script> & $x$ 名"
    runs = [invented(tmp_path / name, rounds=4, title=evil + name) for name in "ab"]
    text = report(runs).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_what_cannot_be_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        report([tmp_path])
    with pytest.raises(ValueError, match="at least one run"):
        report([])


def test_weights_of_clients_that_come_and_go(tmp_path: Path, invented: Callable[..., Path]) -> None:
    path = invented(tmp_path / "run", rounds=3)
    metrics = Metrics()
    nan = float("nan")
    for t, row in enumerate([[0.5, nan, 0.5], None, [nan, nan, 1.0]]):
        metrics.append({"round": t, "weights": row})
    RunDirectory(path).save_metrics(metrics)
    weights = Run(RunDirectory(path)).weights()
    assert weights is not None
    np.testing.assert_array_equal(weights, [[0.5, nan, 0.5], [nan] * 3, [nan, nan, 1.0]])
    assert draw(lambda: figures.weights(Run(RunDirectory(path)))) is not None


def test_drawings_are_repeatable(tmp_path: Path, invented: Callable[..., Path]) -> None:
    run = Run(RunDirectory(invented(tmp_path / "run", rounds=6)))
    first, second = (draw(lambda: figures.progress([run], "rounds")) for _ in range(2))
    assert first is not None
    assert first == second


# ---------------------------------------------------------------------------- in a real browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        reason = "needs playwright and an installed chromium"
        if os.environ.get("FEDSIEVE_REQUIRE_CHROMIUM") == "1":
            pytest.fail(f"FEDSIEVE_REQUIRE_CHROMIUM=1, but this test {reason}")
        pytest.skip(reason)
    quiet = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, invented: Callable[..., Path]
) -> dict[str, Path]:
    here = tmp_path_factory.mktemp("runs")
    runs = [invented(here / name, rounds=40, title=f"run {name}") for name in "abcd"]
    return {"single": report(runs[:1]), "comparison": report(runs)}


@pytest.mark.parametrize("kind", ["single", "comparison"])
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_in_chromium(
    chromium: Any, pages: dict[str, Path], kind: str, width: int, scheme: str
) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    address = pages[kind].as_uri()
    page.goto(address)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.locator("figure")
    assert drawn.count() == len(shown(pages[kind]))
    for i in range(drawn.count()):
        drawing = drawn.nth(i).locator("svg")
        box = drawing.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 100
        assert ink(drawing.screenshot()) > 0.01
        assert drawn.nth(i).get_attribute("aria-label")
    assert page.locator("#privacy").inner_text().count("Poisson") >= 1
    context.close()


def test_the_words_at_an_axis_stay_below_the_legend(
    tmp_path: Path, invented: Callable[..., Path]
) -> None:
    for count in (2, 4, 6):
        runs = [
            Run(RunDirectory(invented(tmp_path / f"{count}-{i}", rounds=5))) for i in range(count)
        ]
        figure = figures.error(runs)
        assert figure is not None
        figure.draw_without_rendering()
        (legend,), (ax,) = figure.legends, figure.axes
        assert ax.yaxis.label.get_window_extent().y1 < legend.get_window_extent().y0
