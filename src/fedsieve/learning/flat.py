"""A model's parameters as one contiguous vector.

``theta`` is a float32 vector of d numbers; the module's parameters are *views* of it, in the order
of ``module.named_parameters()``. Loading a vector moves pointers, not numbers.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from fedsieve.learning._pooling import quicken
from fedsieve.learning.layout import Layout, Slot


class FlatModel:
    """An ``nn.Module`` whose parameters live in one flat vector.

    The module is copied; the caller's object is never changed.

    Args:
        module: Any module but two kinds. Batch normalisation mixes the samples of a batch, so a
            sample has no gradient of its own, and its running statistics leave the client raw.
            Dropout, and whatever else draws in the forward pass, draws from the global generator,
            so a run could not be repeated, divided among processes or resumed.
        input_shape: Shape of one sample, such as ``(1, 28, 28)``.

    Attributes:
        module: The model.
        layout: The table of its parameters.
        parameters: The module's parameters, in the layout's order.

    A parameter with ``requires_grad=False`` stays as it is and is not one of the d.

    Raises:
        ValueError: A layer of these kinds, no trainable parameter, or a parameter that is not
            floating point or (of a lazy layer) has no shape yet.

    Example:
        >>> model = FlatModel(nn.Linear(2, 3), (2,))
        >>> model.d, [slot.name for slot in model.layout.slots]
        (9, ['weight', 'bias'])
    """

    def __init__(self, module: nn.Module, input_shape: tuple[int, ...]) -> None:
        _refuse_batch_statistics(module)
        _refuse_draws(module)
        self.module = copy.deepcopy(module)
        for part in self.module.modules():
            if getattr(part, "inplace", False):
                # A tapped activation must survive until the backward pass.
                part.__dict__["inplace"] = False
        quicken(self.module)
        _freeze(self.module)
        slots, start = [], 0
        for name, parameter in self.module.named_parameters():
            if isinstance(parameter, nn.UninitializedParameter):
                raise ValueError(
                    f"parameter {name!r} has no shape yet: a lazy layer gets one from its first "
                    "forward pass; run the module once on a record, or use a layer that has one"
                )
            if not parameter.is_floating_point():
                raise ValueError(
                    f"parameter {name!r} has dtype {parameter.dtype}, not a float type"
                )
            slots.append(Slot(name, tuple(parameter.shape), start))
            start += parameter.numel()
        if not slots:
            raise ValueError(f"{type(module).__name__} has no parameters to train")
        self.layout = Layout(tuple(slots), tuple(input_shape))
        self.parameters = [parameter for _, parameter in self.module.named_parameters()]
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        self.bind(self.read())

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.layout.d

    def read(self) -> Tensor:
        """The parameters as a new flat vector (d,)."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters]).contiguous()

    def bind(self, theta: Tensor) -> nn.Module:
        """Make the module's parameters views of ``theta`` (d,) and return the module.

        Buffers follow ``theta`` to its device.

        Raises:
            ValueError: ``theta`` is not a contiguous vector of d numbers.
        """
        if theta.shape != (self.d,) or not theta.is_contiguous():
            raise ValueError(
                f"theta has shape {tuple(theta.shape)} (contiguous: {theta.is_contiguous()}); "
                f"a contiguous vector of shape ({self.d},) is needed"
            )
        first = self.parameters[0]
        # Pointers are compared as they are now: pickling moves a tensor into shared memory.
        if first.data_ptr() != theta.data_ptr() or first.dtype != theta.dtype:
            if first.device != theta.device:
                self._move_buffers(theta.device)
            for parameter, view in zip(self.parameters, self.views(theta), strict=True):
                parameter.data = view
            self._held = theta  # the memory that the views point to must stay alive
        return self.module

    def _move_buffers(self, device: torch.device) -> None:
        for part in self.module.modules():
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = buffer.to(device)

    def views(self, theta: Tensor) -> list[Tensor]:
        """The parameter tensors as views of ``theta``, in the layout's order.

        Of rows (n, d) the tensors of all n, shaped (n, ...).
        """
        rows = theta.shape[:-1]
        parts = torch.split_with_sizes(theta, [s.size for s in self.layout.slots], dim=-1)
        return [part.view(rows + s.shape) for part, s in zip(parts, self.layout.slots, strict=True)]

    def named_views(self, theta: Tensor) -> dict[str, Tensor]:
        """Parameter name -> view of ``theta``."""
        return {s.name: v for s, v in zip(self.layout.slots, self.views(theta), strict=True)}

    def __getstate__(self) -> dict[str, object]:
        # Pickle writes the memory behind each view in full, so every parameter travels on its own.
        own = {id(p): nn.Parameter(p.detach().clone(), False) for p in self.parameters}
        return {"module": copy.deepcopy(self.module, own), "layout": self.layout}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.parameters = [parameter for _, parameter in self.module.named_parameters()]
        self.bind(self.read())


def _freeze(module: nn.Module) -> None:
    """Turn parameters that are not to be trained into buffers, which nothing here moves."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(part, name)
                part.register_buffer(name, parameter.detach())


def _refuse_batch_statistics(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) or getattr(
            part, "track_running_stats", False
        ):
            raise ValueError(
                f"layer {name or '(root)'!r} is {type(part).__name__}: it mixes the samples of a "
                "batch and keeps running statistics, so no sample has a gradient of its own and "
                "unclipped statistics would leave the client; use nn.GroupNorm or nn.LayerNorm"
            )


def _refuse_draws(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if remedy := _remedy(part):
            raise ValueError(
                f"layer {name or '(root)'!r} is {type(part).__name__}, which draws from the global "
                f"random generator: results would depend on the order of the clients; {remedy}"
            )


def _remedy(part: nn.Module) -> str:
    """What to do about a module that draws random numbers in its forward pass; empty if none."""
    match part:
        case nn.modules.dropout._DropoutNd() if part.p > 0:
            return f"set p=0 instead of p={part.p}, or leave it out"
        case nn.RNNBase() | nn.MultiheadAttention() if part.dropout > 0:
            return f"set dropout=0 instead of dropout={part.dropout}"
        case nn.RReLU():
            return "use nn.LeakyReLU"
        case nn.FractionalMaxPool2d() | nn.FractionalMaxPool3d():
            return "use nn.AdaptiveMaxPool2d or 3d"
    return ""
