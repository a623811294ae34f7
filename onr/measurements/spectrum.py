"""Singular values of the features' Jacobian; attacks against its singular vectors (Fig. 2)."""

from __future__ import annotations

from onr.arrays import array_namespace, flatten
from onr.jacobians.dense import jacobian, right_singular_vectors
from onr.measurements.batches import Inputs, Parts, Values
from onr.measurements.perturbations import adversarial
from onr.norms import LpNorm
from onr.protocols import BackendNetwork, Network, Norm
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["spectrum"]

BATCH = 20
"""How many Jacobians, with their factors, are in memory at once."""


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
    parts: Parts | None = None,
) -> list[Row]:
    """The singular values of the Jacobian of the features ``phi^(L-1)``, and an attack's alignment.

    There are rows of three quantities for each rank: ``singular value``, at clean and at attacked
    inputs; and the magnitudes of the ``cosine`` and of the ``correlation`` of the attack's
    perturbations with the right singular vectors at the clean input. These two leave out inputs at
    which the singular value of that rank is zero up to rounding: at most ``max(d, n) eps`` times
    the largest one (:func:`~onr.jacobians.dense.right_singular_vectors`).

    Args:
        network: the network; its features ``phi`` are the input of its last affine layer.
        x: inputs, ``(N, *input_shape)``.
        y: the labels of the inputs, which the attack leads away from.
        p: the norm of the paper's attack.
        eps: the radius of the attack.
        seed: the seed of the attack's starts.
        reference: another network; the same perturbations are compared with its singular vectors
            too. The paper takes the network before training. The rows of the reference say
            ``random``, those of ``network`` say ``trained``.
        parts: keeps the values of each batch, so that the measurement can go on from there.

    Raises:
        OnrError: the network has no last affine layer.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture, ReLU
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(4), ReLU(), Affine(2))))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = spectrum(network, x, y, p=LpNorm(2), eps=0.1)
        >>> rows[0]["quantity"], rows[0]["of"], rows[0]["rank"], rows[0]["images"]
        ('singular value', 'clean', 1, 4)

    """
    found = Values[tuple[str, str]](parts)
    features = network.features()
    others = None if reference is None else reference.features()
    for index, images, labels in found.batches(x, y, BATCH):
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
    """Singular values ``(batch, k)`` and right singular vectors ``(batch, k, n)``."""
    return right_singular_vectors(jacobian(network.linearize(x)))


def _alignment(z: Array, V: Array) -> tuple[Array, Array]:
    """``|cos|`` and ``|correlation|`` of ``z`` with each row of ``V``, shape ``(batch, k)``."""
    xp = array_namespace(z)

    def cosines(z: Array, V: Array) -> Array:
        batch, k, n = V.shape
        lengths = LpNorm(2)(V.reshape((batch * k, n))).reshape((batch, k))
        inner = (V @ z[:, :, None])[:, :, 0]
        return xp.abs(inner) / (lengths * LpNorm(2)(z)[:, None])

    centred = V - xp.mean(V, axis=2)[:, :, None]
    return cosines(z, V), cosines(z - xp.mean(z, axis=1)[:, None], centred)
