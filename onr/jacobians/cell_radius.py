"""The size of the linear region (ReLU cell) around an input."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from onr.norms import as_norm
from onr.protocols import Norm

__all__ = ["cell_radius"]


def cell_radius(
    boundaries: Iterable[tuple[np.ndarray, np.ndarray]],
    input_shape: tuple[int, ...],
    /,
    *,
    p: Norm | float,
) -> np.ndarray:
    """The largest ``eps`` with ``B_eps^p(x)`` inside the ReLU cell ``X(phi_x)``, exact.

    The radius is the distance to the nearest wall, ``min_j |z_j| / ||grad_x z_j||_{p*}`` over the
    functions ``z_j`` that are zero on the walls and affine inside the cell. A unit whose gradient
    is zero has no wall (infinite distance). A unit that is exactly zero and has a nonzero gradient
    gives radius 0.

    Args:
        boundaries: pairs of values ``z``, shape ``(batch, m)``, and gradients ``(batch, m, n)``.
        input_shape: the shape of one input, for norms that need it.
        p: the norm of the ball; a number is an lp norm.

    Returns:
        The radius of each example, shape ``(batch,)``; a single ``inf``, shape ``()``, if the
        network has no hidden units.

    Example:
        >>> z, gradient = np.array([[2.0, -1.0]]), np.array([[[1.0, 0.0], [1.0, 1.0]]])
        >>> cell_radius([(z, gradient)], (2,), p=math.inf)
        array([0.5])

    """
    dual = as_norm(p).dual
    values, slopes = [], []
    for z, gradient in boundaries:
        batch, units, _ = gradient.shape
        values.append(np.abs(z))
        slopes.append(dual(gradient.reshape(batch * units, *input_shape)).reshape(batch, units))
    if not values:
        return np.array(np.inf)
    distance, steepness = np.concatenate(values, axis=1), np.concatenate(slopes, axis=1)
    if distance.dtype == object:
        nearest = [
            min((a / b for a, b in zip(*row, strict=True) if b > 0), default=math.inf)
            for row in zip(distance, steepness, strict=True)
        ]
        return np.array(nearest, dtype=object)
    far = np.full_like(distance, np.inf)
    np.divide(distance, steepness, out=far, where=steepness > 0)
    smallest: np.ndarray = far.min(axis=1)
    return smallest
