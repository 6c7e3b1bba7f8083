"""The privacy budget of a run: how much noise it needs, and the ledger that watches it.

Who takes part in which round is public and known before the run, so every client's number of
releases T_i is known too; with its sampling rate q_i = b / N_i that fixes its epsilon. The noise is
calibrated for the client that spends most.
"""

from __future__ import annotations

from collections import Counter

from fedsieve.experiments.config import Config
from fedsieve.learning.data import Shards
from fedsieve.privacy import (
    AdaptiveClip,
    GaussianMechanism,
    IntegerMechanism,
    Ledger,
    noise_multiplier,
)
from fedsieve.randomness import Streams
from fedsieve.simulation.participation import Participation


def mechanism(
    config: Config,
    shards: Shards,
    participation: Participation,
    streams: Streams,
    cheats: tuple[int, ...],
    k: int,
) -> GaussianMechanism | IntegerMechanism | None:
    """Clip and noise of the clients; ``None`` without a privacy section.

    Args:
        config: The resolved configuration.
        shards: The clients' records.
        participation: Who takes part when.
        streams: The run's streams.
        cheats: Clients that attack; nobody protects them, so they do not decide the noise.
        k: Numbers in a message: integer noise plans its lattice for them.
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
        sigma = max(
            noise_multiplier(epsilon, q, t, delta, relation, privacy.noise) for q, t in spenders
        )
    clip, clipping, split = privacy.clip, privacy.clipping, privacy.clip_split
    if privacy.noise == "gaussian":
        return GaussianMechanism(clip, sigma, batch, clipping=clipping, split=split)
    law = privacy.noise
    return IntegerMechanism(clip, sigma, batch, k, law, clipping=clipping, split=split)


def adaptive(
    config: Config, used: GaussianMechanism | IntegerMechanism | None
) -> AdaptiveClip | None:
    """What moves the clip; its counts are part of what the mechanism's noise multiplier costs.

    Raises:
        ValueError: The counts alone would cost more.
    """
    if config.privacy is None or config.privacy.clip_quantile is None or used is None:
        return None
    quantile, rate = config.privacy.clip_quantile, config.privacy.clip_rate
    noise = config.privacy.clip_noise
    if noise is None:
        return AdaptiveClip.costing(used.noise_multiplier, quantile=quantile, rate=rate)
    if 2 * noise <= used.noise_multiplier:
        raise ValueError(
            f"privacy.clip_noise={noise}: the counts alone would spend the whole budget; allowed "
            f"is > {used.noise_multiplier / 2:.6g}, half of the noise multiplier"
        )
    return AdaptiveClip(noise, quantile, rate)


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


def ledger(
    config: Config, used: GaussianMechanism | IntegerMechanism | None, streams: Streams
) -> Ledger | None:
    """The ledger of the run; it refuses to exceed ``privacy.epsilon`` where that is given."""
    if used is None or config.privacy is None:
        return None
    return Ledger(
        config.privacy.delta,
        config.privacy.relation,
        repeatable=streams.noise_seed is not None,
        limit=config.privacy.epsilon,
        noise_source=streams.noise_source,
        law=config.privacy.noise,
    )
