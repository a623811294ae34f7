"""The constraints on the result of an attack: the ball around the input, and the pixel box."""

from __future__ import annotations

import math

from onr.arrays import array_namespace, flatten, is_half, to_numpy
from onr.errors import ImageError, OnrError
from onr.protocols import Array

__all__ = ["Bounds", "boxed", "require_inside", "require_radius", "require_range"]

Bounds = tuple[float, float]


def require_radius(eps: float) -> float:
    """Return ``eps`` if it is a finite number >= 0.

    Raises:
        OnrError: ``eps`` is negative, infinite or nan.

    Example:
        >>> require_radius(0.5)
        0.5

    """
    try:
        known = bool(0 <= eps < math.inf)
    except TypeError:
        known = False
    if not known:
        raise OnrError(f"eps = {eps!r}: expected a finite number >= 0")
    return eps


def require_range(x: Array, /, **lengths: Array | float) -> None:
    """Check that perturbations of these lengths do not overflow the float type of the inputs.

    Args:
        x: the inputs.
        lengths: a radius or step size by its name; an array or ``inf`` is not checked.

    Raises:
        OnrError: the inputs are no floats, or a finite length is more than a quarter of the largest
            number of their type.

    Example:
        >>> require_range(np.zeros((1, 2)), eps=0.5, alpha=math.inf)

    """
    is_half(x)
    if x.dtype == object:
        return
    limit = float(array_namespace(x).finfo(x.dtype).max) / 4
    for name, length in lengths.items():
        if not hasattr(length, "shape") and limit < length < math.inf:
            kind = str(x.dtype).removeprefix("torch.")
            raise OnrError(f"{name} = {length:g}: expected at most {limit:.3g} for {kind} inputs")


def require_inside(x: Array, bounds: Bounds | None, /) -> None:
    """Check that the inputs lie in the box; without bounds there is nothing to check.

    Raises:
        ImageError: an entry is below or above the bounds, or nan.
        OnrError: the inputs are no floats.

    Example:
        >>> require_inside(np.array([[0.0, 0.5, 1.0]]), (0, 1))

    """
    is_half(x)
    if bounds is None:
        return
    low, high = bounds
    inside = (x >= low) & (x <= high)
    if not bool(array_namespace(x).all(inside)):
        place = to_numpy(flatten(inside)).argmin()
        image = place // math.prod(x.shape[1:])
        raise ImageError(
            int(image),
            f"a pixel is {x.reshape(-1)[int(place)]:g}, outside [{low:g}, {high:g}]: give pixels in "
            "these bounds, and put the normalisation inside the model",
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
        moved = moved.clip(*bounds)
    return xp.astype(moved, x.dtype)
