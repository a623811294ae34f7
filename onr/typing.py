"""The types that every signature uses. This module imports no other module of the project.

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
"""Which maximiser a duality map takes if there are several (Lemma 1)."""
Row: TypeAlias = dict[str, Any]
"""A row of a table: texts and numbers by the name of the column."""
Rng: TypeAlias = "np.random.Generator"
Kept: TypeAlias = "Array | None"
"""What a method kept of these examples at their last visit, ``(batch, ...)``, or ``None``."""
