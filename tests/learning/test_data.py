"""The containers: a data set as a model sees it, and the shards of its clients."""

import numpy as np
import pytest
import torch

from fedsieve.learning.data import Dataset, Forged, Shards

GENERATOR = torch.Generator().manual_seed(5)
IMAGES = torch.randint(256, (8, 3, 4, 4), dtype=torch.uint8, generator=GENERATOR)
LABELS = torch.arange(8) % 4


def images(**options):
    return Dataset("d", IMAGES, LABELS, IMAGES[:2], LABELS[:2], classes=4, **options)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.3, 0.2), ((0.1, 0.2, 0.3), (1.0, 2, 3))])
def test_normalise_is_the_textbook_formula(mean, std):
    dataset = images(mean=mean, std=std)
    x = dataset.normalise(dataset.x)
    column = (1, 3, 1, 1)
    expected = IMAGES.double() / 255
    expected = expected - torch.tensor(mean).double().expand(3).reshape(column)
    expected = expected / torch.tensor(std).double().expand(3).reshape(column)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-6)


def test_float_records_are_not_divided_by_255():
    x = torch.linspace(0, 1, 8).reshape(4, 2)
    y = torch.zeros(4)
    dataset = Dataset("d", x, y, x, y, classes=0, mean=0.5, std=0.25)
    torch.testing.assert_close(dataset.normalise(x), (x - 0.5) / 0.25)
    assert (dataset.task, dataset.input_shape) == ("regression", (2,))


def test_stored_records_stay_as_they_are():
    before = IMAGES.clone()
    dataset = images(mean=0.5, std=0.5)
    dataset.normalise(dataset.x)
    assert torch.equal(dataset.x, before)


def test_tokens_are_left_alone():
    x = torch.arange(12).reshape(4, 3)
    dataset = Dataset("d", x, LABELS[:4], x, LABELS[:4], classes=4, mean=0.5, std=0.5)
    assert dataset.normalise(x) is x


def test_moving_keeps_everything_else():
    dataset = images(mean=0.5, owners=torch.arange(8), source="here", features=("a",))
    moved = dataset.to("cpu")
    assert torch.equal(moved.x, dataset.x)
    assert (moved.mean, moved.source, moved.features) == (0.5, "here", ("a",))


def test_gather_takes_what_the_clients_have_put_in_place_of_their_records():
    parts = (np.array([0, 2, 4]), np.array([1, 7]))
    places, y, x = np.array([0, 4, 5]), torch.tensor([3, 2, 1]), 255 - IMAGES[[0, 4, 5]]
    for forged in (None, Forged(places, y), Forged(places, y, x)):
        shards = Shards(images(), parts, forged)
        assert (shards.n, shards.size(0), shards.size(1)) == (2, 3, 2)
        batch = shards.gather(np.array([4, 0, 7]), (2, 1))
        labels, pixels = LABELS.clone(), IMAGES.clone()
        if forged is not None:
            labels[places] = y
            pixels[places] = pixels[places] if forged.x is None else x
        assert batch.y.tolist() == labels[[4, 0, 7]].tolist()
        assert batch.counts == (2, 1)
        assert batch.records.tolist() == [4, 0, 7]
        assert torch.equal(batch.x, shards.dataset.normalise(pixels[[4, 0, 7]]))
        true = shards.honest.gather(np.array([4, 0, 7]), (2, 1))
        assert true.y.tolist() == LABELS[[4, 0, 7]].tolist()
        assert torch.equal(true.x, shards.dataset.normalise(IMAGES[[4, 0, 7]]))
        assert len(shards.gather(np.array([], dtype=np.int64), (0,)).y) == 0


def test_an_empty_batch_is_a_batch():
    batch = Shards(images(), (np.arange(8),)).gather(np.array([], dtype=np.int64), (0,))
    assert batch.x.shape == (0, 3, 4, 4)
    assert batch.y.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": IMAGES.double()}, r"train records have dtype torch\.float64; allowed are uint8"),
        ({"y": LABELS[:3]}, "train has 8 records and 3 labels"),
        ({"y": LABELS.int()}, r"train labels have dtype torch\.int32 .* must be torch\.int64"),
        ({"y": LABELS.reshape(8, 1)}, r"shape \(8, 1\)"),
        ({"classes": 3}, r"train labels lie in \[0, 3\], outside 0\.\.2"),
        ({"classes": 0}, r"with classes=0 they must be torch\.float32"),
        ({"x_test": IMAGES[:2, :1]}, r"a test record \(1, 4, 4\)"),
        ({"owners": torch.arange(3)}, "3 owners for 8 records"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"x": IMAGES, "y": LABELS, "x_test": IMAGES[:2], "y_test": LABELS[:2], "classes": 4}
    with pytest.raises(ValueError, match=message):
        Dataset("d", **(arguments | change))
