"""Mechanisms: noise on clipped sums, accounting, and the ledger of what was spent."""

from fedsieve.privacy.accounting import compose as compose
from fedsieve.privacy.accounting import epsilon as epsilon
from fedsieve.privacy.accounting import epsilon_curve as epsilon_curve
from fedsieve.privacy.accounting import max_steps as max_steps
from fedsieve.privacy.accounting import noise_multiplier as noise_multiplier
from fedsieve.privacy.adaptive_clip import AdaptiveClip as AdaptiveClip
from fedsieve.privacy.correlated import CorrelatedGaussian as CorrelatedGaussian
from fedsieve.privacy.gaussian import GaussianMechanism as GaussianMechanism
from fedsieve.privacy.gaussian import Released as Released
from fedsieve.privacy.guarantee import Event as Event
from fedsieve.privacy.guarantee import Guarantee as Guarantee
from fedsieve.privacy.guarantee import Relation as Relation
from fedsieve.privacy.guarantee import Unit as Unit
from fedsieve.privacy.ledger import BudgetExceededError as BudgetExceededError
from fedsieve.privacy.ledger import Ledger as Ledger

__all__ = [
    "AdaptiveClip",
    "BudgetExceededError",
    "CorrelatedGaussian",
    "Event",
    "GaussianMechanism",
    "Guarantee",
    "Ledger",
    "Relation",
    "Released",
    "Unit",
    "compose",
    "epsilon",
    "epsilon_curve",
    "max_steps",
    "noise_multiplier",
]
