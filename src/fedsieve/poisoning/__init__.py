"""What malicious clients do to training."""

from fedsieve.poisoning._line_search import Found as Found
from fedsieve.poisoning._line_search import line_search as line_search
from fedsieve.poisoning._trigger import Patch as Patch
from fedsieve.poisoning._trigger import Position as Position
from fedsieve.poisoning.agr_tailored import AGRTailored as AGRTailored
from fedsieve.poisoning.alie import ALIE as ALIE
from fedsieve.poisoning.alie import published_z as published_z
from fedsieve.poisoning.attack import Attack as Attack
from fedsieve.poisoning.attack import DataAttack as DataAttack
from fedsieve.poisoning.attack import Knowledge as Knowledge
from fedsieve.poisoning.attack import Memory as Memory
from fedsieve.poisoning.attack import MessageAttack as MessageAttack
from fedsieve.poisoning.attack import RecordAttack as RecordAttack
from fedsieve.poisoning.attack import Records as Records
from fedsieve.poisoning.attack import Scene as Scene
from fedsieve.poisoning.backdoor import Backdoor as Backdoor
from fedsieve.poisoning.backdoor import SentBackdoor as SentBackdoor
from fedsieve.poisoning.backdoor import half_life as half_life
from fedsieve.poisoning.badnets import BadNets as BadNets
from fedsieve.poisoning.constrain_and_scale import ConstrainAndScale as ConstrainAndScale
from fedsieve.poisoning.dba import DBA as DBA
from fedsieve.poisoning.edge_case import EdgeCase as EdgeCase
from fedsieve.poisoning.fang_krum import FangKrum as FangKrum
from fedsieve.poisoning.fang_trimmed_mean import FangTrimmedMean as FangTrimmedMean
from fedsieve.poisoning.foe import FOE as FOE
from fedsieve.poisoning.garbage import Garbage as Garbage
from fedsieve.poisoning.gaussian_noise import Gaussian as Gaussian
from fedsieve.poisoning.hide_in_noise import HideInNoise as HideInNoise
from fedsieve.poisoning.index_poisoning import IndexPoisoning as IndexPoisoning
from fedsieve.poisoning.label_flip import LabelFlip as LabelFlip
from fedsieve.poisoning.label_flip_random import RandomLabels as RandomLabels
from fedsieve.poisoning.label_flip_targeted import TargetedLabelFlip as TargetedLabelFlip
from fedsieve.poisoning.mask_aware import MaskAware as MaskAware
from fedsieve.poisoning.mimic import Mimic as Mimic
from fedsieve.poisoning.min_max import MinMax as MinMax
from fedsieve.poisoning.min_sum import MinSum as MinSum
from fedsieve.poisoning.model_replacement import ModelReplacement as ModelReplacement
from fedsieve.poisoning.neurotoxin import Neurotoxin as Neurotoxin
from fedsieve.poisoning.none import NoAttack as NoAttack
from fedsieve.poisoning.rop import ROP as ROP
from fedsieve.poisoning.scale_abuse import ScaleAbuse as ScaleAbuse
from fedsieve.poisoning.searched import LineSearch as LineSearch
from fedsieve.poisoning.sign_flip import SignFlip as SignFlip
from fedsieve.poisoning.sketch_collision import SketchCollision as SketchCollision
from fedsieve.poisoning.slow_bias import SlowBias as SlowBias
from fedsieve.poisoning.un_noised import UnNoised as UnNoised
from fedsieve.poisoning.zero_gradient import ZeroGradient as ZeroGradient

__all__ = [
    "ALIE",
    "DBA",
    "FOE",
    "ROP",
    "AGRTailored",
    "Attack",
    "Backdoor",
    "BadNets",
    "ConstrainAndScale",
    "DataAttack",
    "EdgeCase",
    "FangKrum",
    "FangTrimmedMean",
    "Found",
    "Garbage",
    "Gaussian",
    "HideInNoise",
    "IndexPoisoning",
    "Knowledge",
    "LabelFlip",
    "LineSearch",
    "MaskAware",
    "Memory",
    "MessageAttack",
    "Mimic",
    "MinMax",
    "MinSum",
    "ModelReplacement",
    "Neurotoxin",
    "NoAttack",
    "Patch",
    "Position",
    "RandomLabels",
    "RecordAttack",
    "Records",
    "ScaleAbuse",
    "Scene",
    "SentBackdoor",
    "SignFlip",
    "SketchCollision",
    "SlowBias",
    "TargetedLabelFlip",
    "UnNoised",
    "ZeroGradient",
    "half_life",
    "line_search",
    "published_z",
]
