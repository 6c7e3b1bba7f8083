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
from fedsieve.aggregation.clipping import Clipping as Clipping
from fedsieve.aggregation.facts import Facts as Facts
from fedsieve.aggregation.fltrust import FLTrust as FLTrust
from fedsieve.aggregation.geometric_median import GeometricMedian as GeometricMedian
from fedsieve.aggregation.krum import Krum as Krum
from fedsieve.aggregation.krum import MultiKrum as MultiKrum
from fedsieve.aggregation.mda import MDA as MDA
from fedsieve.aggregation.mean import Mean as Mean
from fedsieve.aggregation.monna import MoNNA as MoNNA
from fedsieve.aggregation.nnm import NNM as NNM
from fedsieve.aggregation.pre_aggregator import PreAggregator as PreAggregator
from fedsieve.aggregation.rule import Aggregation as Aggregation
from fedsieve.aggregation.rule import Rule as Rule
from fedsieve.aggregation.trimmed_mean import TrimmedMean as TrimmedMean

__all__ = [
    "ARC",
    "CAF",
    "CGE",
    "MDA",
    "NNM",
    "Aggregation",
    "Bucketing",
    "Bulyan",
    "CenteredClipping",
    "Clipping",
    "FLTrust",
    "Facts",
    "GeometricMedian",
    "GramRule",
    "Krum",
    "Mean",
    "MoNNA",
    "MultiKrum",
    "PointRule",
    "PreAggregator",
    "Rule",
    "TooManyFaultyClients",
    "TrimmedMean",
]
