"""How perturbations align with the dominant singular vector, over their size (Fig. 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onr.arrays import array_namespace
from onr.jacobians.dense import jacobian
from onr.measurements.batches import Inputs, Values, batches
from onr.measurements.perturbations import (
    absolute_correlation,
    absolute_cosine,
    adversarial,
    random_of_length,
)
from onr.norms import LpNorm
from onr.protocols import Network, Norm
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["alignment"]

BATCH = 100


def alignment(
    network: Network, x: Inputs, y: Array, /, *, p: Norm, eps: Sequence[float], seed: int = 0
) -> list[Row]:
    """``|cos|`` of perturbations with the dominant right singular vector of the logits' Jacobian.

    Rows of two quantities, ``cosine`` and ``correlation``, for each radius and direction:
    ``adversarial``, the paper's attack, and ``random``, directions of the same l2 length. The
    Jacobian is that at the clean input. An input whose Jacobian is zero has no dominant vector and
    is left out. The column ``inputs`` is n.

    Args:
        network: whose whole Jacobian is formed, by d vjps.
        x: inputs, ``(N, *input_shape)``.
        y: their labels, which the attack leads away from.
        p: the norm of the attack.
        eps: its radii.
        seed: of the attack's starts.

    """
    found = Values[tuple[str, str, float]]()
    inputs = math.prod(network.input_shape)
    for index, images, labels in batches(x, y, BATCH):
        J = jacobian(network.linearize(images))
        xp = array_namespace(J)
        _, S, V = xp.linalg.svd(J, full_matrices=False)
        v = xp.where(S[:, :1] > 0, V[:, 0], xp.zeros_like(V[:, 0]))
        for radius in eps:
            z = adversarial(network, images, labels, p=p, eps=radius, seed=(seed, index))
            for direction, step in (
                ("adversarial", z),
                ("random", random_of_length(images, LpNorm(2)(z), seed=index)),
            ):
                found.add(("cosine", direction, radius), absolute_cosine(step, v))
                found.add(("correlation", direction, radius), absolute_correlation(step, v))
    return [
        {"quantity": quantity, "direction": direction, "p": p.name, "eps": radius, "inputs": inputs}
        | statistics(values)
        for (quantity, direction, radius), values in found.items()
    ]
