"""Deviation from linearity and largest singular value by distance (Figs. 4, 10, 12)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onr.arrays import array_namespace
from onr.jacobians.lanczos import singular_triplets
from onr.measurements.batches import Inputs, Parts, Values
from onr.measurements.perturbations import adversarial, random_of_length
from onr.norms import LpNorm
from onr.protocols import BackendNetwork, Network, Norm
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["linearity"]

BATCH = 50
TOLERANCE = 1e-3
"""The residual of the largest singular value, relative to that value, that ends the iteration."""


def linearity(
    network: BackendNetwork,
    x: Inputs,
    y: Array,
    /,
    *,
    p: Norm,
    eps: Sequence[float],
    seed: int = 0,
    parts: Parts | None = None,
) -> list[Row]:
    """The features' deviation from linearity, and their largest singular value, at ``x + z``.

    There are rows of three quantities for each direction and ``distance``, the mean ``||z||_2``.
    ``deviation`` is ``||phi(x + z) - phi(x) - J z||_2``. ``relative deviation`` is the deviation
    divided by ``||phi(x + z) - phi(x)||_2``, 0 where the features do not change; it has no row at
    radius 0. ``sigma_1`` is the largest singular value of the Jacobian at ``x + z``: a lower
    bound, by Lanczos, which goes on until the residual is at most 1e-3 of the value.

    Adversarial ``z`` are the perturbations of the paper's attack at each radius; random ``z`` have
    the same l2 lengths. Neither is kept to the box.

    Args:
        network: the network; its features ``phi`` are the input of its last affine layer.
        x: inputs, ``(N, *input_shape)``.
        y: the labels of the inputs, which the attack leads away from.
        p: the norm of the attack.
        eps: the radii of the attack; 0 is added.
        seed: the seed of the attack's starts. Random directions do not depend on it.
        parts: keeps the values of each batch, so that the measurement can go on from there.

    Raises:
        OnrError: the network has no last affine layer.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture, ReLU
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(4), ReLU(), Affine(2))))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = linearity(network, x, y, p=LpNorm(2), eps=[0.1])
        >>> sorted({row["quantity"] for row in rows})
        ['deviation', 'relative deviation', 'sigma_1']

    """
    found = Values[tuple[str, str, float]](parts)
    features = network.features()
    two = LpNorm(2)
    for index, images, labels in found.batches(x, y, BATCH):
        here = features.linearize(images)
        for radius in dict.fromkeys([0.0, *eps]):
            z = images * 0
            if radius > 0:
                z = adversarial(network, images, labels, p=p, eps=radius, seed=(seed, index))
            length = two(z)
            for direction, step in (
                ("adversarial", z),
                ("random", z if radius == 0 else random_of_length(images, length, seed=index)),
            ):
                there = features(images + step)
                change = there - here.value
                deviation = change - here.jvp(step)
                found.add(("length", direction, radius), two(step))
                found.add(("deviation", direction, radius), two(deviation))
                if radius > 0:
                    ratio = _ratio(two(deviation), two(change))
                    found.add(("relative deviation", direction, radius), ratio)
                sigma = _largest(features, images + step, index)
                found.add(("sigma_1", direction, radius), sigma)
    values = dict(found.items())
    return [
        {
            "quantity": quantity,
            "direction": direction,
            "eps": radius,
            "distance": float(values["length", direction, radius].mean()),
        }
        | statistics(each)
        for (quantity, direction, radius), each in values.items()
        if quantity != "length"
    ]


def _ratio(a: Array, b: Array) -> Array:
    """``a / b``, and 0 where ``b`` is 0 (the features do not change)."""
    xp = array_namespace(a)
    return xp.where(b > 0, a / xp.where(b > 0, b, xp.ones_like(b)), xp.zeros_like(a))


def _largest(network: Network, x: Array, seed: int) -> Array:
    found = singular_triplets(
        network.linearize(x),
        1,
        rng=np.random.default_rng(seed),
        tolerance=TOLERANCE,
    )
    return found.S[:, 0]
