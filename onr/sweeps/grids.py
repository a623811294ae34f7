"""Grids of configurations: from a file to the points of a product, each with its hash."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from onr.errors import OnrError, UnknownNameError
from onr.numerals import written
from onr.registry import canonical, load, registry
from onr.text import call
from onr.training.config import TrainConfig
from onr.training.factories import make_method
from onr.training.layers import OPTIONS, absolute, configuration, preset, read_configuration

__all__ = ["expanded", "flat", "point_hash", "read_grid"]

LEFT_OUT = ("data_dir", "device", "download", "tensorboard")
"""Settings that do not affect the weights; they are excluded from the hash."""
NAMES = ("backend", "dataset", "model", "method")
FORMULA = "="


def read_grid(spec: str) -> dict[str, Any]:
    """The grid in a TOML file, or one that a plugin offers.

    Raises:
        OnrError: there is none.

    """
    if spec.endswith(".toml"):
        return read_configuration(Path(spec))
    try:
        grid: dict[str, Any] = load("grid", spec)()
    except UnknownNameError as error:
        raise OnrError(f"{error}, or a file that ends in .toml") from error
    return grid


def expanded(
    grid: Mapping[str, Any], fixed: Mapping[tuple[str, ...], Any] | None = None
) -> dict[str, TrainConfig]:
    """The points of a grid by their hash, in the order of the product.

    Besides ``grid``, a grid has settings that its points share. ``grid`` is a table, or several
    whose points are united. A list there is an axis, anything else one more setting; options of
    models and methods are tables, in which a text ``=3*eps/steps`` is computed from the others.
    ``preset`` is the layer below all of these.

    Args:
        grid: as a file has it.
        fixed: by the path of a setting, what takes the place of that setting or axis.

    Raises:
        OnrError: a setting or a value is none, or two points differ in nothing that matters.

    """
    shared = {name: value for name, value in grid.items() if name != "grid"}
    tables = grid.get("grid")
    tables = [tables] if isinstance(tables, Mapping) else tables
    if not (isinstance(tables, list) and tables and all(isinstance(t, Mapping) for t in tables)):
        raise OnrError("expected a table [grid], or several [[grid]]")
    usual = shared.pop("preset", None)
    found: dict[str, TrainConfig] = {}
    for table in tables:
        axes = _axes(table) | _listed(fixed or {})
        for values in itertools.product(*axes.values()):
            layer = _layer(zip(axes, values, strict=True))
            name = layer.pop("preset", usual)
            if not isinstance(name, str | None):
                raise OnrError(f"preset = {name!r}: expected a name")
            below = [] if name is None else [preset(name)]
            config = absolute(_computed(configuration(*below, shared, layer)))
            known = found.setdefault(point_hash(config), config)
            if known != config:
                (name, *_) = (k for k in LEFT_OUT if getattr(known, k) != getattr(config, k))
                raise OnrError(f"{name}: expected one value, it does not change the result")
    _check(found.values())
    return found


def _axes(table: Mapping[str, Any]) -> dict[tuple[str, ...], list[Any]]:
    paths: dict[tuple[str, ...], Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            paths |= {(name, option): within for option, within in value.items()}
        else:
            paths[(name,)] = value
    return _listed(paths)


def _listed(paths: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], list[Any]]:
    axes: dict[tuple[str, ...], list[Any]] = {}
    for path, value in paths.items():
        known = tuple(name.replace("-", "_") for name in path)
        if known in axes:
            raise OnrError(f"{'.'.join(known)} is given twice: give it once")
        axes[known] = value if isinstance(value, list) else [value]
    for path, values in axes.items():
        if not values:
            raise OnrError(f"{'.'.join(path)} = []: expected at least one value")
    return axes


def _layer(settings: Iterable[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    layer: dict[str, Any] = {}
    for path, value in settings:
        table = layer
        for name in path[:-1]:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise OnrError(f"{'.'.join(path)}: {name} is no table here")
        table[path[-1]] = dict(value) if isinstance(value, Mapping) else value
    return layer


def _computed(config: TrainConfig) -> TrainConfig:
    """The same with the formulas among its options replaced by their values."""
    computed: dict[str, Any] = {}
    for name in OPTIONS:
        options: dict[str, str] = getattr(config, name)
        computed[name] = {
            option: _value(text, options) if text.startswith(FORMULA) else text
            for option, text in options.items()
        }
    return dataclasses.replace(config, **computed)


def _value(formula: str, options: Mapping[str, str]) -> str:
    """``=3*eps/steps``: factors are numbers or other options; exact, then rounded once."""
    first, *rest = re.split(r"([*/])", formula.removeprefix(FORMULA))
    try:
        value = _factor(first, options)
        for sign, text in zip(rest[::2], rest[1::2], strict=True):
            factor = _factor(text, options)
            value = value * factor if sign == "*" else value / factor
        return written(float(value))
    except (ValueError, ArithmeticError):
        known = ", ".join(name for name, text in options.items() if not text.startswith(FORMULA))
        raise OnrError(
            f"{formula!r} cannot be computed: expected numbers and options that are set to numbers "
            f"({known or 'none'}), with * and / between"
        ) from None


def _factor(text: str, options: Mapping[str, str]) -> Fraction:
    return Fraction(options.get(text.strip(), text))


def point_hash(config: TrainConfig) -> str:
    """12 hexadecimal digits of all that determines the weights.

    Settings at their defaults are left out, so that a setting that a later version adds changes no
    hash. Names count with their plugin, whichever way they were written.
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


def _check(configs: Iterable[TrainConfig]) -> None:
    """Raise for names and options that no plugin has, before anything is trained."""
    seen: set[str] = set()
    for config in configs:
        names = {kind: getattr(config, kind) for kind in NAMES if kind != "method"}
        model = json.dumps([names, config.model_options], sort_keys=True)
        if model not in seen:
            seen.add(model)
            for kind, name in names.items():
                registry().resolve(kind, name)
            made = load("model", config.model)
            reader = functools.wraps(made)(lambda *arguments, **options: None)
            call(reader, config.model_options, what=f"model {config.model}", normalize=None)
        make_method(config)


def flat(config: TrainConfig) -> dict[str, Any]:
    """Settings by path, of those that are hashed."""
    flat: dict[str, Any] = {}
    for name, value in asdict(config).items():
        if name in OPTIONS:
            flat |= {f"{name}.{option}": text for option, text in value.items()}
        elif name not in LEFT_OUT:
            flat[name] = value
    return flat
