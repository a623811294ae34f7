"""Merge the layers of a training configuration: defaults, a preset, a file, the command line."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onr.errors import OnrError, UnknownNameError
from onr.numerals import written
from onr.registry import canonical, load, located
from onr.training.config import TrainConfig

__all__ = ["OPTIONS", "absolute", "configuration", "preset", "read_configuration"]

OPTIONS = {"model_options": "model", "method_options": "method"}
"""For each table of options, the field that names their owner."""


def configuration(*layers: Mapping[str, Any]) -> TrainConfig:
    """Merge layers of settings into one configuration; a later layer overrides an earlier one.

    Options of models and methods are merged one by one. A layer that names another model or method
    drops the options that earlier layers gave to the old one.

    Args:
        layers: values by the name of a field of :class:`TrainConfig`; a hyphen counts as an
            underscore. Options may be numbers.

    Raises:
        OnrError: a name is not a field, or a value is not valid for its field.

    Example:
        >>> config = configuration({"method": "at", "method_options": {"eps": 1}}, {"seed": 3})
        >>> config.seed, config.method_options
        (3, {'eps': '1'})
        >>> configuration({"method_options": {"eps": 1}}, {"method": "dd-snr"}).method_options
        {}

    """
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    known = fields.keys()
    merged: dict[str, Any] = {owner: fields[owner].default for owner in OPTIONS.values()}
    for layer in layers:
        given = {name.replace("-", "_"): value for name, value in layer.items()}
        if len(given) < len(layer):
            twice = next(name for name in layer if "-" in name and name.replace("-", "_") in layer)
            raise OnrError(f"{twice} and {twice.replace('-', '_')} are one setting: give it once")
        unknown = sorted(given.keys() - known)
        if unknown:
            raise OnrError(f"unknown setting {unknown[0]!r}: expected {', '.join(sorted(known))}")
        for table, owner in OPTIONS.items():
            options = given.pop(table, {})
            if not isinstance(options, Mapping):
                raise OnrError(f"{table} = {options!r}: expected a table of options")
            same = owner not in given or _same(owner, given[owner], merged[owner])
            below = merged.get(table, {}) if same else {}
            merged[table] = below | {
                name.replace("-", "_"): _text(name, value) for name, value in options.items()
            }
        merged |= given
    return TrainConfig(**merged)


def _same(kind: str, one: Any, other: Any) -> bool:
    """Whether two names resolve to the same model or method."""
    if one == other or not (isinstance(one, str) and isinstance(other, str)):
        return bool(one == other)
    try:
        return canonical(kind, one) == canonical(kind, other)
    except UnknownNameError:  # raised again where the name is used
        return False


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OnrError(f"option {name} = {value!r}: expected a text or a number")
    return written(float(value))


def read_configuration(path: Path) -> dict[str, Any]:
    """Read the settings in a TOML file, or in the ``config.json`` of a run.

    Raises:
        OnrError: the file cannot be read.

    Example:
        >>> _ = (tmp_path / "my.toml").write_text('method = "at"')
        >>> read_configuration(tmp_path / "my.toml")
        {'method': 'at'}

    """
    try:
        text = path.read_text()
        if path.suffix == ".json":
            settings: dict[str, Any] = dict(json.loads(text)["train"].items())
        else:
            settings = tomllib.loads(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OnrError(
            f"{path} cannot be read ({reason}): expected a TOML file, or a run's config.json"
        ) from error
    return settings


def preset(name: str) -> dict[str, Any]:
    """The settings that a plugin offers under this name.

    Raises:
        OnrError: no plugin offers settings of this name.

    Example:
        >>> preset("paper:cifar10-dd-snr")["method_options"]
        {'eps': '0.875', 'lam': '0.03', 'steps': '10'}

    """
    settings: dict[str, Any] = load("preset", name)()
    return settings


def absolute(config: TrainConfig) -> TrainConfig:
    """The same configuration with absolute paths: a run can be resumed from any directory.

    Example:
        >>> absolute(TrainConfig(data_dir="data")).data_dir == str(Path("data").absolute())
        True

    """
    kind, colon, place = config.dataset.rpartition(":")
    if kind.rpartition(":")[2] in ("npz", "folder"):
        place = str(Path(place).absolute())
    return dataclasses.replace(
        config,
        data_dir=str(Path(config.data_dir).absolute()),
        dataset=f"{kind}{colon}{place}",
        model=located(config.model),
        weights=config.weights and str(Path(config.weights).absolute()),
    )
