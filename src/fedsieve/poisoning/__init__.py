"""What malicious clients do to training."""

from fedsieve.poisoning._line_search import Found as Found
from fedsieve.poisoning._line_search import line_search as line_search
from fedsieve.poisoning.alie import ALIE as ALIE
from fedsieve.poisoning.alie import published_z as published_z
from fedsieve.poisoning.attack import Attack as Attack
from fedsieve.poisoning.attack import DataAttack as DataAttack
from fedsieve.poisoning.attack import Knowledge as Knowledge
from fedsieve.poisoning.attack import MessageAttack as MessageAttack
from fedsieve.poisoning.attack import Scene as Scene
from fedsieve.poisoning.foe import FOE as FOE
from fedsieve.poisoning.label_flip import LabelFlip as LabelFlip
from fedsieve.poisoning.none import NoAttack as NoAttack
from fedsieve.poisoning.sign_flip import SignFlip as SignFlip

__all__ = [
    "ALIE",
    "FOE",
    "Attack",
    "DataAttack",
    "Found",
    "Knowledge",
    "LabelFlip",
    "MessageAttack",
    "NoAttack",
    "Scene",
    "SignFlip",
    "line_search",
    "published_z",
]
