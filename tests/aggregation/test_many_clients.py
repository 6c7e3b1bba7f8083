"""More clients than LAPACK is asked about, and rows as far as the door lets in."""

import numpy as np
import pytest

from fedsieve.aggregation import CAF, NNM, DnC, FilterL2, GeometricMedian, NoRegret
from fedsieve.aggregation._spectral import DENSE, SQUARABLE, spread

N, F = DENSE + 44, 3
RULES = [CAF(F), FilterL2(F), NoRegret(F), DnC(F), GeometricMedian(F), NNM(F) >> CAF(F)]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "near", "far"),
    [(np.float64, 1.0, 1e78), (np.float64, 1.0, 1e98), (np.float32, 1e-38, 1e37)],
)
def test_far_rows_do_no_harm_and_overflow_nothing(rule, dtype, near, far):
    rng = np.random.default_rng(1)
    stack = (near * rng.normal(1, 0.1, (N, 5))).astype(dtype)
    stack[:F] = (far * rng.normal(size=(F, 5))).astype(dtype)
    assert np.abs(rule(stack) - stack[F:].mean(0)).max() < near


def test_the_eigenpair_of_a_gram_of_such_rows_is_that_of_the_rows_in_another_unit():
    X = np.random.default_rng(2).normal(size=(N, 40))
    w, unit = np.full(N, 1 / N), 2.0**400
    assert unit**2 > SQUARABLE * N
    near, far = spread(X @ X.T, w), spread(X @ X.T * unit**2, w)
    assert far.variance == pytest.approx(near.variance * unit**2)
    np.testing.assert_allclose(far.tau / unit**2, near.tau, rtol=1e-7)
