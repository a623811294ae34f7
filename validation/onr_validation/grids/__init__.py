"""The grids of the frontiers of fast robust training, for ``onr sweep`` and ``onr reproduce``.

``frontier:tiny``, ``frontier:cpu`` and ``frontier:paper`` are the models of the experiment
``frontier`` at these scales; ``frontier:search`` are the settings that were searched before.
"""

from __future__ import annotations

from typing import Any

from onr.sweeps.grids import packaged_grid

__all__ = ["frontier"]


def frontier(name: str) -> dict[str, Any]:
    """The grid of this name, such as ``cpu``.

    Raises:
        OnrError: no grid has this name.

    Example:
        >>> frontier("tiny")["dataset"]
        'onr_paper:digits'

    """
    return packaged_grid(__name__, "frontier", name)
