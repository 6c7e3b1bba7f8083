"""The piecewise and the three-outputs mechanism, tuned together.

HM-TP (Zhao et al., IoT-J 2021) takes each part at its own best setting and then mixes. Chosen
together, over the three numbers

    (a, t, beta) = argmin max_x ( beta Var_PM(t)(x) + (1 - beta) Var_3(a)(x) ),

the mixture has a smaller worst-case variance than HM and HM-TP at every epsilon.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import minimize

from fedsieve.privacy.local_dp import three_outputs
from fedsieve.privacy.local_dp._interval import check_epsilon, least, mixed, worst
from fedsieve.privacy.local_dp.mixture import Mixture
from fedsieve.privacy.local_dp.piecewise import Piecewise
from fedsieve.privacy.local_dp.three_outputs import ThreeOutputs
from fedsieve.registry import register


@register("local-mechanism", "tuned-mixture", paper="parts: Wang et al. 2019, Zhao et al. 2021")
def tuned_mixture(epsilon: float) -> Mixture:
    """Piecewise or three outputs, with both shapes and the odds tuned together.

    Args:
        epsilon: Budget of one number, in [1e-6, 20].

    Example:
        >>> round(tuned_mixture(epsilon=1.5).worst_variance, 3)
        1.847
    """
    check_epsilon(epsilon)
    a, t, beta = _tune(epsilon)
    return Mixture(Piecewise(epsilon, t), ThreeOutputs(epsilon, a), beta)


@lru_cache(maxsize=64)
def _tune(epsilon: float) -> tuple[float, float, float]:
    most = three_outputs.most_silence(epsilon)

    def setting(z: np.ndarray) -> tuple[float, float]:
        """(a, t): the plane onto the strip of what is allowed."""
        return most * math.sin(z[0]) ** 2, math.exp(z[1])

    def odds(a: float, t: float) -> tuple[float, float]:
        first = Piecewise(epsilon, t).quadratic
        second = three_outputs.quadratic(epsilon, a)
        beta = least(lambda b: worst(mixed(b, first, second)), 0.0, 1.0)
        return beta, worst(mixed(beta, first, second))

    def search(a: float) -> tuple[float, float]:
        start = math.asin(math.sqrt(a / most)), epsilon / 3
        options = {"xatol": 1e-7, "fatol": 1e-12}
        found = minimize(
            lambda z: odds(*setting(z))[1], start, method="Nelder-Mead", options=options
        )
        return setting(found.x)

    # from all three corners of the problem: a search from a = 0 or its upper end may stay there
    starts = (0.01 * most, three_outputs.best_silence(epsilon), most)
    a, t = min((search(a) for a in starts), key=lambda at: odds(*at)[1])
    return a, t, odds(a, t)[0]
