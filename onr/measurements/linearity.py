"""How far a network is linear, and its largest singular value over distance (Figs. 4, 10, 12)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onr.arrays import array_namespace
from onr.experiments import Row, Subject, statistics
from onr.jacobians.lanczos import singular_triplets
from onr.measurements.perturbations import adversarial, random_of_length
from onr.norms import LpNorm
from onr.protocols import Array, Network

__all__ = ["linearity"]

BATCH = 50
TOLERANCE = 1e-3
"""The residual of the largest singular value, relative to it."""
LANCZOS_STEPS = 60


def linearity(subject: Subject, *, p: str, radii: Sequence[float], images: int) -> list[Row]:
    """The deviation from linearity and the largest singular value at ``x + z``, both of features.

    Rows of three quantities by direction and distance, which is the mean ``||z||_2``:
    ``deviation``, ``||phi(x + z) - phi(x) - J z||_2``; ``relative deviation``, that over
    ``||phi(x + z) - phi(x)||_2``; and ``sigma_1``, the largest singular value of the Jacobian at
    ``x + z``, a lower bound with a residual of at most 1e-3 of it. Adversarial ``z`` are those of
    the attack with each radius; random ones have the same l2 lengths. None is kept to the box.

    Args:
        subject: the model.
        p: the norm of the attack.
        radii: of the attack, pixels in [0, 1]; 0 is added.
        images: of the test part, its first ones.

    """
    found: dict[tuple[str, str, float], list[np.ndarray]] = {}

    def keep(quantity: str, direction: str, radius: float, values: Array) -> None:
        key = (quantity, direction, radius)
        found.setdefault(key, []).append(subject.backend.to_numpy(values))

    two = LpNorm(2)
    for index, (x, y) in enumerate(subject.batches(images, BATCH)):
        at = subject.features.linearize(x)
        for radius in [0.0, *radii]:
            z = x * 0
            if radius > 0:
                z = adversarial(subject, x, y, p=p, eps=radius, seed=index)
            length = two(z)
            for direction, step in (
                ("adversarial", z),
                ("random", z if radius == 0 else random_of_length(x, length, seed=index)),
            ):
                there = subject.features(x + step)
                change, deviation = there - at.value, there - at.value - at.jvp(step)
                keep("length", direction, radius, two(step))
                keep("deviation", direction, radius, two(deviation))
                if radius > 0:
                    ratio = _ratio(two(deviation), two(change))
                    keep("relative deviation", direction, radius, ratio)
                keep("sigma_1", direction, radius, _largest(subject.features, x + step, index))
    rows = []
    for (quantity, direction, radius), parts in found.items():
        if quantity == "length":
            continue
        distance = float(np.concatenate(found["length", direction, radius]).mean())
        rows.append(
            {"quantity": quantity, "direction": direction, "eps": radius, "distance": distance}
            | statistics(np.concatenate(parts))
        )
    return rows


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
