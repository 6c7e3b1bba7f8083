"""Digits: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.

scikit-learn carries 1,797 of them as 8 x 8 pixels with values 0..16. Every fifth is for testing.
Small enough for a test that trains in a second; not for headline figures.
"""

from __future__ import annotations

import numpy as np
import torch

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._places import sentence
from fedsieve.learning.datasets._sklearn import bundled, every_fifth, pinned
from fedsieve.registry import register

CHECKSUMS = {
    "images": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
    "labels": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
}

MEAN, STD = 0.019188, 0.023620
"""Of the values / 255 of the training part, public constants (values end at 16, not at 255)."""


@register("dataset", "digits", paper="Alpaydin, Kaynak 1998")
def digits() -> Dataset:
    """Handwritten digits, 1,438 + 359, of 8 x 8 grey pixels, 10 classes; scikit-learn's.

    Returns:
        ``x`` is uint8 (1438, 1, 8, 8).

    Raises:
        DataError: scikit-learn is missing, or its copy is not the known one.
    """
    held = bundled("digits")
    x = pinned("digits images", held.data.astype(np.uint8), CHECKSUMS["images"])
    y = pinned("digits labels", held.target.astype(np.uint8), CHECKSUMS["labels"])
    images = torch.from_numpy(x).view(-1, 1, 8, 8)
    labels = torch.from_numpy(y).long()
    test = torch.from_numpy(every_fifth(len(y)))
    n_test = int(test.sum())
    return Dataset(
        "digits",
        images[~test],
        labels[~test],
        images[test],
        labels[test],
        classes=10,
        mean=MEAN,
        std=STD,
        source=sentence("digits", len(y) - n_test, n_test, "scikit-learn", CHECKSUMS),
        checksums=dict(CHECKSUMS),
        licence="CC BY 4.0 as commonly stated (UCI)",
    )
