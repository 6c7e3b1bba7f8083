"""The privacy budget of a run: how much noise it needs, who adds it, and the ledger that watches.

Who takes part in which round is public and known before the run, so every client's number of
releases T_i is known too; with its sampling rate q_i = b / N_i (1 at client level) that fixes its
epsilon. The noise is calibrated for the client that spends most, and noise that clients share for
the round with the fewest of them.
"""

from __future__ import annotations

from collections import Counter

from fedsieve.algorithms.trust import Mechanism, Noise, OwnNoise, ServerNoise, SharedNoise
from fedsieve.experiments.config import Config
from fedsieve.learning.data import Shards
from fedsieve.learning.sampling import epoch_steps
from fedsieve.privacy import (
    AdaptiveClip,
    CorrelatedGaussian,
    GaussianMechanism,
    IntegerMechanism,
    Ledger,
    epochs,
    noise_multiplier,
)
from fedsieve.privacy.guarantee import kept_variance
from fedsieve.randomness import Streams
from fedsieve.simulation.participation import Participation


def mechanism(
    config: Config,
    shards: Shards,
    participation: Participation,
    streams: Streams,
    cheats: tuple[int, ...],
    k: int,
) -> Mechanism | None:
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
    batch = 1 if privacy.unit == "client" else batch  # vectors in a sum: its own update
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
        law = privacy.noise, kept_variance(privacy.noise)
        sigma = max(
            noise_multiplier(epsilon, q, t, delta, relation, *law, privacy.sampling)
            for q, t in spenders
        )
    clip, clipping, split = privacy.clip, privacy.clipping, privacy.clip_split
    if privacy.noise == "gaussian":
        return GaussianMechanism(clip, sigma, batch, privacy.unit, clipping, split)
    return IntegerMechanism(clip, sigma, batch, k, privacy.noise, privacy.unit, clipping, split)


def noise(
    config: Config,
    used: Mechanism | None,
    participation: Participation,
    streams: Streams,
) -> Noise:
    """Who adds the mechanism's noise.

    Raises:
        ValueError: Clients are to share it, and in some round too few are left that may.
    """
    privacy = config.privacy
    if used is None or privacy is None or privacy.trust == "local":
        return OwnNoise()
    if privacy.trust == "central":
        return ServerNoise(streams)
    assert privacy.colluders is not None
    f, steps = privacy.colluders, config.algorithm.local_steps or 1
    round_, n = 0, participation.size
    if not participation.everybody:
        present = (len(participation.draw(streams, t, steps).ids) for t in range(config.rounds))
        round_, n = min(enumerate(present), key=lambda found: found[1])
    if n < f + 2:
        raise ValueError(
            f"privacy.trust='distributed' with privacy.colluders={f}: in round {round_} only {n} "
            f"clients deliver, and {f + 2} must, so that two share noise that nobody else knows; "
            "allow larger cohorts (federation.participation), fewer drop-outs "
            "(federation.dropout) or fewer colluders"
        )
    slack = CorrelatedGaussian.best_slack(n, f, config.federation.byzantine)
    sigma = used.noise_multiplier
    shared = CorrelatedGaussian.calibrated(used.clip, used.batch, sigma, n, f, slack)
    return SharedNoise(shared, f)


def adaptive(config: Config, used: Mechanism | None) -> AdaptiveClip | None:
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
    """(q, T) of the honest clients that no other one exceeds in both.

    Where records take part once in an epoch, T counts the epochs that begin, q is one over the
    steps of one.
    """
    steps = config.algorithm.local_steps or 1
    whole = config.privacy is not None and config.privacy.unit == "client"
    releases: Counter[int] = Counter()
    if participation.everybody:
        releases.update(dict.fromkeys(range(shards.n), config.rounds * (1 if whole else steps)))
    else:
        for round_ in range(config.rounds):
            drawn = participation.draw(streams, round_, steps)
            counts = (1,) * len(drawn.ids) if whole else drawn.steps
            releases.update(dict(zip(drawn.ids, counts, strict=True)))
    for cheat in cheats:
        del releases[cheat]  # a Counter deletes what it does not hold, too
    batch, most, front = config.algorithm.batch, 0, []
    assert batch is not None
    spent = {(1.0 if whole else batch / shards.size(c), t) for c, t in releases.items()}
    if config.privacy is not None and config.privacy.sampling != "poisson":
        cut = {c: epoch_steps(shards.size(c), batch) for c in releases}
        spent = {(1 / cut[c], epochs(t, cut[c])) for c, t in releases.items()}
    for q, t in sorted(spent, reverse=True):
        if t > most:
            front.append((q, t))
            most = t
    return front


def remark(config: Config, shards: Shards) -> str | None:
    """What to hear before the first round of a statement that holds, but allows too much."""
    privacy = config.privacy
    if privacy is None:
        return None
    units, whose = shards.n, "clients"
    if privacy.unit == "record":
        units = min(shards.size(client) for client in range(shards.n))
        whose = "records of the smallest client"
    if privacy.delta * units < 1:
        return None
    return (
        f"privacy.delta={privacy.delta:g} is no less than 1/{units}: to publish one of the {units} "
        f"{whose}, as it is, would keep to it; choose delta far below 1/{units}"
    )


def ledger(config: Config, used: Mechanism | None, streams: Streams) -> Ledger | None:
    """The ledger of the run; it refuses to exceed ``privacy.epsilon`` where that is given."""
    if used is None or config.privacy is None:
        return None
    return Ledger(
        config.privacy.delta,
        config.privacy.relation,
        repeatable=streams.noise_seed is not None,
        limit=config.privacy.epsilon,
        noise_source=streams.noise_source,
        unit=used.unit,
        law=config.privacy.noise,
        sampling=config.privacy.sampling,
    )
