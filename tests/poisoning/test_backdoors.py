"""Backdoors: what they do to records and messages, against slow transcriptions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.aggregation import Mean
from fedsieve.poisoning import (
    DBA,
    Backdoor,
    BadNets,
    ConstrainAndScale,
    EdgeCase,
    Knowledge,
    ModelReplacement,
    Neurotoxin,
    Patch,
    Records,
    Scene,
    SentBackdoor,
    half_life,
)
from fedsieve.poisoning.edge_case import rarity
from fedsieve.poisoning.neurotoxin import smallest
from fedsieve.registry import components

BACKDOORS = {c.name: c for c in components("attack") if issubclass(c.factory, Backdoor)}
SENT = [name for name, c in BACKDOORS.items() if issubclass(c.factory, SentBackdoor)]


def images(n=40, shape=(6, 5), classes=4, seed=0):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(0, 200, (n, *shape)).astype(np.uint8))
    return Records(x, torch.from_numpy(rng.integers(0, classes, n)), classes)


def generators(f):
    return [np.random.default_rng(i) for i in range(f)]


def scene(h=8, f=2, k=20, last=True, seed=0):
    rng = np.random.default_rng(seed)
    honest = torch.from_numpy(rng.normal(0.5, 1, (h, k))).float()
    own = torch.from_numpy(rng.normal(-0.5, 1, (f, k))).float()
    moved = torch.from_numpy(rng.normal(0, 1, k)).float() if last else None
    return Scene(honest, f, Mean(f=f), rng, own=own, last=moved)


def test_the_names_of_the_configuration_exist():
    assert sorted(BACKDOORS) == sorted(
        ["badnets", "dba", "edge-case", "model-replacement", "constrain-and-scale", "neurotoxin"]
    )
    assert sorted(SENT) == ["constrain-and-scale", "model-replacement", "neurotoxin"]


@pytest.mark.parametrize("name", BACKDOORS)
def test_poisons_as_many_records_and_changes_none_of_those_it_is_given(name):
    attack = BACKDOORS[name].build()
    held = [images(seed=1), images(n=7, seed=2), images(n=21, seed=3)]
    before = [(own.x.clone(), own.y.clone()) for own in held]
    false = attack.poison(held, generators(3))
    again = attack.poison(held, generators(3))
    for own, (x, y), new, same in zip(held, before, false, again, strict=True):
        assert torch.equal(own.x, x)
        assert torch.equal(own.y, y)
        assert new.x.shape == x.shape
        assert new.x.dtype == x.dtype
        assert torch.equal(new.x, same.x)
        assert torch.equal(new.y, same.y)
        changed = (new.x != x).flatten(1).any(1) | (new.y != y)
        assert 0 < int(changed.sum()) <= math.ceil(0.5 * len(y))
        assert (new.y[changed] == attack.wanted).all()
    assert len(attack.lures(held[0])) > 0
    assert isinstance(attack.knowledge, Knowledge)


@pytest.mark.parametrize("position", ["top-left", "top-right", "bottom-left", "bottom-right"])
@pytest.mark.parametrize("shape", [(6, 5), (3, 6, 5)])
def test_the_patch_is_where_it_is_said_to_be(position, shape):
    records = images(n=3, shape=shape)
    stamped = Patch(2, position).stamp(records.x, 255)
    for index in np.ndindex(3, *shape):
        row, column = index[-2:]
        rows = (0, 1) if "top" in position else (4, 5)
        columns = (0, 1) if "left" in position else (3, 4)
        inside = row in rows and column in columns
        assert int(stamped[index]) == (255 if inside else int(records.x[index]))


def test_a_patch_in_the_middle():
    stamped = Patch(2, "center").stamp(torch.zeros(1, 6, 6, dtype=torch.uint8), 1)
    assert stamped[0, 2:4, 2:4].sum() == stamped.sum() == 4


def test_badnets():
    own, attack = images(), BadNets(Patch(3), target=2, fraction=0.25)
    (false,) = attack.poison([own], generators(1))
    bright, poisoned = int(own.x.max()), 0
    for i in range(len(own.y)):
        expected = own.x[i].clone()
        expected[3:, 2:] = bright
        if torch.equal(false.x[i], expected) and false.y[i] == 2:
            poisoned += 1
        else:
            assert torch.equal(false.x[i], own.x[i])
            assert false.y[i] == own.y[i]
    assert poisoned == 10
    lures = attack.lures(own)
    assert len(lures) == int((own.y != 2).sum())
    assert (lures[:, 3:, 2:] == bright).all()


@pytest.mark.parametrize("f", [1, 3, 4, 20])
def test_dba_gives_everybody_a_part_and_only_all_have_the_whole(f):
    attack = DBA(Patch(4), target=1, fraction=1.0)
    held = [Records(torch.zeros(5, 6, 6, dtype=torch.uint8), torch.ones(5).long(), 2)] * f
    held = [Records(own.x.index_fill(1, torch.tensor(0), 9), own.y, 2) for own in held]  # bright 9
    false = attack.poison(held, generators(f))
    drawn = [(new.x != own.x)[0] for new, own in zip(false, held, strict=True)]
    parts = min(f, 16)
    assert torch.stack(drawn[:parts]).sum(0).max() == 1  # disjoint
    whole = torch.stack(drawn).any(0)
    assert whole[2:, 2:].all()
    assert whole.sum() == 16
    for client in range(f):
        assert torch.equal(drawn[client], drawn[client % parts])
    if f == 4:  # the paper's bars
        assert [int(d.any(1).nonzero()) for d in drawn] == [2, 3, 4, 5]
    test = Records(held[0].x, torch.zeros(5).long(), 2)
    assert ((attack.lures(test) != test.x)[0] == whole).all()


def test_edge_cases_are_the_tail_of_their_class():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype(np.float32)
    y = rng.integers(0, 2, 200)
    odd = np.flatnonzero(y == 1)[:4]
    x[odd] += 12 * rng.choice([-1, 1], (4, 6)).astype(np.float32)
    held = [Records(torch.from_numpy(x[:120]), torch.from_numpy(y[:120]), 3)]
    held.append(Records(torch.from_numpy(x[120:]), torch.from_numpy(y[120:]), 3))
    attack = EdgeCase(target=2, source=1, tail=4 / int((y == 1).sum()), fraction=0.2)
    false = attack.poison(held, generators(2))
    tail = {tuple(row) for row in x[odd].tolist()}
    for new, size in zip(false, (24, 16), strict=True):
        assert int((new.y == 2).sum()) == size
        planted = [tuple(row) for row in new.x[new.y == 2].tolist()]
        assert set(planted) == tail
        assert {planted.count(row) for row in tail} <= {size // 4}  # each as often as the others
    lures = attack.lures(Records(torch.from_numpy(x), torch.from_numpy(y), 3))
    assert {tuple(row) for row in lures.tolist()} == tail


@given(st.integers(2, 15), st.integers(1, 15), st.integers(1, 8), st.integers(0, 2**16))
def test_rarity_is_a_mahalanobis_distance(n, features, components, seed):
    X = np.random.default_rng(seed).normal(size=(n, features))
    X[:, 0] = X[0, 0]  # a feature without spread says nothing
    Z = X - X.mean(0)
    std = Z.std(0)
    Z = Z[:, std > 1e-12] / std[std > 1e-12]
    U, S, _ = np.linalg.svd(Z, full_matrices=False)
    kept = np.flatnonzero(1e-10 * max(S**2, default=0) < S**2)[:components]
    expected = np.sqrt(n) * np.linalg.norm(U[:, kept], axis=1)
    np.testing.assert_allclose(rarity(torch.from_numpy(X), components), expected, atol=1e-5)


def test_edge_cases_from_a_file(tmp_path):
    own, file = images(shape=(6, 5)), tmp_path / "edge.npz"
    x = np.full((3, 6, 5), 77, dtype=np.uint8)
    np.savez(file, x=x)
    attack = EdgeCase(target=1, fraction=0.1, file=str(file))
    (false,) = attack.poison([own], generators(1))
    assert int((false.x == 77).flatten(1).all(1).sum()) == 4
    assert (false.y[(false.x == 77).flatten(1).all(1)] == 1).all()
    assert (attack.lures(own) == 77).all()
    np.savez(file, x=x, x_test=x[:2] + 1)
    assert attack.lures(own).tolist() == (x[:2] + 1).tolist()
    np.savez(file, x=x[:, :2])
    with pytest.raises(ValueError, match=r"x is torch.uint8 of shape \(3, 2, 5\); the data set"):
        attack.poison([own], generators(1))
    np.savez(file, pictures=x)
    with pytest.raises(ValueError, match=r"is no \.npz file with an array x"):
        attack.poison([own], generators(1))
    file.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match=r"is no \.npz file with an array x"):
        attack.poison([own], generators(1))
    missing = EdgeCase(file=str(tmp_path / "nothing.npz"))
    with pytest.raises(ValueError, match=r"file='.*nothing.npz' is no .npz file"):
        missing.lures(own)


@pytest.mark.parametrize("name", SENT)
@pytest.mark.parametrize(("h", "f"), [(8, 2), (1, 1), (8, 0)])
@pytest.mark.parametrize("last", [True, False])
def test_crafts_rows_of_the_right_form_and_changes_nothing(name, h, f, last):
    s = scene(h=h, f=f, last=last)
    before = s.honest.clone(), s.own.clone()
    rows = BACKDOORS[name].build().craft(s)
    assert rows.shape == (f, 20)
    assert rows.isfinite().all()
    rows += 1
    assert torch.equal(s.honest, before[0])
    assert torch.equal(s.own, before[1])
    without = Scene(s.honest, f, s.aggregate, s.rng)
    assert BACKDOORS[name].build().craft(without).shape == (f, 20)


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_model_replacement_makes_the_mean_the_attackers_model(eta):
    s = scene(h=8, f=2)
    quiet = torch.zeros_like(s.honest)  # converged: the others' changes are small
    rows = ModelReplacement(server_lr=eta).craft(Scene(quiet, 2, Mean(), s.rng, own=s.own))
    moved = eta * torch.cat([quiet, rows]).mean(0)
    torch.testing.assert_close(moved, s.own.mean(0))
    torch.testing.assert_close(ModelReplacement(boost=7.0).craft(s), 7 * s.own)


def test_constrain_and_scale():
    s = scene(h=7, f=2)
    norms = sorted(float(row.norm()) for row in s.honest)
    for attack, bound, boost in (
        (ConstrainAndScale(), norms[3], 4.5),
        (ConstrainAndScale(norm=2.0), 2.0, 4.5),
        (ConstrainAndScale(norm=2.0, boost=0.1), 2.0, 0.1),
    ):
        for row, x in zip(attack.craft(s), s.own, strict=True):
            gamma = min(boost, bound / math.sqrt(sum(float(v) ** 2 for v in x)))
            torch.testing.assert_close(row, gamma * x)
    assert ConstrainAndScale().knowledge == Knowledge.UPDATES
    assert ConstrainAndScale(norm=1.0).knowledge == Knowledge.NOTHING
    zero = Scene(s.honest, 2, Mean(), s.rng, own=torch.zeros_like(s.own))
    assert ConstrainAndScale().craft(zero).abs().sum() == 0


@given(st.integers(1, 30), st.floats(0.05, 1.0), st.integers(0, 2**16))
def test_neurotoxin_stays_on_the_coordinates_that_move_least(k, ratio, seed):
    s = scene(k=k, seed=seed)
    rows = Neurotoxin(mask_ratio=ratio).craft(s)
    kept = max(1, int(ratio * k))
    order = sorted(range(k), key=lambda j: abs(float(s.last[j])))
    for j in range(k):
        expected = s.own[:, j] if j in order[:kept] else torch.zeros(2)
        assert torch.equal(rows[:, j], expected)


def test_neurotoxin_takes_the_absolute_value():
    # Without it, as in public code, the most negative coordinates count as the smallest.
    assert smallest(torch.tensor([-9.0, -8.0, 0.1, 0.2]), 0.5).tolist() == [0, 0, 1, 1]


def test_neurotoxin_keeps_within_its_norm_and_waits_for_an_aggregate():
    s = scene(last=False)
    assert torch.equal(Neurotoxin().craft(s), s.own)
    rows = Neurotoxin(norm=0.2).craft(scene())
    torch.testing.assert_close(rows.norm(dim=1), torch.full((2,), 0.2))
    short = Neurotoxin(norm=1e6).craft(scene())
    torch.testing.assert_close(short, Neurotoxin().craft(scene()))


@pytest.mark.parametrize("backdoor", [BadNets(target=3), DBA(target=3), EdgeCase(target=3)])
def test_every_way_of_sending_carries_every_backdoor(backdoor):
    held = [images(seed=1), images(seed=2)]
    for kind in (ModelReplacement, ConstrainAndScale, Neurotoxin):
        attack = kind(backdoor)
        assert attack.wanted == 3
        assert torch.equal(attack.lures(held[0]), backdoor.lures(held[0]))
        for ours, theirs in zip(
            attack.poison(held, generators(2)), backdoor.poison(held, generators(2)), strict=True
        ):
            assert torch.equal(ours.x, theirs.x)
            assert torch.equal(ours.y, theirs.y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BadNets(target=-1), "target=-1 must be an integer >= 0"),
        (lambda: BadNets(fraction=0.0), r"fraction=0.0 must lie in \(0, 1\]"),
        (lambda: DBA(fraction=1.5), r"fraction=1.5 must lie in \(0, 1\]"),
        (lambda: Patch(0), "size=0 must be an integer >= 1"),
        (lambda: Patch(2, "left"), "position='left' is not one of"),
        (lambda: EdgeCase(target=1, source=1), "source=1 must be another class than target"),
        (lambda: EdgeCase(source=2, file="x"), "source=2 and file='x' are both given"),
        (lambda: EdgeCase(tail=0.0), r"tail=0.0 must lie in \(0, 1\]"),
        (lambda: ModelReplacement(boost=0.0), "boost=0.0 must be finite and > 0"),
        (lambda: ConstrainAndScale(norm=math.inf), "norm=inf must be finite and > 0"),
        (lambda: Neurotoxin(mask_ratio=0.0), r"mask_ratio=0.0 must lie in \(0, 1\]"),
    ],
)
def test_refuses_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("attack", [BadNets(target=4), DBA(target=4), EdgeCase(target=4)])
def test_refuses_data_without_the_class(attack):
    with pytest.raises(ValueError, match=r"target=4 must be one of the classes 0\.\.3"):
        attack.poison([images()], generators(1))
    with pytest.raises(ValueError, match=r"target=4 must be one of the classes 0\.\.3"):
        attack.lures(images())
    regression = Records(images().x, torch.zeros(40), 0)
    with pytest.raises(ValueError, match="at least 2 classes"):
        attack.poison([regression], generators(1))


def test_refuses_records_that_do_not_fit():
    table = Records(torch.zeros(4, 3), torch.zeros(4).long(), 2)
    with pytest.raises(ValueError, match="an image trigger needs image data"):
        BadNets().poison([table], generators(1))
    with pytest.raises(ValueError, match=r"size=6: the trigger must fit .* allowed are 1\.\.5"):
        BadNets(Patch(6)).poison([images()], generators(1))
    only = Records(images().x, torch.zeros(40).long(), 2)
    with pytest.raises(ValueError, match="target=0: the test set has no record of another class"):
        BadNets().lures(only)
    with pytest.raises(ValueError, match="source=1: the malicious clients hold no record"):
        EdgeCase().poison([only], generators(1))
    with pytest.raises(ValueError, match="source=1: the test set has no record"):
        EdgeCase().lures(only)


def test_half_life():
    rates = [0.1, 0.9, 0.8, 0.6, 0.41, 0.4, 0.2]
    assert half_life(range(7), rates, stop=3) == 3  # 0.8 before, 0.4 after rounds 3, 4, 5
    assert half_life(range(7), rates, stop=2) == 3  # 0.9 before, 0.41 after rounds 2, 3, 4
    assert half_life(range(5), rates[:5], stop=3) is None  # not yet
    assert half_life(range(7), rates, stop=0) is None  # never seen
    assert half_life(range(7), rates, stop=9) is None  # still going on
    assert half_life([0, 1], [0.0, 0.0], stop=1) is None  # nothing to halve
    assert half_life([], [], stop=1) is None
    # evaluated every fifth round: the rate during is that of round 9
    assert half_life([4, 9, 14, 19], [0.5, 1.0, 0.6, 0.3], stop=12) == 8


@pytest.mark.parametrize("f", [1, 2, 3, 4, 5, 10, 16, 20])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_parts_of_a_distributed_patch_make_up_the_whole(f, size):
    """Every pixel is in one part, no part is empty, and sizes differ by one at most."""
    trigger = Patch(size, "top-left")
    black = torch.zeros(1, 5, 5, dtype=torch.uint8)
    parts = DBA(trigger=trigger).parts(f)
    assert parts == min(f, size**2)
    drawn = torch.stack([trigger.stamp(black, 1, part, parts)[0] for part in range(parts)])
    assert torch.equal(drawn.sum(dim=0), trigger.stamp(black, 1)[0].long())
    sizes = drawn.sum(dim=(1, 2))
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1
    assert (size, f) != (4, 4) or all(drawn[i, i, :4].all() for i in range(4))  # the paper's bars


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BadNets(trigger="a cross"), "trigger='a cross' must be a fedsieve.poisoning"),
        (lambda: Neurotoxin(backdoor="badnets"), "backdoor='badnets' must be a fedsieve.poisoning"),
        (lambda: Patch(2.0), "size=2.0 must be an integer >= 1"),
        (lambda: Patch(True), "size=True must be an integer >= 1"),
        (lambda: Patch(2, ["center"]), r"position=\['center'\] is not one of"),
    ],
)
def test_what_is_no_trigger_and_no_backdoor_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert Patch(np.int64(2)) == Patch(2)
