"""Attacks by name, with the arguments that a configuration gives them.

An attack reads the keys of ``[attack]`` that are arguments of its factory. One that is sent on top
of a backdoor reads those of the backdoor as well, and whatever draws a trigger its size and place.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from fedsieve.registry import component

if TYPE_CHECKING:
    from fedsieve.experiments.config import Config
    from fedsieve.experiments.sections.attack import Attack as Settings
    from fedsieve.poisoning import Attack

BACKDOOR = "badnets"
"""What the clients train on where ``attack.backdoor`` is left out."""


def settings(attack: Settings) -> list[str]:
    """The keys that this attack reads besides those that every attack has.

    Nothing is known of the caller's own attack: it comes with its arguments.
    """
    if attack.name.startswith("custom:"):
        return []
    arguments = _arguments(attack.name)
    if "backdoor" in arguments:
        arguments += _arguments(attack.backdoor or BACKDOOR)
    if "trigger" in arguments:
        arguments += ["size", "position"]
    known = type(attack).model_fields
    return [key for key in dict.fromkeys(arguments) if key in known]


def is_backdoor(name: str) -> bool:
    """Whether the attack of this name is judged by its success rate."""
    from fedsieve.poisoning import Backdoor  # only now: torch loads slowly

    factory = component("attack", name).factory
    return isinstance(factory, type) and issubclass(factory, Backdoor)


def attack(config: Config) -> Attack | None:
    """The named attack; ``None`` if there is none.

    Raises:
        ValueError: Naming the attack, with what it refuses.
    """
    named = config.attack
    if named.name == "none":
        return None
    from fedsieve.poisoning import Patch  # only now: torch loads slowly

    given = named.options | {"server_lr": config.algorithm.server_lr or 1.0}
    where = {key: given[key] for key in ("size", "position") if key in given}
    try:
        given["trigger"] = Patch(**where)
        if "backdoor" in _arguments(named.name):
            given["backdoor"] = component("attack", named.backdoor or BACKDOOR).build(**given)
        made: Attack = component("attack", named.name).build(**given)
    except ValueError as error:
        raise ValueError(f"attack.name={named.name!r}: {error}") from error
    return made


def check_noise(config: Config, attack: Attack) -> None:
    """An attack on privacy noise needs messages that carry some.

    Raises:
        ValueError: They do not, or the clients have none of the parts that a setting is about.
    """
    from fedsieve.poisoning import Knowledge  # only now: torch loads slowly

    if Knowledge.NOISE not in attack.knowledge:
        return
    named, privacy = f"attack.name={config.attack.name!r}", config.privacy
    if privacy is None:
        raise ValueError(
            f"{named} is about privacy noise, and this run has none; add [privacy] or choose "
            "another attack"
        )
    if privacy.trust == "central":
        raise ValueError(
            f"{named} with privacy.trust='central': the server adds the noise, to the aggregate; "
            "messages carry none to hide in or to omit; allowed are privacy.trust='local' and "
            "'distributed', or another attack"
        )
    if config.attack.pairs is not None and privacy.trust != "distributed":
        raise ValueError(
            f"attack.pairs={config.attack.pairs!r} with privacy.trust={privacy.trust!r}: clients "
            "share no noise; leave it out, or choose privacy.trust='distributed'"
        )


def check_unread(attack: Settings) -> None:
    """A setting that another one puts out of force must not look as if it did something.

    Raises:
        ValueError: Naming both.
    """
    if attack.tail is not None and attack.file is not None:
        raise ValueError(
            f"attack.tail={attack.tail:g} with attack.file={attack.file!r}: edge cases from a file "
            "have no tail; leave one of them out"
        )
    if attack.evades is not None and attack.alpha in (None, 1):
        raise ValueError(
            f"attack.evades={attack.evades!r}: without attack.alpha < 1 the clients train on "
            "nothing but the backdoor; give attack.alpha in (0, 1), or leave it out"
        )


def check_local_steps(config: Config) -> None:
    """A term of the loss of local steps needs such steps.

    Raises:
        ValueError: The algorithm's messages are single gradients.
    """
    factory = component("algorithm", config.algorithm.name).factory
    for key in ("alpha", "evades"):
        value = getattr(config.attack, key)
        if value is not None and not getattr(factory, "one_by_one", False):
            raise ValueError(
                f"attack.{key}={value!r} with algorithm.name={config.algorithm.name!r}: its "
                "clients send a gradient at the model, where nearness to it has none; leave it "
                "out, or choose an algorithm with local steps, such as 'fedavg'"
            )


def _arguments(name: str) -> list[str]:
    return [*inspect.signature(component("attack", name).factory).parameters]
