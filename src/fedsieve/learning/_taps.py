"""What went into each layer, and the loss's derivative by what came out of it.

Forward hooks keep the input and the output of every layer that has parameters. The parameters
themselves do not require gradients: the first tapped output becomes the leaf of the autograd graph,
so one backward pass gives the derivatives by all outputs without computing any weight gradient, or
the gradient of the model's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedsieve.learning.layers import Factor, Form, NoClosedFormError, Rows, form_of, generic
from fedsieve.learning.layers._rank_one import RankOne
from fedsieve.learning.layout import Layout


@dataclass(frozen=True)
class Tap:
    """A layer, its form, and the position of each of its parameters in the layout."""

    name: str
    layer: nn.Module
    form: Form
    places: dict[str, int]


@dataclass(frozen=True)
class Record:
    """Of one run: per layer what went in and the derivative by what came out; the losses.

    ``numbers_per_sample`` is how many go in and out of the layers for one sample.
    """

    layers: dict[str, tuple[Tensor, Tensor]]
    losses: Tensor
    numbers_per_sample: int


class Taps:
    """Hooks on the layers of a module; active inside a ``with`` block.

    Args:
        module: The model, with parameters that do not require gradients.
        layout: Its table of parameters.

    Attributes:
        taps: The layers that have parameters.
        numbers_per_sample: Numbers that go in and out of the layers for one sample; 0 before the
            first pass.

    Raises:
        NoClosedFormError: Two layers share a parameter.
    """

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        everything = list(module.named_parameters(remove_duplicate=False))
        if len({id(p) for _, p in everything}) < len(everything):
            raise NoClosedFormError("layers share a parameter (tied weights)")
        self._slots = layout.slots
        places = {slot.name: i for i, slot in enumerate(layout.slots)}
        self.taps = list(_walk(module, "", places))
        self._handles: list[RemovableHandle] = []
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._recording = False
        self.numbers_per_sample = 0

    @property
    def without_form(self) -> list[str]:
        """Layers without a closed form of their own; the module itself has no name."""
        named = [(t.name, type(t.layer).__name__) for t in self.taps if t.form is generic]
        return [f"{name} ({kind})" if name else kind for name, kind in named]

    def __enter__(self) -> Taps:
        for tap in self.taps:
            self._handles.append(tap.layer.register_forward_hook(self._hook(tap.name)))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def factors(self, records: Sequence[Record]) -> tuple[list[Factor], Tensor]:
        """Factor the per-sample gradients of consecutive groups of samples.

        Args:
            records: What was recorded of each group.

        Returns:
            One factor per parameter tensor in the layout's order, and the losses of all samples.

        Raises:
            NoClosedFormError: Some of the groups use a layer, and others do not.
        """
        self.numbers_per_sample = self.numbers_per_sample or records[0].numbers_per_sample
        losses = _joined([record.losses for record in records])
        factors: list[Factor | None] = [None] * len(self._slots)
        for tap in self.taps:
            pairs = [record.layers.get(tap.name) for record in records]
            reached = [pair for pair in pairs if pair is not None]
            if not reached:
                continue  # the loss does not depend on this layer
            if len(reached) < len(pairs):
                raise NoClosedFormError(f"layer {tap.name!r} is used by some of the clients only")
            a, delta = (_joined(list(parts)) for parts in zip(*reached, strict=True))
            # Under autocast a layer's input may be narrower than the model's numbers.
            a, delta = (t.to(losses.dtype) if t.is_floating_point() else t for t in (a, delta))
            for parameter, factor in tap.form(tap.layer, a, delta).items():
                if parameter in tap.places:  # a frozen one has no place
                    factors[tap.places[parameter]] = factor
        size = losses.shape[0]
        return [
            RankOne(
                Rows(losses.new_zeros(size, s.matrix[0])), Rows(losses.new_zeros(size, s.matrix[1]))
            )
            if factor is None
            else factor
            for factor, s in zip(factors, self._slots, strict=True)
        ], losses

    def record(self, run: Callable[[], Tensor]) -> Record:
        """Run the model forward and backward.

        Args:
            run: Runs the module forward, with the parameters that it is to have, and gives the
                losses of the samples.

        Raises:
            NoClosedFormError: The forward pass does something that the closed forms do not cover.
        """
        self._inputs.clear()
        self._outputs.clear()
        self._recording = True
        try:
            with torch.enable_grad():
                losses = run()
        finally:
            self._recording = False
        found: tuple[Tensor | None, ...] = ()
        if losses.requires_grad:
            outputs = tuple(self._outputs.values())
            found = torch.autograd.grad(losses, outputs, torch.ones_like(losses), allow_unused=True)
        size = losses.shape[0]
        layers = {}
        for (name, a), delta in zip(self._inputs.items(), found, strict=False):
            if a.shape[0] != size or self._outputs[name].shape[0] != size:
                raise NoClosedFormError(f"layer {name!r} sees {a.shape[0]} rows for {size} samples")
            if delta is not None:
                layers[name] = (a.detach(), delta)
        kept = (*self._inputs.values(), *self._outputs.values())
        numbers = max(1, sum(t.numel() for t in kept) // size)
        self._inputs.clear()
        self._outputs.clear()
        return Record(layers, losses.detach(), numbers)

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, args: Any, output: Any) -> None:
            if not self._recording:
                return
            if name in self._inputs:
                raise NoClosedFormError(f"layer {name!r} runs more than once")
            if len(args) != 1 or not all(isinstance(t, Tensor) for t in (*args, output)):
                raise NoClosedFormError(f"layer {name!r} does not map one tensor to one tensor")
            if not output.requires_grad:
                output.requires_grad_()
            self._inputs[name], self._outputs[name] = args[0], output

        return keep


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _walk(module: nn.Module, name: str, places: dict[str, int]) -> list[Tap]:
    """The layers to tap: the outermost modules that hold parameters of their own."""
    if not any(True for _ in module.parameters(recurse=False)):
        return [
            tap
            for child, part in module.named_children()
            for tap in _walk(part, f"{name}.{child}" if name else child, places)
        ]
    own = {p: places[f"{name}.{p}" if name else p] for p, _ in module.named_parameters()}
    return [Tap(name, module, form_of(module) or generic, own)]
