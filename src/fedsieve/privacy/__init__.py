"""Mechanisms: noise on clipped sums, accounting, and the ledger of what was spent."""

from fedsieve.privacy._budget import BudgetExceededError as BudgetExceededError
from fedsieve.privacy.accounting import compose as compose
from fedsieve.privacy.accounting import epsilon as epsilon
from fedsieve.privacy.adaptive_clip import AdaptiveClip as AdaptiveClip
from fedsieve.privacy.calibration import max_sampling_rate as max_sampling_rate
from fedsieve.privacy.calibration import max_steps as max_steps
from fedsieve.privacy.calibration import noise_multiplier as noise_multiplier
from fedsieve.privacy.client_ledger import ClientLedger as ClientLedger
from fedsieve.privacy.client_ledger import LedgerError as LedgerError
from fedsieve.privacy.correlated import CorrelatedGaussian as CorrelatedGaussian
from fedsieve.privacy.dp_scaffold import DPScaffold as DPScaffold
from fedsieve.privacy.gaussian import GaussianMechanism as GaussianMechanism
from fedsieve.privacy.gaussian import Released as Released
from fedsieve.privacy.guarantee import Event as Event
from fedsieve.privacy.guarantee import Guarantee as Guarantee
from fedsieve.privacy.guarantee import Law as Law
from fedsieve.privacy.guarantee import Relation as Relation
from fedsieve.privacy.guarantee import Sampling as Sampling
from fedsieve.privacy.guarantee import Trust as Trust
from fedsieve.privacy.guarantee import Unit as Unit
from fedsieve.privacy.guarantee import epochs as epochs
from fedsieve.privacy.integers import IntegerMechanism as IntegerMechanism
from fedsieve.privacy.ledger import Ledger as Ledger
from fedsieve.privacy.ledger_view import Account as Account
from fedsieve.privacy.ledger_view import RunAccount as RunAccount
from fedsieve.privacy.ledger_view import accounts as accounts
from fedsieve.privacy.limits import Limits as Limits
from fedsieve.privacy.limits import RefusedError as RefusedError
from fedsieve.privacy.limits import Terms as Terms
from fedsieve.privacy.peer_noise import PeerNoise as PeerNoise
from fedsieve.privacy.peer_noise import split_budget as split_budget
from fedsieve.privacy.publications import Published as Published
from fedsieve.privacy.publications import published as published
from fedsieve.privacy.pure import advanced_composition as advanced_composition
from fedsieve.privacy.pure import optimal_composition as optimal_composition
from fedsieve.privacy.reconstruction import prior_success as prior_success
from fedsieve.privacy.reconstruction import reconstruction_bound as reconstruction_bound
from fedsieve.privacy.settings import Setting as Setting
from fedsieve.privacy.settings import Turn as Turn
from fedsieve.privacy.settings import knobs as knobs
from fedsieve.privacy.tables import Row as Row
from fedsieve.privacy.tables import table as table
from fedsieve.privacy.tradeoff import TradeOff as TradeOff
from fedsieve.privacy.tradeoff import trade_off as trade_off

__all__ = [
    "Account",
    "AdaptiveClip",
    "BudgetExceededError",
    "ClientLedger",
    "CorrelatedGaussian",
    "DPScaffold",
    "Event",
    "GaussianMechanism",
    "Guarantee",
    "IntegerMechanism",
    "Law",
    "Ledger",
    "LedgerError",
    "Limits",
    "PeerNoise",
    "Published",
    "RefusedError",
    "Relation",
    "Released",
    "Row",
    "RunAccount",
    "Sampling",
    "Setting",
    "Terms",
    "TradeOff",
    "Trust",
    "Turn",
    "Unit",
    "accounts",
    "advanced_composition",
    "compose",
    "epochs",
    "epsilon",
    "knobs",
    "max_sampling_rate",
    "max_steps",
    "noise_multiplier",
    "optimal_composition",
    "prior_success",
    "published",
    "reconstruction_bound",
    "split_budget",
    "table",
    "trade_off",
]
