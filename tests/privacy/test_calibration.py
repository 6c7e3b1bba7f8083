"""Calibration: the noise, the rounds and the rate that a budget buys, and the printed tables."""

import math

import pytest

from fedsieve.privacy import (
    Setting,
    epsilon,
    knobs,
    max_sampling_rate,
    max_steps,
    noise_multiplier,
    table,
)
from fedsieve.privacy import calibration as module

DELTA = 1e-5

# Calibrated multipliers for epsilon = .5, 1, 2, 4, 8 (dp-accounting's PLD, rounded up by at most
# 2e-4; add-remove, delta 1e-5)
TARGETS = (0.5, 1.0, 2.0, 4.0, 8.0)
MULTIPLIERS = {
    (0.01, 100): (1.143, 0.9021, 0.7368, 0.5905, 0.4646),
    (0.01, 1000): (2.383, 1.415, 0.9593, 0.7348, 0.5863),
    (0.01, 10_000): (7.086, 3.814, 2.128, 1.288, 0.8827),
    (0.1, 100): (7.214, 3.942, 2.248, 1.386, 0.9359),
    (0.1, 1000): (22.3, 11.87, 6.391, 3.531, 2.051),
    (0.1, 10_000): (70.37, 37.34, 19.97, 10.85, 6.054),
    (1.0, 100): (70.32, 37.31, 19.94, 10.81, 6.002),
    (1.0, 1000): (222.4, 118.0, 63.05, 34.19, 18.98),
    (1.0, 10_000): (703.2, 373.1, 199.4, 108.1, 60.02),
}
SLOW = {  # seconds each: the loss grid is fine where q is small
    (0.001, 1000): (0.7253, 0.641, 0.5601, 0.4724, 0.3845),
    (0.001, 100): (0.6448, 0.5755, 0.5056, 0.4269, 0.3389),
    (0.001, 10_000): (0.9742, 0.7408, 0.6286, 0.5343, 0.4502),
}


@pytest.mark.parametrize(
    ("q", "steps"), [*MULTIPLIERS, *(pytest.param(*job, marks=pytest.mark.slow) for job in SLOW)]
)
def test_the_printed_multipliers_within_half_a_percent(q, steps):
    rows = table(epsilon=TARGETS, sampling_rate=[q], steps=[steps], delta=[DELTA])
    found = [row.noise_multiplier for row in rows]
    assert found == pytest.approx((MULTIPLIERS | SLOW)[q, steps], rel=5e-3)


@pytest.mark.parametrize(
    ("sigma", "q", "steps", "relation"),
    [
        (1.0, 0.01, 1000, "add-remove"),
        (2.0, 0.1, 100, "replace-one"),
        (0.8, 0.02, 37, "zero-out"),
        (40.0, 1.0, 500, "add-remove"),
        (1.3, 0.004, 10_000, "add-remove"),
    ],
)
def test_the_three_calibrations_invert_epsilon(sigma, q, steps, relation):
    target = epsilon(sigma, q, steps, DELTA, relation).epsilon
    found = noise_multiplier(target, q, steps, DELTA, relation)
    assert sigma * (1 - 1e-9) <= found * (1 + 1e-6)
    assert found == pytest.approx(sigma, rel=3e-4)
    assert max_steps(target, sigma, q, DELTA, relation) == steps
    rate = max_sampling_rate(target, sigma, steps, DELTA, relation)
    assert rate == pytest.approx(q, rel=3e-4)
    assert epsilon(sigma, rate, steps, DELTA, relation).epsilon <= target


def test_ends_of_the_range():
    assert max_sampling_rate(5.0, 10.0, 100, DELTA) == 1.0
    assert max_sampling_rate(5.0, 10.0, 0, DELTA) == 1.0
    assert 0 < max_sampling_rate(0.5, 0.7, 10, DELTA) < 0.05
    assert max_steps(1e6, 200.0, 0.001, DELTA) == module.MOST_STEPS
    assert max_steps(0.01, 1.0, 1.0, DELTA) == 0


@pytest.mark.parametrize(("q", "target"), [(0.01, 1.0), (0.1, 8.0), (0.5, 4.0), (1.0, 2.0)])
def test_no_calibration_composes_often(q, target, monkeypatch):
    """What bounds the time: few loss distributions are composed, and few of them on the fine grid.

    (Seconds are measured by benchmarks/accounting.py.)
    """
    calls = []
    real = module.epsilon_of

    def counted(events, delta, relation, fineness):
        calls.append(fineness)
        return real(events, delta, relation, fineness)

    monkeypatch.setattr(module, "epsilon_of", counted)
    delta = 1.1e-5  # not cached by another test
    sigma = noise_multiplier(target, q, 2000, delta)
    for calibrate in (
        lambda: max_steps(target, sigma, q, delta),
        lambda: max_sampling_rate(target, sigma, 2000, delta),
        lambda: None,
    ):
        assert len(calls) <= 24
        assert calls.count(module.FINE) <= 16
        calls.clear()
        calibrate()


def test_a_table_finds_what_is_left_out():
    (by_noise,) = table(noise_multiplier=[10.0], sampling_rate=[1.0], steps=[100])
    assert by_noise.guarantee == epsilon(10.0, 1.0, 100, 1e-5)
    target = by_noise.guarantee.epsilon
    (by_rounds,) = table(noise_multiplier=[10.0], sampling_rate=[1.0], epsilon=[target])
    assert by_rounds.steps == 100
    (by_rate,) = table(noise_multiplier=[10.0], steps=[100], epsilon=[target])
    assert by_rate.sampling_rate == 1.0
    (by_epsilon,) = table(sampling_rate=[1.0], steps=[100], epsilon=[target])
    assert by_epsilon.noise_multiplier == pytest.approx(10.0, rel=3e-4)
    grid = list(
        table(
            noise_multiplier=[5.0, 10.0], sampling_rate=[1.0], steps=[1, 2], delta=[1e-5, 1e-6],
            relation=["add-remove", "replace-one"], unit="client",
        )
    )  # fmt: skip
    assert len(grid) == 16
    assert len({row.guarantee for row in grid}) == 16
    assert {row.guarantee.unit for row in grid} == {"client"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": [1.0]}, "noise_multiplier, sampling_rate, steps is left out"),
        (
            {"epsilon": [1.0], "noise_multiplier": [1.0], "sampling_rate": [1.0], "steps": [1]},
            "nothing is left out",
        ),
    ],
)
def test_a_table_needs_three_of_four(given, message):
    with pytest.raises(ValueError, match=message):
        table(**given)


def test_every_knob_turns_the_way_it_should():
    setting = Setting(1.0, 0.02, 200, DELTA)
    base = setting.guarantee().epsilon
    effects = {
        (t.knob, t.value if t.knob == "relation" else round(t.value, 9)): t.guarantee.epsilon - base
        for t in knobs(setting)
    }
    more = {("noise multiplier", 0.5), ("sampling rate", 0.04), ("steps", 400), ("delta", 1e-6)}
    assert {k for k, change in effects.items() if change > 1e-3} == more | {
        ("relation", "replace-one")
    }
    assert effects["relation", "zero-out"] == pytest.approx(0, abs=1e-9)
    assert len(effects) == 10


def test_knobs_show_no_gain_from_sampling_clients():
    turned = knobs(Setting(20.0, 1.0, 30, DELTA, "replace-one", "client"))
    assert "sampling rate" not in {t.knob for t in turned}
    assert {t.guarantee.unit for t in turned} == {"client"}


@pytest.mark.parametrize("sampling", ["shuffled", "random-allocation"])
def test_the_largest_rate_of_epochs_is_that_of_the_shortest_that_fits(sampling):
    def spent(t):
        begun = -(-300 // t)
        return epsilon(4.0, 1 / t, begun, DELTA, "zero-out", sampling=sampling).epsilon

    rate = max_sampling_rate(2.0, 4.0, 300, DELTA, "zero-out", sampling=sampling)
    t = round(1 / rate)
    assert rate == 1 / t
    assert spent(t) <= 2.0 < spent(t - 1)
    (row,) = table(noise_multiplier=[4.0], steps=[300], epsilon=[2.0], relation=["zero-out"],
                   sampling=sampling)  # fmt: skip
    assert (row.sampling_rate, row.guarantee.epsilon) == (rate, spent(t))
    with pytest.raises(ValueError, match="a single epoch costs more"):
        max_sampling_rate(0.01, 0.7, 300, DELTA, "zero-out", sampling=sampling)


def test_a_table_of_epochs_counts_releases():
    (row,) = table(noise_multiplier=[4.0], sampling_rate=[0.1], epsilon=[2.0],
                   relation=["zero-out"], sampling="shuffled")  # fmt: skip
    assert row.steps == 10 * max_steps(2.0, 4.0, 0.1, DELTA, "zero-out", sampling="shuffled")
    assert row.guarantee.steps == row.steps


def test_knobs_keep_epochs_whole_and_leave_out_what_has_no_statement():
    turned = knobs(Setting(4.0, 1 / 5, 3, DELTA, "zero-out", sampling="shuffled"))
    assert [t.value for t in turned if t.knob == "sampling rate"] == [1 / 10, 1 / 2]
    assert [t.value for t in turned if t.knob == "relation"] == ["replace-one"]
    allocated = knobs(Setting(4.0, 1 / 5, 3, DELTA, sampling="random-allocation"))
    assert {t.value for t in allocated if t.knob == "relation"} == {"zero-out", "replace-one"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: max_sampling_rate(0.0, 1.0, 1, DELTA), "epsilon=0.0"),
        (lambda: max_sampling_rate(1.0, 0.0, 1, DELTA), "noise_multiplier=0.0"),
        (lambda: max_sampling_rate(1.0, 1.0, -1, DELTA), "steps=-1"),
        (lambda: max_sampling_rate(math.nan, 1.0, 1, DELTA), "epsilon=nan"),
        (lambda: max_steps(1.0, 1.0, 2.0, DELTA), "sampling_rate=2.0"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_delta_that_allows_no_noise_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^delta=1e-05 is no less than .*sampling_rate=1e-06"):
        noise_multiplier(1.0, 1e-6, 5, 1e-5)
