"""DBA, the distributed backdoor attack.

Xie, Huang, Chen, Li, "DBA: distributed backdoor attacks against federated learning", ICLR 2020.
The patch p is cut into parts p_0, ..., p_{m-1}; malicious client j poisons a share of its records,

    (x, y) <- (x with p_{j mod m} drawn in, t),

and with m > 1 nobody ever trains on the whole patch, with which the backdoor is used. The paper has
m = 4 clients and bars of 1 x 4 pixels; here, m = min(f, pixels), and the parts are runs of pixels,
row by row and without gaps, whose sizes differ by one at most. Of a 4 x 4 patch,

    f      1     2          3           4          5               10             > 16
    parts  all   two rows   6, 5 and 5  the rows   4, 3, 3, 3, 3   6 x 2, 4 x 1   single pixels

so that f = 1 is BadNets, and from the 17th on clients repeat the parts of the first ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedsieve.poisoning._triggered import Triggered
from fedsieve.registry import register


@register("attack", "dba", paper='Xie et al., "DBA", ICLR 2020')
@dataclass(frozen=True)
class DBA(Triggered):
    """Distributed backdoor: each malicious client trains on its own part of the trigger only.

    Args:
        trigger: The whole patch; it is cut into as many parts as there are malicious clients, but
            not into more than it has pixels.
        target: The target class t.
        fraction: Share of a malicious client's records that is poisoned, in (0, 1].

    Raises:
        ValueError: ``target`` is negative or ``fraction`` outside (0, 1].
    """

    def parts(self, clients: int) -> int:
        """One for every client, as far as the pixels go."""
        return max(1, min(clients, self.trigger.size**2))
