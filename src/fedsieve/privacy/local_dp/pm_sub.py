"""The piecewise mechanism with a simpler shape.

Zhao, Zhao, Yang, Wang, Wang, Lyu, Niyato, Lam, "Local Differential Privacy-Based Federated Learning
for Internet of Things", IEEE Internet of Things Journal 2021: the piecewise mechanism with

    t = e^(epsilon / 3),

close to the shape of least worst-case variance and below e^(epsilon / 2) in variance.
"""

from __future__ import annotations

import math

from fedsieve.privacy.local_dp._interval import check_epsilon
from fedsieve.privacy.local_dp.piecewise import Piecewise
from fedsieve.registry import register


@register(
    "local-mechanism",
    "pm-sub",
    paper='Zhao et al., "LDP-based federated learning for Internet of Things", IoT-J 2021',
)
def pm_sub(epsilon: float) -> Piecewise:
    """The piecewise mechanism with the shape t = e^(epsilon / 3).

    Args:
        epsilon: Budget of one number, in [1e-6, 20].

    Example:
        >>> round(pm_sub(epsilon=4.0).worst_variance, 3)
        0.167
    """
    check_epsilon(epsilon)
    return Piecewise(epsilon, math.exp(epsilon / 3))
