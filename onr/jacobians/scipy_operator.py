"""The Jacobian of one example as a SciPy ``LinearOperator``."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse.linalg import LinearOperator

from onr.arrays import like, to_numpy
from onr.errors import OnrError
from onr.protocols import Linearization

__all__ = ["linear_operator"]


def linear_operator(linearization: Linearization, /) -> LinearOperator:
    """``J`` of one example as a SciPy operator of shape ``(d, n)``; the matrix is never formed.

    ``scipy.sparse.linalg.svds`` and ``lsqr``, for example, take the operator. Vectors are real
    NumPy arrays, and inputs are flattened. ``matvec`` is one ``jvp`` and ``rmatvec`` one ``vjp``,
    on the device and in the float type of the network, which is the ``dtype`` of the operator.

    Raises:
        OnrError: the batch does not have exactly one example, or a vector is complex.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> operator = linear_operator(Matrices(np.array([[[1.0, 2.0], [3.0, 4.0]]])))
        >>> operator.matvec(np.array([1.0, 0.0]))
        array([1., 3.])

    """
    value = linearization.value
    batch, d = value.shape
    if batch != 1:
        raise OnrError(
            f"a linearization at {batch} inputs: an operator is the Jacobian at one input; "
            "linearize at x[i : i + 1]"
        )
    dtype = to_numpy(value).dtype

    def real(z: np.ndarray) -> np.ndarray:
        if np.iscomplexobj(z):
            raise OnrError(f"a vector of {z.dtype}: expected real numbers")
        return np.array(z, dtype)

    input_shape = linearization.input_shape

    # Copy each vector: SciPy may pass views of its workspace, and torch takes no reversed views.
    def matvec(v: np.ndarray) -> np.ndarray:
        direction = like(real(v).reshape(1, *input_shape), value)
        return to_numpy(linearization.jvp(direction)).reshape(-1)

    def rmatvec(u: np.ndarray) -> np.ndarray:
        direction = like(real(u).reshape(1, d), value)
        return to_numpy(linearization.vjp(direction)).reshape(-1)

    shape = (d, math.prod(input_shape))
    return LinearOperator(shape, matvec=matvec, rmatvec=rmatvec, dtype=dtype)
