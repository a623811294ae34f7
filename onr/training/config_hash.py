"""The hash of a configuration, which names a point of a sweep; and its settings by path."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from typing import Any

from onr.registry import canonical
from onr.training.config import TrainConfig
from onr.training.layered_config import OPTIONS

__all__ = ["LEFT_OUT", "NAMES", "config_hash", "flat"]

LEFT_OUT = ("data_dir", "device", "download", "tensorboard")
"""Settings that do not affect the weights; they are excluded from the hash."""
NAMES = ("backend", "dataset", "model", "method")


def config_hash(config: TrainConfig) -> str:
    """A hash of all settings that affect the weights, 12 hexadecimal digits.

    Settings at their default values are left out, so that a setting added by a later version does
    not change the hash. Names are hashed with the plugin in front, however the user wrote them.

    Example:
        >>> config_hash(TrainConfig(device="cuda")) == config_hash(TrainConfig())
        True
        >>> config_hash(TrainConfig(model="mlp")) == config_hash(TrainConfig(model="onr_paper:mlp"))
        True

    """
    settings = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in NAMES:
            value = canonical(field.name, value)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if field.name not in LEFT_OUT and value != default:
            settings[field.name] = float(value) if isinstance(default, float) else value
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def flat(config: TrainConfig) -> dict[str, Any]:
    """The settings that affect the weights, by path; each option is an entry of its own.

    Example:
        >>> flat(TrainConfig(model_options={"width": "8"}))["model_options.width"]
        '8'

    """
    flat: dict[str, Any] = {}
    for name, value in asdict(config).items():
        if name in OPTIONS:
            flat |= {f"{name}.{option}": text for option, text in value.items()}
        elif name not in LEFT_OUT:
            flat[name] = value
    return flat
