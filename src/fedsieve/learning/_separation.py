"""Whether every sample has a gradient of its own, tried out in the mode that really runs.

Clipping bounds what one sample adds to a sum only if no sample moves the gradients of others. For
batches X of several sizes, with weights w_j that make all terms equally long, this asks for

    gradient of sum_j w_j loss_j(X)  =  sum_j w_j g_j,        g_j = gradient of sample j run alone

The model stays in training mode: in evaluation mode, a module that mixes samples while it trains
would pass, and to train in evaluation mode would silently train another model. A model that draws
random numbers has no g_j to compare with; there, with the same draws, the gradients of some samples
must stay when the other samples are replaced, and the equation must hold in evaluation mode.

This is a test: it finds what these batches show, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedsieve.learning._autograd import evaluating, mean_gradient
from fedsieve.learning._put_back import Kept, replayed, states
from fedsieve.learning._work import Forward
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.losses import LOSSES

TOLERANCE = 1e-3
"""Relative error up to which two ways agree: modules may round to float32 inside."""

BATCHES = ((0, 1), (0, 1, 2), (0, 1, 2, 3, 0, 1, 2, 3), (0, 4, 1, 5, 2, 3, 0, 5))
"""Batches of 2, 3 and 8 of the samples of `_samples`, with repeated ones and large ones."""

DRAWS = 24
"""How often a model that draws random numbers is tried on each batch."""

ROWWISE = {
    nn.AdaptiveAvgPool2d,
    nn.Conv2d,
    nn.Embedding,
    nn.Flatten,
    nn.GroupNorm,
    nn.Identity,
    nn.Linear,
    nn.MaxPool2d,
    nn.ReLU,
    nn.Sequential,
    nn.Sigmoid,
    nn.Tanh,
}
"""Layers that treat every row of a batch on its own; they need no trial."""


class Separation:
    """The trial of one model and loss at one parameter vector.

    Args:
        model: The model.
        forward: Gives the samples' losses, without rounding.
        theta: Parameters (d,).
    """

    def __init__(self, model: FlatModel, forward: Forward, theta: Tensor) -> None:
        self.model = model
        self.forward = forward
        self.theta = theta
        self.name = type(model.module).__name__
        self._drew = False

    @property
    def known(self) -> bool:
        """Whether nothing is to be tried: known layers in a row, and a loss of ours."""
        own = f"{__package__}.models."
        return self.forward.loss in LOSSES.values() and all(
            (type(part) in ROWWISE or type(part).__module__.startswith(own))
            and getattr(part, "start_dim", 1) == 1  # Flatten
            and getattr(part, "max_norm", None) is None  # Embedding
            and not getattr(part, "scale_grad_by_freq", False)
            and "forward" not in part.__dict__
            and not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks)
            for part in self.model.module.modules()
        )

    def require(self, x: Tensor, y: Tensor) -> bool:
        """The model keeps samples apart, in small batches made from two samples.

        Args:
            x: Samples (B, ...), B >= 2; the first two have finite gradients.
            y: Targets (B, ...).

        Returns:
            Whether the model draws random numbers.

        Raises:
            ValueError: It mixes samples, or a forward pass changes a buffer.
        """
        samples, targets = _samples(x, y)
        with self.unchanged():
            self._gradient(x[:2], y[:2])
            if not self._drew:
                self._require_sums(samples, targets)
                return False
            self._drew = False  # in evaluation mode
            with evaluating(self.model.module):
                usable = self._require_sums(samples, targets)
            self._drew = True
            for batch in BATCHES:
                kept = [i for i in batch if i in usable]
                for draw in range(DRAWS):
                    self._require_indifference(samples[kept], targets[kept], draw)
        return True

    def require_of_batch(self, x: Tensor, y: Tensor) -> bool:
        """The first and the largest sample of a real batch neither move nor are moved.

        Args:
            x: Finite samples of one client (B, ...), B >= 2.
            y: Targets (B, ...).

        Returns:
            Whether it could be tried: not if a gradient is not finite.

        Raises:
            ValueError: The model mixes samples, or a forward pass changes a buffer.
        """
        largest = int(x.reshape(len(x), -1).double().abs().amax(1).argmax())
        alone = sorted({0, largest})
        with self.unchanged():
            whole = self._gradient(x, y)
            if not bool(whole.isfinite().all()):
                return False
            if self._drew:
                for draw in range(DRAWS):
                    self._require_indifference(x, y, draw)
                return True
            rest = [i for i in range(len(x)) if i not in alone]
            others = torch.zeros_like(whole)
            if rest:
                others += self._gradient(x[rest], y[rest]) * len(rest)
            rows = [self._gradient(x[i : i + 1], y[i : i + 1]) for i in alone]
            norms = torch.stack([row.norm() for row in rows])
            typical = max(float(norms.max()), float(others.norm()) / max(1, len(rest)))
            if not typical > torch.finfo(whole.dtype).eps ** 0.5:
                return False  # not finite, or nothing but rounding
            # In a large batch, one sample among many would not be seen.
            length = max(typical, float(others.norm()))
            weights = whole.new_ones(len(x))
            weights[alone] = length / norms.clamp(min=typical / 100)
            expected = others + weights[alone] @ torch.stack(rows)
            found = self._gradient(x, y, weights) * len(x)
            if not bool(found.isfinite().all() and expected.isfinite().all()):
                return False
            self._require_equal(found / length, expected / length, len(x))
        return True

    def takes_only_batches(self, x: Tensor, y: Tensor) -> bool:
        """Whether the model takes these samples at once, where it refused one of them alone."""
        try:
            with self.unchanged():
                self._gradient(x, y)
        except Exception:  # noqa: BLE001 - a user's module may raise anything
            return False
        return True

    def _require_sums(self, samples: Tensor, targets: Tensor) -> list[int]:
        """The gradients of the batches are the sums of those of their samples.

        Returns:
            The samples that the model takes, with finite gradients.
        """
        rows: dict[int, Tensor] = {}
        for i in range(len(samples)):
            try:
                own = self._gradient(samples[i : i + 1], targets[i : i + 1])
            except Exception:
                if i < 2:
                    raise
                continue  # a made-up sample may be one that the model does not take
            if bool(own.isfinite().all()):
                rows[i] = own
        longest = max((float(own.norm()) for own in rows.values()), default=0.0) or 1.0
        # A sample that is fitted already has a gradient of mere rounding: not to be blown up.
        shares = {i: (1 + i / 6) / max(float(g.norm()), longest / 100) for i, g in rows.items()}
        for batch in BATCHES:
            kept = [i for i in batch if i in rows]
            weights = self.theta.new_tensor([shares[i] for i in kept])
            expected = torch.zeros_like(self.theta)
            for i in kept:
                expected += shares[i] * rows[i]
            found = self._gradient(samples[kept], targets[kept], weights) * len(kept)
            if self._drew and not self._equal(found, expected):
                raise self._draws()
            self._require_equal(found, expected, len(kept))
        return list(rows)

    def _require_indifference(self, x: Tensor, y: Tensor, draw: int) -> None:
        """With the same draws, some samples' gradients stay when the others are replaced."""
        size = len(x)
        generator = torch.Generator().manual_seed(draw)
        replaced = torch.rand(size, generator=generator) < 0.5
        replaced[draw % size], replaced[(draw + 1) % size] = True, False
        replaced = replaced.to(x.device)
        others = x.clone()
        others[replaced] = x.roll(1, 0)[replaced]
        weights = (~replaced).to(self.theta.dtype)
        expected = self._gradient(x, y, weights, draw)
        found = self._gradient(others, y, weights, draw)
        finite = bool(expected.isfinite().all() and found.isfinite().all())
        length = float(expected.norm())
        if finite and length > torch.finfo(expected.dtype).eps ** 0.5:
            self._require_equal(found / length, expected / length, size)

    def _gradient(
        self, x: Tensor, y: Tensor, weights: Tensor | None = None, draw: int = 0
    ) -> Tensor:
        """The gradient of the mean of the weighted losses (d,), with always the same draws."""
        forward = self.forward
        if weights is not None:
            loss = forward.loss
            forward = Forward(lambda out, target: loss(out, target) * weights, torch.float32)
        with replayed(self.theta.device, draw):
            before = states(self.theta.device)
            found = mean_gradient(self.model, forward, x, y, torch.empty_like(self.theta))
            self._drew = self._drew or states(self.theta.device) != before
        return found

    def _require_equal(self, found: Tensor, expected: Tensor, size: int) -> None:
        if not self._equal(found, expected):
            raise self._mixes(size)

    def _equal(self, found: Tensor, expected: Tensor) -> bool:
        """Equality up to rounding of gradients (d,) whose terms have lengths of about 1."""
        if float((found - expected).norm()) <= TOLERANCE / 100:
            return True
        return agree(self.model, found.unsqueeze(0), expected.unsqueeze(0))

    def _draws(self) -> ValueError:
        return ValueError(
            f"{self.name} draws random numbers in its forward pass, in evaluation mode too, and "
            "its gradients depend on them: no two passes agree, so it cannot be seen whether every "
            "sample has a gradient of its own that can be clipped; draw nothing where "
            "self.training is false, or leave the draws out"
        )

    def _mixes(self, size: int) -> ValueError:
        return ValueError(
            f"{self.name} mixes the samples of a batch, or keeps something from one pass to the "
            f"next: the gradient of {size} samples is not the sum of their gradients, so none can "
            "be clipped on its own; remove the operation across samples"
        )

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Buffers and global generators are left as they were, whatever happens inside.

        Raises:
            ValueError: One was changed.
        """
        module = self.model.bind(self.theta)
        kept = [(name, part, Kept(part)) for name, part in module.named_modules()]
        changed = ""
        try:
            with replayed(self.theta.device):
                yield
        finally:
            for name, part, before in kept:
                if own := before.restore(part):
                    changed = changed or f"{name}.{own}".lstrip(".")
            if changed:
                # Instead of whatever else was found: it is the cause, or at least more precise.
                raise ValueError(
                    f"{self.name} changes its buffer {changed!r} in a forward pass: what it keeps "
                    "of the samples would reach later gradients unclipped and without noise; keep "
                    "nothing of them, or compute the buffer in the constructor"
                )


def needs_company(module: nn.Module, error: Exception) -> ValueError:
    """The refusal of a model that takes several samples at once, but not one alone."""
    return ValueError(
        f"{type(module).__name__} takes 2 samples at once but not one alone ({error}), as batch "
        "normalisation does: it uses statistics of the batch, so no sample has a gradient of its "
        "own; use nn.GroupNorm or nn.LayerNorm"
    )


def agree(model: FlatModel, rows: Tensor, reference: Tensor) -> bool:
    """Equality of gradients (b, d) up to rounding, parameter tensor by parameter tensor."""
    error, whole = rows - reference, reference.norm(dim=1) / 100
    for slot in model.layout.slots:
        part = slice(slot.start, slot.stop)
        allowed = TOLERANCE * (reference[:, part].norm(dim=1) + whole)
        if not bool((error[:, part].norm(dim=1) <= allowed).all()):
            return False
    return True


def _samples(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Six samples: two real ones, two others, two large ones; their targets are real ones."""
    targets = y[[0, 1, 1, 0, 1, 0]]
    if not x.is_floating_point():  # tokens cannot be made up
        places = [i % len(x) for i in (0, 1, 2, 3, 1, 0)]
        return x[places], y[places]
    a, b = x[0], x[1]
    generator = torch.Generator().manual_seed(0)
    c, d = torch.randn((2, *a.shape), generator=generator).to(x)
    return torch.stack([a, b, c, d, 100 * a - 30 * d, 30 * c]), targets
