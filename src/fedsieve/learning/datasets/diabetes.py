"""Diabetes: Efron, Hastie, Johnstone, Tibshirani, "Least Angle Regression", Ann. Stat. 32(2), 2004.

The progression of the disease in 442 patients after a year, from ten measurements.

Features and target are standardised with the constants below, those of the training part; multiply
an error by `TARGET` [1] to have it in the published units. Every fifth patient is for testing.
"""

from __future__ import annotations

import numpy as np
import torch

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._places import sentence
from fedsieve.learning.datasets._sklearn import bundled, every_fifth, pinned
from fedsieve.registry import register

CHECKSUMS = {
    "features": "6b93b2556c8942c79d8374838768047adf9d1f4044510b9f948ddace62567d75",
    "targets": "4911e8747aff95aa1cd523fea86dd91cfd1cd14c1a8ead274f1913b14fa853c4",
}

FEATURES = {  # name -> (mean, standard deviation)
    "age": (48.463, 13.295),
    "sex": (1.4774, 0.49949),
    "bmi": (26.457, 4.6095),
    "bp": (94.722, 14.289),
    "s1": (189.64, 34.691),
    "s2": (116.24, 30.648),
    "s3": (49.825, 13.037),
    "s4": (4.0860, 1.3196),
    "s5": (4.6290, 0.52126),
    "s6": (91.381, 11.549),
}
TARGET = (151.89, 76.996)
"""Mean and standard deviation of the progression."""


@register("dataset", "diabetes", paper="Efron, Hastie, Johnstone, Tibshirani 2004")
def diabetes() -> Dataset:
    """Progression of diabetes, a regression: 354 + 88 patients, ten features; scikit-learn's.

    Returns:
        ``x`` is float32 (354, 10), ``y`` float32 (354,); ``classes`` is 0.

    Raises:
        DataError: scikit-learn is missing, or its copy is not the known one.
    """
    held = bundled("diabetes", scaled=False)
    mean, std = np.array(list(FEATURES.values())).T
    x = (pinned("diabetes features", held.data, CHECKSUMS["features"]) - mean) / std
    y = (pinned("diabetes targets", held.target, CHECKSUMS["targets"]) - TARGET[0]) / TARGET[1]
    records, targets = torch.from_numpy(x).float(), torch.from_numpy(y).float()
    test = torch.from_numpy(every_fifth(len(y)))
    n_test = int(test.sum())
    return Dataset(
        "diabetes",
        records[~test],
        targets[~test],
        records[test],
        targets[test],
        classes=0,
        features=tuple(FEATURES),
        source=sentence("diabetes", len(y) - n_test, n_test, "scikit-learn", CHECKSUMS),
        checksums=dict(CHECKSUMS),
    )
