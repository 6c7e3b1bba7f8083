"""Make the Fashion-MNIST subset that the package carries, from the canonical files.

    python tools/embed_fashion_mnist.py DIRECTORY

DIRECTORY holds the four published IDX files (or a folder fashion-mnist with them). The first 1,000
training and 200 test images of every class are kept, in the published order, and written as IDX
files compressed with xz beside PROVENANCE.json, which records the sha256 of parents and children.
The checksums to pin in fashion_mnist.py are printed. The result is the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
from pathlib import Path

import numpy as np

from fedsieve.learning.datasets import _idx
from fedsieve.learning.datasets._places import locate
from fedsieve.learning.datasets.fashion_mnist import EMBEDDED, FILES

PER_CLASS = {"train": 1000, "t10k": 200}
CLASSES = 10


def first_of_every_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Sorted positions of the first ``count`` records of each class."""
    chosen = [np.flatnonzero(labels == label)[:count] for label in range(CLASSES)]
    return np.sort(np.concatenate(chosen))


def main(directory: Path) -> None:
    """Verify the parents, cut the subset, write it."""
    located = locate(FILES, directory)
    assert located is not None
    parents = FILES.read(located.paths)
    children: dict[str, str] = {}
    EMBEDDED.mkdir(parents=True, exist_ok=True)
    for part, images, labels in (
        ("train", _idx.TRAIN_IMAGES, _idx.TRAIN_LABELS),
        ("t10k", _idx.TEST_IMAGES, _idx.TEST_LABELS),
    ):
        x = _idx.parse_idx(parents.data[images], 3, images)
        y = _idx.parse_idx(parents.data[labels], 1, labels)
        chosen = first_of_every_class(y, PER_CLASS[part])
        for name, array in ((images, x[chosen]), (labels, y[chosen])):
            content = _idx.write_idx(array)
            packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
            (EMBEDDED / f"{name}.xz").write_bytes(packed)
            children[name] = hashlib.sha256(content).hexdigest()
            print(f"{name}: {len(content)} bytes, {len(packed)} packed, {children[name]}")  # noqa: T201
    provenance = {
        "rule": "first 1,000 training and 200 test images of every class, in published order",
        "parents_sha256": parents.sha256,
        "children_sha256": children,
    }
    (EMBEDDED / "PROVENANCE.json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
