"""What the form asks of every rule, a caller's own included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Rule

STACK = torch.tensor([[1.0, 2.0], [3.0, 5.0], [4.0, 9.0]])


@dataclass(frozen=True)
class Own(Rule):
    """The mean in float64, in whatever ``form``."""

    f: int = 0
    form: Callable[[torch.Tensor], object] = lambda mean: mean

    def breakdown(self, n):
        return 0

    def kappa(self, n):
        return None

    def _combine(self, rows, *, explain):
        m = len(rows.data)
        return self.form(rows.data.double().mean(0)), np.full(m, 1 / m) if explain else None


def aggregates(rule):
    yield lambda: rule(STACK)
    for explain in (False, True):
        yield lambda explain=explain: rule.aggregate(STACK, explain=explain).vector


def test_an_aggregate_has_the_type_of_the_messages_whatever_a_rule_computes_in():
    for aggregate in aggregates(Own()):
        assert aggregate().dtype == torch.float32
        torch.testing.assert_close(aggregate(), STACK.mean(0))


@pytest.mark.parametrize(
    ("form", "found"),
    [
        (lambda mean: mean[:1], r"gave \(1,\)"),
        (lambda mean: mean[None], r"gave \(1, 2\)"),
        (lambda mean: mean.numpy(), "gave .*ndarray"),
    ],
)
def test_what_is_no_aggregate_is_refused_by_the_name_of_the_rule(form, found):
    for aggregate in aggregates(Own(0, form)):
        with pytest.raises(
            ValueError, match=rf"Own\(.*{found}.*needed is a tensor of shape \(2,\)"
        ):
            aggregate()
