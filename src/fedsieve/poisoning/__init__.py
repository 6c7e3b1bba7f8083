"""What malicious clients do to training."""

from fedsieve.poisoning._line_search import Found as Found
from fedsieve.poisoning._line_search import line_search as line_search
from fedsieve.poisoning._trigger import Patch as Patch
from fedsieve.poisoning._trigger import Position as Position
from fedsieve.poisoning.alie import ALIE as ALIE
from fedsieve.poisoning.alie import published_z as published_z
from fedsieve.poisoning.attack import Attack as Attack
from fedsieve.poisoning.attack import DataAttack as DataAttack
from fedsieve.poisoning.attack import Knowledge as Knowledge
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
from fedsieve.poisoning.foe import FOE as FOE
from fedsieve.poisoning.label_flip import LabelFlip as LabelFlip
from fedsieve.poisoning.model_replacement import ModelReplacement as ModelReplacement
from fedsieve.poisoning.neurotoxin import Neurotoxin as Neurotoxin
from fedsieve.poisoning.none import NoAttack as NoAttack
from fedsieve.poisoning.sign_flip import SignFlip as SignFlip

__all__ = [
    "ALIE",
    "DBA",
    "FOE",
    "Attack",
    "Backdoor",
    "BadNets",
    "ConstrainAndScale",
    "DataAttack",
    "EdgeCase",
    "Found",
    "Knowledge",
    "LabelFlip",
    "MessageAttack",
    "ModelReplacement",
    "Neurotoxin",
    "NoAttack",
    "Patch",
    "Position",
    "RecordAttack",
    "Records",
    "Scene",
    "SentBackdoor",
    "SignFlip",
    "half_life",
    "line_search",
    "published_z",
]
