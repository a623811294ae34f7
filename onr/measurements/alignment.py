"""Alignment of perturbations with the dominant singular vector over their size (Fig. 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onr.arrays import array_namespace
from onr.experiments import Row, Subject, statistics
from onr.jacobians.dense import jacobian
from onr.measurements.perturbations import (
    absolute_correlation,
    absolute_cosine,
    adversarial,
    random_of_length,
)
from onr.norms import LpNorm

__all__ = ["alignment"]

BATCH = 100


def alignment(subject: Subject, *, p: str, radii: Sequence[float], images: int) -> list[Row]:
    """``|cos|`` of perturbations with the dominant right singular vector of the logits' Jacobian.

    Rows of two quantities, ``cosine`` and ``correlation``, by the attack's radius and by direction:
    ``adversarial``, and ``random`` of the same l2 length. The Jacobian is that at the clean image;
    an image whose Jacobian is zero has no dominant vector and is left out. ``inputs`` is n.

    Args:
        subject: the model.
        p: the norm of the attack.
        radii: pixels in [0, 1].
        images: of the test part, its first ones.

    """
    found: dict[tuple[str, str, float], list[np.ndarray]] = {}
    inputs = math.prod(subject.network.input_shape)
    for index, (x, y) in enumerate(subject.batches(images, BATCH)):
        J = jacobian(subject.network.linearize(x))
        xp = array_namespace(J)
        _, S, V = xp.linalg.svd(J, full_matrices=False)
        v = xp.where(S[:, :1] > 0, V[:, 0], xp.zeros_like(V[:, 0]))
        for eps in radii:
            z = adversarial(subject, x, y, p=p, eps=eps, seed=index)
            for direction, step in (
                ("adversarial", z),
                ("random", random_of_length(x, LpNorm(2)(z), seed=index)),
            ):
                for quantity, measure in (
                    ("cosine", absolute_cosine),
                    ("correlation", absolute_correlation),
                ):
                    values = subject.backend.to_numpy(measure(step, v))
                    found.setdefault((quantity, direction, eps), []).append(values)
    return [
        {"quantity": quantity, "direction": direction, "p": p, "eps": eps, "inputs": inputs}
        | statistics(np.concatenate(parts))
        for (quantity, direction, eps), parts in found.items()
    ]
