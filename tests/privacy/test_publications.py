"""Published epsilons: what their method gives, what ours gives, and that both stay."""

import math

import pytest

from fedsieve.privacy import Event, epsilon, published
from fedsieve.privacy._rdp import sampled_gaussian_rdp
from fedsieve.privacy.publications import FIXED_SIZE, MOMENTS, moments_epsilon

FOUND = {  # setting: by the publication's method, by ours
    "q = 0.01, sigma = 4, 10000 steps": (1.2586, 0.9471),
    "MNIST, q = 256/60000, sigma = 1.3, 20 epochs": (1.3498, 1.0076),
    "MNIST, q = 256/60000, sigma = 0.7, 70 epochs": (8.6783, 7.0962),
    "sigma_g = 60, K = 50, 100 rounds": (8.1915, 0.9469),
    "sigma_g = 60, K = 50, 400 rounds": (12.9064, 2.0186),
}


@pytest.fixture(scope="module")
def rows():
    return list(published())


def test_the_recomputed_figures_stay(rows):
    assert {r.name: (r.theirs, r.ours.epsilon) for r in rows} == {
        name: pytest.approx(pair, rel=1e-3) for name, pair in FOUND.items()
    }


def test_what_was_printed_is_what_its_method_gives(rows):
    """Within the two decimals of the figure, cut off or rounded."""
    printed = [r for r in rows if r.printed is not None]
    assert len(printed) == 2
    for row in printed:
        assert -0.005 <= row.theirs - row.printed < 0.01
        assert row.ours.epsilon < row.printed


def test_what_is_not_known_first_hand_is_said_to_be_unknown(rows):
    for row in rows:
        assert ("not known to us" in row.quoted) == (row.printed is None)
        assert ("no figure is quoted" in row.quoted) == ("Bu" not in row.source)
    assert [row.quoted for row in rows if row.printed] == ["epsilon = 1.34", "epsilon = 8.68"]


def test_every_row_says_what_it_holds_for(rows):
    for row in rows:
        assert row.ours.epsilon < row.theirs
        assert row.ours.relation == ("replace-one" if row.method == FIXED_SIZE else "add-remove")
        assert row.method in (MOMENTS, FIXED_SIZE)
        assert row.gap
        assert row.source
        assert "accountant: PLD" in row.ours.sentence()


def test_the_moments_accountant_is_the_conversion_of_its_time():
    event, delta = Event(2.0, 0.05, 100), 1e-5
    orders = range(2, 34)
    slow = min(100 * sampled_gaussian_rdp(event, a) + math.log(1 / delta) / (a - 1) for a in orders)
    assert moments_epsilon(event, delta, orders) == pytest.approx(slow, rel=1e-9)
    assert slow > epsilon(2.0, 0.05, 100, delta).epsilon
