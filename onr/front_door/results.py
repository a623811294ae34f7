"""Results in arrays of the package that the user's inputs come from."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from onr.arrays import array_namespace, device
from onr.typing import Array

__all__ = ["in_package_of"]


def in_package_of(x: Array, found: Any, /) -> Any:
    """A result with its NumPy arrays converted to arrays of the package and on the device of ``x``.

    The types of numbers stay. The result is an array, or a dataclass with arrays as fields.

    Example:
        >>> import torch
        >>> in_package_of(torch.zeros(3), np.arange(2))
        tensor([0, 1])

    """
    if is_dataclass(found) and not isinstance(found, type):
        parts = {part.name: getattr(found, part.name) for part in fields(found)}
        return replace(found, **{name: in_package_of(x, part) for name, part in parts.items()})
    if not isinstance(found, np.ndarray) or isinstance(x, np.ndarray):
        return found
    return array_namespace(x).asarray(found, device=device(x))
