"""What holds for a rule whatever the messages are, declared so that one test suite measures it."""

from __future__ import annotations

from enum import Flag, auto


class Facts(Flag):
    """Facts on a rule R, or on a pre-aggregator: then on every rule behind it that has them too.

    A class names in ``lacks`` which of them none of its instances has; what depends on the settings
    is for the instance's ``facts`` to say.
    """

    NONE = 0
    TRANSLATES = auto()
    """R(x + c) = R(x) + c for every vector c."""
    SCALES = auto()
    """R(c x) = c R(x) for every number c > 0."""
    SYMMETRIC = auto()
    """The order of the clients does not matter."""
    UNANIMOUS = auto()
    """The aggregate of rows that are all equal is that row."""
    CONVEX = auto()
    """The reported weights are >= 0 and sum to 1."""
    AVERAGES = auto()
    """The aggregate for f = 0 is the mean, so that kappa is 0."""
    WEIGHTED = auto()
    """Client weights are heard up to their scale; equal ones change nothing, 0 is absence."""
    ROBUST = auto()
    """Whatever finite rows f clients send, the aggregate stays near the others' mean.

    How near depends on how far the others are apart, not on how long they are; where a rule has a
    scale of its own (a radius, the length of a trusted update, votes of +-1), it may be as far as
    that. Also with client weights of which f clients hold less than the rule's ``weight_limit``.
    """
