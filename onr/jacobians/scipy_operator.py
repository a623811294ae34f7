"""The Jacobian of one example as an operator of SciPy."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse.linalg import LinearOperator

from onr.arrays import like, to_numpy
from onr.errors import OnrError
from onr.protocols import Linearization

__all__ = ["linear_operator"]


def linear_operator(linearization: Linearization, /) -> LinearOperator:
    """``J`` of one example, shape ``(d, n)``, for ``scipy.sparse.linalg``: never formed.

    ``svds`` and ``lsqr`` take it. Vectors are real NumPy arrays, inputs flattened. ``matvec`` is a
    ``jvp`` and ``rmatvec`` a ``vjp``, in the network's float type, which is the operator's
    ``dtype``, and on its device.

    Raises:
        OnrError: the batch does not have exactly one example.

    """
    value = linearization.value
    batch, d = value.shape
    if batch != 1:
        raise OnrError(
            f"a linearization at {batch} inputs: an operator is the Jacobian at one, linearize "
            "at x[i : i + 1]"
        )
    dtype = to_numpy(value).dtype
    input_shape = linearization.input_shape

    # Copies: SciPy may pass views of its workspace, and torch takes none that is reversed.
    def matvec(v: np.ndarray) -> np.ndarray:
        direction = like(np.array(v, dtype).reshape(1, *input_shape), value)
        return to_numpy(linearization.jvp(direction)).reshape(-1)

    def rmatvec(u: np.ndarray) -> np.ndarray:
        direction = like(np.array(u, dtype).reshape(1, d), value)
        return to_numpy(linearization.vjp(direction)).reshape(-1)

    shape = (d, math.prod(input_shape))
    return LinearOperator(shape, matvec=matvec, rmatvec=rmatvec, dtype=dtype)
