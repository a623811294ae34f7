"""Accuracy under attack, as a function of its radius (Figs. 3, 6, 7, 11, 13, 14, 15)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onr.experiments import Row, Subject
from onr.measurements.accuracy import attack_outcome, predict
from onr.measurements.perturbations import attack
from onr.registry import norm as norm_named

__all__ = ["accuracy"]


def accuracy(
    subject: Subject, *, p: str, radii: Sequence[float], images: int, part: str = "test"
) -> list[Row]:
    """Accuracy on clean images (``eps`` 0) and under the paper's attack, inside the box.

    Args:
        subject: the model.
        p: the norm of the attack.
        radii: pixels in [0, 1].
        images: of the part, its first ones.
        part: ``test`` or ``validation``.

    """
    held = subject.images(images, part)
    norm = norm_named(p)
    rows = []
    for index, eps in enumerate([0.0, *radii]):
        if eps == 0:
            predicted = predict(subject.backend, subject.network, held.images)
        else:
            predicted = attack_outcome(
                subject.backend,
                subject.network,
                attack(norm, eps, boxed=True),
                held.images,
                held.labels,
                norm=norm,
                seed=(subject.config.seed, index),
            ).predicted
        share = float((predicted == held.labels).mean())
        error = math.sqrt(share * (1 - share) / images)
        rows.append(
            {"quantity": "accuracy", "p": p, "eps": eps}
            | {"mean": share, "standard_error": error, "images": images}
        )
    return rows
