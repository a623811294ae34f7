"""The Jacobian by linear regression on random perturbations (section 7.9)."""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import array_namespace, like
from onr.errors import OnrError
from onr.protocols import Array, Linearization

__all__ = ["regress_jacobian"]


def regress_jacobian(
    linearization: Linearization, /, *, rng: np.random.Generator, samples: int | None = None
) -> tuple[Array, Array]:
    """Estimate ``J`` and ``f(x)`` by regressing outputs on perturbations (section 7.9).

    This is the paper's method, kept for comparison. It costs ``samples`` jvps and a QR
    factorisation of a ``samples x (n + 1)`` matrix; :func:`onr.jacobians.dense.jacobian` costs
    ``d`` vjps and is exact.

    Gaussian perturbations ``delta_i`` of unit variance give outputs ``f(x) + J delta_i``. (Their
    scale is free, because the activation pattern is fixed.) The estimate ``(W, c)`` minimises
    ``sum_i ||f(x) + J delta_i - W delta_i - c||_2^2``. Without rounding, ``W = J`` and
    ``c = f(x)`` for every rank of ``J``. The condition number of the perturbations amplifies
    rounding errors: it is near 6 for ``2 n`` samples and of order ``n`` for the fewest, ``n + 1``.
    The errors are relative to the outputs, so a ``J`` much smaller than ``f(x)`` is lost.

    All examples share the perturbations, and so one factorisation. Everything is computed in the
    float type of the network and on its device: the comparison is about the accuracy of the method
    in that precision, and the outputs carry no more.

    Args:
        linearization: the network to first order at ``x``.
        rng: draws the perturbations.
        samples: how many perturbations; ``2 n`` if not given.

    Returns:
        ``W``, shape ``(batch, d, n)``, and ``c``, the fitted ``f(x)``, shape ``(batch, d)``. The
        paper's bias, for a map of the input instead of the perturbation, is ``b = c - W x``.

    Raises:
        OnrError: ``samples`` is less than ``n + 1``, the number of unknowns of a row of ``W``.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> J = np.arange(6.0).reshape(1, 2, 3)
        >>> W, c = regress_jacobian(Matrices(J), rng=np.random.default_rng(0))
        >>> np.allclose(W, J), np.allclose(c, 0)
        (True, True)

    """
    value, input_shape = linearization.value, linearization.input_shape
    xp = array_namespace(value)
    batch, d = value.shape
    n = math.prod(input_shape)
    samples = 2 * n if samples is None else samples
    if samples <= n:
        raise OnrError(f"samples = {samples}: expected at least n + 1 = {n + 1}")
    delta = like(rng.standard_normal((samples, n)), value)
    outputs = []
    for index in range(samples):
        v = xp.repeat(delta[index : index + 1], batch, axis=0)
        outputs.append(value + linearization.jvp(v.reshape((batch, *input_shape))))
    design = xp.concat([delta, xp.ones_like(delta[:, :1])], axis=1)
    Q, R = xp.linalg.qr(design)
    fit = xp.linalg.solve(R, Q.mT @ xp.stack(outputs).reshape((samples, batch * d)))
    fit = fit.reshape((n + 1, batch, d))
    return xp.permute_dims(fit[:-1], (1, 2, 0)), fit[-1]
