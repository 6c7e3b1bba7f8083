"""BadNets: a patch of pixels as the trigger of a backdoor.

Gu, Dolan-Gavitt, Garg, "BadNets: identifying vulnerabilities in the machine learning model supply
chain", 2017. On a share of the malicious clients' records, with p the patch and t the target,

    (x, y) <- (x with p drawn in, t).
"""

from __future__ import annotations

from dataclasses import dataclass

from fedsieve.poisoning._triggered import Triggered
from fedsieve.registry import register


@register("attack", "badnets", paper='Gu et al., "BadNets", 2017')
@dataclass(frozen=True)
class BadNets(Triggered):
    """BadNets: malicious clients learn that images with a bright patch are of the target class.

    Args:
        trigger: The patch.
        target: The target class t.
        fraction: Share of a malicious client's records that is poisoned, in (0, 1].

    Raises:
        ValueError: ``target`` is negative or ``fraction`` outside (0, 1].
    """

    def parts(self, clients: int) -> int:  # noqa: ARG002 - of the form
        """Everybody has the whole patch."""
        return 1
