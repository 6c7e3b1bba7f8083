"""Per-sample clipped gradients: FedSieve against plain backward, opacus and torch.func, in one run.

    python benchmarks/per_sample_gradients.py [--repeats 60] [--out FILE]

Every method computes, for C = 1 and one thread, the sum of clipped per-sample gradients of each
client and keeps it until all clients are done; plain backward is the gradient without clipping,
with which private training is compared. The methods take turns, so that a busy machine is busy for
all of them; minimum and median over the turns are kept. Before anything is timed, the results are
compared: they agree to 1e-4.

Jobs: "b32" is one client of 32 samples; "20x16" is 20 clients of 16 samples whose parameters are
shared, or each client's own. Plain backward and opacus go from client to client: they give one sum
per pass. "torch.func" is FedSieve's own slow path, vmap(grad) in chunks of about 20 samples, the
fastest size on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from pathlib import Path

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import nn
from torch.nn import functional

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy
from fedsieve.registry import component

CLIP = 1.0
SHAPE = (1, 28, 28)
MODELS = {"mlp": {"hidden": (256,)}, "cnn": {"groups": 0}}
TARGETS = [  # model, job, peer, the largest ratio of FedSieve's median to the peer's
    ("mlp", "20x16 shared", "plain", 1.3),
    ("mlp", "20x16 own", "plain", 1.3),
    ("mlp", "20x16 shared", "opacus hooks", 0.1),
    ("mlp", "20x16 own", "opacus hooks", 0.1),
    ("cnn", "b32", "plain", 2.5),
    ("cnn", "20x16 shared", "plain", 2.5),
    ("cnn", "20x16 own", "plain", 2.5),
    ("cnn", "b32", "opacus ghost", 1.0),
    ("cnn", "20x16 shared", "opacus ghost", 1.0),
    ("cnn", "20x16 own", "opacus ghost", 1.0),
]


class Job:
    """Clients' batches, and parameters that are shared or each client's own."""

    def __init__(self, net: nn.Module, clients: int, batch: int, own: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.net = net
        self.counts = (batch,) * clients
        self.x = torch.randn(clients * batch, *SHAPE, generator=generator)
        self.y = torch.randint(10, (clients * batch,), generator=generator)
        self.model = FlatModel(net, SHAPE)
        self.theta = self.model.read()
        self.own = own
        if own:
            self.theta = self.theta + 0.01 * torch.randn(clients, self.model.d, generator=generator)

    def clients(self):
        """Each client's parameters, samples and labels."""
        thetas = self.theta if self.own else [self.theta] * len(self.counts)
        return zip(thetas, self.x.split(self.counts), self.y.split(self.counts), strict=True)


def point(parameters, theta):
    """Make a peer's parameters views of a flat vector."""
    start = 0
    for parameter in parameters:
        parameter.data = theta[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()


def stacked(found):
    """Each client's tensors as one row, whatever form a method gives them in."""
    if isinstance(found, torch.Tensor):
        return found
    return torch.stack([torch.cat([t.reshape(-1) for t in tensors]) for tensors in found])


def fedsieve(job):
    engine = PerSampleGradients(job.model, cross_entropy, method="closed-form")
    return lambda: engine.clipped_sums(job.theta, job.x, job.y, job.counts, clip=CLIP).sums


def plain(job):
    """Forward and backward without privacy, one client after another."""
    net = FlatModel(job.net, SHAPE).module
    parameters = [p.requires_grad_(True) for p in net.parameters()]

    def run():
        kept = []
        for theta, x, y in job.clients():
            point(parameters, theta)
            functional.cross_entropy(net(x), y).backward()
            kept.append([p.grad for p in parameters])
            for p in parameters:
                p.grad = None
        return kept

    return run


def opacus_hooks(job):
    wrapped = GradSampleModule(FlatModel(job.net, SHAPE).module.requires_grad_(True))
    parameters = list(wrapped.parameters())

    def run():
        sums = []
        for theta, x, y in job.clients():
            point(parameters, theta)
            functional.cross_entropy(wrapped(x), y).backward()
            norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in parameters])
            factors = (CLIP / norms.norm(dim=0)).clamp(max=1.0)
            sums.append([torch.einsum("b,b...->...", factors, p.grad_sample) for p in parameters])
            wrapped.zero_grad(set_to_none=True)
        return sums

    return run


def opacus_ghost(job):
    wrapped = GradSampleModuleFastGradientClipping(
        FlatModel(job.net, SHAPE).module.requires_grad_(True), max_grad_norm=CLIP
    )
    parameters = list(wrapped.parameters())

    def run():
        sums = []
        for theta, x, y in job.clients():
            point(parameters, theta)
            losses = functional.cross_entropy(wrapped(x), y, reduction="none")
            losses.mean().backward(retain_graph=True)
            wrapped.zero_grad(set_to_none=True)
            factors = wrapped.get_clipping_coef()
            wrapped.disable_hooks()
            (factors * losses).sum().backward()
            wrapped.enable_hooks()
            sums.append([p.grad for p in parameters])
            wrapped.zero_grad(set_to_none=True)
        return sums

    return run


def vmap_grad(job):
    engine = PerSampleGradients(job.model, cross_entropy, method="functional")
    return lambda: engine.clipped_sums(job.theta, job.x, job.y, job.counts, clip=CLIP).sums


METHODS = {
    "fedsieve": fedsieve,
    "plain": plain,
    "opacus ghost": opacus_ghost,
    "opacus hooks": opacus_hooks,
    "torch.func": vmap_grad,
}


def measure(job, repeats):
    """Seconds of each method, all of which take turns."""
    runs = {name: make(job) for name, make in METHODS.items()}
    reference = runs["fedsieve"]()
    for name, run in runs.items():
        found = stacked(run())
        if name != "plain":  # which does not clip
            error = float((found - reference).norm() / reference.norm())
            assert error < 1e-4, f"{name} is off by {error:.1e}"
    seconds = {name: [] for name in runs}
    for turn in range(repeats):
        for name, run in runs.items():
            if name in ("opacus hooks", "torch.func") and turn % 5:
                continue  # they are slow, and leave the caches cold for the others
            run()  # the method before left its own data in the caches
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"min": min(s), "median": sorted(s)[len(s) // 2], "repeats": len(s)}
        for name, s in seconds.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/per_sample_gradients.json"
    )
    settings = parser.parse_args()
    warnings.filterwarnings("ignore", module="opacus")
    warnings.filterwarnings("ignore", message="Full backward hook")
    torch.set_num_threads(1)
    load = [os.getloadavg()]
    times = {}
    for name, options in MODELS.items():
        net = component("model", name).build(
            input_shape=SHAPE, outputs=10, generator=torch.Generator().manual_seed(0), **options
        )
        jobs = {
            "b32": Job(net, 1, 32, own=False),
            "20x16 shared": Job(net, 20, 16, own=False),
            "20x16 own": Job(net, 20, 16, own=True),
        }
        for label, job in jobs.items():
            found = times[f"{name} {label}"] = measure(job, settings.repeats)
            ours = found["fedsieve"]
            print(f"\n{name} {label}: milliseconds median (min), FedSieve's ratio to it")
            for method, s in found.items():
                print(
                    f"  {method:13s} {s['median'] * 1e3:8.2f} ({s['min'] * 1e3:7.2f})"
                    f"   {ours['median'] / s['median']:6.3f} ({ours['min'] / s['min']:6.3f})"
                )
    load.append(os.getloadavg())
    targets = []
    print("\nTargets (FedSieve / peer, of medians; of minima)")
    for name, label, peer, bound in TARGETS:
        s = times[f"{name} {label}"]
        ratios = {q: s["fedsieve"][q] / s[peer][q] for q in ("median", "min")}
        targets.append({"job": f"{name} {label}", "peer": peer, "bound": bound, **ratios})
        verdict = "met" if ratios["median"] <= bound else "MISSED"
        print(
            f"  {name} {label:13s} {peer:13s} {ratios['median']:6.3f} {ratios['min']:6.3f}"
            f"   at most {bound}: {verdict}"
        )
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "load_average_before_after": load,
    }
    result = {"machine": machine, "clip": CLIP, "seconds": times, "targets": targets}
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nload average {load[0][0]:.1f} before, {load[1][0]:.1f} after; wrote {settings.out}")


if __name__ == "__main__":
    main()
