"""Weights by size before pre-aggregators: what validation lets through, no round refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import ARC, NNM, Bucketing, Mean, capped_shares
from fedsieve.aggregation._gram import Products
from fedsieve.experiments.toml import ConfigError, parse


def config(rule: str, pre: list[str], f: int, **aggregation):
    return parse(
        {
            "data": {"name": "digits"},
            "federation": {"clients": 20, "byzantine": f},
            "algorithm": {"name": "dshb"},
            "aggregation": {"rule": rule, "pre": pre, "weights": "sizes"} | aggregation,
        }
    )


def test_a_cap_that_buckets_undo_is_refused_before_the_run():
    assert config("median", [], 4, weight_cap=2.0)
    with pytest.raises(ConfigError, match=r"4 rows made of 2 .* hold 0\.8 .*weight_cap < 1\.25"):
        config("median", ["bucketing"], 4, weight_cap=2.0)
    assert config("median", ["bucketing"], 4, weight_cap=1.2)
    assert config("median", ["nnm"], 4, weight_cap=2.0)


def test_a_mean_of_buckets_needs_no_majority():
    assert config("mean", ["bucketing"], 4, weight_cap=2.0)


def test_a_robust_learning_rate_whose_votes_can_be_claimed_is_refused():
    with pytest.raises(ConfigError, match=r"f=4 of 20 .* claim 0\.4 .*weight_cap < 1\.25"):
        config("robust-learning-rate", [], 4, weight_cap=2.0)
    assert config("robust-learning-rate", [], 4, weight_cap=2.0, theta=9)


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(4, 30),
    s=st.integers(1, 5),
    cap=st.floats(1.0, 3.0),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_rows_hold_no_more_than_they_are_said_to_gather(n, s, cap, seed, data):
    rng = np.random.default_rng(seed)
    f = data.draw(st.integers(1, -(-n // s)))
    pre = data.draw(st.sampled_from([Bucketing(s, seed), Bucketing(s, seed) >> NNM(0), ARC(0)]))
    share = capped_shares(rng.lognormal(0, 3, n), cap).numpy()
    share = np.full(n, 1 / n) if share.min() == share.max() else share
    points = rng.normal(size=(n + 1, 3))
    _, rows = pre.mixing(Products(points @ points.T, points=1, share=share))
    held = np.sort(rows)[::-1][:f].sum()
    assert held <= f * cap * pre.gathers / n + 1e-12
    assert (pre >> Mean()).pre.gathers == (1 if pre == ARC(0) else s)
