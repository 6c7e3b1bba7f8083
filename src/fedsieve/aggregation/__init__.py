"""Robust aggregation rules and pre-aggregators."""

from fedsieve.aggregation._door import TooManyFaultyClients as TooManyFaultyClients
from fedsieve.aggregation._gram import GramRule as GramRule
from fedsieve.aggregation._gram import PointRule as PointRule
from fedsieve.aggregation.arc import ARC as ARC
from fedsieve.aggregation.bucketing import Bucketing as Bucketing
from fedsieve.aggregation.bulyan import Bulyan as Bulyan
from fedsieve.aggregation.caf import CAF as CAF
from fedsieve.aggregation.centered_clipping import CenteredClipping as CenteredClipping
from fedsieve.aggregation.cge import CGE as CGE
from fedsieve.aggregation.client_weights import capped_shares as capped_shares
from fedsieve.aggregation.clipping import Clipping as Clipping
from fedsieve.aggregation.dnc import DnC as DnC
from fedsieve.aggregation.facts import Facts as Facts
from fedsieve.aggregation.filter_l2 import FilterL2 as FilterL2
from fedsieve.aggregation.flame import FLAME as FLAME
from fedsieve.aggregation.fltrust import FLTrust as FLTrust
from fedsieve.aggregation.geometric_median import GeometricMedian as GeometricMedian
from fedsieve.aggregation.hierarchical import Hierarchical as Hierarchical
from fedsieve.aggregation.krum import Krum as Krum
from fedsieve.aggregation.krum import MultiKrum as MultiKrum
from fedsieve.aggregation.majority_vote import MajorityVote as MajorityVote
from fedsieve.aggregation.mda import MDA as MDA
from fedsieve.aggregation.meamed import MeaMed as MeaMed
from fedsieve.aggregation.mean import Mean as Mean
from fedsieve.aggregation.median import Median as Median
from fedsieve.aggregation.monna import MoNNA as MoNNA
from fedsieve.aggregation.nnm import NNM as NNM
from fedsieve.aggregation.no_regret import NoRegret as NoRegret
from fedsieve.aggregation.pre_aggregator import PreAggregator as PreAggregator
from fedsieve.aggregation.robust_learning_rate import RobustLearningRate as RobustLearningRate
from fedsieve.aggregation.rule import Aggregation as Aggregation
from fedsieve.aggregation.rule import Rule as Rule
from fedsieve.aggregation.sign_guard import SignGuard as SignGuard
from fedsieve.aggregation.smea import SMEA as SMEA
from fedsieve.aggregation.streaming import aggregate_blocks as aggregate_blocks
from fedsieve.aggregation.trimmed_mean import TrimmedMean as TrimmedMean

__all__ = [
    "ARC",
    "CAF",
    "CGE",
    "FLAME",
    "MDA",
    "NNM",
    "SMEA",
    "Aggregation",
    "Bucketing",
    "Bulyan",
    "CenteredClipping",
    "Clipping",
    "DnC",
    "FLTrust",
    "Facts",
    "FilterL2",
    "GeometricMedian",
    "GramRule",
    "Hierarchical",
    "Krum",
    "MajorityVote",
    "MeaMed",
    "Mean",
    "Median",
    "MoNNA",
    "MultiKrum",
    "NoRegret",
    "PointRule",
    "PreAggregator",
    "RobustLearningRate",
    "Rule",
    "SignGuard",
    "TooManyFaultyClients",
    "TrimmedMean",
    "aggregate_blocks",
    "capped_shares",
]
