"""Data sets, and their division among clients.

A `Dataset` holds the records as they were stored (images stay uint8: a quarter of the memory);
`Shards` says which records belong to which client and hands out normalised batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Dataset:
    """Records and labels for training and testing.

    Args:
        name: Name in the registry, or the user's own.
        x: Training records (N, ...): uint8 images, float32 features or int64 tokens.
        y: Labels (N,): int64 classes, or float32 targets for a regression.
        x_test: Test records, as ``x``.
        y_test: Test labels, as ``y``.
        classes: Number of classes; 0 for a regression.
        mean: Subtracted from every record after conversion to float32 (images: after / 255). Public
            constants, declared beside the set, never computed on private data.
        std: Divides every record after the subtraction.
        owners: Natural owner of each training record, int64 (N,), or ``None``.
        source: One sentence: where the records were read from, and how many.
        checksums: File name -> sha256 of what was read.
        licence: Licence of the data.
        features: Name of each column of ``x``, for tabular sets; empty otherwise.
    """

    name: str
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    owners: Tensor | None = None
    source: str = "given by the caller"
    checksums: dict[str, str] = field(default_factory=dict)
    licence: str = "unknown"
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.x, self.y), ("test", self.x_test, self.y_test)):
            if len(x) != len(y) or len(x) == 0:
                raise ValueError(f"{self.name}: {part} has {len(x)} records and {len(y)} labels")
            if x.dtype not in (torch.uint8, torch.float32, torch.int64):
                raise ValueError(
                    f"{self.name}: {part} records have dtype {x.dtype}; "
                    "allowed are uint8, float32 and int64 (tokens)"
                )
            wanted = torch.int64 if self.classes else torch.float32
            if y.ndim != 1 or y.dtype != wanted:
                raise ValueError(
                    f"{self.name}: {part} labels have dtype {y.dtype} and shape {tuple(y.shape)}; "
                    f"with classes={self.classes} they must be {wanted} of shape ({len(y)},)"
                )
            if self.classes and not (int(y.min()) >= 0 and int(y.max()) < self.classes):
                raise ValueError(
                    f"{self.name}: {part} labels lie in [{int(y.min())}, "
                    f"{int(y.max())}], outside 0..{self.classes - 1}"
                )
        if self.x.shape[1:] != self.x_test.shape[1:]:
            raise ValueError(
                f"{self.name}: a train record has shape {tuple(self.x.shape[1:])}, "
                f"a test record {tuple(self.x_test.shape[1:])}"
            )
        if self.owners is not None and len(self.owners) != len(self.y):
            raise ValueError(f"{self.name}: {len(self.owners)} owners for {len(self.y)} records")

    @property
    def task(self) -> Task:
        """What a model of this set predicts."""
        return "classification" if self.classes else "regression"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one record."""
        return tuple(self.x.shape[1:])

    def normalise(self, x: Tensor) -> Tensor:
        """Stored records as a model sees them: float32, normalised; tokens are left alone."""
        if x.dtype == torch.int64:
            return x
        scale = 255.0 if x.dtype == torch.uint8 else 1.0
        if isinstance(self.mean, float) and isinstance(self.std, float):
            out = x.to(torch.float32)
            if scale != 1.0 or self.mean != 0.0 or self.std != 1.0:
                out = out.mul(1.0 / (scale * self.std)).sub_(self.mean / self.std)
            return out
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean = torch.tensor(self.mean, device=x.device).view(shape)
        std = torch.tensor(self.std, device=x.device).view(shape)
        return (x.to(torch.float32) / scale - mean) / std

    def to(self, device: torch.device | str) -> Dataset:
        """The same records on another device."""
        moved = {k: getattr(self, k).to(device) for k in ("x", "y", "x_test", "y_test")}
        return replace(self, **moved)


@dataclass(frozen=True)
class Batch:
    """Records of several clients one after another: ``counts[i]`` of them belong to client i."""

    x: Tensor
    y: Tensor
    counts: tuple[int, ...]
    records: np.ndarray | None = None


@dataclass(frozen=True)
class Forged:
    """Training records that malicious clients have replaced.

    Args:
        places: Their positions in the training set, int64 (P,), ascending, P >= 1.
        y: The labels (P,) that take the place of the true ones.
        x: The records (P, ...), as stored, that do; ``None`` where only labels are false.
    """

    places: np.ndarray
    y: Tensor
    x: Tensor | None = None

    def put(self, records: np.ndarray, x: Tensor, y: Tensor) -> None:
        """Replace those of the records x and labels y, at these positions, that are forged."""
        found = np.searchsorted(self.places, records).clip(max=len(self.places) - 1)
        hit = self.places[found] == records
        here, there = (torch.from_numpy(i).to(y.device) for i in (hit.nonzero()[0], found[hit]))
        y[here] = self.y[there]
        if self.x is not None:
            x[here] = self.x[there]


@dataclass(frozen=True)
class Shards:
    """A data set divided among clients.

    Args:
        dataset: The records.
        parts: Per client the sorted positions of its training records, int64 arrays, disjoint.
        forged: What malicious clients train on instead of some of theirs; ``None``: nothing.
    """

    dataset: Dataset
    parts: tuple[np.ndarray, ...]
    forged: Forged | None = None

    @property
    def honest(self) -> Shards:
        """The same division of the true records."""
        return self if self.forged is None else Shards(self.dataset, self.parts)

    @property
    def n(self) -> int:
        """Number of clients."""
        return len(self.parts)

    def size(self, client: int) -> int:
        """Number of records that the client holds."""
        return len(self.parts[client])

    def gather(self, records: np.ndarray, counts: tuple[int, ...]) -> Batch:
        """The records at these positions of the training set, normalised, as one batch."""
        index = torch.from_numpy(records).to(self.dataset.x.device)
        x, y = self.dataset.x.index_select(0, index), self.dataset.y.index_select(0, index)
        if self.forged is not None:
            self.forged.put(records, x, y)
        return Batch(self.dataset.normalise(x), y, counts, records)
