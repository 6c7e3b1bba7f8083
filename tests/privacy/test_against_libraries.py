"""The accountant against three independent ones, on 48 settings.

Opacus (its Renyi accountant and its PRV accountant) and prv-accountant (Gopi, Lee, Wutschitz,
"Numerical Composition of Differential Privacy", NeurIPS 2021), whose answer comes with a lower and
an upper end. All count add-remove neighbours under Poisson sampling.
"""

import math
import warnings

import pytest
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis import rdp as analysis
from prv_accountant.dpsgd import DPSGDAccountant

from fedsieve.privacy import Event, epsilon
from fedsieve.privacy._rdp import rdp_epsilon, sampled_gaussian_rdp

DELTA = 1e-5
GRID = [
    (q, sigma, steps)
    for q in (0.002, 0.01, 0.05, 0.2)
    for sigma in (0.7, 1.0, 2.0, 5.0)
    for steps in (10, 100, 1000)
]
ERROR = 0.05  # what prv-accountant is asked for, on each side
NOTHING = 0.02  # epsilons below are all error


def ours(job):
    q, sigma, steps = job
    return epsilon(sigma, q, steps, DELTA).epsilon


def affordable(job):
    """Grids of the PRV accountants grow with epsilon; beyond they take seconds and gigabytes."""
    return ours(job) < 15


def test_the_grid_is_large_enough():
    assert len(GRID) >= 40


def test_prv_accountant_brackets_ours():
    compared = 0
    for job in GRID:
        if not affordable(job):
            continue
        q, sigma, steps = job
        peer = DPSGDAccountant(
            noise_multiplier=sigma, sampling_probability=q, max_steps=steps,
            eps_error=ERROR, delta_error=1e-10,
        )  # fmt: skip
        low, estimate, high = peer.compute_epsilon(delta=DELTA, num_steps=steps)
        found = ours(job)
        assert low <= found <= high, job
        assert found == pytest.approx(estimate, abs=5e-3 + 1e-3 * found), job
        compared += 1
    assert compared >= 40


def test_opacus_prv_agrees():
    compared = 0
    for job in GRID:
        if not affordable(job):
            continue
        q, sigma, steps = job
        peer = PRVAccountant()
        peer.history = [(sigma, q, steps)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the Renyi bound that sizes its grid
            high = peer.get_epsilon(delta=DELTA, eps_error=ERROR)  # the upper end
        assert high - 2 * ERROR - 1e-3 <= ours(job) <= high, job
        compared += 1
    assert compared >= 40


def test_opacus_rdp_is_above_and_equals_our_fallback():
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64)) + [128, 256, 512, 1024]
    for job in GRID:
        q, sigma, steps = job
        curve = analysis.compute_rdp(q=q, noise_multiplier=sigma, steps=steps, orders=orders)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns when the best order is the first or the last
            peer, _ = analysis.get_privacy_spent(orders=orders, rdp=curve, delta=DELTA)
        fallback = rdp_epsilon((Event(sigma, q, steps),), DELTA, "add-remove")
        if affordable(
            job
        ):  # beyond, the best order is below 2, where the two sets of orders differ
            assert fallback == pytest.approx(peer, rel=1e-2, abs=NOTHING), job
        assert fallback >= ours(job), job


@pytest.mark.parametrize("relation", ["add-remove", "replace-one", "zero-out"])
def test_monotone_over_the_grid(relation):
    """More sampling, less noise, more steps: never a smaller epsilon."""
    rates, noises, counts = ([*dict.fromkeys(axis)] for axis in zip(*GRID, strict=True))
    value = {
        (q, s, t): epsilon(s, q, t, DELTA, relation).epsilon
        for q in rates[1:] for s in noises[1:] for t in counts[:2]
    }  # fmt: skip
    for (q, s, t), found in value.items():
        assert all(value[r, s, t] >= found for r in rates[1:] if r >= q)
        assert all(value[q, s, u] >= found for u in counts[:2] if u >= t)
        assert all(value[q, v, t] <= found for v in noises[1:] if v >= s)


def test_the_moments_accountant_of_abadi_et_al():
    """Its example q = 0.01, sigma = 4, T = 10^4, delta = 1e-5 gave 1.26 (recalled); ours is less.

    Abadi et al., CCS 2016: the same divergences at integer orders up to 33, and the plain tail
    bound epsilon = min_l (T mu(l) + log(1/delta)) / l with l = order - 1.
    """
    event, steps = Event(4.0, 0.01, 1), 10_000
    moments = min(
        steps * sampled_gaussian_rdp(event, a) + math.log(1 / DELTA) / (a - 1) for a in range(2, 34)
    )
    assert moments == pytest.approx(1.26, rel=0.01)
    assert ours((0.01, 4.0, steps)) < 0.9 * moments
