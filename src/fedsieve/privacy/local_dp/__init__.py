"""Local differential privacy: every client randomises what it holds, and trusts nobody.

A report is epsilon-LDP if no input makes it more than e^epsilon times as likely as any other input
does; there is no delta. The relation is replacement: any two inputs are neighbours. All reports
are unbiased. Budgets of several reports on the same input add up.

Numbers in [-1, 1] (`Duchi`, `Piecewise`, `pm_sub`, `ThreeOutputs`, `hybrid`, `hm_tp`,
`tuned_mixture`, `Laplace`), vectors of such numbers (`SampledCoordinates`), vectors in a ball or on
the sphere (`Ball`, `PrivUnit`, `PrivUnitG`), and answers from a list (`RandomisedResponse`).

Reports from a finite list of values are private as sent, up to the 2^-53 to which probabilities
are drawn. Continuous reports are rounded to a public power-of-two grid: a precaution against
attacks on floating-point rounding, and no proof. Real data need a generator that nobody can
foretell: `fedsieve.randomness.Streams(seed).noise()`, which the operating system keys.
"""

from fedsieve.privacy.local_dp.ball import Ball as Ball
from fedsieve.privacy.local_dp.duchi import Duchi as Duchi
from fedsieve.privacy.local_dp.hm_tp import hm_tp as hm_tp
from fedsieve.privacy.local_dp.hybrid import hybrid as hybrid
from fedsieve.privacy.local_dp.laplace import Laplace as Laplace
from fedsieve.privacy.local_dp.mixture import Mixture as Mixture
from fedsieve.privacy.local_dp.piecewise import Piecewise as Piecewise
from fedsieve.privacy.local_dp.pm_sub import pm_sub as pm_sub
from fedsieve.privacy.local_dp.priv_unit import PrivUnit as PrivUnit
from fedsieve.privacy.local_dp.priv_unit_g import PrivUnitG as PrivUnitG
from fedsieve.privacy.local_dp.randomised_response import RandomisedResponse as RandomisedResponse
from fedsieve.privacy.local_dp.sampled_coordinates import SampledCoordinates as SampledCoordinates
from fedsieve.privacy.local_dp.three_outputs import ThreeOutputs as ThreeOutputs
from fedsieve.privacy.local_dp.tuned_mixture import tuned_mixture as tuned_mixture

__all__ = [
    "Ball",
    "Duchi",
    "Laplace",
    "Mixture",
    "Piecewise",
    "PrivUnit",
    "PrivUnitG",
    "RandomisedResponse",
    "SampledCoordinates",
    "ThreeOutputs",
    "hm_tp",
    "hybrid",
    "pm_sub",
    "tuned_mixture",
]
