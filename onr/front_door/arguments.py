"""What users write for radii, seeds and labels, checked and converted."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import numpy as np

from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.feasible import doubt, require_radius
from onr.numerals import number
from onr.protocols import BackendNetwork, Norm
from onr.typing import Array

__all__ = [
    "RngLike",
    "described",
    "generator",
    "labels_of",
    "radius",
    "require_bounds",
    "warn_of",
    "whole_numbers",
]

RngLike = np.random.Generator | int | None


def generator(rng: RngLike, /) -> np.random.Generator:
    """A generator as it is; a whole number as its seed; nothing as seed 0.

    Raises:
        OnrError: ``rng`` is none of these.

    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer | None):
        raise OnrError(f"rng = {rng!r}: expected a NumPy generator, a whole number, or nothing")
    if rng is not None and rng < 0:
        raise OnrError(f"rng = {rng}: expected a seed >= 0")
    return np.random.default_rng(0 if rng is None else int(rng))


def radius(eps: float | str, /) -> float:
    """A number, or a fraction as text, ``"8/255"``.

    Raises:
        OnrError: a text that is no number, or neither text nor number.

    """
    if isinstance(eps, str):
        return require_radius(number(eps))
    if isinstance(eps, bool) or not isinstance(eps, numbers.Real):
        raise OnrError(f"eps is {described(eps)}: expected a number, or a text as '8/255'")
    return require_radius(float(eps))


def warn_of(p: Norm, /, *eps: float) -> None:
    """Warn the caller of the calling function of doubtful radii for pixels in [0, 1].

    Example:
        >>> from onr.norms import LpNorm
        >>> warn_of(LpNorm(math.inf), 8 / 255)

    """
    for each in eps:
        if told := doubt(p, each):
            warnings.warn(told, stacklevel=3)


def whole_numbers(y: Any, count: int, /) -> np.ndarray:
    """Labels as a NumPy array, ``(count,)``.

    Raises:
        OnrError: they are not one whole number for each input.

    Example:
        >>> whole_numbers([3, 1], 2)
        array([3, 1])

    """
    try:
        labels = np.asarray(y if isinstance(y, list | tuple) else to_numpy(y))
    except (TypeError, ValueError, AttributeError) as error:
        raise OnrError(f"y is {described(y)}: expected one label for each input") from error
    if labels.shape != (count,):
        raise OnrError(f"y has shape {labels.shape}: expected one label for each input, ({count},)")
    if not np.issubdtype(labels.dtype, np.integer):
        raise OnrError(f"y holds {labels.dtype}: expected whole numbers, one label for each input")
    return labels


def labels_of(y: Any, network: BackendNetwork, x: Array, /) -> Array:
    """Labels as the network takes them.

    Raises:
        OnrError: they are not one whole number in ``[0, d)`` for each input.

    """
    labels = whole_numbers(y, len(x))
    classes = network(x[:1]).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise OnrError(
            f"labels run from {labels.min()} to {labels.max()}: expected 0 to {classes - 1}"
        )
    return network.asarray(labels)


def require_bounds(bounds: Any, /) -> None:
    """Refuse bounds that are neither two numbers, the smaller one first, nor nothing.

    Raises:
        OnrError: they are not.

    Example:
        >>> require_bounds((0, 1))

    """
    try:
        low, high = (0.0, 1.0) if bounds is None else map(float, bounds)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not low < high:
        raise OnrError(f"bounds = {bounds!r}: expected two numbers, as (0, 1), or None")


def described(value: Any, /) -> str:
    """The type of a value with its article.

    Example:
        >>> described(3), described(np.zeros(2))
        ('an int', 'a numpy.ndarray')

    """
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
