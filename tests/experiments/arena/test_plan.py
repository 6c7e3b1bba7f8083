"""The plan of an arena: its file, its runs, what it refuses and what may change while it waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsieve.experiments.arena import plan as planning
from fedsieve.experiments.arena.plan import ATTACKS, RULES, Cell, Plan, load, unlike
from fedsieve.experiments.toml import ConfigError
from fedsieve.registry import components

FILE = """
rounds = 7
[data]
name = "digits"
[federation]
clients = 10
[model]
name = "softmax"
[algorithm]
name = "dshb"
lr = 0.25
[arena]
rules = ["mean", "nnm>>  caf"]
attacks = ["none", "alie", "sign-flip"]
byzantine = [0, 2, 5]
seeds = [3, 1]
"""


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    def make(*overrides: str, text: str = FILE) -> Plan:
        (tmp_path / "arena.toml").write_text(text)
        return load(tmp_path / "arena.toml", overrides)

    return make


def test_every_rule_meets_every_attack_for_every_f_and_seed(planned) -> None:
    plan = planned()
    assert plan.columns == ("none", "alie", "sign-flip")
    cells = list(plan.cells())
    wanted = {
        Cell(rule, attack, f, seed)
        for rule in ("mean", "nnm >> caf")
        for f, attacks in ((0, ["none"]), (2, plan.columns), (5, plan.columns))
        for attack in attacks
        for seed in (1, 3)
    }
    assert set(cells) == wanted
    assert len(cells) == len(wanted)
    assert len({cell.key for cell in cells}) == len(cells)


def test_a_run_is_the_base_and_what_its_cell_says(planned) -> None:
    config = planned("data.alpha=0.1").config(Cell("nnm >> caf", "alie", 2, 3))
    assert (config.rounds, config.seed, config.algorithm.lr) == (7, 3, 0.25)
    assert (config.data.name, config.data.alpha) == ("digits", 0.1)
    assert (config.aggregation.rule, config.aggregation.pre) == ("caf", ("nnm",))
    assert config.aggregation.f is None
    assert (config.federation.clients, config.federation.byzantine) == (10, 2)
    assert config.attack.name == "alie"
    honest = planned().config(Cell("mean", "none", 2, 3))
    assert (honest.attack.name, honest.federation.byzantine) == ("none", 2)


def test_a_rule_that_is_not_defined_says_so(planned) -> None:
    with pytest.raises(ConfigError, match=r"byzantine=5 is too many.*with 10.*allowed is 4"):
        planned().config(Cell("nnm >> caf", "alie", 5, 3))


def test_a_plan_is_written_and_read_again(planned, tmp_path: Path) -> None:
    plan = planned()
    (tmp_path / "again.toml").write_text(plan.dump())
    assert load(tmp_path / "again.toml") == plan


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("arena.rules=[]", r"arena\.rules=\[\]: allowed is one value or more"),
        ("arena.rules=kaf", "no rule is called 'kaf'; did you mean 'caf'"),
        ("arena.rules=mean >> caf", "no pre-aggregator is called 'mean'"),
        ("arena.attacks=[1]", r"arena\.attacks\[0\]=1: allowed is a valid string"),
        ("arena.seeds=[1,2,1]", "1 twice"),
        ("arena.byzantine=-1", "allowed is greater than or equal to 0"),
        ("arena.workers=0", r"arena\.workers=0: allowed is greater than or equal to 1 or 'auto'"),
        ("arena.rulez=mean", r"did you mean arena\.rules\?"),
        ("seed=4", r"seed=4: the arena decides it.*give arena\.seeds instead"),
        ("attack.name=alie", r"give arena\.attacks instead"),
        ("federation.byzantine=2", r"federation\.byzantine=2.*give arena\.byzantine"),
        ("aggregation.pre=nnm", r"aggregation\.pre='nnm'.*give arena\.rules"),
        ("checkpoint.every=3", "leave it out"),
        ("rounds=0", r"rounds=0: allowed is greater"),
    ],
)
def test_bad_plans_are_refused_with_what_is_allowed(planned, override: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        planned(override)


def test_single_values_and_other_rules_on_the_command_line(planned) -> None:
    arena = planned("arena.rules=nnm >> mean", "arena.byzantine=3", "arena.seeds=8").setup.arena
    assert (arena.rules, arena.byzantine, arena.seeds) == (("nnm >> mean",), (3,), (8,))


def test_the_default_plays_what_is_registered(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(planning, "sources", lambda *_: ())
    plan = load(None)
    arena = plan.setup.arena
    rules = {c.name for family in ("rule", "pre-aggregator") for c in components(family)}
    assert arena.rules == tuple(r for r in RULES if rules.issuperset(r.split(" >> ")))
    assert (len(RULES), len(ATTACKS)) == (12, 9)
    assert arena.attacks == ATTACKS
    assert {"mean", "caf"} <= set(arena.rules)
    setup = plan.setup
    assert (setup.data.name, setup.model.name) == ("fashion-mnist-subset", "softmax")
    assert (setup.federation.clients, arena.byzantine, setup.rounds) == (20, (4,), 100)


def test_the_default_is_mnist_where_it_is_at_hand() -> None:
    assert load(None, ["data.download=true"]).setup.data.name == "mnist"
    assert load(None, ["data.name=digits"]).setup.data.name == "digits"


def test_what_may_change_while_an_arena_waits(planned) -> None:
    begun = planned()
    for free in ("arena.workers=1", "data.dir=elsewhere", "name=other", "device=auto"):
        assert not unlike(begun, planned(free))
    changed = unlike(begun, planned("arena.byzantine=[0,2]", "rounds=8"))
    assert changed == {"rounds": ("7", "8"), "arena.byzantine": ("[0, 2, 5]", "[0, 2]")}
    assert json.loads(unlike(begun, planned("projection.k=5"))["projection.k"][1]) == 5


def test_root_records_are_kept_for_those_rules_that_look_at_some():
    plan = load(overrides=["arena.rules=['fltrust','mean']", "aggregation.root_records=50"])
    sizes = {cell.rule: plan.config(cell).aggregation.root_records for cell in plan.cells()}
    assert sizes == {"fltrust": 50, "mean": 0}
    assert plan.base().aggregation.root_records == 0
    assert plan.setup.aggregation.root_records == 50


ALIE, CLIPPING = Cell("mean", "alie", 2, 1), Cell("nnm >> centered-clipping", "none", 2, 1)


def test_options_go_to_those_that_know_them_and_to_nobody_else(planned, tmp_path: Path) -> None:
    plan = planned(
        "attack.strength=1.5",
        "attack.warm_up=3",
        "attack.stop=4",
        "aggregation.tau=0.5",
        "arena.rules=['mean','nnm >> centered-clipping']",
        "arena.attacks=['alie','mimic']",
    )
    alie = plan.config(ALIE).attack
    assert (alie.strength, alie.warm_up, alie.stop) == (1.5, None, 4)
    mimic = plan.config(Cell("mean", "mimic", 2, 1)).attack
    assert (mimic.strength, mimic.warm_up, mimic.stop) == (None, 3, 4)
    assert plan.config(Cell("mean", "none", 2, 1)).attack.stop is None
    assert plan.config(CLIPPING).aggregation.model_extra == {"tau": 0.5}
    assert plan.config(ALIE).aggregation.model_extra == {}
    base = plan.base()
    assert (base.attack.stop, base.aggregation.model_extra) == (None, {})
    (tmp_path / "again.toml").write_text(plan.dump())
    assert load(tmp_path / "again.toml") == plan
    changed = unlike(plan, planned(*(f"attack.{one}" for one in ("strength=1.5", "stop=5"))))
    assert changed["attack.stop"] == ("4", "5")


def test_the_runs_of_an_attack_that_does_not_take_an_option_are_not_defined(planned) -> None:
    plan = planned("attack.strength=published", "arena.attacks=['alie','foe']")
    assert plan.config(ALIE).attack.strength == "published"
    with pytest.raises(ConfigError, match=r"attack\.name='foe': strength='published'"):
        plan.config(Cell("mean", "foe", 2, 1))
    denied = planned("attack.knowledge=[]", "arena.attacks=['alie','label-flip']")
    assert denied.config(Cell("mean", "label-flip", 2, 1)).attack.knowledge == ()
    with pytest.raises(ConfigError, match=r"attack\.knowledge=\[\]: attack\.name='alie' needs"):
        denied.config(ALIE)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("attack.tail=0.1", r"attack\.tail=0\.1: none of arena\.attacks.*such as 'edge-case'"),
        ("attack.start=9", r"attack\.start=9 with rounds=7: it would never begin"),
        ("attack.knowledge=[]", "attack.name='alie' needs"),
        ("aggregation.s=2", r"aggregation\.s=2: none of arena\.rules.*such as 'bucketing'"),
        ("aggregation.tauu=2", r"unknown key aggregation\.tauu=2; did you mean aggregation\.tau"),
        ("aggregation.zzz=2", r"aggregation\.zzz=2: none of arena\.rules"),
    ],
)
def test_an_option_that_nobody_knows_or_takes_is_refused(planned, override: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        planned(override, "arena.attacks=['alie']")


def test_a_rule_refuses_the_value_of_its_option(planned) -> None:
    with pytest.raises(ConfigError, match=r"centered-clipping': tau=-1 must be"):
        planned("aggregation.tau=-1", "arena.rules=['mean','centered-clipping']")
