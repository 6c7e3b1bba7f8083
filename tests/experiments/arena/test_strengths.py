"""A strength of its own for each attack of an arena."""

import pytest

from fedsieve.experiments.arena.plan import Cell, load, unlike
from fedsieve.experiments.toml import ConfigError

BASE = [
    'data.name="digits"',
    'arena.rules=["mean"]',
    'arena.attacks=["label-flip","alie","foe","mimic"]',
]


def strength(plan, attack):
    return plan.config(Cell("mean", attack, 4, 0)).attack.strength


def test_each_attack_has_its_own_and_the_others_that_of_all():
    plan = load(None, [*BASE, 'arena.strengths={alie="published", foe=2}', "attack.strength=0.5"])
    given = {attack: strength(plan, attack) for attack in plan.columns}
    assert given == {
        "none": None,
        "label-flip": 0.5,
        "alie": "published",
        "foe": 2.0,
        "mimic": None,
    }


def test_they_can_be_set_one_by_one_and_are_part_of_the_plan(tmp_path):
    plan = load(None, [*BASE, "arena.strengths.foe=0.1"])
    (tmp_path / "arena.toml").write_text(plan.dump())
    again = load(tmp_path / "arena.toml")
    assert strength(again, "foe") == 0.1
    assert not unlike(plan, again)
    assert unlike(plan, load(None, BASE)) == {"arena.strengths.foe": ("0.1", "nothing")}


def test_a_fixed_strength_spares_the_rule():
    denied = [*BASE, 'arena.attacks=["alie"]', 'attack.knowledge=["updates"]']
    with pytest.raises(ConfigError, match="a fixed strength spares the rule"):
        load(None, denied)
    assert load(None, [*denied, "arena.strengths.alie=1.5"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("arena.strengths.rop=1", r"strengths\.rop=1\.0: it is none of arena\.attacks=\['label-fl"),
        ("arena.strengths.mimic=1", r"strengths\.mimic=1\.0: attack 'mimic' has no strength"),
        ("arena.strengths.label-flip=3", r"strengths\.label-flip=3\.0: .* must lie in \[0, 1\]"),
        ('arena.strengths.foe="published"', r"strengths\.foe='published': .* finite and >= 0"),
        ('arena.strengths.foe="strong"', r"arena\.strengths"),
        ("arena.strengths.none=1", r"strengths\.none=1\.0: it is none of"),
    ],
)
def test_what_an_attack_does_not_take_is_refused_before_the_first_run(given, message):
    with pytest.raises(ConfigError, match=message):
        load(None, [*BASE, given])


def test_a_strength_of_all_that_nobody_is_left_to_read_is_refused():
    own = [f"arena.strengths.{name}=0.5" for name in ("label-flip", "alie", "foe")]
    with pytest.raises(ConfigError, match=r"attack\.strength=0\.7: none of arena\.attacks"):
        load(None, [*BASE, *own, "attack.strength=0.7"])
