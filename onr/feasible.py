"""What an attack may return: a point of the ball and of the box."""

from __future__ import annotations

import math

from onr.arrays import array_namespace
from onr.errors import OnrError
from onr.protocols import Array

__all__ = ["Bounds", "boxed", "require_inside", "require_radius"]

Bounds = tuple[float, float]


def require_radius(eps: float) -> float:
    """``eps``, if it is a radius.

    Raises:
        OnrError: it is negative, infinite or no number.

    """
    if not 0 <= eps < math.inf:
        raise OnrError(f"eps = {eps}: expected a finite number >= 0")
    return eps


def require_inside(x: Array, bounds: Bounds | None, /) -> None:
    """Refuse inputs that are not in the box.

    Raises:
        OnrError: an entry is below or above the bounds, or no number.

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
    """``x + delta`` clipped to the box, of the float type of ``x``.

    For ``x`` in the box, clipping shrinks every entry of ``delta``: a point of the ball of a norm
    that depends on magnitudes alone stays in the ball.
    """
    xp = array_namespace(x)
    moved = x + delta
    if bounds is not None:
        low, high = (xp.zeros_like(moved) + bound for bound in bounds)
        moved = xp.minimum(xp.maximum(moved, low), high)
    return xp.astype(moved, x.dtype)
