"""What determines a measurement, as a hash: the model, the settings, the version and the code."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import json
import sys

from onr import __version__
from onr.experiments import Measurement
from onr.registry import registry
from onr.sweeps.grids import point_hash

__all__ = ["key"]


def key(measurement: Measurement) -> str:
    """16 hexadecimal digits of the model's configuration, the settings, the version and the code.

    The code is that of the function and of what it imports from its own package; the version stands
    for all other code.
    """
    determined = {
        "onr": __version__,
        "measurement": measurement.name,
        "code": _code(registry().resolve("measurement", measurement.name).target_module()),
        "settings": dict(measurement.settings),
        "model": measurement.model and point_hash(measurement.model),
        "trained": measurement.trained,
        "reference": measurement.reference,
    }
    return hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _code(module: str) -> str:
    """A hash of what a module and those of its package that it uses do.

    Layout, docstrings and the name of the package are left out.
    """
    digest, seen = hashlib.sha256(), {module}
    package, waiting = module.rpartition(".")[0] or module, [module]
    while waiting:
        name = waiting.pop(0)
        tree = ast.parse(_source(name))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):  # a text that stands alone does nothing
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
    except OSError:  # an empty file
        return ""


def _imported(node: ast.AST, module: str) -> list[str]:
    """What a statement in a module may import; not all of these names are modules."""
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
