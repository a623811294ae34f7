"""The fingerprint of a measurement: a hash of its model, settings, version and code."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import json
import sys

from onr.experiments import Measurement
from onr.registry import registry
from onr.training.config_hash import config_hash
from onr.version import __version__

__all__ = ["key"]


def key(measurement: Measurement) -> str:
    """The fingerprint of a measurement, as 16 hexadecimal digits.

    The hash covers the model's configuration, the settings, the version of onr and the code. The
    code is the module of the measuring function and the modules that it imports from its own
    package. The version stands for all other code.

    Example:
        >>> few = Measurement("onr_validation:table1", settings={"trials": 2})
        >>> many = Measurement("onr_validation:table1", settings={"trials": 50})
        >>> len(key(few)), key(few) == key(many)
        (16, False)

    """
    determined = {
        "onr": __version__,
        "measurement": measurement.name,
        "code": _code(registry().resolve("measurement", measurement.name).target_module()),
        "settings": dict(measurement.settings),
        "model": measurement.model and config_hash(measurement.model),
        "trained": measurement.trained,
        "reference": measurement.reference,
    }
    if measurement.averaged:
        determined["averaged"] = True
    return hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _code(module: str) -> str:
    """A hash of the code of a module and of the modules that it uses from its own package.

    Layout, comments, docstrings and the name of the package do not change the hash.
    """
    digest, seen = hashlib.sha256(), {module}
    package, waiting = module.rpartition(".")[0] or module, [module]
    while waiting:
        name = waiting.pop(0)
        tree = ast.parse(_source(name))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):  # docstrings do not change what code does
                node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
            for used in _imported(node, name):
                if used.startswith(f"{package}.") and used in sys.modules and used not in seen:
                    waiting.append(used)
                    seen.add(used)
        digest.update(f"{name.removeprefix(package)} {ast.dump(tree)}".encode())
    return digest.hexdigest()


def _source(module: str) -> str:
    try:
        return inspect.getsource(sys.modules[module])
    except OSError:  # raised for an empty file
        return ""


def _imported(node: ast.AST, module: str) -> list[str]:
    """The names that a statement may import, as absolute names; not every name is a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    name = "." * node.level + (node.module or "")
    source = importlib.util.resolve_name(name, sys.modules[module].__package__)
    return [source, *(f"{source}.{alias.name}" for alias in node.names)]


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
