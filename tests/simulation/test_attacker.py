"""What the simulation shows an attack, keeps for it, and lets it do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, Mean, TrimmedMean
from fedsieve.algorithms.trust import ServerNoise
from fedsieve.compression.codecs import Raw16
from fedsieve.compression.projections import LowRank, RandomMask
from fedsieve.poisoning import ALIE, Knowledge, MessageAttack, Mimic, Scene, SlowBias, UnNoised
from fedsieve.privacy import GaussianMechanism
from fedsieve.randomness import Streams
from fedsieve.simulation.attacker import without_noise
from fedsieve.simulation.checkpoint import newest, save
from fedsieve.simulation.loop import Simulation

NOISE = GaussianMechanism(clip=1.0, noise_multiplier=2.0, batch=8)
SEEN = []


@dataclass(frozen=True)
class Spy(MessageAttack):
    """Keeps what it is shown, and sends honest messages."""

    uses_own = True

    @property
    def knowledge(self):
        return Knowledge.NOTHING

    def craft(self, scene):
        SEEN.append(scene)
        return scene.rows(scene.mean if scene.own is None else scene.own)

    def remember(self, scene, rows):
        held = scene.memory.get("rounds", torch.zeros(1))
        return {"rounds": held + 1, "sum": rows.sum(dim=0)}


@pytest.fixture
def shown(make_job):
    def run(name="dshb", attack=None, rounds=3, rule=None, **job):
        SEEN.clear()
        made = make_job(
            name,
            attack=attack or Spy(),
            byzantine=(1, 4),
            rule=rule or CAF(2),
            rounds=rounds,
            **job,
        )
        with Simulation(made) as simulation:
            for _ in range(rounds):
                simulation.step()
        return simulation, list(SEEN)

    return run


@dataclass(frozen=True)
class Sending(Spy):
    """Sends whatever ``form`` makes of what it sees."""

    form: Callable[[Scene], object] = lambda scene: scene.rows(scene.mean)

    def craft(self, scene):
        return self.form(scene)


def test_rows_of_another_type_are_taken_as_the_messages_they_stand_for(make_job):
    thetas = []
    for kind in (torch.float32, torch.float64):
        attack = Sending(lambda scene, kind=kind: scene.rows(scene.mean).to(kind))
        with Simulation(make_job(rule=CAF(2), byzantine=(4, 5), attack=attack)) as simulation:
            simulation.step(), simulation.step()
        thetas.append(simulation.theta)
    assert thetas[1].dtype == torch.float32
    assert torch.equal(*thetas)


@pytest.mark.parametrize(
    ("form", "found"),
    [
        (lambda scene: scene.mean, r"shape \(37,\)"),
        (lambda scene: scene.rows(scene.mean)[:, :3], r"shape \(2, 3\)"),
        (lambda scene: scene.rows(scene.mean).numpy(), "numpy.ndarray"),
    ],
)
def test_rows_that_are_no_messages_are_refused_by_name(make_job, form, found):
    job = make_job(rule=CAF(2), byzantine=(4, 5), attack=Sending(form))
    refusal = rf"Sending.* gave .*{found}.*needed is a tensor of shape \(2, 37\)"
    with Simulation(job) as simulation, pytest.raises(ValueError, match=refusal):
        simulation.step()


def test_memory_is_taken_and_returned(shown):
    _, seen = shown()
    assert [s.memory.get("rounds", torch.zeros(1)).item() for s in seen] == [0, 1, 2]
    torch.testing.assert_close(seen[2].memory["sum"], seen[1].own.sum(dim=0))
    assert seen[0].ids == (0, 2, 3, 5)


def test_each_half_of_a_message_has_its_own_memory(shown):
    simulation, seen = shown("scaffold")
    assert set(simulation.attacker) == {"0.rounds", "0.sum", "1.rounds", "1.sum"}
    assert [s.memory.get("rounds", torch.zeros(1)).item() for s in seen] == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(seen[5].memory["sum"], seen[3].own.sum(dim=0))


@pytest.mark.parametrize("attack", [Mimic(warm_up=3), SlowBias()], ids=str)
def test_memory_survives_a_stop(make_job, tmp_path, attack):
    def job():
        return make_job(
            "sieve",
            attack=attack,
            byzantine=(1, 4),
            rule=TrimmedMean(2),
            projection=RandomMask(k=20, refresh=2),
            rounds=6,
        )

    with Simulation(job()) as whole:
        for _ in range(6):
            whole.step()
    with Simulation(job()) as first:
        for _ in range(3):
            first.step()
        save(tmp_path, first.checkpoint())
    with Simulation(job()) as second:
        second.restore(newest(tmp_path))
        assert set(second.attacker) == set(first.attacker) != set()
        for _ in range(3):
            second.step()
    assert torch.equal(whole.theta, second.theta)
    with Simulation(job()) as forgetful:
        kept = newest(tmp_path)
        tensors = {k: v for k, v in kept.tensors.items() if not k.startswith("attacker.")}
        forgetful.restore(replace(kept, tensors=tensors))
        for _ in range(3):
            forgetful.step()
    assert not torch.equal(whole.theta, forgetful.theta)


def test_the_map_of_the_round_and_those_to_come(shown):
    projection = RandomMask(k=20, refresh=2)
    _, seen = shown("sieve", projection=projection, rounds=5)
    x = torch.arange(37.0)
    for now, i, then in ((0, 1, 2), (1, 1, 2), (0, 2, 4), (3, 1, 4)):
        assert torch.equal(seen[now].foresee(i).project(x), seen[then].project(x))
    assert not torch.equal(seen[1].project(x), seen[2].project(x))
    for projection in (LowRank(k=30, refresh=2), RandomMask(k=20, refresh=0)):
        _, seen = shown("sieve", projection=projection, rounds=1)
        assert seen[0].foresee is None  # learnt from what is still to come; always the same


@pytest.mark.parametrize("name", ["dshb", "sieve", "fedavg"])
def test_the_noise_of_a_message_is_as_large_as_it_is_said_to_be(make_job, shown, name):
    options = {"momentum": 0.9} if name != "fedavg" else {}
    rounds, steps = 12, 3

    def messages(noise_seed):
        _, seen = shown(
            name,
            mechanism=NOISE,
            noise_seed=noise_seed,
            options=options | {"lr": 1e-4},
            rounds=rounds,
            steps=steps,
        )
        return seen

    seen = messages(1)
    for t in (0, 3, rounds - 1):
        deviations = seen[t].honest - seen[t].mean
        std = float(deviations.std()) * (4 / 3) ** 0.5  # of four clients about their mean
        # four standard errors of 3 x 37 free numbers; gradients are far smaller than the noise
        assert std == pytest.approx(seen[t].noise_std, rel=4 / (2 * 111) ** 0.5)
    assert shown(name, rounds=1)[1][0].noise_std is None


@pytest.mark.parametrize("name", ["dshb", "fedavg"])
def test_whoever_omits_the_noise_sends_what_the_mechanism_would_have_noised(make_job, shown, name):
    @dataclass(frozen=True)
    class Silent(Spy):
        omits_noise = True

    tiny = replace(NOISE, noise_multiplier=1e-9)
    _, plain = shown(name, mechanism=tiny)
    _, noisy = shown(name, mechanism=NOISE)
    _, silent = shown(name, mechanism=NOISE, attack=Silent())
    # the first round starts from the same model; later ones do not
    torch.testing.assert_close(silent[0].own, plain[0].own, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(noisy[0].own, plain[0].own, atol=1e-2)
    assert torch.equal(silent[0].honest, noisy[0].honest)  # the others' noise is untouched
    assert silent[2].own.norm() < 0.7 * noisy[2].own.norm()


def test_whoever_omits_the_noise_adds_it_before_and_after_the_attack(make_job):
    def losses(**attack):
        job = make_job("dshb", mechanism=NOISE, byzantine=(1, 4), rule=CAF(2), rounds=3, **attack)
        with Simulation(job) as simulation:
            return [simulation.step()["loss"] for _ in range(3)]

    honest, attacked = losses(), losses(attack=UnNoised(), attack_start=1, attack_stop=2)
    assert attacked[0] == honest[0]
    assert attacked[1] != honest[1]
    assert losses(attack=UnNoised(), attack_start=3) == honest


@dataclass(frozen=True)
class Watching(Spy):
    """Asks for the last aggregate."""

    uses_last = True


@pytest.mark.parametrize("name", ["dshb", "sieve", "fedavg", "peer-to-peer"])
def test_the_last_aggregate_is_shown_to_those_who_ask_as_the_model_tells_it(shown, name):
    _, seen = shown(name, attack=Watching(), rule=Mean(), rounds=3, options={"server_lr": 0.5})
    assert seen[0].last is None
    for before, now in itertools.pairwise(seen):
        aggregate = torch.cat([before.honest, before.own]).mean(dim=0)
        torch.testing.assert_close(now.last, aggregate, atol=1e-5, rtol=1e-4)
    assert all(s.last is None for s in shown(name, rounds=2)[1])


@dataclass(frozen=True)
class Knowing(Spy):
    """Asks for the model."""

    uses_model = True


@pytest.mark.parametrize(
    ("name", "options", "factor", "refresh"),
    [
        ("dshb", {"lr": 0.1, "momentum": 0.0}, -1 / 0.1, 0),
        ("sieve", {"lr": 0.1, "momentum": 0.0}, -1 / 0.1, 1),
        ("fedavg", {"server_lr": 0.5}, 1 / 0.5, 1),
        ("scaffold", {"server_lr": 0.5}, 1 / 0.5, 0),
    ],
)
def test_the_model_is_shown_to_those_who_ask_in_the_units_of_a_message(
    shown, name, options, factor, refresh
):
    job = {"options": options, "projection": RandomMask(k=20, refresh=refresh), "rule": Mean()}
    simulation, seen = shown(name, attack=Knowing(), rounds=3, **job)
    halves = simulation.job.algorithm.halves
    about = seen[::halves]  # the second half of a message is not about the model
    torch.testing.assert_close(about[0].model, factor * simulation.job.theta)
    for before, now in itertools.pairwise(about):
        aggregate = torch.cat([before.honest, before.own]).mean(dim=0)
        moved = before.model + before.lift(aggregate)
        torch.testing.assert_close(now.model, moved, atol=1e-5, rtol=1e-4)
    assert all(s.model is None for s in seen if s not in about)
    assert all(s.model is None for s in shown(name, rounds=1, **job)[1])


def test_where_messages_are_models_there_is_nothing_to_add(shown):
    _, seen = shown("peer-to-peer", attack=Knowing(), rule=Mean(), rounds=2)
    assert all(s.model.eq(0).all() and s.model.shape == (s.k,) for s in seen)


def test_of_a_second_half_the_model_tells_nothing(shown):
    _, seen = shown("scaffold", attack=Watching(), rule=Mean(), rounds=2)
    aggregate = torch.cat([seen[0].honest, seen[0].own]).mean(dim=0)
    torch.testing.assert_close(seen[2].last, aggregate, atol=1e-5, rtol=1e-4)
    assert seen[3].last is None


def test_without_privacy_there_is_no_noise_to_omit(make_job):
    job = make_job("dshb")
    assert without_noise(job.algorithm) is job.algorithm


def test_omitting_the_noise_is_paid_with_privacy_of_ones_own_only(make_job):
    job = make_job("dshb", mechanism=NOISE, attack=UnNoised(), byzantine=(1, 4), rule=CAF(2))
    with Simulation(job) as simulation:
        row = simulation.step()
    assert row["senders"] == 6
    assert row["noise_norm"] > 0


@pytest.mark.parametrize("everybody", [(0, 1, 2, 3, 4, 5), (5,)])
def test_any_mixture_of_noisy_and_silent_clients_computes(make_job, everybody):
    job = make_job("dshb", mechanism=NOISE, attack=UnNoised(), byzantine=everybody, rule=Mean())
    with Simulation(job) as simulation:
        row = simulation.step()
    assert row["skipped"] == (len(everybody) == 6)


@pytest.mark.parametrize("unit", ["record", "client"])
def test_the_clip_of_a_server_that_adds_the_noise_is_part_of_what_is_attacked(shown, unit):
    mechanism = GaussianMechanism(clip=1.0, noise_multiplier=2.0, batch=1, unit=unit)
    _, (seen,) = shown(mechanism=mechanism, noise=ServerNoise(Streams(5, 1)), rule=Mean(), rounds=1)
    assert seen.weigh is None  # it sees more than inner products
    far = torch.cat([seen.honest, torch.full((2, seen.k), 1e6)])
    moved = (seen.aggregate(far) - seen.aggregate(torch.cat([seen.honest, 0 * far[-2:]]))).norm()
    assert (float(moved) == pytest.approx(2 / 6, rel=1e-4)) == (unit == "client")
    assert seen.noise_std is None


def test_a_lossy_wire_is_part_of_what_is_attacked(make_job):
    """The candidates of a line search pass the codec before the rule sees them."""

    class Coarse(Raw16):
        """Keeps the sign of every number, and nothing else."""

        def decode(self, data, size=None):
            return super().decode(data, size).sign()

    asked = []

    class Watching(TrimmedMean):
        def __call__(self, stack, weights=None):
            asked.append(stack.clone())
            return super().__call__(stack, weights)

    job = make_job("dshb", attack=ALIE(), byzantine=(1, 4), rule=Watching(2), rounds=1)
    with Simulation(replace(job, codec=Coarse())) as simulation:
        simulation.step()
    assert len(asked) > 10
    assert all(set(np.unique(stack)) <= {-1.0, 0.0, 1.0} for stack in asked)
