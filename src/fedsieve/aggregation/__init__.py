"""Robust aggregation rules and pre-aggregators."""

from fedsieve.aggregation._door import TooManyFaultyClients as TooManyFaultyClients
from fedsieve.aggregation._gram import GramRule as GramRule
from fedsieve.aggregation.caf import CAF as CAF
from fedsieve.aggregation.dnc import DnC as DnC
from fedsieve.aggregation.filter_l2 import FilterL2 as FilterL2
from fedsieve.aggregation.flame import FLAME as FLAME
from fedsieve.aggregation.mean import Mean as Mean
from fedsieve.aggregation.nnm import NNM as NNM
from fedsieve.aggregation.no_regret import NoRegret as NoRegret
from fedsieve.aggregation.pre_aggregator import PreAggregator as PreAggregator
from fedsieve.aggregation.rule import Aggregation as Aggregation
from fedsieve.aggregation.rule import Rule as Rule
from fedsieve.aggregation.sign_guard import SignGuard as SignGuard
from fedsieve.aggregation.smea import SMEA as SMEA
from fedsieve.aggregation.trimmed_mean import TrimmedMean as TrimmedMean

__all__ = [
    "CAF",
    "FLAME",
    "NNM",
    "SMEA",
    "Aggregation",
    "DnC",
    "FilterL2",
    "GramRule",
    "Mean",
    "NoRegret",
    "PreAggregator",
    "Rule",
    "SignGuard",
    "TooManyFaultyClients",
    "TrimmedMean",
]
