"""CIFAR-10: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", report, 2009.

Binary layout: a record is one label byte and 3,072 pixel bytes, the red, green and blue plane of
32 x 32 one after another; 10,000 records a file. No licence is stated upstream, so nothing of it
is carried in this package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._files import Archive, DataError, DataFile, FileSet
from fedsieve.learning.datasets._places import published, require, sentence
from fedsieve.registry import register

SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_SIZE = 10_000 * _RECORD

FILES = published(
    FileSet(
        "cifar-10",
        (  # only md5 checksums of the single files are published
            DataFile("data_batch_1.bin", _SIZE, "md5:5dd7e06a14cb22eb9f671a540d1b7c25"),
            DataFile("data_batch_2.bin", _SIZE, "md5:5ea93a67294ea407fff1d09f752e9692"),
            DataFile("data_batch_3.bin", _SIZE, "md5:942cd6a4bcdd0dd3c604fbe906cb4421"),
            DataFile("data_batch_4.bin", _SIZE, "md5:ae636b3ba5c66a11e91e8cb52e771fcb"),
            DataFile("data_batch_5.bin", _SIZE, "md5:53f37980c15c3d472c316c40844f3f0d"),
            DataFile("test_batch.bin", _SIZE, "md5:803d5f7f4d78ea53de84dbe85f74fb6d"),
        ),
        folders=("cifar-10", "cifar-10-batches-bin", "cifar-10/cifar-10-batches-bin"),
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        archive=Archive(
            "cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    )
)

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Per channel, of the pixels / 255 of the published training set: the customary constants."""


@register("dataset", "cifar-10", paper="Krizhevsky 2009")
def cifar10(data_dir: Path | None = None, download: bool = False) -> Dataset:
    """Photographs, 50,000 + 10,000, of 32 x 32 pixels in three colours, 10 classes.

    Args:
        data_dir: Directory with the six .bin files, or with cifar-10-binary.tar.gz.
        download: Fetch the archive where it is not on this machine.

    Returns:
        ``x`` is uint8 (50000, 3, 32, 32).

    Raises:
        DataError: The files are nowhere, or refused.
    """
    located, contents = require(FILES, data_dir, download)
    *train, test = (parse(contents.data[file.name], file.name) for file in FILES.files)
    x = torch.from_numpy(np.concatenate([images for images, _ in train]))
    y = torch.from_numpy(np.concatenate([labels for _, labels in train]))
    return Dataset(
        FILES.name,
        x,
        y,
        torch.from_numpy(test[0].copy()),  # the view has a label byte between the records
        torch.from_numpy(test[1]),
        classes=10,
        mean=MEAN,
        std=STD,
        source=sentence(FILES.name, len(y), len(test[1]), located.origin, contents.sha256),
        checksums=contents.sha256,
        licence="none stated upstream; do not redistribute",
    )


def parse(content: bytearray, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 3, 32, 32), a view, and labels int64 (N,) of one binary file.

    Raises:
        DataError: The length is no multiple of a record, or a label is not in 0..9.
    """
    if len(content) % _RECORD or not content:
        raise DataError(f"{place}: {len(content)} bytes are no multiple of {_RECORD}, one record")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        at = int(labels.argmax())
        raise DataError(f"{place}: label {labels[at]} at offset {at * _RECORD}, allowed are 0..9")
    return records[:, 1:].reshape(-1, *SHAPE), labels
