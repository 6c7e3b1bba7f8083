"""MNIST: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998."""

from __future__ import annotations

from pathlib import Path

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._files import DataFile, FileSet
from fedsieve.learning.datasets._idx import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    images_and_labels,
)
from fedsieve.learning.datasets._places import published, require
from fedsieve.registry import register

FILES = published(
    FileSet(
        "mnist",
        (
            DataFile(
                TRAIN_IMAGES,
                47_040_016,
                "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                f"{TRAIN_IMAGES}.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            DataFile(
                TRAIN_LABELS,
                60_008,
                "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                f"{TRAIN_LABELS}.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            DataFile(
                TEST_IMAGES,
                7_840_016,
                "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                f"{TEST_IMAGES}.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            DataFile(
                TEST_LABELS,
                10_008,
                "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                f"{TEST_LABELS}.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        folders=("mnist", "MNIST/raw"),  # the second is where torchvision puts them
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    )
)

MEAN, STD = 0.13066, 0.30811
"""Of the pixels / 255 of the published training set, a public constant."""


@register("dataset", "mnist", paper="LeCun, Cortes, Burges 1998")
def mnist(data_dir: Path | None = None, download: bool = False) -> Dataset:
    """Handwritten digits, 60,000 + 10,000, of 28 x 28 grey pixels, 10 classes.

    Args:
        data_dir: Directory with the four IDX files, plain, .gz or .xz.
        download: Fetch the files where they are not on this machine.

    Returns:
        ``x`` is uint8 (60000, 1, 28, 28).

    Raises:
        DataError: The files are nowhere, or refused.
    """
    located, contents = require(FILES, data_dir, download)
    return images_and_labels(
        contents,
        FILES.name,
        located.origin,
        mean=MEAN,
        std=STD,
        licence="CC BY-SA 3.0 as commonly stated (Y. LeCun, C. Cortes)",
    )
