"""Searches of decreasing functions, against a look at every place."""

import math

from hypothesis import given
from hypothesis import strategies as st

from fedsieve.privacy._search import largest, least_feasible


@given(low=st.integers(0, 40), more=st.integers(0, 300), room=st.integers(0, 300))
def test_the_largest_integer_that_fits(low, more, room):
    end, most = low + more, low + room
    asked = []

    def fits(n):
        asked.append(n)
        return n <= end

    assert largest(fits, low, most) == min(end, most)
    assert all(low < n <= most for n in asked)
    assert len(asked) <= 2 * math.log2(room + 2) + 2


@given(
    root=st.floats(-30, 30), start=st.floats(-30, 30), slope=st.floats(0.1, 10.0),
    wall=st.booleans(), width=st.floats(1e-4, 1.0),
)  # fmt: skip
def test_the_least_feasible_number(root, start, slope, wall, width):
    """Within the tolerance from above, wherever the search starts, and beside an infinite wall."""

    def excess(x):
        return math.inf if wall and x < root - 0.01 else slope * (root - x)

    found, at = least_feasible(excess, start, width, tolerance=1e-3)
    assert -1e-12 <= found - root <= 1e-3
    assert at <= 0
