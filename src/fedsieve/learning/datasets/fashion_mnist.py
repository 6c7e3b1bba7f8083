"""Fashion-MNIST, and the subset of it that this package carries.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv:1708.07747.

The subset is the first 1,000 training and 200 test images of every class, in the published order
(made by tools/embed_fashion_mnist.py), so that a first run needs no download.
"""

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
from fedsieve.learning.datasets._places import published, read, require
from fedsieve.registry import register

FILES = published(
    FileSet(
        "fashion-mnist",
        (
            DataFile(
                TRAIN_IMAGES,
                47_040_016,
                "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                f"{TRAIN_IMAGES}.gz",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            DataFile(
                TRAIN_LABELS,
                60_008,
                "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                f"{TRAIN_LABELS}.gz",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            DataFile(
                TEST_IMAGES,
                7_840_016,
                "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                f"{TEST_IMAGES}.gz",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            DataFile(
                TEST_LABELS,
                10_008,
                "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                f"{TEST_LABELS}.gz",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        folders=("fashion-mnist", "FashionMNIST/raw"),  # the second is where torchvision puts them
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # sha256 guards http
        ),
        system=(Path("/usr/share/datasets/fashion-mnist"),),
    )
)

EMBEDDED = Path(__file__).parent / "_embedded" / "fashion-mnist"
"""Folder of the subset, with its licence."""

SUBSET = published(
    FileSet(
        "fashion-mnist-subset",
        (
            DataFile(
                TRAIN_IMAGES,
                7_840_016,
                "sha256:d33512cfdc636a0d8972818e6659995be209a88891df7fa2109d7895922c8985",
            ),
            DataFile(
                TRAIN_LABELS,
                10_008,
                "sha256:620cb8e3b9348037c5ff9a07b02d773ab165330e072dfd19e0d21c59f8042dcf",
            ),
            DataFile(
                TEST_IMAGES,
                1_568_016,
                "sha256:15a92dd1e9b16ea361928086e77df4dfa890c255c00b5a8c8162c1040ce8eef1",
            ),
            DataFile(
                TEST_LABELS,
                2_008,
                "sha256:234596aeb6eb48133ec99a62541f90bc0728c9559a681f1e0638037462458f2c",
            ),
        ),
        folders=(),
        carried=EMBEDDED,
    )
)

MEAN, STD = 0.28604, 0.35302
"""Of the pixels / 255 of the published training set, a public constant; the subset uses it too."""

LICENCE = "MIT (Zalando SE)"


@register("dataset", "fashion-mnist", paper="Xiao, Rasul, Vollgraf 2017")
def fashion_mnist(data_dir: Path | None = None, download: bool = False) -> Dataset:
    """Images of clothing, 60,000 + 10,000, of 28 x 28 grey pixels, 10 classes.

    Args:
        data_dir: Directory with the four IDX files, plain, .gz or .xz.
        download: Fetch the files where they are not on this machine.

    Returns:
        ``x`` is uint8 (60000, 1, 28, 28). Where no place has the full set, the embedded subset,
        (10000, 1, 28, 28), and ``source`` says so.

    Raises:
        DataError: ``data_dir`` lacks the files; any file is refused; the download fails.
    """
    held = read(FILES, data_dir, download)
    if held is None:
        origin = (
            "the embedded subset because the full set is not on this machine "
            "(to get it: fedsieve data fetch fashion-mnist)"
        )
        return _subset(FILES.name, origin)
    located, contents = held
    return images_and_labels(
        contents, FILES.name, located.origin, mean=MEAN, std=STD, licence=LICENCE
    )


@register("dataset", "fashion-mnist-subset", paper="Xiao, Rasul, Vollgraf 2017")
def fashion_mnist_subset() -> Dataset:
    """Images of clothing, 10,000 + 2,000, the part of fashion-mnist embedded in this package.

    Returns:
        ``x`` is uint8 (10000, 1, 28, 28).

    Raises:
        DataError: The installed files are damaged.
    """
    return _subset(SUBSET.name, "the subset embedded in the package")


def _subset(name: str, origin: str) -> Dataset:
    _, contents = require(SUBSET, None, download=False)
    return images_and_labels(contents, name, origin, mean=MEAN, std=STD, licence=LICENCE)
