"""A node's noise and what its wake-ups cost."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize
from torch import Tensor

from fedsieve.privacy import (
    PeerNoise,
    advanced_composition,
    noise_multiplier,
    split_budget,
)

LAPLACE = PeerNoise(clip=2.0, records=4, epsilons=(0.5, 1.0, 0.25))
GAUSSIAN = replace(LAPLACE, law="gaussian", delta=1e-6)
BOTH = pytest.mark.parametrize("node", [LAPLACE, GAUSSIAN], ids=["laplace", "gaussian"])


def draws(node: PeerNoise, wake_up: int, n: int = 100_000) -> np.ndarray:
    sent = node.release(torch.zeros(node.records, n), wake_up, np.random.default_rng(3))
    return sent.numpy()


# ------------------------------------------------------------------------------------------- noise


@BOTH
@pytest.mark.parametrize("wake_up", [0, 1, 2])
def test_the_noise_is_as_large_as_stated_and_of_its_law(node: PeerNoise, wake_up: int) -> None:
    noise, std = draws(node, wake_up), node.noise_std(wake_up)
    kurtosis = 6 if node.law == "laplace" else 3
    error = math.sqrt((kurtosis - 1) / len(noise))
    assert abs(noise.var() / std**2 - 1) < 4 * error
    law = stats.laplace(scale=std / math.sqrt(2)) if node.law == "laplace" else stats.norm(0, std)
    assert stats.kstest(noise, law.cdf).pvalue > 1e-4


def test_the_scales_are_the_papers() -> None:
    # 2 L_0 / (epsilon m) per coordinate
    assert LAPLACE.noise_std(0) == pytest.approx(math.sqrt(2) * 2 * 2.0 / (0.5 * 4))
    # one release alone is (epsilon_i(t), delta_i)-DP, and no noise is wasted
    for wake_up, epsilon in enumerate(GAUSSIAN.epsilons):
        one = replace(GAUSSIAN, epsilons=(epsilon,))
        assert epsilon * 0.999 < one.spent(1, GAUSSIAN.delta) <= epsilon
        sigma = noise_multiplier(epsilon, 1.0, 1, 1e-6, "replace-one")
        assert GAUSSIAN.noise_std(wake_up) == sigma * 2.0 / 4


RECORDS = st.lists(
    st.lists(
        st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0]),
        min_size=3,
        max_size=3,
    ),
    min_size=5,
    max_size=5,
)


def clipped_mean(node: PeerNoise, rows: list[list[float]]) -> Tensor:
    gradients = torch.tensor(rows, dtype=torch.float64)
    return node.clipped_sum(gradients) / node.records


@BOTH
@given(rows=RECORDS, outputs=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_replacing_a_record_moves_the_mean_by_what_the_noise_is_scaled_to(
    node: PeerNoise, rows: list[list[float]], outputs: list[float]
) -> None:
    here, there = clipped_mean(node, rows[:4]), clipped_mean(node, [*rows[:3], rows[4]])
    order = 1 if node.law == "laplace" else 2
    bound = 2 * node.clip / node.records
    assert float(torch.linalg.vector_norm(here - there, ord=order)) <= bound * (1 + 1e-9)
    without = node.clipped_sum(torch.tensor([*rows[:3], [0.0] * 3]))
    moved = torch.linalg.vector_norm(node.clipped_sum(torch.tensor(rows[:4])) - without, ord=order)
    assert float(moved) <= node.clip * (1 + 1e-6)  # one record more or less, in float32
    if node.law == "laplace":  # the ratio of the densities, at any output
        for wake_up, epsilon in enumerate(node.epsilons):
            scale = node.noise_std(wake_up) / math.sqrt(2)
            y = torch.tensor(outputs).double()
            ratio = ((y - there).abs() - (y - here).abs()).sum() / scale
            assert abs(float(ratio)) <= epsilon * (1 + 1e-9)


def test_a_worst_case_reaches_the_bound() -> None:
    """No smaller noise would do: the clip is not looser than it has to be."""
    rows = [[9.0, 0.0, 0.0], [0.0] * 3, [0.0] * 3, [0.0] * 3, [-9.0, 0.0, 0.0]]
    for node in (LAPLACE, GAUSSIAN):
        moved = clipped_mean(node, rows[:4]) - clipped_mean(node, [rows[4], *rows[1:4]])
        assert float(moved.norm()) == pytest.approx(2 * node.clip / node.records)


@BOTH
def test_the_law_follows_the_norm(node: PeerNoise) -> None:
    total = node.clipped_sum(torch.tensor([[3.0, 4.0], [0.1, 0.0], [math.nan, 1.0], [0.0, 0.0]]))
    length = 7.0 if node.law == "laplace" else 5.0
    expected = torch.tensor([3.0, 4.0]).double() * 2.0 / length + torch.tensor([0.1, 0.0])
    assert torch.allclose(total, expected.double())


# ------------------------------------------------------------------------------------- composition


def test_every_agent_pays_for_its_own_wake_ups() -> None:
    plan = PeerNoise(1.0, 50, split_budget(4.0, 100))
    seldom, often = plan.spent(10, 1e-5), plan.spent(100, 1e-5)
    assert plan.spent(0, 1e-5) == 0
    assert seldom < often < plan.published(100, 1e-5) < 4.0
    assert plan.published(100, 1e-5) == pytest.approx(advanced_composition([0.04] * 100, 1e-5))
    assert 0.97 * 0.4 < seldom < 0.4  # ten of them cost next to what they add up to


def test_gaussian_wake_ups_cost_one_gaussian_exactly() -> None:
    plan = PeerNoise(1.0, 50, split_budget(4.0, 20, kept=0.9), "gaussian", delta=1e-7)
    sigmas = [noise_multiplier(e, 1.0, 1, 1e-7, "replace-one") for e in plan.epsilons]
    mu = math.sqrt(sum((2 / sigma) ** 2 for sigma in sigmas))
    epsilon = plan.spent(20, 1e-5)
    delta = stats.norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * stats.norm.cdf(
        -epsilon / mu - mu / 2
    )
    assert delta == pytest.approx(1e-5, rel=1e-4)
    left = 1 - (1 - 1e-5) / (1 - 1e-7) ** 20
    assert plan.published(20, 1e-5) == pytest.approx(advanced_composition(plan.epsilons, left))
    assert epsilon < plan.published(20, 1e-5)


@BOTH
def test_the_sentence_says_all_that_the_figure_depends_on(node: PeerNoise) -> None:
    said, epsilon = node.sentence(3, 1e-5), node.spent(3, 1e-5)
    assert epsilon <= float(said.split()[2]) < epsilon + 1.01e-4
    for words in (
        "delta = 1e-05",
        "unit: record",
        "one record replaced",
        "3 wake-ups",
        "no sampli",
    ):
        assert words in said
    assert node.law.capitalize() in said
    assert ("Balle and Wang" in said) == (node.law == "gaussian")


@given(
    kept=st.floats(0.3, 1),
    wake_ups=st.integers(1, 6),
    epsilon=st.floats(0.1, 5),
)
def test_the_split_leaves_the_least_noise_at_the_end(
    kept: float, wake_ups: int, epsilon: float
) -> None:
    found = np.array(split_budget(epsilon, wake_ups, kept))
    assert found.sum() == pytest.approx(epsilon)
    assert (np.diff(found) >= -1e-12).all()
    weights = kept ** (wake_ups - 1 - np.arange(wake_ups))

    def left(shares: np.ndarray) -> float:
        parts = np.exp(shares) / np.exp(shares).sum()
        return float((weights / parts**2).sum())

    best = minimize(left, np.zeros(wake_ups)).fun
    assert left(np.log(found)) <= best * (1 + 1e-5)


def test_noisy_collaboration_beats_learning_alone_without_noise_where_records_are_few() -> None:
    """The recursion itself: nodes on a complete graph look for the same mean.

    L_i = |theta - x|^2 / 2 averaged over the node's records x, c_i = 1, W_ij = 1.
    """
    rng = np.random.default_rng(0)
    nodes, m, k, mu, wake_ups = 40, 4, 4, 0.1, 12
    records = torch.from_numpy(1 + 2 * rng.normal(size=(nodes, m, k)))
    alpha = 1 / (1 + mu)
    plan = PeerNoise(6.0, m, split_budget(12.0, wake_ups))
    theta, woken = torch.zeros(nodes, k, dtype=torch.float64), [0] * nodes
    for i in rng.permutation(np.repeat(np.arange(nodes), wake_ups)):
        g = plan.release(theta[i] - records[i], woken[i], rng)
        neighbours = (theta.sum(0) - theta[i]) / (nodes - 1)
        theta[i] = (1 - alpha) * theta[i] + alpha * (neighbours - mu * g)
        woken[i] += 1
    together, alone = ((x - 1).square().sum(1).mean() for x in (theta, records.mean(1)))
    assert set(woken) == {wake_ups}
    assert float(together) < 0.5 * float(alone)


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clip": 0.0}, "clip=0.0"),
        ({"records": 0}, "records=0"),
        ({"records": 2.5}, "records=2.5"),
        ({"epsilons": (0.5, 0.0)}, r"epsilons\[1\]=0.0"),
        ({"law": "cauchy"}, "law='cauchy' is not one of laplace, gaussian"),
        ({"delta": 1e-5}, "delta=1e-05 with law='laplace': allowed is 0"),
        ({"law": "gaussian"}, r"delta=0.0 with law='gaussian' must be in \(0, 1\)"),
    ],
)
def test_impossible_plans_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(LAPLACE, **change)  # type: ignore[arg-type]


def test_what_the_plan_does_not_cover_is_refused() -> None:
    with pytest.raises(ValueError, match=r"wake_up=3 is not in the plan: epsilons covers 0\.\.2"):
        LAPLACE.noise_std(3)
    with pytest.raises(ValueError, match=r"wake_ups=4 must be an integer in 0\.\.3"):
        LAPLACE.spent(4, 1e-5)
    with pytest.raises(ValueError, match=r"shape \(3, 2\); needed is \(4, k\)"):
        LAPLACE.clipped_sum(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="delta=1e-06 is used up by 3 wake-ups"):
        GAUSSIAN.published(3, 1e-6)
    for change, said in (
        ({"wake_ups": 0}, "wake_ups=0"),
        ({"kept": 0.0}, "kept=0.0"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
    ):
        with pytest.raises(ValueError, match=said):
            split_budget(**{"epsilon": 1.0, "wake_ups": 2} | change)
