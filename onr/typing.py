"""The types that every signature uses. This module imports nothing of the project.

``Array`` is a ``numpy.ndarray`` (also of exact numbers, ``dtype=object``), a ``torch.Tensor``, or
another array that ``array_api_compat`` knows.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

__all__ = ["Array", "Row", "Ties"]

Array: TypeAlias = Any
Ties: TypeAlias = Literal["average", "vertex"]
"""Which maximiser a duality map takes where there are several (Lemma 1)."""
Row: TypeAlias = dict[str, Any]
"""A line of a table: texts and numbers by column."""
