"""How perturbations of each size align with the dominant singular vector (Fig. 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onr.jacobians.dense import jacobian, right_singular_vectors
from onr.measurements.batches import Inputs, Parts, Values
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
    network: Network,
    x: Inputs,
    y: Array,
    /,
    *,
    p: Norm,
    eps: Sequence[float],
    seed: int = 0,
    parts: Parts | None = None,
) -> list[Row]:
    """``|cos|`` of perturbations with the dominant right singular vector of the logits' Jacobian.

    There are rows of two quantities, ``cosine`` and ``correlation``, for each radius and each of
    two directions: ``adversarial``, the perturbations of the paper's attack, and ``random``,
    directions of the same l2 length. The Jacobian is taken at the clean input. An input whose
    Jacobian is zero has no dominant singular vector and is left out, by the same rule as in
    :func:`~onr.measurements.spectrum.spectrum`. The column ``inputs`` is ``n``, the number of
    coordinates of one input.

    Args:
        network: the network; its whole Jacobian is formed, by d vjps.
        x: inputs, ``(N, *input_shape)``.
        y: the labels of the inputs, which the attack leads away from.
        p: the norm of the attack.
        eps: the radii of the attack.
        seed: the seed of the attack's starts. Random directions do not depend on it.
        parts: keeps the values of each batch, so that the measurement can go on from there.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = alignment(network, x, y, p=LpNorm(2), eps=[0.1])
        >>> [(row["quantity"], row["direction"]) for row in rows[:2]]
        [('cosine', 'adversarial'), ('correlation', 'adversarial')]

    """
    found = Values[tuple[str, str, float]](parts)
    inputs = math.prod(network.input_shape)
    for index, images, labels in found.batches(x, y, BATCH):
        v = right_singular_vectors(jacobian(network.linearize(images)))[1][:, 0]
        for radius in dict.fromkeys(eps):
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
