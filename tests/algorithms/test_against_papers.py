"""Each algorithm against a slow transcription of its paper, full batches, a few rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

from fedsieve.aggregation import CAF, TrimmedMean
from fedsieve.compression.projections import RandomMask
from fedsieve.learning.losses import cross_entropy
from fedsieve.privacy import GaussianMechanism
from fedsieve.simulation.loop import Simulation

N, LR, K, ROUNDS = 6, 0.2, 3, 4


def run(job):
    with Simulation(job) as simulation:
        for _ in range(job.rounds):
            simulation.step()
    return simulation


class Oracle:
    """The test federation in float64, one gradient at a time."""

    def __init__(self, job):
        engine = job.algorithm.parts.gradient.gradients
        self.module, self.layout = engine.model.module, engine.model.layout
        self.shards, self.theta = job.shards, job.theta.double()

    def gradient(self, theta, records):
        theta = theta.clone().requires_grad_()
        named = {s.name: theta[s.start : s.stop].view(s.shape) for s in self.layout.slots}
        data = self.shards.dataset
        outputs = functional_call(self.module, named, data.x[records].double())
        loss = cross_entropy(outputs, data.y[records]).mean()
        return torch.autograd.grad(loss, theta)[0]

    def client(self, theta, i):
        return self.gradient(theta, self.shards.parts[i])


def close(found, expected):
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_fedavg(make_job):
    job = make_job("fedavg", batch=20, steps=K, rounds=ROUNDS, options={"server_lr": 0.7})
    oracle = Oracle(job)
    x = oracle.theta
    for _ in range(ROUNDS):
        deltas = []
        for i in range(N):
            y = x
            for _ in range(K):
                y = y - LR * oracle.client(y, i)
            deltas.append(y - x)
        x = x + 0.7 * torch.stack(deltas).mean(0)
    close(run(job).theta, x)


def test_dshb(make_job):
    job = make_job("dshb", batch=20, rounds=ROUNDS, options={"momentum": 0.8}, rule=TrimmedMean(1))
    oracle = Oracle(job)
    theta, m = oracle.theta, torch.zeros(N, 37, dtype=torch.float64)
    for _ in range(ROUNDS):
        m = 0.8 * m + 0.2 * torch.stack([oracle.client(theta, i) for i in range(N)])
        theta = theta - LR * m.sort(0).values[1:-1].mean(0)
    close(run(job).theta, theta)


def test_scaffold_with_partial_participation(make_job):
    job = make_job(
        "scaffold",
        batch=20,
        steps=K,
        rounds=ROUNDS,
        participation={"size": 3},
        options={"server_lr": 0.9},
    )
    oracle = Oracle(job)
    x, c, c_i = oracle.theta, torch.zeros(37).double(), torch.zeros(N, 37).double()
    for t in range(ROUNDS):
        sampled = job.participation.draw(job.streams, t, K).ids
        delta_y, delta_c = [], []
        for i in sampled:
            y = x
            for _ in range(K):
                y = y - LR * (oracle.client(y, i) - c_i[i] + c)
            c_plus = c_i[i] - c + (x - y) / (K * LR)  # option II of Algorithm 1
            delta_y.append(y - x)
            delta_c.append(c_plus - c_i[i])
            c_i[i] = c_plus
        x = x + 0.9 * torch.stack(delta_y).mean(0)
        c = c + len(sampled) / N * torch.stack(delta_c).mean(0)
    simulation = run(job)
    close(simulation.theta, x)
    close(simulation.shared["variate"], c)
    close(simulation.memory["variates"], c_i)


@pytest.mark.parametrize("k", [None, 15])
def test_byrd_saga_keeps_its_table_in_the_projected_space(make_job, k):
    projection = None if k is None else RandomMask(k=k, refresh=0)
    job = make_job("byrd-saga", batch=2, rounds=ROUNDS, projection=projection, rule=CAF(1))
    oracle = Oracle(job)
    subspace = job.algorithm.parts.planner.first
    project = lambda g: subspace.project(g.float()).double()  # noqa: E731
    parts, theta = job.shards.parts, oracle.theta
    table = [[project(oracle.gradient(theta, [r])) for r in part] for part in parts]
    for t in range(ROUNDS):
        messages = []
        for i, part in enumerate(parts):
            batch = job.algorithm.parts.gradient.draw(cohort_of(job, i), t).records
            drawn = [int(np.flatnonzero(part == r)[0]) for r in batch]
            average = torch.stack(table[i]).mean(0)
            fresh = [project(oracle.gradient(theta, [part[j]])) for j in drawn]
            old = [table[i][j] for j in drawn]
            messages.append((torch.stack(fresh) - torch.stack(old)).mean(0) + average)
            for j, g in zip(drawn, fresh, strict=True):
                table[i][j] = g
        theta = theta - LR * subspace.lift(CAF(1)(torch.stack(messages)))
    simulation = run(job)
    close(simulation.theta, theta)
    assert simulation.memory["table"].shape == (N, 20, k or 37)
    close(simulation.memory["average"][0], torch.stack(table[0]).mean(0))


def cohort_of(job, client):
    from fedsieve.algorithms.form import Cohort

    return Cohort((client,), (client,), job.shards, job.streams, (1,))


@pytest.mark.parametrize(("graph", "mixing"), [("ring", 0.5), ("complete", 1.0)])
def test_peer_to_peer(make_job, graph, mixing):
    job = make_job(
        "peer-to-peer",
        batch=20,
        steps=K,
        rounds=ROUNDS,
        options={"graph": graph, "mixing": mixing},
    )
    oracle = Oracle(job)
    models = oracle.theta.expand(N, -1).clone()
    for _ in range(ROUNDS):
        y = models.clone()
        for i in range(N):
            for _ in range(K):
                y[i] -= LR * oracle.client(y[i].clone(), i)
        near = [{(i - 1) % N, i, (i + 1) % N} if graph == "ring" else range(N) for i in range(N)]
        models = torch.stack(
            [(1 - mixing) * y[i] + mixing * y[sorted(near[i])].mean(0) for i in range(N)]
        )
    close(run(job).theta, models)


def test_peer_to_peer_on_a_complete_graph_with_full_mixing_is_fedavg(make_job):
    options = {"graph": "complete", "mixing": 1.0}
    peers = run(make_job("peer-to-peer", steps=2, options=options))
    server = run(make_job("fedavg", steps=2))
    for model in peers.theta:
        torch.testing.assert_close(model, server.theta)


def test_sieve_in_all_of_space_is_dshb(make_job):
    noise = GaussianMechanism(clip=0.5, noise_multiplier=1.0, batch=5)
    one = run(make_job("sieve", mechanism=noise, rule=CAF(1)))
    other = run(make_job("dshb", mechanism=noise, rule=CAF(1)))
    assert torch.equal(one.theta, other.theta)


def test_a_changing_projection_is_refused_where_vectors_outlive_it(make_job):
    for name in ("dshb", "scaffold", "byrd-saga"):
        with pytest.raises(ValueError, match=r"projection.refresh=5"):
            make_job(name, projection=RandomMask(k=15, refresh=5))


def test_byrd_saga_refuses_noise_and_tables_beyond_memory(make_job):
    noise = GaussianMechanism(clip=1.0, noise_multiplier=1.0, batch=5)
    with pytest.raises(ValueError, match="no privacy mechanism"):
        make_job("byrd-saga", mechanism=noise)
    with pytest.raises(ValueError, match=r"records x k=37 needs .* GiB"):
        make_job("byrd-saga", options={"records": 10**8})


def test_peer_to_peer_refuses_projections_and_impossible_mixing(make_job):
    with pytest.raises(ValueError, match="identity"):
        make_job("peer-to-peer", projection=RandomMask(k=15, refresh=0))
    with pytest.raises(ValueError, match=r"mixing=0"):
        make_job("peer-to-peer", options={"mixing": 0.0})


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
def test_automatic_clipping_makes_clip_and_step_size_one_setting(make_job, clipping):
    found = [
        run(make_job("dshb", mechanism=mechanism, options={"lr": lr})).theta
        for mechanism, lr in (
            (GaussianMechanism(0.5, 0.1, batch=8, clipping=clipping), 0.4),
            (GaussianMechanism(1.0, 0.1, batch=8, clipping=clipping), 0.2),
        )
    ]
    assert torch.allclose(*found, rtol=1e-5, atol=1e-6) == (clipping == "automatic")
