"""What the tests of trust share."""

from fedsieve.algorithms.trust import EVERYTHING, WHOLE_UPDATES
from fedsieve.randomness import Streams

N, F, STREAMS = 6, 1, Streams(5, 1)
FALSE_ALARM = 1e-4  # of every statistical test here
TRUSTS = ("local", "distributed", "central")
COMBINATIONS = [
    (name, unit, trust)
    for name, offers in (("dshb", EVERYTHING), ("sieve", EVERYTHING), ("fedavg", WHOLE_UPDATES))
    for unit, trust in sorted(offers)
]
