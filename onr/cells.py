"""How far the linear region (ReLU cell) around an input reaches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onr.protocols import Norm

__all__ = ["cell_radius"]


def cell_radius(
    boundaries: Iterable[tuple[np.ndarray, np.ndarray]], input_shape: tuple[int, ...], /, *, p: Norm
) -> np.ndarray:
    """The largest ``eps`` with ``B_eps^p(x)`` inside the ReLU cell ``X(phi_x)``, exact.

    ``min_j |z_j| / ||grad_x z_j||_{p*}`` over the affine functions ``z_j`` that are zero on the
    cell's walls: a ball fits as long as it does not reach the nearest wall, and inside the cell
    each ``z_j`` is affine. A unit whose gradient is zero has no wall here (infinite); a unit that
    sits exactly at zero with a gradient gives radius 0.

    Args:
        boundaries: pairs of values ``(batch, m)`` and gradients ``(batch, m, n)``.
        input_shape: the shape of one input, for norms that need it.
        p: the norm of the ball.

    Returns:
        The radius of each example, shape ``(batch,)``; one ``inf`` for all of them if the network
        has no hidden units.

    """
    radius: np.ndarray | None = None
    for z, gradient in boundaries:
        batch, units, _ = gradient.shape
        steepness = p.dual(gradient.reshape(batch * units, *input_shape)).reshape(batch, units)
        far = np.full(steepness.shape, np.inf, dtype=steepness.dtype)
        np.divide(np.abs(z), steepness, out=far, where=steepness > 0)
        nearest = far.min(axis=1)
        radius = nearest if radius is None else np.minimum(radius, nearest)
    return np.array(np.inf) if radius is None else radius
