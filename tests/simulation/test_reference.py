"""The server's own update: the clients' step on root records, without noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.aggregation import NNM, FLTrust, Mean
from fedsieve.algorithms.form import Cohort
from fedsieve.compression.projections import RandomMask
from fedsieve.poisoning import SignFlip
from fedsieve.privacy import GaussianMechanism
from fedsieve.simulation.checkpoint import newest, save
from fedsieve.simulation.loop import Simulation
from fedsieve.simulation.reference import Reference, root_parts

OPTIONS = {"dshb": {"momentum": 0.5}, "sieve": {"momentum": 0.5}, "fedavg": {}, "byrd-saga": {}}


def rooted(job, rule=None, size=20, steps=1):
    """The job of five clients, whose server holds what would have been the sixth one's records."""
    records = np.arange(100, 100 + size)
    changed = {"parts": root_parts(job.algorithm.parts, size)}
    if hasattr(job.algorithm, "records"):
        changed["records"] = size
    shards = replace(job.shards, parts=job.shards.parts[:5])
    theirs = replace(shards, parts=(*shards.parts, records))
    own = Reference(replace(job.algorithm, **changed), theirs, job.streams, steps)
    participation = replace(job.participation, clients=5, size=5)
    job = replace(job, shards=shards, participation=participation, reference=own, steps=steps)
    return replace(job, rule=rule or FLTrust(1))


@pytest.mark.parametrize("algorithm", OPTIONS)
def test_it_is_what_a_client_would_send_that_held_the_root_records(make_job, algorithm):
    job = make_job(algorithm, options=OPTIONS[algorithm], batch=8)
    own = rooted(job, steps=3).reference
    _, memory = job.algorithm.start(job.theta)
    shared, _ = job.algorithm.start(job.theta)
    mine = own.start(job.theta, memory)
    for round_ in range(3):
        broadcast = job.algorithm.broadcast(shared, round_)
        cohort = Cohort((5,), (5,), job.shards, job.streams, (3,), peers=(5,))
        theirs = job.algorithm.client(broadcast, memory, cohort).messages[0]
        torch.testing.assert_close(own(broadcast, mine), theirs)


@pytest.mark.parametrize("algorithm", ["dshb", "fedavg"])
@pytest.mark.parametrize("unit", ["record", "client"])
def test_it_is_clipped_like_the_clients_and_has_no_noise(make_job, algorithm, unit):
    clip, batch = 0.05, 1 if unit == "client" else 8
    private = make_job(algorithm, mechanism=GaussianMechanism(clip, 50.0, batch, unit), batch=8)
    own = rooted(private).reference
    shared, memory = private.algorithm.start(private.theta)
    broadcast = private.algorithm.broadcast(shared, 0)
    messages = [own(broadcast, own.start(private.theta, memory)) for _ in range(2)]
    assert torch.equal(*messages)  # noise would be drawn anew
    bound = clip * (0.2 if algorithm == "fedavg" and unit == "record" else 1)
    assert 0 < messages[0].norm() <= bound * (1 + 1e-5)


def test_all_root_records_are_used_where_they_are_fewer_than_a_batch(make_job):
    few = rooted(make_job("dshb", mechanism=GaussianMechanism(1.0, 1.0, 8), batch=8), size=3)
    gradient = few.reference.algorithm.parts.gradient
    assert (gradient.batch, gradient.mechanism.batch) == (3, 3)


def test_where_clients_keep_no_momentum_the_server_keeps_none_of_its_own_updates(make_job):
    job = make_job("dshb", options={"momentum": 0.9})
    own = rooted(job).reference
    assert list(own.start(job.theta, {"momentum": torch.zeros(6, 2)})) == ["momentum"]
    assert own.start(job.theta, {}) == {}


@pytest.mark.parametrize("algorithm", ["dshb", "fedavg"])
def test_fltrust_follows_it_whatever_most_clients_send(make_job, algorithm):
    job = make_job(algorithm, rounds=20, batch=20, options={"lr": 0.5})
    byzantine = (2, 3, 4)
    hit = {"byzantine": byzantine, "attack": SignFlip(4.0)}
    found = {}
    for name, rule in (("fltrust", FLTrust(3)), ("mean", Mean(3))):
        with Simulation(replace(rooted(job, rule, steps=2), **hit)) as simulation:
            rows = [simulation.step() for _ in range(20)]
        found[name] = rows[-1]["accuracy"]
        if name == "fltrust":  # later, when little is left to learn, gradients point anywhere
            weights = np.array(rows[0]["weights"])
            assert (weights[[2, 3, 4]] == 0).all()
            assert (weights[:2] > 0).all()
    assert found["fltrust"] > 0.85
    assert found["mean"] < 0.6


def test_an_update_that_is_not_finite_trusts_nobody(make_job):
    job = rooted(make_job("dshb"))
    job = replace(job, theta=torch.full_like(job.theta, torch.nan))
    _, memory = job.algorithm.start(job.theta)
    broadcast = job.algorithm.broadcast(job.algorithm.start(job.theta)[0], 0)
    assert (job.reference(broadcast, job.reference.start(job.theta, memory)) == 0).all()


@pytest.mark.parametrize("rule", [FLTrust(1), NNM(1) >> FLTrust(1)], ids=str)
@pytest.mark.parametrize("algorithm", OPTIONS)
def test_a_restored_simulation_goes_on_alike(make_job, tmp_path, algorithm, rule):
    projection = RandomMask(k=20, refresh=2) if algorithm == "sieve" else None
    job = make_job(algorithm, options=OPTIONS[algorithm], projection=projection)
    job = rooted(job, rule)
    with Simulation(job) as whole:
        for _ in range(4):
            whole.step()
    with Simulation(job) as first:
        first.step()
        first.step()
        save(tmp_path, first.checkpoint())
    with Simulation(job) as second:
        second.restore(newest(tmp_path))
        second.step()
        second.step()
        assert torch.equal(second.theta, whole.theta)
        assert all(torch.equal(second.root[k], whole.root[k]) for k in whole.root)
    assert (algorithm == "fedavg") == (not whole.root)
