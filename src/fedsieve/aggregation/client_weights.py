"""Client weights under a public cap: what a client is allowed to weigh, whatever it claims.

A size n_i is a claim, and a claim that buys influence must not be taken on trust. With n clients
and a cap c, the shares are

    p_i = min(c / n, t n_i),    t such that sum_i p_i = 1:

no client has more than c times the share it would have among equals, so that f of them hold at most
f c / n whatever they claim, and a rule that needs a majority has it where c < n / (2f). The excess
of those at the cap is redistributed among the others in proportion to their sizes. Were it cut off
instead, shares would no longer sum to 1, and bringing them back to 1 would lift the largest above
the cap again. Of all shares under the cap these are the nearest to n_i / sum_j n_j in the
Kullback-Leibler divergence.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import as_real
from fedsieve.aggregation._door import ClientWeights, normalised, numbers
from fedsieve.aggregation.no_regret import capped


def capped_shares(sizes: ClientWeights, cap: float) -> Tensor:
    """The clients' shares, in proportion to their sizes and none above cap / n.

    Args:
        sizes: What the clients claim, such as their numbers of records: (n,), finite and >= 0, not
            all 0.
        cap: Largest share, as a multiple of 1/n; >= 1 (all equal), infinite: no bound.

    Returns:
        (n,) float64 on the CPU, summing to 1, in the order of the sizes; for the ``weights`` of a
        rule.

    Raises:
        ValueError: The sizes or the cap are not as above, or so few sizes are > 0 that these
            clients would have to exceed the cap.

    Example:
        >>> capped_shares([10, 10, 20, 960], cap=2.0)
        tensor([0.1250, 0.1250, 0.2500, 0.5000], dtype=torch.float64)
    """
    if not as_real(cap) >= 1:
        raise ValueError(f"cap={cap!r} must be >= 1: shares of at most {cap!r}/n cannot sum to 1")
    claimed = numbers(sizes, "sizes")
    n = claimed.size
    p = normalised(claimed, n)
    heard, most = p > 0, cap / n
    if (k := int(heard.sum())) * cap < n:
        raise ValueError(
            f"sizes: only {k} of n={n} are > 0, and cap={cap:g} lets these clients hold no more "
            f"than {k * most:.3g}; the least cap allowed is {n / k:.6g}"
        )
    if p.max() > most:
        p[heard] = np.minimum(capped(p[heard], np.full(k, most)), most)
    return torch.from_numpy(p)
