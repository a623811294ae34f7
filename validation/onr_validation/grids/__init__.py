"""The grids of the frontiers of fast robust training, for ``onr sweep`` and ``onr reproduce``.

``frontier:tiny``, ``frontier:cpu`` and ``frontier:paper`` are the models of the experiment
``frontier`` at these scales; ``frontier:search`` are the settings that were searched before.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from onr.errors import OnrError

__all__ = ["frontier"]


def frontier(name: str) -> dict[str, Any]:
    """The grid of this name, such as ``cpu``.

    Raises:
        OnrError: no grid has this name.

    Example:
        >>> frontier("tiny")["dataset"]
        'onr_paper:digits'

    """
    found = {file.name: file for file in files(__name__).iterdir() if file.name.endswith(".toml")}
    file = found.get(f"{name}.toml")
    if file is None:
        names = ", ".join(sorted(name.removesuffix(".toml") for name in found))
        raise OnrError(f"no grid frontier:{name}: expected one of {names}")
    return tomllib.loads(file.read_text(encoding="utf-8"))
