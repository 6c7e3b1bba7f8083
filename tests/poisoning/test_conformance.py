"""What every registered attack on messages, records or labels must do, whatever it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.poisoning import DataAttack, Knowledge, MessageAttack, RecordAttack, Records
from fedsieve.registry import components

ATTACKS = {c.name: c for c in components("attack")}
MESSAGE = [name for name, c in ATTACKS.items() if issubclass(c.factory, MessageAttack)]
RECORDS = [name for name, c in ATTACKS.items() if issubclass(c.factory, RecordAttack)]
LABELS = [name for name, c in ATTACKS.items() if issubclass(c.factory, DataAttack)]
PARTIAL = [name for name in MESSAGE if "partial" in ATTACKS[name].factory.__dataclass_fields__]
ALONE = {"alie": {"strength": "published"}}  # what the partial form needs besides
FORMS = [(name, {}) for name in MESSAGE]
FORMS += [
    (name, {"strength": 0.5})
    for name in MESSAGE
    if "strength" in ATTACKS[name].factory.__dataclass_fields__
]
FORMS += [(name, {"partial": True} | ALONE.get(name, {})) for name in PARTIAL]
FORMS += [
    (name, {"space": "parameters", "alike": alike})
    for name in MESSAGE
    for alike in (False, True)
    if "space" in ATTACKS[name].factory.__dataclass_fields__
]


def played(attack, scene, rounds=3):
    """The rows of a few rounds, each with the memory of the one before."""
    rows = []
    for round_ in range(rounds):
        scene = replace(scene, rng=np.random.default_rng(round_))
        rows.append(attack.craft(scene))
        scene = replace(scene, memory=attack.remember(scene, rows[-1]))
    return rows


@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
@pytest.mark.parametrize(("h", "f", "k"), [(8, 2, 5), (1, 1, 3), (8, 0, 5), (3, 5, 1), (1, 0, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_have_the_right_form_and_nothing_is_changed(scene, name, options, h, f, k, dtype):
    s = scene(h, f, k, dtype=dtype)
    honest, own = s.honest.clone(), s.own.clone()
    for rows in played(ATTACKS[name].build(**options), s):
        assert rows.shape == (f, k)
        assert rows.dtype == dtype
        if name != "garbage":
            assert rows.isfinite().all()
        rows += 1  # new memory, shared with nobody
    assert torch.equal(s.honest, honest)
    assert torch.equal(s.own, own)
    assert torch.equal(s.mean, honest.mean(dim=0))


@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
def test_malicious_clients_without_data_attack_as_well(scene, name, options):
    for rows in played(ATTACKS[name].build(**options), scene(own=None)):
        assert rows.shape == (2, 5)
        assert name == "garbage" or rows.isfinite().all()


@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
def test_the_same_draws_give_the_same_rows(scene, name, options):
    attack = ATTACKS[name].build(**options)
    for first, again in zip(played(attack, scene()), played(attack, scene()), strict=True):
        assert torch.equal(first.nan_to_num(), again.nan_to_num())


@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_honest_messages_without_any_spread(scene, name, options, value):
    s = scene(honest=torch.full((6, 4), value), own=torch.full((2, 4), value), k=4)
    for rows in played(ATTACKS[name].build(**options), s):
        assert rows.shape == (2, 4)
        if name != "garbage":
            assert rows.isfinite().all()


@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-41, 1e30])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("h", "f", "k"), [(1, 0, 1), (1, 1, 1), (6, 2, 4)])
def test_numbers_whose_squares_leave_float32(scene, name, options, size, alone, h, f, k):
    """All rows of that size, or one alone beside ordinary ones; what is kept is finite as well."""
    made = scene(h, f, k, dtype=torch.float32)
    honest, own, last = made.honest.clone(), made.own, made.last
    honest[: 1 if alone else h] *= size
    if not alone:
        own, last = own * size, last * size
    s = scene(honest=honest, own=own, last=last, f=f, k=k)
    attack = ATTACKS[name].build(**options)
    for rows in played(attack, s):
        assert name == "garbage" or rows.isfinite().all()
        assert all(kept.isfinite().all() for kept in attack.remember(s, rows).values())


SCALES = [name for name in MESSAGE if name not in ("garbage", "gaussian", "hide-in-noise")]


@pytest.mark.parametrize("name", [name for name in SCALES if name != "fang-krum"])
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_an_attack_is_the_same_in_any_unit(scene, name, size):
    """Those without a length of their own; Fang's on Krum halves to a tie that rounding decides."""
    one = scene(6, 2, 4, dtype=torch.float32)
    other = scene(honest=one.honest * size, own=one.own * size, last=one.last * size, k=4)
    options = {"strength": 0.5} if "strength" in ATTACKS[name].factory.__dataclass_fields__ else {}
    attack = ATTACKS[name].build(**options)
    for rows, same in zip(played(attack, one), played(attack, other), strict=True):
        torch.testing.assert_close(same / size, rows, rtol=1e-3, atol=1e-3)


class DeniedError(Exception):
    """Something was looked at that the attack did not say it needs."""


def denied(*_):
    raise DeniedError


@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
def test_an_attack_uses_no_more_than_it_says(scene, name, options):
    attack = ATTACKS[name].build(**options)
    whole = scene(foresee=None)
    seen = {}
    if Knowledge.UPDATES not in attack.knowledge:
        seen["honest"] = torch.full_like(whole.honest, torch.nan)
    if Knowledge.RULE not in attack.knowledge:
        seen["aggregate"] = seen["weigh"] = denied
    if Knowledge.NOISE not in attack.knowledge:
        seen["noise_std"] = float("nan")
    if Knowledge.PROJECTION not in attack.knowledge:
        seen["foresee"] = denied
    if not attack.uses_own:
        seen["own"] = torch.full_like(whole.own, torch.nan)
    if not attack.uses_last:
        seen["last"] = torch.full_like(whole.last, torch.nan)
    if not attack.uses_model:
        seen["model"] = torch.full_like(whole.model, torch.nan)
    for rows, same in zip(
        played(attack, whole), played(attack, replace(whole, **seen)), strict=True
    ):
        assert torch.equal(rows.nan_to_num(), same.nan_to_num())


@pytest.mark.parametrize("name", PARTIAL)
def test_the_partial_form_needs_no_honest_message(name):
    attack = ATTACKS[name].build(partial=True, **ALONE.get(name, {}))
    assert not attack.knowledge & (Knowledge.UPDATES | Knowledge.RULE)
    assert attack.uses_own


# what un-noised changes is what own messages are: see tests/simulation/test_attacker.py
@pytest.mark.parametrize("name", [name for name in MESSAGE if name != "un-noised"])
def test_within_a_few_rounds_it_sends_something_else_than_honest_messages(scene, name):
    s = scene(h=9, f=3, k=40)
    last = played(ATTACKS[name].build(), s, rounds=4)[-1]
    assert not torch.allclose(last, s.own, equal_nan=True)


def test_every_attack_is_tested_by_what_it_does():
    assert {*MESSAGE, *RECORDS} == set(ATTACKS)
    assert set(LABELS) < set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_records_stay_records_and_the_true_ones_stay_true(name):
    rng = np.random.default_rng(0)
    held = [
        Records(
            torch.from_numpy(rng.integers(0, 200, (n, 6, 5)).astype(np.uint8)),
            torch.from_numpy(rng.integers(0, 7, n)),
            7,
        )
        for n in (40, 70)
    ]
    before = [(own.x.clone(), own.y.clone()) for own in held]
    attack = ATTACKS[name].build()
    first, again = (
        attack.poison(held, [np.random.default_rng(i) for i in range(2)]) for _ in range(2)
    )
    for own, (x, y), new, same in zip(held, before, first, again, strict=True):
        assert torch.equal(own.x, x)
        assert torch.equal(own.y, y)
        assert (new.x.shape, new.x.dtype) == (x.shape, x.dtype)
        assert (new.y.shape, new.y.dtype) == (y.shape, y.dtype)
        assert 0 <= int(new.y.min()) <= int(new.y.max()) < 7
        assert torch.equal(new.x, same.x)
        assert torch.equal(new.y, same.y)
    assert attack.poison([], []) == []


@pytest.mark.parametrize("name", LABELS)
def test_labels_stay_labels_and_the_true_ones_stay_true(name):
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 7, 200))
    before = labels.clone()
    attack = ATTACKS[name].build()
    poisoned = attack.poison_labels(labels, 7, np.random.default_rng(1))
    assert torch.equal(labels, before)
    assert poisoned.dtype == torch.int64
    assert poisoned.shape == (200,)
    assert int(poisoned.min()) >= 0
    assert int(poisoned.max()) < 7
    assert torch.equal(poisoned, attack.poison_labels(labels, 7, np.random.default_rng(1)))
    assert attack.poison_labels(labels[:0], 7, np.random.default_rng(1)).shape == (0,)
