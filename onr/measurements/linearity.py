"""How far a network is linear, and its largest singular value over distance (Figs. 4, 10, 12)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onr.arrays import array_namespace
from onr.jacobians.lanczos import singular_triplets
from onr.measurements.batches import Inputs, Values, batches
from onr.measurements.perturbations import adversarial, random_of_length
from onr.norms import LpNorm
from onr.protocols import BackendNetwork, Network, Norm
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["linearity"]

BATCH = 50
TOLERANCE = 1e-3
"""The residual of the largest singular value, relative to it."""
LANCZOS_STEPS = 60


def linearity(
    network: BackendNetwork, x: Inputs, y: Array, /, *, p: Norm, eps: Sequence[float], seed: int = 0
) -> list[Row]:
    """The deviation from linearity and the largest singular value at ``x + z``, both of features.

    Rows of three quantities for each direction and ``distance``, the mean ``||z||_2``:
    ``deviation``, ``||phi(x + z) - phi(x) - J z||_2``; ``relative deviation``, that over
    ``||phi(x + z) - phi(x)||_2``, 0 where the features do not change; and ``sigma_1``, the largest
    singular value of the Jacobian at ``x + z``, a lower bound with a residual of at most 1e-3 of
    it.
    Adversarial ``z`` are those of the paper's attack at each radius, random ones have the same l2
    lengths. Neither is kept to the box.

    Args:
        network: whose features ``phi`` are the input of its last affine layer.
        x: inputs, ``(N, *input_shape)``.
        y: their labels, which the attack leads away from.
        p: the norm of the attack.
        eps: its radii; 0 is added.
        seed: of the attack's starts.

    Raises:
        OnrError: the network has no last affine layer.

    """
    found = Values[tuple[str, str, float]]()
    features = network.features()
    two = LpNorm(2)
    for index, images, labels in batches(x, y, BATCH):
        here = features.linearize(images)
        for radius in [0.0, *eps]:
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
    """``a / b``; 0 where the outputs do not change at all."""
    xp = array_namespace(a)
    return xp.where(b > 0, a / xp.where(b > 0, b, xp.ones_like(b)), xp.zeros_like(a))


def _largest(network: Network, x: Array, seed: int) -> Array:
    found = singular_triplets(
        network.linearize(x),
        1,
        rng=np.random.default_rng(seed),
        steps=LANCZOS_STEPS,
        tolerance=TOLERANCE,
    )
    return found.S[:, 0]
