"""Robust aggregation rules and pre-aggregators."""

from fedsieve.aggregation._door import TooManyFaultyClients as TooManyFaultyClients
from fedsieve.aggregation._gram import GramRule as GramRule
from fedsieve.aggregation.caf import CAF as CAF
from fedsieve.aggregation.hierarchical import Hierarchical as Hierarchical
from fedsieve.aggregation.majority_vote import MajorityVote as MajorityVote
from fedsieve.aggregation.meamed import MeaMed as MeaMed
from fedsieve.aggregation.mean import Mean as Mean
from fedsieve.aggregation.median import Median as Median
from fedsieve.aggregation.nnm import NNM as NNM
from fedsieve.aggregation.pre_aggregator import PreAggregator as PreAggregator
from fedsieve.aggregation.robust_learning_rate import RobustLearningRate as RobustLearningRate
from fedsieve.aggregation.rule import Aggregation as Aggregation
from fedsieve.aggregation.rule import Rule as Rule
from fedsieve.aggregation.streaming import aggregate_blocks as aggregate_blocks
from fedsieve.aggregation.trimmed_mean import TrimmedMean as TrimmedMean

__all__ = [
    "CAF",
    "NNM",
    "Aggregation",
    "GramRule",
    "Hierarchical",
    "MajorityVote",
    "MeaMed",
    "Mean",
    "Median",
    "PreAggregator",
    "RobustLearningRate",
    "Rule",
    "TooManyFaultyClients",
    "TrimmedMean",
    "aggregate_blocks",
]
