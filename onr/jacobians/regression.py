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
    """``W ~ J`` and ``f(x)``, by regressing outputs on perturbations (section 7.9).

    The method of the paper, here to be compared with: it costs ``samples`` jvps and a QR
    factorisation of ``samples x (n + 1)``, where :func:`onr.jacobians.dense.jacobian` costs ``d``
    vjps and is exact. Gaussian perturbations ``delta_i`` with unit variance (their scale is free,
    as the activations are frozen) give outputs ``f(x) + J delta_i``, and ``(W, c)`` minimises
    ``sum_i ||f(x) + J delta_i - W delta_i - c||_2^2``. Without rounding ``W = J`` and
    ``c = f(x)``, whatever the rank of ``J``; rounding is amplified by the condition of the
    perturbations, near 6 for ``2 n`` samples and of order ``n`` for the fewest, ``n + 1``. It is
    relative to the outputs, so that a ``J`` much smaller than ``f(x)`` is lost.

    The perturbations are common to the examples, which then share one factorisation. All of it is
    done in the float type of the network and on its device: the accuracy of the method in that
    precision is what there is to compare, and the outputs carry no more.

    Args:
        linearization: the network at ``x``.
        rng: where the perturbations come from.
        samples: how many; ``2 n`` if not given.

    Returns:
        ``W`` of shape ``(batch, d, n)`` and ``c``, the fitted ``f(x)``, of shape ``(batch, d)``.
        The bias of the paper, for a map of the input and not of the perturbation, is
        ``b = c - W x``.

    Raises:
        OnrError: fewer samples than the ``n + 1`` unknowns of a row.

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
