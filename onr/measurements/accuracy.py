"""Accuracy on clean inputs and under attack."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onr.arrays import to_numpy
from onr.attacks.multitargeted import MultiTargeted
from onr.feasible import require_inside
from onr.measurements.attack_outcomes import attack_outcomes
from onr.measurements.batches import Inputs, Parts, Values
from onr.measurements.predictions import batch_size, classes_of, counting
from onr.protocols import Attack, Network, Norm
from onr.typing import Array, Row

__all__ = ["accuracy", "share"]


def accuracy(
    network: Network,
    x: Inputs,
    y: Array,
    /,
    *,
    p: Norm,
    eps: Sequence[float] = (),
    attack: Callable[[Norm, float], Attack] | None = None,
    seed: int = 0,
    parts: Parts | None = None,
) -> list[Row]:
    """Accuracy at clean inputs (``eps`` 0) and under an attack of each radius.

    An input counts as robust if the network still predicts its label for the perturbed input that
    the attack returns. Accuracy under attack is an upper bound on robust accuracy: a better attack
    leaves fewer inputs robust. Radii are attacked from the smallest to the largest
    (:func:`onr.measurements.attack_outcomes.attack_outcomes`), so that accuracy never rises with
    the radius under an attack that goes on from there.

    Args:
        network: the network to attack.
        x: inputs, ``(N, *input_shape)``, pixels in [0, 1].
        y: the labels of the inputs.
        p: the norm of the attack.
        eps: the radii of the attack, positive.
        attack: makes the attack for a norm and a radius; ``multitargeted`` if not given.
        seed: the seed of the attack's random starts.
        parts: keeps the values of each batch, so that the measurement can go on from there.

    Returns:
        The rows, the clean inputs first, then the radii in the order of ``eps``.

    Raises:
        ImageError: a pixel is outside [0, 1], a label is no class, or a logit is NaN; no accuracy
            counts such an input.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = accuracy(network, x, y, p=LpNorm(2), eps=[0.1])
        >>> [(row["quantity"], row["eps"], row["images"]) for row in rows]
        [('accuracy', 0.0, 4), ('accuracy', 0.1, 4)]

    """
    make = attack or (lambda p, eps: MultiTargeted(p=p, eps=eps))
    radii = sorted(set(eps) - {0.0})
    attacks = [make(p, radius) for radius in radii]
    seeds = [(seed, index + 1) for index in range(len(radii))]
    values, size = Values[float](parts), batch_size(network)
    for index, images, labels in values.batches(x, y, size):
        first = index * size
        with counting(first):
            require_inside(images, (0.0, 1.0))
        clean = classes_of(network, images, labels, first=first)
        true = to_numpy(labels)
        values.add(0.0, clean == true)
        found = attack_outcomes(
            network, attacks, images, labels, clean=clean, norm=p, seeds=seeds, first=first
        )
        for radius, outcome in zip(radii, found, strict=True):
            values.add(radius, outcome.predicted == true)
    correct = dict(values.items())
    rows = []
    for radius in [0.0, *eps]:
        mean, error = share(correct[radius])
        rows.append(
            {"quantity": "accuracy", "p": p.name, "eps": radius}
            | {"mean": mean, "standard_error": error, "images": len(x)}
        )
    return rows


def share(correct: np.ndarray, /) -> tuple[float, float]:
    """The share of true entries (an accuracy) and its standard error.

    Example:
        >>> share(np.array([True, False]))
        (0.5, 0.3535533905932738)

    """
    found = float(np.mean(correct))
    return found, math.sqrt(found * (1 - found) / len(correct))
