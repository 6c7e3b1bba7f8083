"""What the caller's own objects are, in a few digits that another process finds again.

The configuration knows an own object by the name of its class alone. Its fingerprint covers its
``repr`` (less the addresses in memory), the public settings of a class that has no ``repr``, the
source of classes and functions that are neither torch's nor of this package, and all numbers that
are not trained. Parameters to be trained are left out: a run that goes on has its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsieve.learning.data import Dataset

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_VERSIONED = {"abc", "typing", "torch", "fedsieve"}
"""Packages whose sources the versions in the manifest stand for, and bases without behaviour."""
_RECORDS = ("x", "y", "x_test", "y_test")


def fingerprints(objects: Mapping[str, Any]) -> dict[str, str]:
    """Name of the argument -> digest of what was given as it; ``None`` is nothing.

    Args:
        objects: By the names of the arguments of `fedsieve.run`. ``parts`` are positions, in any
            order.
    """
    return {
        name: _digest(_dealt(given) if name == "parts" else _told(given))
        for name, given in objects.items()
        if given is not None
    }


def _digest(lines: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _dealt(parts: Any) -> Iterator[str]:
    """The division, whatever the order within a part."""
    for part in parts:
        yield _sum(torch.from_numpy(np.sort(np.asarray(part, dtype=np.int64))))


def _told(given: Any) -> Iterator[str]:
    """All that an object is known by, in lines."""
    match given:
        case Dataset():
            yield f"{given.classes} {given.mean} {given.std} {sorted(given.checksums.items())}"
            tensors = {} if given.checksums else {k: getattr(given, k) for k in _RECORDS}
            for name, tensor in (tensors | {"owners": given.owners}).items():
                yield f"{name} {None if tensor is None else _sum(tensor)}"
        case nn.Module():
            yield _plain(given)
            for name, part in given.named_modules():
                yield name
                yield from _settings(part)
                yield from _written(type(part))
            kept = [(n, p) for n, p in given.named_parameters() if not p.requires_grad]
            for name, tensor in (*given.named_buffers(), *kept):
                yield f"{name} {_sum(tensor)}"
        case Tensor():
            yield _sum(given)
        case np.ndarray():
            yield f"{given.dtype} {given.shape} {hashlib.sha256(given.tobytes()).hexdigest()}"
        case FunctionType():
            yield _source(given)
        case _ if dataclasses.is_dataclass(given) and not isinstance(given, type):
            yield _plain(given)
            for field in dataclasses.fields(given):
                yield from _told(getattr(given, field.name))
            yield from _written(type(given))
        case _:
            yield _plain(given)
            if _plain(given).endswith(" object>"):  # which tells the class alone
                yield from _settings(given)
            yield from _written(type(given))


def _plain(given: Any) -> str:
    return _ADDRESS.sub("", repr(given))


def _settings(given: Any) -> Iterator[str]:
    """Public attributes that are numbers, words or functions."""
    for name, held in sorted(getattr(given, "__dict__", {}).items()):
        if name.startswith("_") or name == "training":
            continue
        if held is None or isinstance(held, bool | int | float | str | tuple):
            yield f"{name}={_plain(held)}"
        elif isinstance(held, FunctionType):
            yield f"{name}={_source(held)}"


def _written(kind: type) -> Iterator[str]:
    """The sources of a class and of what it inherits from."""
    for one in kind.__mro__:
        if one.__module__.partition(".")[0] not in _VERSIONED:
            yield _source(one)


def _source(written: type | FunctionType) -> str:
    """Name and source; where that is gone (an interactive session), what it was compiled to."""
    try:
        return f"{written.__qualname__}\n{inspect.getsource(written)}"
    except (OSError, TypeError):
        held = vars(written).values() if isinstance(written, type) else (written,)
        code = [line for f in held if isinstance(f, FunctionType) for line in _code(f.__code__)]
        return "\n".join((written.__qualname__, *code))


def _code(code: CodeType) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:  # the order of a set of words changes from process to process
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _sum(tensor: Tensor) -> str:
    held = tensor.detach().cpu().contiguous()
    raw = held.reshape(-1).view(torch.uint8) if held.numel() else torch.empty(0, dtype=torch.uint8)
    return f"{held.dtype} {tuple(held.shape)} {hashlib.sha256(raw.numpy().data).hexdigest()}"
