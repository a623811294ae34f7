"""The constraints on the result of an attack: the ball around the input, and the pixel box."""

from __future__ import annotations

import math

from onr.arrays import array_namespace
from onr.errors import OnrError
from onr.protocols import Array

__all__ = ["Bounds", "boxed", "require_inside", "require_radius"]

Bounds = tuple[float, float]


def require_radius(eps: float) -> float:
    """Return ``eps`` if it is a finite number >= 0.

    Raises:
        OnrError: ``eps`` is negative, infinite or nan.

    Example:
        >>> require_radius(0.5)
        0.5

    """
    if not 0 <= eps < math.inf:
        raise OnrError(f"eps = {eps}: expected a finite number >= 0")
    return eps


def require_inside(x: Array, bounds: Bounds | None, /) -> None:
    """Check that the inputs lie in the box; without bounds there is nothing to check.

    Raises:
        OnrError: an entry is below or above the bounds, or nan.

    Example:
        >>> require_inside(np.array([[0.0, 0.5, 1.0]]), (0, 1))

    """
    if bounds is None:
        return
    low, high = bounds
    if not bool(array_namespace(x).all((x >= low) & (x <= high))):
        raise OnrError(
            f"inputs reach outside [{low:g}, {high:g}]: expected pixels in these bounds; "
            "put the normalisation inside the model"
        )


def boxed(x: Array, delta: Array, bounds: Bounds | None, /) -> Array:
    """Clip ``x + delta`` to the box; the result has the float type of ``x``.

    For ``x`` in the box, clipping only shrinks the entries of the perturbation. The perturbation
    therefore stays in its ball if the norm depends on magnitudes alone.

    Example:
        >>> boxed(np.array([[0.5, 0.9]]), np.array([[0.25, 0.25]]), (0, 1))
        array([[0.75, 1.  ]])

    """
    xp = array_namespace(x)
    moved = x + delta
    if bounds is not None:
        low, high = (xp.zeros_like(moved) + bound for bound in bounds)
        moved = xp.minimum(xp.maximum(moved, low), high)
    return xp.astype(moved, x.dtype)
