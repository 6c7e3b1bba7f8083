"""The hybrid mechanism HM.

Wang, Xiao, Yang, Zhao, Hui, Shin, Shin, Yu, "Collecting and Analyzing Multidimensional Data with
Local Differential Privacy", ICDE 2019: the piecewise mechanism with probability

    w = 1 - e^(-epsilon / 2)    if epsilon > 0.61, else 0,

and Duchi's otherwise. At this w the variance is the same at every input.
"""

from __future__ import annotations

import math

from fedsieve.privacy.local_dp.duchi import Duchi
from fedsieve.privacy.local_dp.mixture import Mixture
from fedsieve.privacy.local_dp.piecewise import Piecewise
from fedsieve.registry import register

DUCHI_ALONE = 0.61  # epsilon up to which mixing does not help; the paper's value, rounded


@register(
    "local-mechanism",
    "hm",
    paper='Wang et al., "Collecting and analyzing multidimensional data with LDP", ICDE 2019',
)
def hybrid(epsilon: float) -> Mixture:
    """The piecewise mechanism or Duchi's, at the odds that level the variance.

    Args:
        epsilon: Budget of one number, in [1e-6, 20].

    Example:
        >>> round(hybrid(epsilon=1.0).worst_variance, 3)
        4.289
    """
    weight = -math.expm1(-epsilon / 2) if epsilon > DUCHI_ALONE else 0.0
    return Mixture(Piecewise(epsilon), Duchi(epsilon), weight)
