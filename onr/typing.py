"""The types that every signature uses. This module imports nothing of the project.

``Array`` is a ``numpy.ndarray`` (also of exact numbers, ``dtype=object``), a ``torch.Tensor``, or
another array that ``array_api_compat`` knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Array", "Kept", "Rng", "Row", "Ties"]

Array: TypeAlias = Any
Ties: TypeAlias = Literal["average", "vertex"]
"""Which maximiser a duality map takes where there are several (Lemma 1)."""
Row: TypeAlias = dict[str, Any]
"""A line of a table: texts and numbers by column."""
Rng: TypeAlias = "np.random.Generator"
Kept: TypeAlias = "Array | None"
"""What a method kept for these examples when they last came, ``(batch, ...)``; ``None`` before."""
