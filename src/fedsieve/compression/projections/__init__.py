"""Shared linear maps R^d -> R^k, one file each; public, and never a function of raw data."""

from fedsieve.compression.projections._layered import LayeredSubspace as LayeredSubspace
from fedsieve.compression.projections._layered import carry as carry
from fedsieve.compression.projections._layered import is_identity as is_identity
from fedsieve.compression.projections.dct import Dct as Dct
from fedsieve.compression.projections.identity import Identity as Identity
from fedsieve.compression.projections.low_rank import LowRank as LowRank
from fedsieve.compression.projections.random_basis import RandomBasis as RandomBasis
from fedsieve.compression.projections.random_mask import RandomMask as RandomMask

__all__ = [
    "Dct",
    "Identity",
    "LayeredSubspace",
    "LowRank",
    "RandomBasis",
    "RandomMask",
    "carry",
    "is_identity",
]
