"""Open settings get the algorithm's defaults; what data or model forbid is refused."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from fedsieve.experiments import checks
from fedsieve.experiments.resolve import DEFAULTS, Facts, resolve
from fedsieve.experiments.toml import dump, load, parse

IMAGES = Facts(d=50890, sizes=(500,) * 20, input_shape=(1, 28, 28), image=True)
ROWS = Facts(d=1000, sizes=(40,) * 20, input_shape=(108,), image=False)


def configured(name: str, **sections: Any) -> Any:
    return parse({"algorithm": {"name": name}, **sections})


@pytest.mark.parametrize("name", sorted(DEFAULTS))
@pytest.mark.parametrize("facts", [IMAGES, ROWS])
def test_nothing_is_left_open(name: str, facts: Facts) -> None:
    complete = resolve(configured(name), facts)
    algorithm = complete.algorithm
    settings = (algorithm.lr, algorithm.server_lr, algorithm.momentum, algorithm.batch)
    assert None not in (*settings, algorithm.local_steps)
    assert None not in (complete.projection.name, complete.projection.refresh)
    assert None not in (complete.aggregation.rule, complete.aggregation.pre, complete.aggregation.f)
    assert resolve(complete, facts) == complete
    assert parse(tomllib.loads(dump(complete))) == complete


def test_sieve_fits_its_projection_to_data_and_model() -> None:
    def projection(model: str, facts: Facts) -> str | None:
        return resolve(configured("sieve", model={"name": model}), facts).projection.name

    assert projection("mlp", IMAGES) == projection("softmax", IMAGES) == "dct"
    assert projection("cnn", IMAGES) == projection("mlp", ROWS) == "low-rank"


def test_sieve_and_dshb() -> None:
    demo = resolve(load(), IMAGES)
    assert (demo.aggregation.rule, demo.algorithm.momentum) == ("caf", 0.9)
    assert demo.privacy is not None
    assert demo.privacy.clip is not None
    assert demo.privacy.noise_multiplier is None
    attacked = configured("dshb", federation={"byzantine": 4})
    assert resolve(attacked, IMAGES).aggregation.rule == "caf"
    plain = resolve(configured("dshb"), IMAGES)
    assert (plain.aggregation.rule, plain.projection.name) == ("mean", "identity")
    assert plain.projection.k == IMAGES.d


def test_what_was_given_stays() -> None:
    given = configured(
        "sieve",
        projection={"name": "random-mask", "k": 77},
        aggregation={"rule": "mean"},
        algorithm={"name": "sieve", "lr": 0.3, "batch": 7},
    )
    complete = resolve(given, IMAGES)
    assert complete.projection.k == 77
    assert complete.projection.name == "random-mask"
    assert complete.aggregation.rule == "mean"
    assert (complete.algorithm.lr, complete.algorithm.batch) == (0.3, 7)


def test_the_default_batch_fits_the_smallest_client() -> None:
    small = Facts(d=10, sizes=(30, 9), input_shape=(5,), image=False)
    complete = resolve(configured("dshb", federation={"clients": 2}), small)
    assert complete.algorithm.batch == 9
    assert complete.federation.clients == 2


def test_what_data_and_model_forbid() -> None:
    with pytest.raises(ValueError, match=r"projection\.k=1001 exceeds the model's d=1000"):
        resolve(configured("sieve", projection={"name": "random-mask", "k": 1001}), ROWS)
    with pytest.raises(ValueError, match=r"algorithm\.batch=41 exceeds the 40 records"):
        resolve(configured("sieve", algorithm={"name": "sieve", "batch": 41}), ROWS)
    with pytest.raises(ValueError, match=r"federation\.byzantine=10 is too many .*'caf'"):
        resolve(configured("sieve", federation={"byzantine": 10}), ROWS)


def test_natural_clients_need_owners() -> None:
    natural = parse({"data": {"partition": "natural"}})
    checks.fits_data(natural, task="classification", owners=True)
    with pytest.raises(ValueError, match=r"data\.partition='natural'.*no owners"):
        checks.fits_data(natural, task="classification", owners=False)


def test_a_regression_has_no_classes() -> None:
    flipped = parse({"federation": {"byzantine": 2}, "attack": {"name": "label-flip"}})
    with pytest.raises(ValueError, match="no classes to flip"):
        checks.fits_data(flipped, task="regression", owners=False)
    sorted_ = parse({"data": {"partition": "dirichlet"}})
    with pytest.raises(ValueError, match=r"data\.partition='dirichlet' sorts by class"):
        checks.fits_data(sorted_, task="regression", owners=False)
    checks.fits_data(parse({}), task="regression", owners=False)
