"""FedSieve: federated learning that is private, robust and cheap at once.

Example:
    >>> import fedsieve
    >>> config = fedsieve.Config.model_validate({"rounds": 150, "seed": 7})
    >>> result = fedsieve.run(config)  # doctest: +SKIP
    >>> result.summary["test_accuracy"]  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from fedsieve._version import __version__ as __version__

if TYPE_CHECKING:
    from fedsieve.experiments.config import Config as Config
    from fedsieve.experiments.run import Result as Result
    from fedsieve.experiments.run import resume as resume
    from fedsieve.experiments.run import run as run

__all__ = ["Config", "Result", "__version__", "resume", "run"]

# Looked up on first use (PEP 562), so that `fedsieve --help` never waits for torch.
_HOMES = {
    "Config": "fedsieve.experiments.config",
    "Result": "fedsieve.experiments.run",
    "resume": "fedsieve.experiments.run",
    "run": "fedsieve.experiments.run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedsieve' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
