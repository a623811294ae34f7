"""Singular values of the features' Jacobian, and how attacks align with its vectors (Fig. 2)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onr.arrays import array_namespace, flatten
from onr.experiments import Row, Subject, statistics
from onr.jacobians.dense import jacobian
from onr.measurements.perturbations import adversarial
from onr.norms import LpNorm
from onr.protocols import Array, Network

__all__ = ["spectrum"]

BATCH = 20
"""How many Jacobians and their factors are in memory at once."""


def spectrum(subject: Subject, *, p: str, eps: float, images: int) -> list[Row]:
    """The spectrum of ``J`` of ``phi^(L-1)`` and the alignment of an attack with its vectors.

    Rows of three quantities by rank: ``singular value`` at clean and at attacked images; ``cosine``
    and ``correlation``, in magnitude, of the attack's perturbations with the right singular vectors
    at the clean image, of this network and of the same network as it was drawn; images at which a
    singular value is zero are left out of that rank.

    Args:
        subject: the model.
        p: the norm of the attack.
        eps: its radius.
        images: of the test part, its first ones.

    """
    found: dict[tuple[str, str], list[np.ndarray]] = {}

    def keep(quantity: str, of: str, values: Array) -> None:
        found.setdefault((quantity, of), []).append(subject.backend.to_numpy(values))

    for index, (x, y) in enumerate(subject.batches(images, BATCH)):
        z = adversarial(subject, x, y, p=p, eps=eps, seed=index)
        S, V = _factors(subject.features, x)
        keep("singular value", "clean", S)
        keep("singular value", "adversarial", _factors(subject.features, x + z)[0])
        for of, vectors in (
            ("trained", V),
            ("random", _factors(subject.untrained.features, x)[1]),
        ):
            cosine, correlation = _alignment(flatten(z), vectors)
            keep("cosine", of, cosine)
            keep("correlation", of, correlation)
    return [
        {"quantity": quantity, "of": of, "rank": rank + 1, **statistics(values)}
        for (quantity, of), parts in found.items()
        for rank, values in _ranks(parts)
    ]


def _ranks(parts: list[np.ndarray]) -> Iterable[tuple[int, np.ndarray]]:
    return enumerate(np.concatenate(parts).T)


def _factors(network: Network, x: Array) -> tuple[Array, Array]:
    """Singular values ``(batch, k)`` and right singular vectors ``(batch, k, n)``.

    Vectors are NaN where the value is zero to rounding, as they could be any.
    """
    J = jacobian(network.linearize(x))
    xp = array_namespace(J)
    _, S, V = xp.linalg.svd(J, full_matrices=False)
    known = S[:, :1] * max(J.shape[1:]) * xp.finfo(J.dtype).eps < S
    return S, xp.where(known[:, :, None], V, xp.full_like(V, xp.nan))


def _alignment(z: Array, V: Array) -> tuple[Array, Array]:
    """``|cos|`` and ``|correlation|`` of ``z`` with each row, ``(batch, k)``."""
    xp = array_namespace(z)

    def cosines(z: Array, V: Array) -> Array:
        batch, k, n = V.shape
        lengths = LpNorm(2)(V.reshape((batch * k, n))).reshape((batch, k))
        inner = (V @ z[:, :, None])[:, :, 0]
        return xp.abs(inner) / (lengths * LpNorm(2)(z)[:, None])

    centred = V - xp.mean(V, axis=2)[:, :, None]
    return cosines(z, V), cosines(z - xp.mean(z, axis=1)[:, None], centred)
