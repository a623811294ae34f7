"""The largest singular value of the logits' Jacobian at each input."""

from __future__ import annotations

import numpy as np

from onr.arrays import to_numpy
from onr.errors import ImageError
from onr.jacobians.dense import singular_values
from onr.jacobians.lanczos import singular_triplets
from onr.protocols import Network
from onr.typing import Array

__all__ = ["largest_singular_values"]

FEW = 64
"""The most outputs of which the whole Jacobian is formed."""
TOLERANCE = 1e-3
"""The residual of a largest singular value, relative to that value, that ends its iteration."""


def largest_singular_values(network: Network, x: Array, /, *, first: int = 0) -> np.ndarray:
    """The largest singular value of the logits' Jacobian at each input of a batch, ``(batch,)``.

    Exact for at most 64 outputs. For more it is a lower bound by Lanczos, which goes on until the
    residual is at most 1e-3 of the value.

    Args:
        network: the network.
        x: the inputs of a batch, ``(batch, *input_shape)``.
        first: the number of inputs before these.

    Raises:
        ImageError: a value is not finite.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> found = largest_singular_values(network, np.zeros((4, 3)))
        >>> found.shape, bool((found == found[0]).all())
        ((4,), True)

    """
    J = network.linearize(x)
    if J.output_shape[0] <= FEW:
        values = singular_values(J)
    else:
        values = singular_triplets(J, 1, rng=np.random.default_rng(0), tolerance=TOLERANCE).S
    largest = to_numpy(values)[:, 0]
    if not np.isfinite(largest).all():
        index = int(np.isfinite(largest).argmin())
        raise ImageError(
            first + index,
            f"the largest singular value of its Jacobian is {largest[index]}: expected a "
            "network with finite derivatives",
        )
    return largest
