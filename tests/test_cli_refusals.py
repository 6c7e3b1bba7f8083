"""What `fedsieve run` and `fedsieve arena` refuse: one line, exit code 2, and nothing is begun."""

from __future__ import annotations

import pytest

from fedsieve.cli import main

FOE = "attack.name=foe federation.byzantine=4"
EDGE = "attack.name=edge-case federation.byzantine=4"
SCALE = "attack.name=constrain-and-scale federation.byzantine=4 algorithm.name=fedavg"

RUN = {
    # rules and pre-aggregators
    "aggregation.rule=smae": "did you mean 'smea'",
    "aggregation.rule=3": "aggregation.rule=3: allowed is a valid string",
    "aggregation.rule=": "is no TOML value",
    "aggregation.rule=mean aggregation.tau=1.0": "it is an option of centered-clipping",
    "aggregation.rule=centered-clipping aggregation.tau=nan": "tau=nan must be finite and > 0",
    "aggregation.rule=centered-clipping aggregation.tau=0": "tau=0 must be finite and > 0",
    "aggregation.rule=centered-clipping aggregation.iterations=3.0": "iterations=3.0: allowed is",
    "aggregation.rule=centered-clipping aggregation.iterations=true": "iterations=True: allowed is",
    "aggregation.rule=centered-clipping aggregation.v0=[1.0]": "unknown key aggregation.v0",
    "aggregation.rule=geometric-median aggregation.nu=-1": "nu=-1 must be finite and > 0",
    "aggregation.rule=multi-krum aggregation.m=2.5": "m=2.5: allowed is a valid integer",
    "aggregation.rule=multi-krum aggregation.m=100": "m=100 exceeds n - f = ",
    "aggregation.rule=krum aggregation.neighbours=all": "neighbours='all': allowed is 'n-f-2'",
    "aggregation.rule=krum aggregation.f=9": "f=9 is too many for aggregation.rule='krum'",
    "aggregation.rule=krum aggregation.pre=['nnm'] aggregation.f=9": "the largest allowed is 8",
    "aggregation.rule=krum aggregation.f=1.5": "aggregation.f=1.5: allowed is a valid integer",
    "aggregation.rule=monna aggregation.pivot=100": "with n=20 clients; allowed are 0..19",
    "aggregation.rule=flame aggregation.lambda_=-0.1": "lambda_=-0.1 must be finite and >= 0",
    "aggregation.rule=filter-l2 aggregation.sigma=nan": "sigma=nan must be finite and >= 0",
    "aggregation.rule=sign-guard aggregation.fraction=0": "fraction=0 must lie in (0, 1]",
    "aggregation.rule=smea aggregation.f=9 federation.clients=60": "feasible are 2000000, i.e. f",
    "aggregation.rule=mda aggregation.f=25 federation.clients=60": "f up to 15",
    "aggregation.rule=median aggregation.pre=bucketing aggregation.s=20 federation.byzantine=2": (
        "with 1 rows made of 20 clients to aggregate; the largest allowed is 0"
    ),
    "aggregation.pre=['clipping'] aggregation.C=inf": "C=inf must be finite and > 0",
    # weights and root records
    "aggregation.weight_cap=2": "nothing is capped",
    "aggregation.weights=sizes aggregation.weight_cap=0.5": "allowed is greater than or equal to 1",
    "aggregation.rule=median aggregation.root_records=50": (
        "aggregation.root_records=50 with aggregation.rule='median': it looks at no records"
    ),
    "aggregation.rule=fltrust": "needed is aggregation.root_records >= 1",
    # attacks
    f"{FOE} attack.strength=published": "strength='published' must be finite",
    f"{FOE} attack.strength=-1": "strength=-1.0 must be finite and >= 0",
    f"{FOE} attack.backdoor=dba": "attack.name='foe' has no such setting",
    f"{FOE} attack.knowledge=[]": "needs ['updates', 'rule']",
    f"{FOE} attack.start=1000": "it would never begin",
    f"{FOE} attack.stop=1000": "attack.stop=1000 with rounds=150: it would never end; leave it out",
    "attack.name=none attack.knowledge=['updates']": "attack.name='none' has no such setting",
    f"{EDGE} attack.size=3": "attack.name='edge-case' has no such setting",
    f"{EDGE} attack.file=a.npz attack.tail=0.2": "edge cases from a file have no tail",
    f"{SCALE} attack.evades=cosine": "give attack.alpha in (0, 1), or leave it out",
    f"{SCALE} attack.alpha=1.0 attack.evades=norm": "give attack.alpha in (0, 1), or leave it out",
    f"{SCALE} attack.boost=0": "attack.boost=0: allowed is greater than 0",
    "attack.name=hide-in-noise federation.byzantine=4 privacy=none": "this run has none",
    # who takes part
    "federation.byzantine=20": "somebody must be honest; allowed are 0..19",
    "federation.byzantine=true": "federation.byzantine=True: allowed is a valid integer",
    "federation.participation=1.5": "allowed is a fraction in (0, 1], or a whole number",
    "federation.dropout=nan": "federation.dropout=nan: allowed is",
    "federation.stragglers=0.5": "federation.stragglers=0.5: a straggler omits some",
    "federation.stragglers=0.5 algorithm.name=fedavg algorithm.local_steps=1": "a straggler omits",
}

ARENA = {
    "arena.rules=['median','sneaky']": "no rule is called 'sneaky'",
    "arena.rules=['nnm >>']": "no rule is called ''",
    "arena.attacks=[]": "allowed is one value or more",
    "arena.byzantine=[2.5]": "allowed is a valid integer",
    "arena.byzantine=[30]": "federation.byzantine=30 of federation.clients=20",
    "arena.rules=['fltrust']": "needed is aggregation.root_records >= 1",
    "aggregation.root_records=50": "none of arena.rules looks at records of the server's",
    "aggregation.rule=median": "give arena.rules instead",
    "attack.name=alie": "give arena.attacks instead",
    "aggregation.weight_cap=2": "nothing is capped",
}


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [("run", *pair) for pair in RUN.items()] + [("arena", *pair) for pair in ARENA.items()],
)
def test_a_wrong_line_ends_at_once(tmp_path, capsys, command, line, message):
    out = tmp_path / "out"
    settings = line.replace(" >>", "\0>>").split(" ")
    given = [part.replace("\0", " ") for one in settings for part in ("--set", one)]
    assert main([command, *given, "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert not out.exists()
