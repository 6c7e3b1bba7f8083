"""The published sets, as far as their files are on this machine; the embedded subset always."""

import hashlib
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsieve import registry
from fedsieve.learning.data import Shards
from fedsieve.learning.datasets import (
    DataError,
    adult,
    cifar10,
    fashion_mnist,
    load,
    shakespeare,
    sources,
    verify,
)
from fedsieve.learning.datasets._files import DataFile
from fedsieve.registry import UnknownComponentError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _clean_places(monkeypatch, tmp_path):
    monkeypatch.delenv("FEDSIEVE_DATA", raising=False)
    monkeypatch.setenv("FEDSIEVE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def canonical():
    """Directory with the published files."""
    directory = REPOSITORY.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"the published files are not in {directory}")
    return directory


def test_every_promised_set_is_registered():
    names = {c.name for c in registry.components("dataset")}
    promised = "fashion-mnist mnist cifar-10 adult shakespeare digits diabetes folder"
    assert names >= set(promised.split())
    assert all(c.summary for c in registry.components("dataset"))


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownComponentError, match="did you mean 'fashion-mnist'"):
        load("fashion-mnits")


def test_directory_for_a_set_without_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="digits is read from no directory"):
        load("digits", tmp_path)


def test_embedded_subset():
    dataset = load("fashion-mnist-subset")
    assert dataset.x.shape == (10_000, 1, 28, 28)
    assert dataset.x.dtype == torch.uint8
    assert torch.bincount(dataset.y).tolist() == [1000] * 10
    assert torch.bincount(dataset.y_test).tolist() == [200] * 10
    assert "10,000 training and 2,000 test examples from the subset" in dataset.source
    assert "Zalando" in dataset.licence
    x = dataset.normalise(dataset.x)
    # The constants are those of the full set; a mean over 7.84 million pixels of 10,000 images.
    assert abs(float(x.mean())) < 0.01
    assert abs(float(x.std()) - 1) < 0.01


def test_embedded_files_are_small_licensed_and_of_known_parents():
    files = list(fashion_mnist.EMBEDDED.iterdir())
    assert sum(path.stat().st_size for path in files) < 5_000_000
    assert "MIT" in (fashion_mnist.EMBEDDED / "LICENSE").read_text()
    provenance = json.loads((fashion_mnist.EMBEDDED / "PROVENANCE.json").read_text())
    for key, pinned in (
        ("parents_sha256", fashion_mnist.FILES),
        ("children_sha256", fashion_mnist.SUBSET),
    ):
        assert provenance[key] == {f.name: f.checksum.split(":")[1] for f in pinned.files}


def test_embedded_subset_is_listed_and_verified():
    (place,) = sources("fashion-mnist-subset")
    assert (place.kind, place.state) == ("package", "complete")
    assert list(verify("fashion-mnist-subset").values()) == [
        file.checksum.split(":")[1] for file in fashion_mnist.SUBSET.files
    ]


def test_damaged_embedded_subset_is_refused(tmp_path, monkeypatch):
    for path in fashion_mnist.EMBEDDED.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:900])
    monkeypatch.setattr(fashion_mnist, "SUBSET", replace(fashion_mnist.SUBSET, carried=tmp_path))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.xz is truncated"):
        load("fashion-mnist-subset")


def test_fallback_to_the_subset_says_so(monkeypatch):
    monkeypatch.setattr(fashion_mnist, "FILES", replace(fashion_mnist.FILES, system=()))
    dataset = load("fashion-mnist")
    assert dataset.name == "fashion-mnist"
    assert len(dataset.y) == 10_000
    assert "embedded subset because the full set is not on this machine" in dataset.source
    assert "fedsieve data fetch fashion-mnist" in dataset.source


def test_no_fallback_from_a_given_directory(tmp_path):
    with pytest.raises(DataError, match="does not hold the set") as refused:
        load("fashion-mnist", tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "t10k-labels-idx1-ubyte" in str(refused.value)


def test_system_package():
    folder = fashion_mnist.FILES.system[0]
    if not folder.is_dir():
        pytest.skip(f"{folder}: the Debian package dataset-fashion-mnist is not installed")
    dataset = load("fashion-mnist")
    assert len(dataset.y) == 60_000
    assert f"system package ({folder})" in dataset.source


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_full_image_sets(canonical, name):
    dataset = load(name, canonical)
    assert dataset.x.shape == (60_000, 1, 28, 28)
    assert dataset.x_test.shape == (10_000, 1, 28, 28)
    pixels = dataset.x.numpy()
    counts = np.bincount(pixels.reshape(-1), minlength=256) / pixels.size
    mean = counts @ np.arange(256) / 255
    std = np.sqrt(counts @ (np.arange(256) / 255) ** 2 - mean**2)
    assert dataset.mean == pytest.approx(mean, abs=6e-6)  # declared to five decimals
    assert dataset.std == pytest.approx(std, abs=6e-6)
    assert f"data directory ({canonical / name})" in dataset.source


def test_subset_is_the_first_of_every_class(canonical):
    full, subset = load("fashion-mnist", canonical), load("fashion-mnist-subset")
    for label in range(10):
        parent = full.x[full.y == label][:1000]
        assert torch.equal(subset.x[subset.y == label], parent)
        parent = full.x_test[full.y_test == label][:200]
        assert torch.equal(subset.x_test[subset.y_test == label], parent)


def test_verify_reports_what_sha256sum_of_the_content_says(canonical):
    verified = verify("shakespeare", canonical)
    path = canonical / "tiny-shakespeare" / "input.txt"
    assert verified == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    assert [s.state for s in sources("shakespeare", canonical)] == ["absent", "complete", "absent"]


def test_mnist_is_not_fashion_mnist(canonical):
    with pytest.raises(DataError, match="expected sha256 c59f468a"):
        load("fashion-mnist", canonical / "mnist")


def test_adult(canonical):
    dataset = load("adult", canonical)
    assert dataset.x.shape == (32_561, 108)
    assert dataset.x_test.shape == (16_281, 108)
    assert len(dataset.features) == len(set(dataset.features)) == 108
    x = dataset.x.double()
    assert float(x[:, :6].mean(0).abs().max()) < 1e-5
    assert float((x[:, :6].std(0, correction=0) - 1).abs().max()) < 1e-5
    # Each of the eight categories is one-hot in every record.
    assert set(x[:, 6:].unique().tolist()) == {0.0, 1.0}
    assert bool((dataset.x_test[:, 6:].sum(1) == 8).all())
    female = dataset.features.index("sex=Female")
    assert float(x[:, female].mean()) == pytest.approx(0.331, abs=5e-4)
    assert float(dataset.y.double().mean()) == pytest.approx(0.241, abs=5e-4)
    assert float(dataset.y_test.double().mean()) == pytest.approx(0.236, abs=5e-4)
    missing = [i for i, name in enumerate(dataset.features) if name.endswith("=?")]
    assert int(dataset.x[:, missing].any(1).sum()) == 2_399
    assert int(dataset.x_test[:, missing].any(1).sum()) == 1_221


RECORD = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, "
    "2174, 0, 40, United-States, <=50K"
)


def test_adult_record_by_hand():
    x, y = adult.parse(RECORD + "\n" + RECORD.replace("<=", ">") + ".\n", "file")
    named = dict(zip(adult.FEATURES, x[0].tolist(), strict=True))
    assert named["age"] == pytest.approx((39 - 38.58164675532078) / 13.640223092304277)
    hot = [name for name, value in named.items() if value == 1.0]
    assert hot == [
        "workclass=State-gov",
        "education=Bachelors",
        "marital-status=Never-married",
        "occupation=Adm-clerical",
        "relationship=Not-in-family",
        "race=White",
        "sex=Male",
        "native-country=United-States",
    ]
    assert y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (RECORD + ", 1", "line 2: 16 fields"),
        (RECORD.replace("White", "Purple"), "race: 'Purple' is none of Amer-Indian"),
        (RECORD.replace("39", "old"), "age: could not convert"),
        (RECORD.replace("<=50K", "rich"), "income: 'rich'"),
    ],
)
def test_strange_adult_records_are_refused(line, message):
    with pytest.raises(DataError, match=message):
        adult.parse(RECORD + "\n" + line + "\n", "file")


def test_shakespeare(canonical):
    text = (canonical / "tiny-shakespeare" / "input.txt").read_text()
    assert "".join(sorted(set(text))) == shakespeare.ALPHABET
    everybody = shakespeare.speakers(text)
    assert len(everybody) == 309
    lengths = np.array([len(speech) for speech in everybody.values()])
    assert ((lengths >= 1000).sum(), (lengths >= 2000).sum()) == (141, 99)

    dataset = load("shakespeare", canonical)
    assert dataset.x.shape == (109_352, 32)
    assert dataset.x_test.shape == (11_694, 32)
    assert dataset.classes == 65
    assert torch.unique(dataset.owners).tolist() == list(range(141))
    # The first speaker's first windows, read off the text.
    said = shakespeare.speakers(text, 1000)["First Citizen"]
    for window in range(3):
        start = window * shakespeare.STRIDE
        chars = [shakespeare.ALPHABET[token] for token in dataset.x[window].tolist()]
        assert "".join(chars) == said[start : start + 32]
        assert shakespeare.ALPHABET[dataset.y[window]] == said[start + 32]


def test_shakespeare_windows_stay_inside_one_text():
    texts = ["a" * 40, "b" * 33, "c" * 32]
    x, y, owners = shakespeare.windows(texts)
    assert x.shape == (2, 32)  # 40 characters hold one window, 33 too, 32 none
    assert [set(row) for row in x.tolist()] == [{label} for label in y.tolist()]
    assert owners.tolist() == [0, 1]


def test_shakespeare_test_part_is_the_last_tenth_of_each_speaker(tmp_path, monkeypatch):
    speech = "".join(shakespeare.ALPHABET[13 + i % 52] for i in range(2000))
    text = f"A:\n{speech}\n\nB:\ntoo short\n"
    (tmp_path / "input.txt").write_text(text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    small = replace(
        shakespeare.FILES, files=(DataFile("input.txt", len(text), f"sha256:{sha256}"),)
    )
    monkeypatch.setattr(shakespeare, "FILES", small)
    dataset = load("shakespeare", tmp_path)
    assert len(dataset.y) == (1800 - 33) // 8 + 1
    assert len(dataset.y_test) == (200 - 33) // 8 + 1
    first = [shakespeare.ALPHABET[token] for token in dataset.x_test[0].tolist()]
    assert "".join(first) == speech[1800:1832]


def test_cifar10_layout(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    records = rng.integers(256, size=(6, 4, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    files = []
    for file, content in zip(cifar10.FILES.files, records, strict=True):
        (tmp_path / file.name).write_bytes(content.tobytes())
        md5 = hashlib.md5(content.tobytes(), usedforsecurity=False).hexdigest()
        files.append(DataFile(file.name, content.size, f"md5:{md5}"))
    monkeypatch.setattr(cifar10, "FILES", replace(cifar10.FILES, files=tuple(files)))
    with warnings.catch_warnings(action="error"):
        dataset = load("cifar-10", tmp_path)
    assert dataset.x.shape == (20, 3, 32, 32)
    assert dataset.y.tolist() == records[:5, :, 0].reshape(-1).tolist()
    assert dataset.x_test[3, 2, 1, 4] == records[5, 3, 1 + 2 * 1024 + 1 * 32 + 4]
    assert dataset.x[7, 1, 31, 0] == records[1, 3, 1 + 1024 + 31 * 32]
    x = dataset.normalise(dataset.x[:2])
    expected = (float(dataset.x[1, 2, 0, 0]) / 255 - cifar10.MEAN[2]) / cifar10.STD[2]
    assert float(x[1, 2, 0, 0]) == pytest.approx(expected, rel=1e-5)


def test_cifar10_pins():
    assert all(file.size == 30_730_000 for file in cifar10.FILES.files)
    assert [file.checksum[4:12] for file in cifar10.FILES.files] == [
        "5dd7e06a",
        "5ea93a67",
        "942cd6a4",
        "ae636b3b",
        "53f37980",
        "803d5f7f",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(3072), "3072 bytes are no multiple of 3073"),
        (b"", "0 bytes"),
        (bytes(3073) + b"\x0a" + bytes(3072), "label 10 at offset 3073"),
    ],
)
def test_strange_cifar10_records_are_refused(content, message):
    with pytest.raises(DataError, match=message):
        cifar10.parse(bytearray(content), "data_batch_1.bin")


def test_digits():
    pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
    dataset = load("digits")
    assert dataset.x.shape == (1438, 1, 8, 8)
    assert dataset.x_test.shape == (359, 1, 8, 8)
    x = dataset.normalise(dataset.x)
    assert abs(float(x.mean())) < 1e-4
    assert abs(float(x.std()) - 1) < 1e-4


def test_diabetes_is_a_standardised_regression():
    pytest.importorskip("sklearn", reason="scikit-learn carries the diabetes data")
    dataset = load("diabetes")
    assert (dataset.task, dataset.x.shape, dataset.x_test.shape) == (
        "regression",
        (354, 10),
        (88, 10),
    )
    for values in (dataset.x, dataset.y[:, None]):  # constants of five digits
        assert float(values.mean(0).abs().max()) < 1e-3
        assert float((values.std(0, correction=0) - 1).abs().max()) < 1e-3
    # Least squares must beat the mean clearly: the published fit explains half of the variance.
    fit = torch.linalg.lstsq(dataset.x, dataset.y).solution
    error = (dataset.x_test @ fit - dataset.y_test).square().mean() / dataset.y_test.var()
    assert 0.4 < float(error) < 0.7


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_missing_scikit_learn_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=f"{name} comes with scikit-learn.*pip install"):
        load(name)


def test_changed_scikit_learn_copy_is_refused():
    from fedsieve.learning.datasets._sklearn import pinned

    array = np.arange(4.0)
    sha256 = hashlib.sha256(array.tobytes()).hexdigest()
    assert pinned("set", array, sha256) is array
    with pytest.raises(DataError, match=f"expected sha256 {sha256}, found"):
        pinned("set", array + 1, sha256)


def test_shards_hand_out_normalised_records():
    dataset = load("fashion-mnist-subset")
    shards = Shards(dataset, (np.array([3, 5]), np.array([0])))
    batch = shards.gather(np.array([3, 5, 0]), (2, 1))
    assert batch.y.tolist() == dataset.y[[3, 5, 0]].tolist()
    expected = (dataset.x[5].double() / 255 - fashion_mnist.MEAN) / fashion_mnist.STD
    assert torch.allclose(batch.x[1].double(), expected, atol=1e-6)
