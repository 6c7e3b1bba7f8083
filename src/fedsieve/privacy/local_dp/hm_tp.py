"""The hybrid mechanism HM-TP.

Zhao, Zhao, Yang, Wang, Wang, Lyu, Niyato, Lam, "Local Differential Privacy-Based Federated Learning
for Internet of Things", IEEE Internet of Things Journal 2021: PM-SUB with probability beta, the
three-outputs mechanism otherwise, where

    beta = argmin max_x ( beta Var_PM-SUB(x) + (1 - beta) Var_3(x) ).

The cost is convex in beta, and beta is found numerically; it is 0 up to epsilon = 0.61. The
variances show that HM-TP is below HM from epsilon = 1.6 or so and slightly above it before.
"""

from __future__ import annotations

from fedsieve.privacy.local_dp._interval import least, mixed, worst
from fedsieve.privacy.local_dp.mixture import Mixture
from fedsieve.privacy.local_dp.pm_sub import pm_sub
from fedsieve.privacy.local_dp.three_outputs import ThreeOutputs
from fedsieve.registry import register


@register(
    "local-mechanism",
    "hm-tp",
    paper='Zhao et al., "LDP-based federated learning for Internet of Things", IoT-J 2021',
)
def hm_tp(epsilon: float) -> Mixture:
    """PM-SUB or the three-outputs mechanism, at the odds of least worst-case variance.

    Args:
        epsilon: Budget of one number, in [1e-6, 20].

    Example:
        >>> mechanism = hm_tp(epsilon=3.0)
        >>> round(mechanism.weight, 3), round(mechanism.worst_variance, 3)
        (0.645, 0.355)
    """
    first, second = pm_sub(epsilon), ThreeOutputs(epsilon)
    beta = least(lambda b: worst(mixed(b, first.quadratic, second.quadratic)), 0.0, 1.0)
    return Mixture(first, second, beta)
