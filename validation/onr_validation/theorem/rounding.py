"""Bounds on the rounding of a dense network's value, jvp and vjp in float64.

The bounds follow from a standard running error analysis (Higham, "Accuracy and Stability of
Numerical Algorithms", 2002, sections 3.1 and 3.3). A product ``W z + b`` of length ``m``, summed in
any order, is computed with an error of at most ``gamma_(m+2) (|W| |z| + |b|)``, on top of ``|W|``
times the error of ``z``. ReLU and the maximum over a window are 1-Lipschitz and do not round. The
bounds are rigorous for every implementation that sums products of the same weights, including the
torch backend.
"""

from __future__ import annotations

import numpy as np

from onr_numpy.layers import Dense, Pooling, Rectifier
from onr_numpy.network import DenseLinearization

__all__ = ["UNIT", "jvp_rounding", "value_rounding", "vjp_rounding"]

UNIT = 2.0**-53
"""The unit roundoff of float64."""


def _gamma(length: int) -> float:
    # 1.01 covers the second-order terms and the rounding of the bound's own evaluation.
    return 1.01 * (length + 2) * UNIT


def value_rounding(point: DenseLinearization, input_error: np.ndarray) -> np.ndarray:
    """An entrywise bound on the error of ``f(x)``, shape ``(batch, d)``.

    Args:
        point: the linearization of the network at ``x``.
        input_error: an entrywise bound on the error of ``x`` itself, shape ``(batch, n)``.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.network import DenseNetwork
        >>> parameters = {"0.weight": np.array([[2.0, 1.0]]), "0.bias": np.zeros(1)}
        >>> network = DenseNetwork(Architecture((2,), (Affine(1),)), parameters)
        >>> point = network.linearize(np.array([[3.0, 4.0]]))
        >>> value_rounding(point, np.zeros((1, 2))) < 1e-14
        array([[ True]])

    """
    error = input_error
    for layer, z in zip(point.network.layers, point.inputs, strict=True):
        if isinstance(layer, Dense):
            magnitude = np.abs(layer.weight)
            size = np.abs(z) @ magnitude.T + np.abs(layer.bias)
            error = error @ magnitude.T + _gamma(magnitude.shape[1]) * size
        elif isinstance(layer, Pooling):
            error = error[:, layer.windows].max(axis=2)
    return error


def jvp_rounding(point: DenseLinearization, v: np.ndarray) -> np.ndarray:
    """An entrywise bound on the error of ``J v``, shape ``(batch, d)``.

    Args:
        point: the linearization of the network at ``x``.
        v: the directions, shape ``(batch, *input_shape)``.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.network import DenseNetwork
        >>> parameters = {"0.weight": np.array([[2.0, 1.0]]), "0.bias": np.zeros(1)}
        >>> network = DenseNetwork(Architecture((2,), (Affine(1),)), parameters)
        >>> point = network.linearize(np.array([[3.0, 4.0]]))
        >>> jvp_rounding(point, np.ones((1, 2))) < 1e-14
        array([[ True]])

    """
    tangent = v.reshape(len(v), -1)
    error = np.zeros_like(tangent)
    for layer, memory in zip(point.network.layers, point.memory, strict=True):
        if isinstance(layer, Dense):
            magnitude = np.abs(layer.weight)
            error = error @ magnitude.T
            error += _gamma(magnitude.shape[1]) * (np.abs(tangent) @ magnitude.T)
        else:
            error = layer.jvp(error, memory)
        tangent = layer.jvp(tangent, memory)
    return error


def vjp_rounding(point: DenseLinearization, u: np.ndarray) -> np.ndarray:
    """An entrywise bound on the error of ``J^T u``, shape ``(batch, n)``.

    Args:
        point: the linearization of the network at ``x``.
        u: the directions in logit space, shape ``(batch, d)``.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.network import DenseNetwork
        >>> parameters = {"0.weight": np.array([[2.0, 1.0]]), "0.bias": np.zeros(1)}
        >>> network = DenseNetwork(Architecture((2,), (Affine(1),)), parameters)
        >>> point = network.linearize(np.array([[3.0, 4.0]]))
        >>> vjp_rounding(point, np.ones((1, 1))) < 1e-14
        array([[ True,  True]])

    """
    error = np.zeros_like(u)
    for layer, memory in zip(reversed(point.network.layers), reversed(point.memory), strict=True):
        if isinstance(layer, Dense):
            magnitude = np.abs(layer.weight)
            error = error @ magnitude + _gamma(magnitude.shape[0]) * (np.abs(u) @ magnitude)
        else:
            assert isinstance(layer, Rectifier | Pooling)  # noqa: S101 - the rest of the union
            error = layer.vjp(error, memory)
        u = layer.vjp(u, memory)
    return error
