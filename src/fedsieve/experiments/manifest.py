"""What a run was made of, and whether a run that is resumed is made of the same."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from fedsieve._version import __version__
from fedsieve.experiments.config import Config
from fedsieve.experiments.toml import ConfigError


def manifest(
    config: Config,
    *,
    source: str,
    checksums: Mapping[str, str],
    licence: str,
    noise_source: str | None,
    noise_grid: float | None,
    count_grid: float | None = None,
    device: str,
    objects: Mapping[str, str],
) -> dict[str, Any]:
    """What it takes to repeat a run: versions, seeds, data, machine, digests of the settings.

    Args:
        config: The configuration of the run.
        source: Sentence on where the data came from.
        checksums: File name -> sha256 of what was read.
        licence: Licence of the data.
        noise_source: Where the privacy noise came from; ``None`` without privacy.
        noise_grid: Spacing of the public grid on which noised messages lie; likewise. Where the
            clip moves it is that of the first round, and moves along.
        count_grid: The same of the counts that move the clip; ``None`` where it stays.
        device: What computed, and how its arithmetic is called.
        objects: What the caller passed -> its fingerprint.
    """
    packages = ("torch", "numpy", "scipy", "dp-accounting")
    return {
        "versions": {
            "fedsieve": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
        "seeds": {
            "seed": config.seed,
            "noise_seed": config.privacy.noise_seed if config.privacy else None,
            "noise_source": noise_source,
        },
        "noise": {"grid": noise_grid, "count_grid": count_grid},
        "data": {
            "name": config.data.name,
            "source": source,
            "checksums": dict(checksums),
            "licence": licence,
        },
        "machine": {
            "platform": platform.platform(),
            "processor": platform.machine(),
            "cpu_count": os.cpu_count(),
            "device": device,
        },
        "config": digests(config),
        "objects": dict(objects),
    }


def digests(config: Config) -> dict[str, str]:
    """Section or setting -> digest of it, for all that has an influence on what is sent.

    Where the records are found, how many processes compute and how often a run is tested and saved
    may change while it is interrupted.
    """
    values = config.model_dump(mode="json")
    for free in ("name", "workers", "device", "checkpoint", "evaluation"):
        del values[free]
    for free in ("dir", "download"):
        del values["data"][free]
    return {
        key: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
        for key, value in values.items()
    }


def refuse_another(where: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with anything else than what a run was started with.

    A message that is computed anew but not the same, under noise that is the same, would tell the
    difference of the two without any noise. So where the noise is repeatable, the arithmetic must
    be as well.

    Args:
        where: The run directory.
        begun: The manifest of the run as it was started.
        now: The manifest that it would have if it was started now.

    Raises:
        ConfigError: Naming what is another one: data, settings, own objects (where they were
            written down), or (with a noise seed) versions and device.
    """
    was, found = begun.get("data", {}).get("checksums", {}), now["data"]["checksums"]
    if was != found:
        raise ConfigError(
            f"{where} was started with data {was}, but what is found now is {found} "
            f"({now['data']['source']})"
        )
    if changed := _unlike(begun.get("config", {}), now["config"]):
        raise ConfigError(
            f"{where} was started with other settings of {', '.join(changed)}; put config.toml "
            "back to what it was, or start another run"
        )
    if changed := _unlike(begun.get("objects", now["objects"]), now["objects"]):
        raise ConfigError(
            f"{where} was started with another {', another '.join(changed)}; give those objects "
            "that it was started with, of the same classes and settings, or start another run"
        )
    seed = now["seeds"]["noise_seed"]
    before, after = _arithmetic(begun), _arithmetic(now)
    if seed is not None and (moved := _unlike(before, after)):
        changes = "; ".join(f"{name} {before.get(name)}, now {after.get(name)}" for name in moved)
        raise ConfigError(
            f"{where} was started with {changes}. privacy.noise_seed={seed} repeats the noise, and "
            "two messages that differ under the same noise give their difference away; resume it "
            "as it was started, or start another run"
        )


def _arithmetic(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the last bits of a number depend on."""
    versions = {name: v for name, v in manifest["versions"].items() if name != "python"}
    return versions | {"device": manifest["machine"]["device"]}


def _unlike(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
