"""Singular values of the features' Jacobian, and how attacks align with its vectors (Fig. 2)."""

from __future__ import annotations

from onr.arrays import array_namespace, flatten
from onr.jacobians.dense import jacobian
from onr.measurements.batches import Inputs, Values, batches
from onr.measurements.perturbations import adversarial
from onr.norms import LpNorm
from onr.protocols import BackendNetwork, Network, Norm
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["spectrum"]

BATCH = 20
"""How many Jacobians and their factors are in memory at once."""


def spectrum(
    network: BackendNetwork,
    x: Inputs,
    y: Array,
    /,
    *,
    p: Norm,
    eps: float,
    seed: int = 0,
    reference: BackendNetwork | None = None,
) -> list[Row]:
    """The spectrum of ``J`` of ``phi^(L-1)`` and the alignment of an attack with its vectors.

    Rows of three quantities by rank: ``singular value``, at clean and at attacked inputs;
    ``cosine`` and ``correlation``, in magnitude, of the attack's perturbations with the right
    singular vectors at the clean input. Inputs at which a singular value is zero are left out of
    that rank.

    Args:
        network: whose features ``phi`` are the input of its last affine layer.
        x: inputs, ``(N, *input_shape)``.
        y: their labels, which the attack leads away from.
        p: the norm of the paper's attack.
        eps: its radius.
        seed: of its starts.
        reference: another network, whose singular vectors the same perturbations are compared with;
            the paper takes the network as it was drawn. Its rows say ``random``, those of
            ``network`` say ``trained``.

    Raises:
        OnrError: the network has no last affine layer.

    """
    found = Values[tuple[str, str]]()
    features = network.features()
    others = None if reference is None else reference.features()
    for index, images, labels in batches(x, y, BATCH):
        z = adversarial(network, images, labels, p=p, eps=eps, seed=(seed, index))
        S, V = _factors(features, images)
        found.add(("singular value", "clean"), S)
        found.add(("singular value", "adversarial"), _factors(features, images + z)[0])
        vectors = {"trained": V}
        if others is not None:
            vectors["random"] = _factors(others, images)[1]
        for of, rows in vectors.items():
            cosine, correlation = _alignment(flatten(z), rows)
            found.add(("cosine", of), cosine)
            found.add(("correlation", of), correlation)
    return [
        {"quantity": quantity, "of": of, "rank": rank, **statistics(values)}
        for (quantity, of), ranks in found.items()
        for rank, values in enumerate(ranks.T, start=1)
    ]


def _factors(network: Network, x: Array) -> tuple[Array, Array]:
    """Singular values ``(batch, k)`` and right singular vectors ``(batch, k, n)``.

    Vectors are NaN where the value is zero to rounding: any vector would do there.
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
