"""Eq. 12 from many starts at once: the best lower bound of each example."""

from __future__ import annotations

import itertools
from dataclasses import replace

from onr.arrays import array_namespace, column, device
from onr.jacobians.dense import Matrices
from onr.jacobians.estimates import NormEstimate, operator_norm_iteration
from onr.protocols import Array, Norm

__all__ = ["climb"]

ROUNDS = ((None, 2), (16, 8), (4, 8))
"""How many of the best starts of each example are followed (None: all), and for how many steps.

The last round repeats until the best of each example has come to rest.
"""


def climb(
    J: Array,
    starts: Array,
    /,
    *,
    p: Norm,
    q: Norm,
    shape: tuple[int, ...],
    steps: int,
) -> NormEstimate:
    """The best of the iterations of Eq. 12 from several starts, for each example.

    Every start is followed for two steps, the best 16 of each example for eight more, and the
    best four of these until the best comes to rest. Ties are broken towards vertices, because
    averages have fixed points that are not maxima. No example depends on the others.

    Args:
        J: matrices, shape ``(batch, d, n)``.
        starts: shape ``(batch, copies, n)``; need not be normalised, but must not be zero where
            the matrix is not.
        p: the norm of the domain, of arrays of shape ``(batch, *shape)``.
        q: the norm of the co-domain.
        shape: the shape of one input, with n entries.
        steps: the largest number of iterations from each start.

    Returns:
        The estimate of largest value, ``stationary`` if its last step gained nothing beyond
        rounding.

    Example:
        >>> import numpy as np
        >>> from onr.norms import LpNorm
        >>> J, starts = np.array([[[3.0, 0.0], [0.0, 4.0]]]), np.eye(2)[None]
        >>> climb(J, starts, p=LpNorm(2), q=LpNorm(2), shape=(2,), steps=50).value
        array([4.])

    """
    xp = array_namespace(J)
    copies, v, done = starts.shape[1], starts.reshape((-1, *shape)), 0
    tolerance = max(1e-10, 4 * float(xp.finfo(J.dtype).eps))
    found: NormEstimate | None = None
    for kept, chunk in itertools.chain(ROUNDS, itertools.repeat(ROUNDS[-1])):
        if found is not None and kept is not None and kept < copies:
            found, copies = _taken(found, copies, kept), kept
        fresh = operator_norm_iteration(
            Matrices(J, shape, copies),
            v if found is None else found.v,
            p=p,
            q=q,
            steps=min(chunk, steps - done),
            ties="vertex",
            tolerance=tolerance,
        )
        found = fresh if found is None else _merged(found, fresh, copies)
        done += fresh.iterations
        best = _taken(found, copies, 1)
        if done == steps or (kept == ROUNDS[-1][0] and bool(xp.all(best.stationary))):
            break
    return replace(best, iterations=done)


def _taken(found: NormEstimate, copies: int, kept: int) -> NormEstimate:
    """The ``kept`` best of each example's ``copies`` rows, the best first."""
    xp = array_namespace(found.value)
    order = xp.argsort(found.value.reshape((-1, copies)), axis=1, descending=True, stable=True)
    first = copies * xp.arange(order.shape[0], device=device(order))
    rows = (order[:, :kept] + first[:, None]).reshape((-1,))

    def take(x: Array) -> Array:
        return xp.take(x, rows, axis=0)

    value, v, u = take(found.value), take(found.v), take(found.u)
    return NormEstimate(value, v, u, found.iterations, take(found.stationary))


def _merged(old: NormEstimate, new: NormEstimate, copies: int) -> NormEstimate:
    """The old estimates of each example whose best start had come to rest, the new ones elsewhere.

    This keeps an example independent of how long the others take.
    """
    xp = array_namespace(old.value)
    best = xp.argmax(old.value.reshape((-1, copies)), axis=1)
    best = best + copies * xp.arange(best.shape[0], device=device(best))
    settled = xp.repeat(xp.take(old.stationary, best, axis=0), copies)

    def choose(before: Array, after: Array) -> Array:
        return xp.where(column(settled, after), before, after)

    return NormEstimate(
        choose(old.value, new.value),
        choose(old.v, new.v),
        choose(old.u, new.u),
        new.iterations,
        choose(old.stationary, new.stationary),
    )
