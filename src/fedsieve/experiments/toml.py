"""Configurations as text: TOML files, ``--set`` overrides, and what is wrong with them.

Every refusal is a `ConfigError` of one line that a user can act on.
"""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fedsieve.experiments.config import Config

DEMO: dict[str, Any] = {
    "federation": {"clients": 20, "byzantine": 4},
    "attack": {"name": "alie"},
    "privacy": {"epsilon": 4.0, "delta": 1e-5},
    "algorithm": {"name": "sieve"},
    "data": {"name": "fashion-mnist"},
    "model": {"name": "mlp", "hidden": [64]},
}
"""What ``fedsieve run`` does without a file, where it differs from the defaults."""

_ALTERNATIVES = (("privacy.epsilon", "privacy.noise_multiplier"),)
"""Keys of which only one may be given: an override of one takes the other out of the file."""

_BARE = re.compile(r"[^\[\]{}\"'=\n]*")
"""Values that may stand without quotation marks on the command line."""

_ALLOWED = ": allowed is "


class ConfigError(ValueError):
    """Bad input: what was found, under which key, and what is allowed."""


@contextmanager
def refusing(kind: type[Config] = Config) -> Iterator[None]:
    """Turn a ``ValueError`` of the code inside, the building of a run, into a `ConfigError`.

    Args:
        kind: Whose keys the messages name.
    """
    try:
        yield
    except ConfigError:
        raise
    except ValidationError as error:
        raise ConfigError("; ".join(_explained(error, kind))) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


def parse(values: Mapping[str, Any], kind: type[Config] = Config) -> Config:
    """The configuration with these nested values, of a run or of another ``kind``.

    Raises:
        ConfigError: With the key, the value and what is allowed.

    Example:
        >>> parse({"rounds": 0})
        Traceback (most recent call last):
        fedsieve.experiments.toml.ConfigError: rounds=0: allowed is greater than or equal to 1
    """
    with refusing(kind):
        return kind.model_validate(dict(values))


def load(
    path: Path | str | None = None,
    overrides: Sequence[str] = (),
    *,
    kind: type[Config] = Config,
    default: Mapping[str, Any] = DEMO,
) -> Config:
    """Read a configuration.

    Args:
        path: A TOML file; ``None`` is ``default``.
        overrides: ``path.to.key=value`` each, where the value is TOML or a bare word. They replace
            what the file says; ``privacy=none`` removes the section.
        kind: What it is the configuration of.
        default: What a run does without a file; the demo.

    Raises:
        ConfigError: The file cannot be read, is no TOML (with the line), or holds what cannot be
            run.
    """
    values = copy.deepcopy(dict(default)) if path is None else _read(Path(path))
    given: dict[str, Any] = {}
    for override in overrides:
        key, value = parsed(override)
        if value == "none" and key == "privacy":
            values.pop(key, None)
        else:
            _put(given, key, value)
    keys = set(flat(given))
    for one, other in (pair[::step] for pair in _ALTERNATIVES for step in (1, -1)):
        if one in keys and other not in keys:
            _drop(values, other)
    if path is None:
        _make_way(values, keys, given)
    for key, value in flat(given).items():
        _put(values, key, value)
    try:
        return parse(values, kind)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path is not None else str(error)) from error


def dump(config: Config) -> str:
    """The configuration as TOML; loading it again gives an equal one."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        lines = text.splitlines()
        number = int(place[1]) if place else len(lines)
        quoted = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        raise ConfigError(f"{path}, line {number}: {quoted!r} is no TOML: {error}") from error


def parsed(override: str) -> tuple[str, Any]:
    """Key and value of an override.

    Raises:
        ConfigError: It is not of the form path.to.key=value.
    """
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise ConfigError(f"--set {override!r} is not of the form path.to.key=value")
    try:
        held = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if not text or not _BARE.fullmatch(text):
            raise ConfigError(f"--set {key}: {text!r} is no TOML value: {error}") from error
        return key, text
    if set(held) != {"value"}:
        raise ConfigError(f"--set {key}: {text!r} is more than one TOML value")
    value = held["value"]
    # A date is nobody's setting, but may well be a directory's name.
    return key, value if isinstance(value, str | int | float | bool | list | dict) else text


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: {part} = {inner!r} is a value and has no keys")
        values = inner
    values[last] = value


def _drop(values: dict[str, Any], key: str) -> None:
    section, _, last = key.partition(".")
    if isinstance(values.get(section), dict):
        values[section].pop(last, None)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their keys as ``--set`` names them."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _make_way(values: dict[str, Any], keys: set[str], given: dict[str, Any]) -> None:
    """Take out of the demo what contradicts an override: it is ours, not the user's wish."""
    federation = given.get("federation", {})
    byzantine = federation.get("byzantine") if isinstance(federation, dict) else None
    if byzantine == 0 and "attack.name" not in keys:
        values.pop("attack", None)


def _explained(error: ValidationError, kind: type[Config]) -> list[str]:
    """One sentence per key; the alternatives of a union are joined."""
    sentences: dict[str, str] = {}
    for one in error.errors(include_url=False):
        subject, allowed = _sentence(dict(one), kind)
        if subject not in sentences:
            sentences[subject] = f"{subject}{allowed}"
        elif allowed.startswith(_ALLOWED):
            sentences[subject] += f" or {allowed.removeprefix(_ALLOWED)}"
    return list(sentences.values())


def _sentence(error: dict[str, Any], config: type[Config]) -> tuple[str, str]:
    """What was found, and what is allowed instead."""
    keys = _true_path([part for part in error["loc"] if isinstance(part, str)], config)
    key = ".".join(keys) + "".join(f"[{part}]" for part in error["loc"] if isinstance(part, int))
    message = error["msg"].removeprefix("Value error, ")
    kind = error["type"]
    if kind == "extra_forbidden":
        return "unknown key ", _unknown(keys, error["input"], config)
    if kind == "value_error" and (not key or key == "privacy"):
        return "", message
    subject = f"{key}={error['input']!r}"
    if kind == "value_error":
        return subject, f": {message}"
    if kind == "model_type":
        return subject, f": {key} is a section; its keys are written {key}.KEY or under [{key}]"
    if kind == "string_pattern_mismatch":
        field = config.model_fields[key]
        return subject, f"{_ALLOWED}{field.description}"
    return subject, _ALLOWED + message.removeprefix("Input should be ")


def _true_path(location: Sequence[str], kind: type[Config]) -> list[str]:
    """The part of pydantic's location that names keys of a file."""
    path: list[str] = []
    section: type[BaseModel] | None = kind
    for part in location:
        if section is None:
            break
        path.append(part)
        field = section.model_fields.get(part)
        section = section_of(field) if field is not None else None
    return path


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section, ``None`` for a value."""
    kinds = get_args(field.annotation) or (field.annotation,)
    kind: Any
    for kind in kinds:
        plain = isinstance(kind, type) and not isinstance(kind, types.GenericAlias)
        if plain and issubclass(kind, BaseModel):
            found: type[BaseModel] = kind
            return found
    return None


def _unknown(path: Sequence[str], value: object, kind: type[Config]) -> str:
    name = ".".join(path)
    known = list(keys(kind))
    near = difflib.get_close_matches(name, known, n=1) or [
        other for other in known if other.split(".")[-1] == path[-1]
    ]
    if near:
        return f"{name}={value!r}; did you mean {near[0]}?"
    here = [key for key in known if key.rpartition(".")[0] == ".".join(path[:-1])]
    return f"{name}={value!r}; allowed are {', '.join(here)}"


def keys(kind: type[Config] = Config) -> Iterator[str]:
    """Every key of a configuration, as ``--set`` names it; sections included."""
    for key, field in kind.model_fields.items():
        section = section_of(field)
        yield key
        if section is not None:
            yield from (f"{key}.{inner}" for inner in section.model_fields)
