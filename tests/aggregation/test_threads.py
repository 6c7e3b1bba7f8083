"""Work that is shared out is the same work."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import _threads
from fedsieve.aggregation._threads import GRAIN, in_threads, summed


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_column_is_worked_on_once(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    seen = np.zeros(GRAIN, int)

    def work(start, stop):
        seen[start:stop] += 1

    in_threads(work, GRAIN, 20)
    assert (seen == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 7, 8, 100])
def test_sums_do_not_depend_on_the_threads(threads, k, monkeypatch):
    values = np.random.default_rng(0).normal(size=(4, k)) * 10.0 ** np.arange(k)
    monkeypatch.setattr(_threads, "STRETCH", 32)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    expected = sum(values[:, i : i + 8].sum(1) for i in range(0, k, 8))
    found = summed(lambda start, stop: values[:, start:stop].sum(1), k, 4)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("share", [in_threads, summed])
def test_an_error_in_a_thread_comes_to_light(share, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def fail(start, stop):
        raise MemoryError(start)

    with pytest.raises(MemoryError):
        share(fail, GRAIN, 20)
