"""Robust aggregation rules and pre-aggregators."""

from fedsieve.aggregation._door import TooManyFaultyClients as TooManyFaultyClients
from fedsieve.aggregation._gram import GramRule as GramRule
from fedsieve.aggregation._gram import PointRule as PointRule
from fedsieve.aggregation.caf import CAF as CAF
from fedsieve.aggregation.facts import Facts as Facts
from fedsieve.aggregation.mean import Mean as Mean
from fedsieve.aggregation.nnm import NNM as NNM
from fedsieve.aggregation.pre_aggregator import PreAggregator as PreAggregator
from fedsieve.aggregation.rule import Aggregation as Aggregation
from fedsieve.aggregation.rule import Rule as Rule
from fedsieve.aggregation.trimmed_mean import TrimmedMean as TrimmedMean

__all__ = [
    "CAF",
    "NNM",
    "Aggregation",
    "Facts",
    "GramRule",
    "Mean",
    "PointRule",
    "PreAggregator",
    "Rule",
    "TooManyFaultyClients",
    "TrimmedMean",
]
