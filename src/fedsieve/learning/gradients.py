"""Per-sample gradients, clipped in a projection's k-space and summed per client.

For client i with samples j, clip C, public map A (R^d -> R^k) and weights w_j:

    s_i = sum_j w_j A g_j min(1, C / ||A g_j||),        g_j = gradient of sample j's loss

The B gradients g_j are not built. One forward and backward pass gives every layer's input and
output derivative; the norms ||A g_j|| and the sums s_i follow from these in closed form (`layers`).
Layers and models without a closed form go through ``torch.func``, with a one-line notice.

Clipped layer by layer, each layer's part of A g_j has its own norm and bound C_l, with the C_l^2
adding up to C^2.

Sensitivity: adding one sample to a client moves its s_i by at most max(w_j) C, whatever A is; with
the rounding of the sum, at weights of at most 1, by C (1 + 2^-10) (`_work` has the argument).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsieve.learning._autograd import (
    AutogradRows,
    gradients_of_mean,
    mean_gradient,
    mean_gradients,
)
from fedsieve.learning._chain import chain
from fedsieve.learning._choice import Choice, Method, Way
from fedsieve.learning._choice import Loss as Loss
from fedsieve.learning._closed_forms import ClosedForms
from fedsieve.learning._linear_steps import LinearSteps
from fedsieve.learning._plan import Plan
from fedsieve.learning._work import FEW, MOST, Forward, Work, all_finite
from fedsieve.learning.clipping import Clip
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.layers import NoClosedFormError
from fedsieve.learning.layout import Subspace


class SlowPathWarning(UserWarning):
    """A model, or a layer of it, has no closed form and goes through ``torch.func``."""


@dataclass(frozen=True)
class ClippedSums:
    """What a cohort's samples give in one round.

    Args:
        sums: Weighted sums of clipped projected gradients (n, k), of the type of the parameters;
            float64 if a client has more than 90 samples to be clipped.
        norms: Norms of the projected gradients before clipping (B,), float64. Private: for
            diagnostics of a simulation only.
        factors: What the clip multiplied them by (B,), float64, at most 1: the smallest over the
            layers where these are clipped apart, 0 where a gradient is not finite. Private.
        losses: Losses of the samples (B,). Private, as the norms.
        bad: Per client the number of samples whose projected gradient is not finite, int64 (n,);
            they count as zero in ``sums``.
    """

    sums: Tensor
    norms: Tensor
    factors: Tensor
    losses: Tensor
    bad: Tensor


class PerSampleGradients:
    """The gradient engine of one model and loss.

    Two samples are also run through ordinary autograd, one by one. If the closed forms disagree (a
    module that uses its weights in another way), the engine falls back; if samples influence each
    other in small trial batches, or a forward pass changes a buffer, the model is refused. This is
    settled on the first batch with two finite gradients; until then every sample has its own
    backward pass. The first batch that is clipped is tried as well. The ways differ in rounding:
    whoever sends the engine to several processes calls `settle` first.

    Args:
        model: The model; its module is bound to whatever ``theta`` is passed.
        loss: ``loss(outputs, targets)`` gives per-sample losses (B,). A module-level function, if
            the engine is sent to worker processes.
        method: "auto", or one way only: "closed-form" raises where "auto" falls back.
        compute_dtype: float32, or bfloat16 to run the forward pass under autocast; everything after
            the layers' outputs is in the dtype of ``theta`` in both cases.
        memory: Bytes that the activations of one pass may take; larger batches are split.

    Raises:
        ValueError: Unknown ``method`` or ``compute_dtype``.

    Example:
        >>> from fedsieve.learning.losses import squared_error
        >>> model = FlatModel(torch.nn.Linear(2, 1, bias=False), (2,))
        >>> engine = PerSampleGradients(model, squared_error)
        >>> x, y = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([1.0, 0.0])
        >>> engine.clipped_sums(torch.zeros(2), x, y, (2, 0), clip=1.0).sums
        tensor([[-0.6000, -0.8000],
                [ 0.0000,  0.0000]])
    """

    def __init__(
        self,
        model: FlatModel,
        loss: Loss,
        *,
        method: Method = "auto",
        compute_dtype: torch.dtype = torch.float32,
        memory: int = 2**28,
    ) -> None:
        if method not in ("auto", "closed-form", "functional"):
            raise ValueError(f"method={method!r} is not one of auto, closed-form, functional")
        if compute_dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(
                f"compute_dtype={compute_dtype} is not torch.float32 or torch.bfloat16"
            )
        if memory <= 0:
            raise ValueError(f"memory={memory} must be a positive number of bytes")
        self.model = model
        self.loss = loss
        self.method = method
        self.compute_dtype = compute_dtype
        self.memory = memory
        self._forward = Forward(loss, compute_dtype)
        self._way: Way | None = None
        self._tried = 0  # samples of the largest real batch that was tried
        self._told: set[str] = set()
        self._plan: Plan | None = None
        self._linear = self._fused()

    def clipped_sums(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        counts: Sequence[int],
        *,
        clip: float | Clip | None,
        subspace: Subspace | None = None,
        weights: Tensor | None = None,
    ) -> ClippedSums:
        """Clipped, weighted sums of projected per-sample gradients, one per client.

        Args:
            theta: Parameters (d,) shared by the cohort, or (n, d) with a row per client.
            x: Samples (B, ...) of all clients one after another.
            y: Targets (B, ...).
            counts: Samples of each client; zeros are allowed, the sum is B.
            clip: Largest norm C of a projected per-sample gradient, > 0, or another form of
                clipping; ``None`` does not clip.
            subspace: The projection A; ``None`` is the identity.
            weights: Weights (B,) applied after clipping; ``None`` is all ones.

        Raises:
            ValueError: Shapes that do not fit, ``clip`` <= 0, more than 2^20 samples of a client to
                be clipped, a model that mixes samples, or layers to be clipped apart that the
                projection mixes.
            NoClosedFormError: With ``method="closed-form"``, a model without one.
        """
        self._check(theta, x, y, counts, clip, weights)
        plan, size = self._planned(subspace), len(x)
        apart = clip is not None and theta.dtype != torch.float64
        wide = [apart and count > FEW for count in counts]
        kind = torch.float64 if any(wide) else theta.dtype
        work = Work(
            x=_as(theta, x),
            y=y,
            weights=None if weights is None else weights.to(theta.dtype),
            counts=list(counts),
            wide=wide,
            clip=clip if clip is None or isinstance(clip, Clip) else Clip(clip),
            plan=plan,
            sums=theta.new_empty(len(counts), plan.k, dtype=kind),
            norms=theta.new_zeros(size, dtype=torch.float64),
            factors=theta.new_ones(size, dtype=torch.float64),
            losses=theta.new_zeros(size),
        )
        if clip is not None:
            self._try_batch(theta, work)
        self._go(theta, work.x, y, lambda way: way.sums(theta, work))
        bad = torch.zeros(len(counts), dtype=torch.int64, device=theta.device)
        if not all_finite(work.norms):
            unusable = (~work.norms.isfinite()).split(work.counts)
            bad = torch.stack([part.sum() for part in unusable])
        return ClippedSums(work.sums, work.norms, work.factors, work.losses, bad)

    def settle(self, theta: Tensor, x: Tensor, y: Tensor) -> bool:
        """Settle now how this model's gradients are computed, whatever batch comes first later.

        Args:
            theta: Parameters (d,).
            x: Samples (B, ...), as `clipped_sums` takes them; the first two with finite gradients
                decide.
            y: Targets (B, ...).

        Returns:
            Whether it is settled: not without two finite gradients.

        Raises:
            ValueError: Shapes that do not fit, or a model that mixes samples.
            NoClosedFormError: With ``method="closed-form"``, a model without one.
        """
        self._check(theta, x, y, (len(x),), None, None)
        self._settle(theta, _as(theta, x), y)
        return self._way is not None

    def per_sample(
        self, theta: Tensor, x: Tensor, y: Tensor, subspace: Subspace | None = None
    ) -> Tensor:
        """Projected per-sample gradients themselves (B, k), neither clipped nor cleaned.

        Args:
            theta: Parameters (d,).
            x: Samples (B, ...).
            y: Targets (B, ...).
            subspace: The projection; ``None`` is the identity.

        Raises:
            ValueError: Shapes that do not fit, or a model that mixes samples.
            NoClosedFormError: With ``method="closed-form"``, a model without one.
        """
        self._check(theta, x, y, (len(x),), None, None)
        plan = self._planned(subspace)
        out = theta.new_empty(len(x), plan.k)
        x = _as(theta, x)

        def fill(way: Way) -> None:
            for lo, hi, rows, _ in way.rows(theta, x, y, plan):
                out[lo:hi] = rows

        self._go(theta, x, y, fill)
        return out

    def mean(self, theta: Tensor, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient of the mean loss (d,) by ordinary autograd; not private.

        Args:
            theta: Parameters (d,).
            x: Samples (B, ...), B >= 1.
            y: Targets (B, ...).
            out: Where to write the gradient; a new vector by default.
        """
        self.model.bind(theta)
        out = torch.empty_like(theta) if out is None else out
        return mean_gradient(self.model, self._forward, _as(theta, x), y, out)

    def descend(self, theta: Tensor, x: Tensor, y: Tensor, lr: float) -> None:
        """One plain step in place, theta <- theta - lr g, without g as one vector; not private.

        Args:
            theta: Parameters (d,), changed.
            x: Samples (B, ...), B >= 1.
            y: Targets (B, ...).
            lr: Step size.
        """
        self.model.bind(theta)
        if self._linear is not None:
            self._linear.step(_as(theta, x), y, lr)
            return
        found = gradients_of_mean(self.model, self._forward, _as(theta, x), y)
        views = self.model.views(theta)
        pairs = [(v, g) for v, g in zip(views, found, strict=True) if g is not None]
        torch._foreach_add_([v for v, _ in pairs], [g for _, g in pairs], alpha=-lr)

    def means(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The gradients (n, d) of n clients' mean losses in one batched pass; not private.

        Args:
            theta: Parameters (n, d), a row per client.
            x: Samples (n B, ...), the same number B >= 1 of each client, one client after another.
            y: Targets (n B, ...).
        """
        n = len(theta)
        x, y = (t.unflatten(0, (n, -1)) for t in (_as(theta, x), y))
        return mean_gradients(self.model, self._forward, theta, x, y)

    # Which way a model goes: closed forms, vmap, or one backward pass per sample.

    def _go(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        job: Callable[[Way], None],
    ) -> None:
        """Do the job the way that suits the model, found out on these parameters and samples."""
        if len(x):
            self._settle(theta if theta.ndim == 1 else theta[0], x, y)
        slow = AutogradRows(self.model, self._forward, looped=True)
        way = self._way or slow
        try:
            with way if isinstance(way, ClosedForms) else nullcontext():
                job(way)
        except NoClosedFormError as reason:
            if self.method == "closed-form":
                raise
            # For this job alone: the way of later ones must not depend on what came before.
            self._notify(f"{reason}; one backward pass per sample instead (slow)")
            job(slow)

    def _try_batch(self, theta: Tensor, work: Work) -> None:
        """See that a real batch keeps samples apart, and again once batches are twice as large.

        Only the closed forms show the model several samples at once.
        """
        size = len(work.x) if theta.ndim == 1 else max(work.counts, default=0)
        if size < 2 * max(1, self._tried):
            return
        own, part = theta, work  # with the same parameters, all clients are one batch
        if theta.ndim == 2:
            client = work.counts.index(size)
            own, part = theta[client], work.clients()[client]
        self._settle(theta if theta.ndim == 1 else theta[0], work.x, work.y)
        if isinstance(self._way, ClosedForms):
            choice = Choice(self.model, self.loss, self.method, self.memory, self._notify)
            most = self._way._per_pass
            if choice.try_batch(own, part.x[:most], part.y[:most]):
                self._tried = size

    def _settle(self, theta: Tensor, x: Tensor, y: Tensor) -> None:
        if self._way is not None:
            return
        choice = Choice(self.model, self.loss, self.method, self.memory, self._notify)
        self._way = choice.way(theta, x, y)
        if self._way is not None:
            self._way.forward = self._forward

    def _notify(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            name = type(self.model.module).__name__
            warnings.warn(f"{name}: {text}", SlowPathWarning, stacklevel=2)

    def _planned(self, subspace: Subspace | None) -> Plan:
        if self._plan is None or self._plan.subspace is not subspace:
            self._plan = Plan(subspace, self.model.layout)
        return self._plan

    def _check(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        counts: Sequence[int],
        clip: float | Clip | None,
        weights: Tensor | None,
    ) -> None:
        n, d = len(counts), self.model.d
        if theta.shape not in ((d,), (n, d)):
            raise ValueError(
                f"theta has shape {tuple(theta.shape)}; allowed are ({d},), ({n}, {d})"
            )
        if min(counts, default=0) < 0 or sum(counts) != len(x) or len(y) != len(x):
            raise ValueError(
                f"counts={tuple(counts)} with {len(x)} samples and {len(y)} targets: counts must "
                "be >= 0 and sum to the number of samples"
            )
        if isinstance(clip, float | int) and not 0.0 < clip < float("inf"):
            raise ValueError(f"clip={clip} must be > 0 and finite, or None for no clipping")
        if clip is not None and max(counts, default=0) > MOST:
            raise ValueError(
                f"counts holds {max(counts)}: the rounding of a sum of so many clipped gradients "
                f"is not bounded; allowed is {MOST}"
            )
        if weights is not None and weights.shape != (len(x),):
            raise ValueError(f"weights has shape {tuple(weights.shape)}, not ({len(x)},)")

    def _fused(self) -> LinearSteps | None:
        layers = chain(self.model.module) if self.compute_dtype is torch.float32 else None
        return None if layers is None else LinearSteps(layers, self._forward)

    def __getstate__(self) -> dict[str, Any]:
        # a plan holds the tensors of a projection, the steps the layers of this very module
        return self.__dict__ | {"_plan": None, "_linear": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._linear = self._fused()


def _as(theta: Tensor, x: Tensor) -> Tensor:
    return x.to(theta.dtype) if x.is_floating_point() else x
