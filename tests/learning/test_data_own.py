"""Arrays and folders of a user."""

import hashlib

import numpy as np
import pytest
import torch

from fedsieve.learning.data import Dataset
from fedsieve.learning.datasets import DataError, folder, from_arrays, load

rng = np.random.default_rng(11)
IMAGES = rng.integers(256, size=(6, 1, 4, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.uint8, torch.uint8),
        (np.int32, torch.int64),
        (np.float64, torch.float32),
        (np.float16, torch.float32),
    ],
)
def test_records_keep_their_kind(given, kept):
    x = IMAGES.astype(given)
    dataset = from_arrays(x, LABELS, x[:2], LABELS[:2], owners=[0, 0, 1, 1, 2, 2])
    assert dataset.x.dtype == kept
    assert np.array_equal(dataset.x.numpy(), x)
    assert dataset.y.dtype == torch.int64
    assert (dataset.classes, dataset.owners.tolist()) == (3, [0, 0, 1, 1, 2, 2])
    assert dataset.checksums["x"] == hashlib.sha256(dataset.x.numpy().tobytes()).hexdigest()
    assert "6 training and 2 test examples from arrays of the caller" in dataset.source


def test_tensors_and_read_only_arrays_are_taken():
    x = IMAGES.copy()
    x.setflags(write=False)
    dataset = from_arrays(x, torch.from_numpy(LABELS), torch.from_numpy(IMAGES), LABELS)
    assert torch.equal(dataset.x, dataset.x_test)


@pytest.mark.parametrize(
    ("y", "classes", "task"),
    [
        (LABELS, None, "classification"),
        (LABELS.astype(np.float64), None, "regression"),
        (LABELS, 0, "regression"),
        (LABELS > 0, None, "classification"),
    ],
)
def test_the_labels_decide_the_task(y, classes, task):
    assert from_arrays(IMAGES, y, IMAGES, y, classes=classes).task == task


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": IMAGES[:4]}, "own: train has 4 records and 6 labels"),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "train has 0 records"),
        ({"x_test": IMAGES[:, :, 1:]}, r"train record has shape \(1, 4, 4\), a test record"),
        ({"x": np.where(IMAGES[2, 0, 1, 3] == IMAGES, np.nan, IMAGES)}, r"x\[.*\]=nan must be"),
        ({"x": IMAGES.astype(complex)}, "x has dtype complex128; allowed are"),
        ({"x": np.array([None] * 6)}, "x has dtype object"),
        ({"y": LABELS.astype(str)}, "y has dtype <U"),
        ({"y": LABELS[:, None]}, r"y has shape \(6, 1\)"),
        ({"y": LABELS - 1}, r"train labels lie in \[-1, 1\], outside 0..2"),
        ({"y": LABELS / 0.5 + np.inf}, "y.*must be finite"),
        ({"classes": 2}, r"labels lie in \[0, 2\], outside 0..1"),
        ({"y_test": LABELS.astype(float)}, "test labels have dtype torch.float32"),
        ({"owners": [0, 1]}, "2 owners for 6 records"),
        ({"std": 0.0}, r"std=0.0 must be > 0"),
        ({"std": np.inf}, r"std=inf must be > 0 and finite"),
        ({"mean": np.nan}, r"mean=nan must be finite"),
        ({"mean": (0.1, 0.2)}, r"mean=\(0.1, 0.2\): .* records of shape \(1, 4, 4\)"),
        ({"classes": -3}, r"classes=-3 must be >= 0"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"x": IMAGES, "y": LABELS, "x_test": IMAGES, "y_test": LABELS} | change
    with pytest.raises(ValueError, match=message):
        from_arrays(**arguments)


@pytest.fixture
def clients(tmp_path):
    directory = tmp_path / "hospitals"
    directory.mkdir()
    for name, part in (("b", [0, 1, 2, 3]), ("a", [4, 5]), ("test", [0, 5])):
        np.savez(directory / f"{name}.npz", x=IMAGES[part], y=LABELS[part])
    return directory


def test_folder_gives_one_owner_per_file(clients):
    dataset = load("folder", clients)
    assert dataset.name == "hospitals"
    assert dataset.owners.tolist() == [0, 0, 1, 1, 1, 1]  # a before b
    assert np.array_equal(dataset.x.numpy(), IMAGES[[4, 5, 0, 1, 2, 3]])
    assert dataset.y_test.tolist() == [0, 2]
    assert f"2 files in {clients}" in dataset.source
    assert folder(clients, mean=0.5).mean == 0.5


def test_folder_must_be_given():
    with pytest.raises(DataError, match="data_dir is required"):
        load("folder")


@pytest.mark.parametrize("missing", ["test", "a"])
def test_folder_without_clients_or_test_is_refused(clients, missing):
    (clients / f"{missing}.npz").unlink()
    if missing == "a":
        (clients / "b.npz").unlink()
    with pytest.raises(DataError, match=r"must hold test.npz and at least one more"):
        folder(clients)


def write_single(path):
    with path.open("wb") as stream:
        np.save(stream, IMAGES)


def write_pickled(path):
    np.savez(path, x=np.array([{}, {}], dtype=object), y=LABELS[:2])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_pickled, r"a.npz is no readable .npz file of plain arrays"),
        (lambda path: path.write_bytes(b"PK nothing"), "a.npz is no readable"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "a.npz is no readable"),
        (write_single, "a.npz is no readable"),
        (lambda path: np.savez(path, x=IMAGES), "a.npz: expected the arrays x and y"),
        (lambda path: np.savez(path, x=IMAGES[:3], y=LABELS), "a.npz: x is uint8 .* 6 labels"),
        (lambda path: np.savez(path, x=3, y=LABELS), r"a.npz: x has shape \(\) and y \(6,\)"),
    ],
    ids=["pickled", "garbage", "cut", "single", "no labels", "lengths", "scalar"],
)
def test_damaged_client_file_is_refused_by_name(clients, write, message):
    write(clients / "a.npz")
    with pytest.raises(DataError, match=message):
        folder(clients)


def test_client_files_must_agree(clients):
    np.savez(clients / "b.npz", x=IMAGES[:2].astype(np.float32), y=LABELS[:2])
    with pytest.raises(DataError, match=r"b.npz: x is float32 .* a.npz has records uint8"):
        folder(clients)


def test_dataset_refuses_other_types():
    x, y = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"train records have dtype torch\.float64"):
        Dataset("d", x, y, x, y, classes=2)


def test_labels_that_count_no_classes_are_refused():
    x = np.zeros((3, 2), np.float32)
    told = (
        r"y\[1\]=1099511627776: .* 1099511627777 classes for 4 records; allowed are labels 0\.\.3"
    )
    with pytest.raises(ValueError, match=told):
        from_arrays(x, [0, 2**40, 1], x[:1], [0])
    with pytest.raises(ValueError, match=r"y_test\[0\]=4: "):
        from_arrays(x, [0, 1, 2], x[:1], [4])
    assert from_arrays(x, [0, 3, 1], x[:1], [0]).classes == 4
    with pytest.raises(ValueError, match="0 records"):
        from_arrays(x[:0], np.zeros(0, int), x[:0], np.zeros(0, int))
    assert from_arrays(x, [0, 9, 1], x[:1], [0], classes=10).classes == 10
    assert from_arrays(x, [0, 2**40, 1], x[:1], [0], classes=0).task == "regression"
