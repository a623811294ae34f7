"""Grids of configurations: read a grid, and expand it to points with a hash each."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

from onr.errors import OnrError, UnknownNameError
from onr.numerals import written
from onr.registry import bare, load, registry
from onr.text import call
from onr.training.config import TrainConfig
from onr.training.config_hash import LEFT_OUT, NAMES, config_hash
from onr.training.factories import make_method
from onr.training.layered_config import OPTIONS, absolute, configuration, preset, read_configuration

__all__ = ["expanded", "packaged_grid", "read_grid"]

FORMULA = "="


def read_grid(spec: str) -> dict[str, Any]:
    """Read the grid in a TOML file, or one that a plugin offers.

    Args:
        spec: a file name that ends in ``.toml``, or the name of a plugin's grid.

    Raises:
        OnrError: the file cannot be read, or no plugin offers a grid of this name.

    Example:
        >>> read_grid("paper:table3-global-snr")["grid"]["method_options"]["steps"]
        [1, 10]

    """
    if spec.endswith(".toml"):
        return read_configuration(Path(spec))
    try:
        grid: dict[str, Any] = load("grid", spec)()
    except UnknownNameError as error:
        raise OnrError(f"{error}, or a file that ends in .toml") from error
    return grid


def packaged_grid(package: str, kind: str, name: str) -> dict[str, Any]:
    """The grid in the file ``NAME.toml`` of a package, for plugins that bring several grids.

    Args:
        package: the package with the files, such as ``my_plugin.grids``.
        kind: what users write before the colon, for errors: ``KIND:NAME``.
        name: the name of the file without ``.toml``.

    Raises:
        OnrError: the package has no such file.

    Example:
        >>> packaged_grid("onr_paper.grids", "paper", "table3-global-snr")["preset"]
        'onr_paper:paper:cifar10-global-snr'

    """
    found = {file.name: file for file in files(package).iterdir() if file.name.endswith(".toml")}
    file = found.get(f"{name}.toml")
    if file is None:
        names = ", ".join(sorted(name.removesuffix(".toml") for name in found))
        raise OnrError(f"no grid {kind}:{name}: expected one of {names}")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def expanded(
    grid: Mapping[str, Any], fixed: Mapping[tuple[str, ...], Any] | None = None
) -> dict[str, TrainConfig]:
    """The points of a grid by their hash, in the order of the product.

    A grid has shared settings, and under ``grid`` one table of settings or several. In a table a
    list is an axis of values, and any other value is a single setting. The points of a table are
    the product of its axes, and the points of several tables are united. Options of models and
    methods are tables within the table; a text such as ``=3*eps/steps`` is computed from the other
    options. All other settings override those of ``preset``.

    Args:
        grid: the parsed content of a grid file.
        fixed: values by the path of a setting; each replaces that setting or axis in every table.

    Raises:
        OnrError: a setting or a value is not valid, or two points differ only in settings that do
            not affect the weights.

    Example:
        >>> options = {"eps": [0.5, 1], "steps": 4, "alpha": "=2*eps/steps"}
        >>> points = expanded({"method": "at", "grid": {"method_options": options}})
        >>> [config.method_options["alpha"] for config in points.values()]
        ['0.25', '0.5']

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
            known = found.setdefault(config_hash(config), config)
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
    """The same configuration with the formulas in its options replaced by their values."""
    computed: dict[str, Any] = {}
    for name in OPTIONS:
        options: dict[str, str] = getattr(config, name)
        computed[name] = {
            option: _value(text, options) if text.startswith(FORMULA) else text
            for option, text in options.items()
        }
    return dataclasses.replace(config, **computed)


def _value(formula: str, options: Mapping[str, str]) -> str:
    """The value of a formula such as ``=3*eps/steps``, whose factors are numbers or options.

    The arithmetic is exact, and the result is rounded once.
    """
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


def _check(configs: Iterable[TrainConfig]) -> None:
    """Raise an error for unknown names and options before anything is trained."""
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
            call(reader, config.model_options, what=f"model {bare(config.model)}", normalize=None)
        make_method(config)
