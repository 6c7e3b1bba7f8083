"""The round loop: what a round does, whoever computes it, and that it goes on after a stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, NNM, Mean, TrimmedMean
from fedsieve.compression.codecs import Raw32
from fedsieve.compression.projections import LowRank, RandomMask
from fedsieve.poisoning import ALIE, FOE, Scene, SignFlip, UnNoised
from fedsieve.privacy import GaussianMechanism, Ledger
from fedsieve.simulation.checkpoint import newest, save
from fedsieve.simulation.clock import Clock
from fedsieve.simulation.delivery import deliver
from fedsieve.simulation.executors import OneByOne
from fedsieve.simulation.loop import Simulation

NOISE = GaussianMechanism(clip=1.0, noise_multiplier=0.5, batch=8)
ALGORITHMS = ["dshb", "sieve", "fedavg", "scaffold", "byrd-saga", "peer-to-peer"]
PRIVATE = [name for name in ALGORITHMS if name != "byrd-saga"]


def rows_of(job):
    with Simulation(job) as simulation:
        rows = [simulation.step() for _ in range(job.rounds)]
    return simulation, rows


def ledger():
    return Ledger(1e-5, "add-remove", repeatable=True)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_learns(make_job, name):
    _, rows = rows_of(make_job(name, rounds=30, steps=3))
    assert rows[-1]["accuracy"] > 0.9
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert not any(row["skipped"] for row in rows)


@pytest.mark.parametrize("name", PRIVATE)
def test_every_private_algorithm_charges_its_releases(make_job, name):
    kept = ledger()
    _, rows = rows_of(make_job(name, mechanism=NOISE, ledger=kept, steps=3))
    releases = 5 * (1 if name in ("dshb", "sieve") else 3)
    per_round = releases // 5
    assert kept.spent() == dict.fromkeys(range(6), per_round * 5)
    epsilons = [row["epsilon"] for row in rows]
    assert epsilons == sorted(epsilons)
    assert epsilons[-1] == kept.guarantee().epsilon
    assert rows[0]["noise_norm"] > 0


def test_the_same_seeds_give_the_same_bits_and_others_do_not(make_job):
    first, _ = rows_of(make_job("sieve", mechanism=NOISE))
    again, _ = rows_of(make_job("sieve", mechanism=NOISE))
    other, _ = rows_of(make_job("sieve", mechanism=NOISE, noise_seed=2))
    secret, _ = rows_of(make_job("sieve", mechanism=NOISE, noise_seed=None))
    assert torch.equal(first.theta, again.theta)
    assert not torch.equal(first.theta, other.theta)
    assert not torch.equal(first.theta, secret.theta)


@pytest.mark.parametrize("attack", [ALIE(), FOE(), SignFlip()])
def test_a_robust_rule_survives_what_breaks_the_mean(make_job, attack):
    setting = {"byzantine": (4, 5), "attack": attack, "clients": 9, "rounds": 40}
    _, naive = rows_of(make_job(rule=Mean(), **setting))
    _, robust = rows_of(make_job(rule=CAF(2), **setting))
    assert robust[-1]["loss"] < naive[-1]["loss"]
    assert robust[-1]["accuracy"] > 0.8


def test_a_row_records_weights_by_client_and_the_error_of_the_rule(make_job):
    job = make_job(
        rule=TrimmedMean(1),
        byzantine=(2,),
        attack=ALIE(strength=5.0),
        participation={"size": 5},
        rounds=6,
    )
    _, rows = rows_of(job)
    for row in rows:
        weights = np.array(row["weights"])
        assert len(weights) == 6
        assert np.isnan(weights).sum() == 1
        assert row["senders"] == 5
        assert row["aggregation_error"] > 0
        assert row["bits_up"] > 32 * 37 * 5
    assert rows[0]["bits_down"] == 32 * 37 * 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_skipped_round_takes_back_the_variates_of_scaffold(make_job, workers):
    job = make_job(
        "scaffold",
        mechanism=NOISE,
        byzantine=(4, 5),
        attack=UnNoised(),
        rule=CAF(2),
        participation={"dropout": 0.5},
        rounds=12,
        workers=workers,
    )
    with Simulation(job) as simulation:
        skipped, sent = 0, 0
        for _ in range(job.rounds):
            before = {k: v.clone() for k, v in (simulation.memory | simulation.shared).items()}
            row = simulation.step()
            after = simulation.memory | simulation.shared
            stayed = [torch.equal(after[name], before[name]) for name in before]
            assert all(stayed) if row["skipped"] else not any(stayed)
            skipped += row["skipped"] and row["senders"] > 0
            sent += not row["skipped"]
    assert skipped > 0
    assert sent > 0


def test_a_round_without_honest_clients_counts_no_bits(make_job):
    job = make_job(
        byzantine=(4, 5),
        attack=FOE(),
        rule=CAF(2),
        participation={"dropout": 0.9, "reliable": (4, 5)},
        rounds=20,
    )
    _, rows = rows_of(job)
    counts = [row["senders"] for row in rows]
    assert 0 in counts
    assert max(counts) > 2
    assert [row["bits_down"] for row in rows] == [32 * 37 * n for n in counts]


def test_malicious_clients_with_a_message_attack_touch_no_data_and_spend_no_budget(make_job):
    kept = ledger()
    job = make_job(mechanism=NOISE, ledger=kept, byzantine=(0, 3), attack=FOE(1.0), rule=CAF(2))
    rows_of(job)
    assert sorted(kept.spent()) == [1, 2, 4, 5]


def test_too_few_messages_leave_the_model_unchanged(make_job):
    job = make_job(rule=CAF(2), participation={"dropout": 0.3}, rounds=20)
    with Simulation(job) as simulation:
        skipped = 0
        for _ in range(job.rounds):
            before = simulation.theta.clone()
            row = simulation.step()
            skipped += row["skipped"]
            assert row["skipped"] == (row["senders"] < 5)
            assert torch.equal(before, simulation.theta) == row["skipped"]
    assert 0 < skipped < 20


class Garbled(Raw32):
    """A wire that garbles the first messages of every round."""

    garbled = 0

    def encode(self, x, key):
        wire = super().encode(x, key)
        self.__dict__["sent"] = self.__dict__.get("sent", 0) + 1
        return b"?" * len(wire) if (self.sent - 1) % 6 < self.garbled else wire


@pytest.mark.parametrize(("garbled", "skipped"), [(1, False), (2, True)])
def test_unreadable_messages_count_against_f(make_job, garbled, skipped):
    codec = Garbled()
    codec.__dict__["garbled"] = garbled
    job = replace(make_job(rule=CAF(1), rounds=1), codec=codec)
    with Simulation(job) as simulation:
        before = simulation.theta.clone()
        row = simulation.step()
        assert row["skipped"] == skipped
        assert torch.equal(before, simulation.theta) == skipped
        assert torch.isfinite(simulation.theta).all()
        if not skipped:
            assert row["rejected"] == 1
            assert row["weights"][0] == 0


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("stop", [0, 3])
def test_a_simulation_restored_from_disk_goes_on_bit_for_bit(make_job, tmp_path, name, stop):
    mechanism = None if name == "byrd-saga" else NOISE
    projection = LowRank(k=30, refresh=2) if name == "sieve" else None

    def job():
        return make_job(
            name,
            mechanism=mechanism,
            projection=projection,
            steps=2,
            participation={"size": 4, "dropout": 0.1, "stragglers": 0.2},
            rounds=7,
        )

    whole, _ = rows_of(job())
    with Simulation(job()) as first:
        for _ in range(stop):
            first.step()
        save(tmp_path, first.checkpoint())
    with Simulation(job()) as second:
        second.restore(newest(tmp_path))
        assert second.round == stop
        while second.round < 7:
            second.step()
    for key, value in whole.shared.items():
        assert torch.equal(value, second.shared[key]), key
    for key, value in whole.memory.items():
        assert torch.equal(value, second.memory[key]), key


def test_momentum_is_carried_along_when_the_basis_changes(make_job):
    job = make_job("sieve", projection=RandomMask(k=20, refresh=2), rounds=4)
    with Simulation(job) as simulation:
        simulation.step(), simulation.step()
        old, _ = job.algorithm.parts.planner.subspaces(simulation.shared, 1)
        held = simulation.memory["momentum"].clone()
        broadcast = job.algorithm.broadcast(simulation.shared, 2)
        assert broadcast.previous is old
        simulation.step()
    new = broadcast.subspace
    kept = new.project(old.lift(held))
    assert not torch.equal(new.project(torch.arange(37.0)), old.project(torch.arange(37.0)))
    # m <- beta m + (1 - beta) g: what the old momentum left behind lies in the carried direction
    residue = simulation.memory["momentum"] - 0.9 * kept
    again = make_job("sieve", projection=RandomMask(k=20, refresh=2), rounds=4)
    with Simulation(again) as fresh:
        fresh.step(), fresh.step()
        fresh.memory["momentum"].zero_()
        fresh.step()
    torch.testing.assert_close(residue, fresh.memory["momentum"])


def test_a_cohort_in_one_pass_equals_clients_one_by_one(make_job):
    job = make_job("fedavg", mechanism=NOISE, steps=3)
    with Simulation(job) as simulation:
        attendance = job.participation.draw(job.streams, 0, 3)
        cohort = simulation._computing(attendance)
        broadcast = job.algorithm.broadcast(simulation.shared, 0)
        stacked = job.algorithm.client(broadcast, {}, cohort).messages
        single = OneByOne(job.algorithm).run(broadcast, {}, cohort).messages
    torch.testing.assert_close(stacked, single)


def test_computing_leaves_the_number_of_threads_as_it_was(make_job):
    before = torch.get_num_threads()
    rows_of(make_job(rounds=1))
    assert torch.get_num_threads() == before


def test_phases_add_up_to_the_round(make_job):
    _, rows = rows_of(make_job(byzantine=(5,), attack=ALIE(), rule=CAF(1)))
    phases = {key for key in rows[0] if key.startswith("seconds_")}
    assert phases == {
        f"seconds_{p}"
        for p in ("sample", "client", "codec", "attack", "server", "aggregate", "evaluate")
    }
    assert all(row[phase] >= 0 for row in rows for phase in phases)


@pytest.mark.parametrize("rule", [Mean(2), TrimmedMean(2), CAF(2), NNM(2) >> CAF(2)], ids=str)
@pytest.mark.parametrize("name", ["dshb", "scaffold", "peer-to-peer"])
def test_searched_attacks_and_drop_outs_end_in_skipped_rounds_not_in_errors(make_job, rule, name):
    job = make_job(
        name,
        rule=rule,
        clients=9,
        rounds=30,
        byzantine=(7, 8),
        attack=ALIE(),
        participation={"dropout": 0.6, "reliable": (7, 8)},
        options={"graph": "complete"} if name == "peer-to-peer" else None,
    )
    _, rows = rows_of(job)
    assert len(rows) == 30
    if not isinstance(rule, Mean):
        assert any(row["skipped"] for row in rows)
        assert not all(row["skipped"] for row in rows)


def test_an_attack_on_scaffold_is_searched_half_by_half(make_job):
    job = make_job("scaffold", rule=CAF(2), clients=9, byzantine=(7, 8), attack=ALIE(), rounds=1)
    with Simulation(job) as simulation:
        attendance = job.participation.draw(job.streams, 0, 1)
        cohort = simulation._computing(attendance)
        sent = job.algorithm.client(
            job.algorithm.broadcast(simulation.shared, 0), {"variates": torch.zeros(9, 37)}, cohort
        )
        delivered = deliver(job, 0, sent.messages, cohort.ids, attendance.ids, Clock(job.device))
    for half in range(2):
        stack = delivered.stack.chunk(2, dim=1)[half]
        honest = stack[:7]
        expected = ALIE().craft(Scene(honest, 2, CAF(2), np.random.default_rng(0)))
        reached = (CAF(2)(stack) - honest.mean(0)).norm()
        best = (CAF(2)(torch.cat([honest, expected])) - honest.mean(0)).norm()
        torch.testing.assert_close(reached, best, rtol=1e-3, atol=1e-7)


def test_peer_to_peer_on_a_ring_runs_with_many_attackers(make_job):
    options = {"graph": "ring"}
    job = make_job(
        "peer-to-peer",
        rule=TrimmedMean(1),
        clients=10,
        byzantine=(3, 6, 9),
        attack=ALIE(),
        rounds=30,
        options=options,
        participation={"dropout": 0.2},
    )
    _, rows = rows_of(job)
    assert rows[-1]["accuracy"] > 0.8


def test_momentum_is_carried_even_when_nobody_takes_part_in_the_round_of_the_change(make_job):
    job = make_job("sieve", projection=RandomMask(k=20, refresh=2), rounds=4)
    with Simulation(job) as simulation:
        simulation.step(), simulation.step()
        old, _ = job.algorithm.parts.planner.subspaces(simulation.shared, 1)
        held = simulation.memory["momentum"].clone()
        nobody = replace(job.participation, dropout=1.0)
        simulation.job = replace(job, participation=nobody)
        assert simulation.step()["skipped"]
        new, _ = job.algorithm.parts.planner.subspaces(simulation.shared, 2)
    torch.testing.assert_close(simulation.memory["momentum"], new.project(old.lift(held)))


def test_momentum_is_carried_from_the_learned_map_that_a_skipped_round_has_used(make_job):
    job = make_job("sieve", projection=LowRank(k=30, refresh=2), rounds=6)
    nobody = replace(job.participation, dropout=1.0)
    with Simulation(job) as simulation:
        for _ in range(3):
            simulation.step()
        used = job.algorithm.broadcast(simulation.shared, 3).subspace
        simulation.job = replace(simulation.job, participation=nobody)
        assert simulation.step()["skipped"]  # the last round of its map
        change = job.algorithm.broadcast(simulation.shared, 4)
    probe = torch.arange(37.0)
    torch.testing.assert_close(change.previous.project(probe), used.project(probe))
    assert not torch.equal(change.subspace.project(probe), used.project(probe))


def test_two_runs_of_one_job_do_not_share_what_they_learned(make_job):
    job = make_job("sieve", projection=LowRank(k=30, refresh=2), rounds=5)
    first, _ = rows_of(job)
    again, _ = rows_of(job)
    assert torch.equal(first.theta, again.theta)
    with Simulation(job) as other:
        other.shared["theta"].add_(0.5)
        for _ in range(5):
            other.step()
    fresh = make_job("sieve", projection=LowRank(k=30, refresh=2), rounds=5)
    with Simulation(fresh) as alone:
        alone.shared["theta"].add_(0.5)
        for _ in range(5):
            alone.step()
    assert torch.equal(other.theta, alone.theta)


def test_records_without_a_finite_gradient_are_reported(make_job):
    job = make_job("sieve", mechanism=NOISE, rounds=3)
    job.shards.dataset.x[:60] = torch.nan
    _, rows = rows_of(job)
    assert sum(row["unusable"] for row in rows) > 0
    assert all(0 <= row["unusable"] <= 1 for row in rows)  # a share, however many records
    job.shards.dataset.x[:] = torch.nan
    assert [row["unusable"] for row in rows_of(job)[1]] == [1, 1, 1]
    assert all(np.isfinite(row["loss"]) for row in rows)
