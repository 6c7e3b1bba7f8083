"""Partitions divide all records, once; what each promises about classes and sizes is measured."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsieve import registry
from fedsieve.learning.partitions import class_histogram, partition, stratified
from fedsieve.learning.partitions._shares import apportion, dirichlet_rows
from fedsieve.registry import UnknownComponentError

NAMES = ("iid", "dirichlet", "shards", "gamma", "extreme", "natural")
BALANCED = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 600))


def generator(seed=7):
    return np.random.default_rng(seed)


def fingerprint(parts):
    """sha256 of the sizes and positions, on every platform the same bytes."""
    numbers = np.concatenate([[len(part) for part in parts], *parts]).astype("<i8")
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def assert_divides(parts, n_records, n_clients, minimum=1):
    assert len(parts) == n_clients
    assert all(part.dtype == np.int64 for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)  # sorted, no repetition
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n_records))
    assert min(len(part) for part in parts) >= minimum


def test_every_promised_partition_is_registered():
    assert {c.name for c in registry.components("partition")} == set(NAMES)
    assert all(c.summary for c in registry.components("partition"))
    with pytest.raises(UnknownComponentError, match="did you mean 'shards'"):
        partition("shard", BALANCED, 2, generator())


@given(
    name=st.sampled_from(NAMES),
    sizes=st.sampled_from(["equal", "dirichlet"]),
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    n_clients=st.integers(1, 8),
    alpha=st.sampled_from([1e-4, 0.1, 1.0, 100.0]),
    gamma=st.floats(0, 1),
    classes_per_client=st.integers(1, 6),
    minimum=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_every_partition_is_disjoint_and_covering(
    name, sizes, counts, n_clients, alpha, gamma, classes_per_client, minimum, seed
):
    labels = generator(seed).permutation(np.repeat(np.arange(len(counts)) * 3, counts))
    options = {
        "owners": np.arange(len(labels)) % 9,
        "alpha": alpha,
        "gamma": gamma,
        "classes_per_client": classes_per_client,
        "sizes": "equal" if name == "natural" else sizes,
        "size_alpha": alpha,
        "minimum": minimum,
    }
    try:
        parts = partition(name, labels, n_clients, generator(seed), **options)
    except ValueError:
        # Only these three can be impossible, and no partition may refuse an easy case.
        assert name in ("shards", "natural") or n_clients * minimum > len(labels)
        assert min(counts) < 3 * n_clients or classes_per_client > 1 or n_clients < len(counts)
        return
    assert_divides(parts, len(labels), n_clients, minimum)
    again = partition(name, labels, n_clients, generator(seed), **options)
    assert fingerprint(parts) == fingerprint(again)


PINNED = {
    "iid": "f1991598c2689fef415308e91be515a5f421b91ad9e0b7635b46cf282c6eea5e",
    "dirichlet": "17309d810fb54050450a9cc0cae628795ba840d049f9b61bc5c08a87be6712a0",
    "shards": "46e8710e916a45b9100aa7a3581ece295cccfe7bdf437a77db72d334d939b8d1",
    "gamma": "efb6cce4225680ed551788bb9bb45c211fe8bcad4deba99a832d63c271e60d5d",
    "extreme": "8b5e9f54c9851323f199088301890a2e89fbd044caadc2928d916ea04e7c6fde",
    "natural": "7102032b7fee9f02876b2ac538245780ecbf6732413a4a4475c9321a6b2bff30",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_partition_everywhere(name):
    labels = np.arange(1000) * 7 % 10
    owners = np.arange(1000) * 11 % 37
    parts = partition(name, labels, 12, generator(), owners=owners)
    assert fingerprint(parts) == PINNED[name]
    other = partition(name, labels, 12, generator(8), owners=owners)
    assert fingerprint(other) != PINNED[name]


def test_tensors_and_lists_are_taken():
    parts = partition("shards", BALANCED, 10, generator())
    for labels in (torch.from_numpy(BALANCED), BALANCED.tolist()):
        assert fingerprint(partition("shards", labels, 10, generator())) == fingerprint(parts)


@pytest.mark.parametrize("name", ["iid", "dirichlet", "gamma", "extreme"])
def test_equal_sizes_differ_by_at_most_one(name):
    sizes = [len(part) for part in partition(name, BALANCED, 7, generator())]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("name", ["iid", "dirichlet", "gamma", "extreme"])
def test_dirichlet_sizes_have_the_variance_of_the_draw(name):
    n, alpha, repetitions = 5, 2.0, 400
    shares = [
        [
            len(part) / 600
            for part in partition(
                name, BALANCED[:600], n, generator(seed), sizes="dirichlet", size_alpha=alpha
            )
        ]
        for seed in range(repetitions)
    ]
    expected = (1 / n) * (1 - 1 / n) / (n * alpha + 1)  # variance of a Dirichlet coordinate
    squares = np.square(np.array(shares) - 1 / n)
    error = 5 * squares.mean(1).std() / np.sqrt(repetitions)  # coordinates of a draw depend
    assert squares.mean() == pytest.approx(expected, abs=error)
    assert error < expected / 4


def test_iid_classes_are_hypergeometric():
    """Pearson's statistic of one client's class counts has mean C - 1 and variance 2 (C - 1)."""
    n, repetitions = 10, 300
    expected = len(BALANCED) / n / 10
    correction = 1 - 1 / n  # drawn without replacement
    statistics = [
        ((class_histogram(BALANCED, parts, 10)[0] - expected) ** 2).sum() / expected / correction
        for parts in (partition("iid", BALANCED, n, generator(s)) for s in range(repetitions))
    ]
    assert np.mean(statistics) == pytest.approx(9, abs=5 * np.sqrt(18 / repetitions))


@pytest.mark.parametrize(
    ("n", "alpha", "sizes", "lowest", "highest"),
    [
        (10, 0.1, "equal", 0.65, 0.65),  # few clients with given sizes: as the docstring says
        (100, 0.1, "equal", 0.86, 0.86),
        (100, 5.0, "equal", 1.0, 1.05),  # of 60 records, whose rounding adds a little
        (10, 0.3, "by-class", 1.0, 1.0),  # its columns are free draws
        (10, 5.0, "by-class", 1.0, 1.0),
    ],
)
def test_dirichlet_mixes_have_the_declared_variance(n, alpha, sizes, lowest, highest):
    """One coordinate of Dir(alpha, ..., alpha) in m of them: (1/m)(1 - 1/m) / (m alpha + 1)."""
    repetitions = 60
    squares = np.empty(repetitions)
    for seed in range(repetitions):
        parts = partition("dirichlet", BALANCED, n, generator(seed), alpha=alpha, sizes=sizes)
        table = class_histogram(BALANCED, parts, 10).astype(float)
        mixes = table / table.sum(0 if sizes == "by-class" else 1, keepdims=True)
        squares[seed] = np.square(mixes - 0.1).mean()
    expected = 0.1 * 0.9 / (10 * alpha + 1)
    error = 5 * squares.std() / np.sqrt(repetitions)
    assert lowest * expected - error < squares.mean() < highest * expected + error
    assert error < 0.15 * expected


def test_dirichlet_follows_unbalanced_classes():
    labels = np.repeat([0, 1], [5400, 600])
    parts = partition("dirichlet", labels, 10, generator(), alpha=1e4)
    table = class_histogram(labels, parts, 2)
    assert np.abs(table - [540, 60]).max() <= 6  # concentration 20,000: deviation about 0.2 %


def test_shards_give_exactly_c_classes_and_equal_sizes():
    for c in (1, 2, 3, 10):
        parts = partition("shards", BALANCED, 20, generator(), classes_per_client=c)
        table = class_histogram(BALANCED, parts, 10)
        assert ((table > 0).sum(1) == c).all()
        assert table.sum(1).max() - table.sum(1).min() <= c
        assert_divides(parts, len(BALANCED), 20)


def test_shards_of_unbalanced_classes_follow_the_counts():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    table = class_histogram(labels, partition("shards", labels, 10, generator()), 3)
    assert ((table > 0).sum(1) == 2).all()
    assert (table > 0).sum(0)[0] == 10  # the large class is cut into the most shards


def test_shards_refuse_a_minimum_that_small_classes_cannot_give():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    with pytest.raises(ValueError, match="minimum=50: a client would have 10 records"):
        partition("shards", labels, 10, generator(), classes_per_client=1, minimum=50)


def test_shards_pair_classes_at_random():
    pairs = {
        tuple(np.flatnonzero(row))
        for seed in range(20)
        for row in class_histogram(BALANCED, partition("shards", BALANCED, 10, generator(seed)), 10)
    }
    assert len(pairs) > 40  # of 45


def test_gamma_between_extreme_and_iid():
    skews = []
    for gamma in (0.0, 0.5, 1.0):
        parts = partition("gamma", BALANCED, 10, generator(), gamma=gamma)
        table = class_histogram(BALANCED, parts, 10)
        own = np.diag(table).mean() / 600
        skews.append(own)
    # The sorted part of client i is class i but for chance; of the random part it is a tenth.
    assert skews[0] == 1.0
    assert skews[1] == pytest.approx(0.5 + 0.05, abs=0.05)
    assert skews[2] == pytest.approx(0.1, abs=0.02)


def test_gamma_zero_is_extreme():
    parts = partition("gamma", BALANCED, 7, generator(), gamma=0.0)
    assert fingerprint(parts) == fingerprint(partition("extreme", BALANCED, 7, generator()))


def test_extreme_gives_one_class_each():
    table = class_histogram(BALANCED, partition("extreme", BALANCED, 20, generator()), 10)
    assert ((table > 0).sum(1) == 1).all()


def test_regression_targets_are_sorted_by_value():
    targets = generator().normal(size=100).astype(np.float32)
    parts = partition("extreme", targets, 4, generator())
    assert all(targets[a].max() <= targets[b].min() for a, b in itertools.pairwise(parts))
    assert class_histogram(targets, parts, 0).tolist() == [[25]] * 4


@pytest.mark.parametrize("name", ["dirichlet", "shards"])
def test_regression_targets_have_no_classes(name):
    with pytest.raises(ValueError, match=f"partition '{name}' divides classes, the labels are fl"):
        partition(name, np.linspace(0, 1, 50), 4, generator())


OWNERS = np.array([5, 5, 2, 9, 2, 9, 9, 7])


def test_natural_owners_are_the_clients():
    parts = partition("natural", OWNERS * 0, 4, generator(), owners=OWNERS)
    assert [part.tolist() for part in parts] == [[2, 4], [0, 1], [7], [3, 5, 6]]


def test_natural_owners_are_grouped_but_not_divided():
    owners = np.repeat(np.arange(30), 4)
    parts = partition("natural", owners * 0, 7, generator(), owners=owners)
    assert_divides(parts, 120, 7)
    groups = [set(owners[part]) for part in parts]
    assert sum(map(len, groups)) == 30
    assert {len(group) for group in groups} == {4, 5}


@pytest.mark.parametrize(
    ("name", "n_clients", "options", "message"),
    [
        ("iid", 0, {}, "n_clients=0 must be >= 1"),
        ("iid", 6001, {}, "there are 6000; largest legal n_clients is 6000"),
        ("iid", 10, {"minimum": 601}, "n_clients=10 with minimum=601 need 6010 records"),
        ("iid", 10, {"minimum": 0}, "minimum=0 must be >= 1"),
        ("iid", 10, {"sizes": "by-class"}, "sizes='by-class' is not one of"),
        ("iid", 10, {"sizes": "dirichlet", "size_alpha": -1.0}, "size_alpha=-1.0 must be"),
        ("dirichlet", 10, {"alpha": 0.0}, "alpha=0.0 must be a finite number > 0"),
        ("dirichlet", 10, {"alpha": float("nan")}, "alpha=nan must be"),
        ("dirichlet", 10, {"alpha": float("inf")}, "alpha=inf must be"),
        ("dirichlet", 6001, {"sizes": "by-class"}, "n_clients=6001"),
        (
            "dirichlet",
            100,
            {"alpha": 0.01, "sizes": "by-class", "minimum": 5},
            "alpha=0.01 with sizes='by-class': no draw in 1000",
        ),
        ("shards", 10, {"classes_per_client": 11}, r"classes_per_client=11 must lie in 1\.\.10"),
        ("shards", 10, {"classes_per_client": 0}, "classes_per_client=0 must lie"),
        ("shards", 3, {"classes_per_client": 2}, "leaves 4 of 10 .* classes_per_client is 4"),
        ("shards", 6000, {"classes_per_client": 2}, "cuts a class of 600 records into 1200"),
        ("gamma", 10, {"gamma": 1.01}, r"gamma=1.01 must lie in \[0, 1\]"),
        ("gamma", 10, {"gamma": -0.1}, r"gamma=-0.1 must lie in \[0, 1\]"),
        ("gamma", 10, {"gamma": float("nan")}, "gamma=nan"),
        ("natural", 10, {}, "needs owners"),
        ("natural", 10, {"owners": [1, 2]}, "owners has 2 entries for 6000 records"),
        ("natural", 10, {"owners": BALANCED % 3}, "n_clients=10 is more than the 3 natural owners"),
        ("natural", 2, {"owners": BALANCED > 0, "minimum": 700}, "client would have 600 records"),
        ("natural", 2, {"owners": BALANCED, "sizes": "dirichlet"}, "has sizes of its own"),
    ],
)
def test_impossible_settings_quote_name_and_value(name, n_clients, options, message):
    with pytest.raises(ValueError, match=message):
        partition(name, BALANCED, n_clients, generator(), **options)


def test_labels_must_be_flat():
    with pytest.raises(ValueError, match=r"labels has shape \(3, 2\)"):
        partition("iid", np.zeros((3, 2)), 2, generator())


@given(
    total=st.integers(0, 10_000),
    weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(lambda w: sum(w) > 1e-3),
)
def test_shares_are_whole_and_near_their_proportion(total, weights):
    weights = np.array(weights)
    shares = apportion(total, weights)
    assert shares.sum() == total
    assert (np.abs(shares - total * weights / weights.sum()) < 1 + 1e-6).all()


def test_dirichlet_rows_survive_underflow():
    rows = dirichlet_rows(np.full(5, 1e-320), 50, generator())
    assert np.allclose(rows.sum(1), 1)
    assert (rows.max(1) > 0.999).all()


def test_histogram_counts_every_record():
    parts = partition("dirichlet", BALANCED, 6, generator(), alpha=0.1)
    table = class_histogram(torch.from_numpy(BALANCED), parts, 12)
    assert table.shape == (6, 12)
    assert table.sum(0).tolist() == [600] * 10 + [0, 0]
    assert table.sum(1).tolist() == [len(part) for part in parts]


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=80).flatmap(
        lambda y: st.tuples(st.just(y), st.integers(0, len(y)))
    ),
    st.integers(0, 9),
)
def test_a_stratified_draw_has_the_classes_in_proportion(drawn, seed):
    y, size = np.array(drawn[0]), drawn[1]
    taken = stratified(y, size, np.random.default_rng(seed))
    assert len(taken) == len(set(taken.tolist())) == size
    assert (np.diff(taken) > 0).all()
    shares = np.bincount(y[taken], minlength=5) - size * np.bincount(y, minlength=5) / len(y)
    assert np.abs(shares).max() < 1


def test_a_stratified_draw_of_targets_is_a_plain_one():
    taken = stratified(np.linspace(0, 1, 50), 10, np.random.default_rng(0))
    assert len(set(taken.tolist())) == 10
    with pytest.raises(ValueError, match=r"size=51 of 50 records; allowed are 0\.\.50"):
        stratified(np.zeros(50), 51, np.random.default_rng(0))
