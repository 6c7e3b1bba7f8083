"""Noise on integers: what is sent is private exactly as sent, floating point included.

Vectors are rounded to the integers of a `Lattice` with a norm bound that holds after rounding, or
sums of vectors to those of a `SumLattice`; the noise (`DiscreteGaussian`, `Skellam`, `Geometric`,
`PoissonBinomial`) is an integer too, drawn from its exact law by comparing integers. `IntegerWire`
makes bytes of the result, of a size that depends on the number of integers alone.
"""

from fedsieve.privacy.discrete.cks import sample_discrete_gaussian as sample_discrete_gaussian
from fedsieve.privacy.discrete.discrete_gaussian import DiscreteGaussian as DiscreteGaussian
from fedsieve.privacy.discrete.geometric import Geometric as Geometric
from fedsieve.privacy.discrete.lattice import Lattice as Lattice
from fedsieve.privacy.discrete.poisson_binomial import PoissonBinomial as PoissonBinomial
from fedsieve.privacy.discrete.skellam import Skellam as Skellam
from fedsieve.privacy.discrete.sum_lattice import SumLattice as SumLattice
from fedsieve.privacy.discrete.wire import IntegerWire as IntegerWire

__all__ = [
    "DiscreteGaussian",
    "Geometric",
    "IntegerWire",
    "Lattice",
    "PoissonBinomial",
    "Skellam",
    "SumLattice",
    "sample_discrete_gaussian",
]
