"""The privacy budget of a run: how much noise it needs, and the ledger that watches it.

Who takes part in which round is public and known before the run, so every client's number of
releases T_i is known too; with its sampling rate q_i = b / N_i that fixes its epsilon. The noise is
calibrated for the client that spends most.
"""

from __future__ import annotations

from collections import Counter

from fedsieve.experiments.config import Config
from fedsieve.learning.data import Shards
from fedsieve.privacy import GaussianMechanism, Ledger, noise_multiplier
from fedsieve.randomness import Streams
from fedsieve.simulation.participation import Participation


def mechanism(
    config: Config,
    shards: Shards,
    participation: Participation,
    streams: Streams,
    cheats: tuple[int, ...],
) -> GaussianMechanism | None:
    """Clip and noise of the clients; ``None`` without a privacy section.

    Args:
        config: The resolved configuration.
        shards: The clients' records.
        participation: Who takes part when.
        streams: The run's streams.
        cheats: Clients that attack; nobody protects them, so they do not decide the noise.
    """
    privacy, batch = config.privacy, config.algorithm.batch
    if privacy is None:
        return None
    assert privacy.clip is not None
    assert batch is not None
    sigma = privacy.noise_multiplier
    if sigma is None:
        assert privacy.epsilon is not None
        epsilon, delta, relation = privacy.epsilon, privacy.delta, privacy.relation
        spenders = biggest_spenders(config, shards, participation, streams, cheats)
        if not spenders:
            raise ValueError(
                f"rounds={config.rounds}: with this seed, federation.participation and "
                f"federation.dropout={config.federation.dropout} no client ever sends anything, so "
                "no noise follows from privacy.epsilon; allow more rounds or fewer drop-outs"
            )
        sigma = max(noise_multiplier(epsilon, q, t, delta, relation) for q, t in spenders)
    return GaussianMechanism(privacy.clip, sigma, batch, clipping=privacy.clipping)


def biggest_spenders(
    config: Config,
    shards: Shards,
    participation: Participation,
    streams: Streams,
    cheats: tuple[int, ...] = (),
) -> list[tuple[float, int]]:
    """(q, T) of the honest clients that no other one exceeds in both."""
    steps = config.algorithm.local_steps or 1
    releases: Counter[int] = Counter()
    if participation.everybody:
        releases.update(dict.fromkeys(range(shards.n), config.rounds * steps))
    else:
        for round_ in range(config.rounds):
            drawn = participation.draw(streams, round_, steps)
            releases.update(dict(zip(drawn.ids, drawn.steps, strict=True)))
    for cheat in cheats:
        del releases[cheat]  # a Counter deletes what it does not hold, too
    assert config.algorithm.batch is not None
    batch, most, front = config.algorithm.batch, 0, []
    for q, t in sorted({(batch / shards.size(c), t) for c, t in releases.items()}, reverse=True):
        if t > most:
            front.append((q, t))
            most = t
    return front


def ledger(config: Config, used: GaussianMechanism | None, streams: Streams) -> Ledger | None:
    """The ledger of the run; it refuses to exceed ``privacy.epsilon`` where that is given."""
    if used is None or config.privacy is None:
        return None
    return Ledger(
        config.privacy.delta,
        config.privacy.relation,
        repeatable=streams.noise_seed is not None,
        limit=config.privacy.epsilon,
        noise_source=streams.noise_source,
    )
