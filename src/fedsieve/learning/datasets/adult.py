"""Adult: Becker, Kohavi, "Adult", UCI Machine Learning Repository, 1996.

The 14 attributes become 108 features: the six numbers standardised with the constants below, then
each of the eight categories one-hot in alphabetical order. A missing value ("?") is a category of
its own, so no record is dropped and none is guessed. The label is 1 for an income above 50K.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets._files import DataError, DataFile, FileSet
from fedsieve.learning.datasets._places import published, require, sentence
from fedsieve.registry import register

FILES = published(
    FileSet(
        "adult",
        (
            DataFile(
                "adult.data",
                3_974_305,
                "sha256:5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
                "adult.data",
                "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
            ),
            DataFile(
                "adult.test",
                2_003_153,
                "sha256:a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
                "adult.test",
                "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
            ),
        ),
        folders=("adult",),
        mirrors=("https://archive.ics.uci.edu/ml/machine-learning-databases/adult/",),
    )
)

_COLUMNS = 15

NUMBERS = {  # column -> (name, mean, standard deviation) in the 32,561 records of adult.data
    0: ("age", 38.58164675532078, 13.640223092304277),
    2: ("fnlwgt", 189778.36651208502, 105548.35688089082),
    4: ("education-num", 10.0806793403151, 2.5726808256012865),
    10: ("capital-gain", 1077.6488437087312, 7385.1786769476275),
    11: ("capital-loss", 87.303829734959, 402.95403082748646),
    12: ("hours-per-week", 40.437455852092995, 12.347239075707988),
}

CATEGORIES = {  # column -> (name, values that occur in adult.data)
    column: (name, tuple(values.split()))
    for column, name, values in (
        (
            1,
            "workclass",
            (
                "? Federal-gov Local-gov Never-worked Private Self-emp-inc Self-emp-not-inc "
                "State-gov Without-pay"
            ),
        ),
        (
            3,
            "education",
            (
                "10th 11th 12th 1st-4th 5th-6th 7th-8th 9th Assoc-acdm Assoc-voc Bachelors "
                "Doctorate HS-grad Masters Preschool Prof-school Some-college"
            ),
        ),
        (
            5,
            "marital-status",
            (
                "Divorced Married-AF-spouse Married-civ-spouse Married-spouse-absent "
                "Never-married Separated Widowed"
            ),
        ),
        (
            6,
            "occupation",
            (
                "? Adm-clerical Armed-Forces Craft-repair Exec-managerial Farming-fishing "
                "Handlers-cleaners Machine-op-inspct Other-service Priv-house-serv "
                "Prof-specialty Protective-serv Sales Tech-support Transport-moving"
            ),
        ),
        (7, "relationship", "Husband Not-in-family Other-relative Own-child Unmarried Wife"),
        (8, "race", "Amer-Indian-Eskimo Asian-Pac-Islander Black Other White"),
        (9, "sex", "Female Male"),
        (
            13,
            "native-country",
            (
                "? Cambodia Canada China Columbia Cuba Dominican-Republic Ecuador El-Salvador "
                "England France Germany Greece Guatemala Haiti Holand-Netherlands Honduras "
                "Hong Hungary India Iran Ireland Italy Jamaica Japan Laos Mexico Nicaragua "
                "Outlying-US(Guam-USVI-etc) Peru Philippines Poland Portugal Puerto-Rico "
                "Scotland South Taiwan Thailand Trinadad&Tobago United-States Vietnam "
                "Yugoslavia"
            ),
        ),
    )
}

FEATURES = tuple(name for name, _, _ in NUMBERS.values()) + tuple(
    f"{name}={value}" for name, values in CATEGORIES.values() for value in values
)
"""Name of each of the 108 features."""

LABELS = {"<=50K": 0, ">50K": 1}


@register("dataset", "adult", paper="Becker, Kohavi 1996")
def adult(data_dir: Path | None = None, download: bool = False) -> Dataset:
    """Census records, 32,561 + 16,281, of 108 features: whether an income is above 50K.

    Args:
        data_dir: Directory with adult.data and adult.test, plain, .gz or .xz.
        download: Fetch the files where they are not on this machine.

    Returns:
        ``x`` is float32 (32561, 108), already standardised; ``features`` names its columns.

    Raises:
        DataError: The files are nowhere, or refused.
    """
    located, contents = require(FILES, data_dir, download)
    x, y = parse(contents.data["adult.data"].decode("ascii"), "adult.data")
    # The test file begins with a comment line, and its labels end with a full stop.
    x_test, y_test = parse(contents.data["adult.test"].decode("ascii"), "adult.test", skip=1)
    return Dataset(
        FILES.name,
        torch.from_numpy(x),
        torch.from_numpy(y),
        torch.from_numpy(x_test),
        torch.from_numpy(y_test),
        classes=2,
        features=FEATURES,
        source=sentence(FILES.name, len(y), len(y_test), located.origin, contents.sha256),
        checksums=contents.sha256,
        licence="CC BY 4.0 as commonly stated (B. Becker, R. Kohavi)",
    )


def parse(text: str, place: str, skip: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (N, 108) and labels int64 (N,) of the lines of a file.

    Raises:
        DataError: A line has not 15 fields, or a value that no category has; with its number.
    """
    rows = []
    for number, line in enumerate(text.split("\n")[skip:], start=1 + skip):
        fields = line.split(", ")
        if len(fields) == _COLUMNS:
            rows.append(fields)
        elif line:
            raise DataError(f"{place}, line {number}: {len(fields)} fields, expected {_COLUMNS}")
    columns = list(zip(*rows, strict=True))
    blocks = []
    for column, (name, mean, std) in NUMBERS.items():
        values = _numbers(columns[column], f"{place}, {name}")
        blocks.append(((values - mean) / std)[:, None])
    for column, (name, known) in CATEGORIES.items():
        code = _codes(columns[column], {v: i for i, v in enumerate(known)}, f"{place}, {name}")
        blocks.append(np.eye(len(known))[code])
    incomes = [field.removesuffix(".") for field in columns[-1]]
    return np.hstack(blocks).astype(np.float32), _codes(incomes, LABELS, f"{place}, income")


def _numbers(values: tuple[str, ...], place: str) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error


def _codes(values: list[str] | tuple[str, ...], codes: dict[str, int], place: str) -> np.ndarray:
    try:
        return np.array([codes[value] for value in values], dtype=np.int64)
    except KeyError as error:
        raise DataError(f"{place}: {error} is none of {', '.join(codes)}") from error
