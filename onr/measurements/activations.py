"""How much of the activation pattern two inputs share (Figs. 5 and 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onr.arrays import array_namespace, like
from onr.errors import OnrError
from onr.experiments import Row, Subject, statistics
from onr.measurements.perturbations import adversarial, random_of_length
from onr.protocols import Array

__all__ = ["activations"]

BATCH = 50


def activations(
    subject: Subject, *, around: str, direction: str, radii: Sequence[float], images: int
) -> list[Row]:
    """The share of hidden units that are in the same state at ``x`` and at ``x + z``.

    Rows of two quantities by ``eps = ||z||_2``: ``shared``, the share of units whose state, on or
    off, is the same, 1 at ``z = 0``; and ``on in both``, the share of units that are on at both,
    which is the paper's formula by the letter and begins at the share that is on at ``x``.

    Args:
        subject: the model.
        around: ``data``, test images; or ``noise``, inputs uniform in [0, 1].
        direction: ``random``, uniform on the sphere; or ``adversarial``, of the l2 attack.
        radii: pixels in [0, 1].
        images: how many inputs.

    Raises:
        OnrError: ``around`` or ``direction`` is another word.

    """
    if around not in ("data", "noise") or direction not in ("random", "adversarial"):
        raise OnrError(f"around = {around!r}, direction = {direction!r}: expected others")
    found: dict[tuple[str, float], list[np.ndarray]] = {}
    for index, (x, y) in enumerate(subject.batches(images, BATCH)):
        if around == "noise":
            x = like(np.random.default_rng([index, 2]).random(tuple(x.shape)), x)
        here = subject.network.activation_pattern(x)  # type: ignore[attr-defined]  # both backends
        for eps in radii:
            if direction == "random":
                z = random_of_length(x, _lengths(x, eps), seed=index)
            else:
                z = adversarial(subject, x, y, p="2", eps=eps, seed=index)
            there = subject.network.activation_pattern(x + z)  # type: ignore[attr-defined]
            for quantity, same in (
                ("shared", here == there),
                ("on in both", (here > 0) & (there > 0)),
            ):
                values = subject.backend.to_numpy(same).mean(axis=1)
                found.setdefault((quantity, eps), []).append(values)
    return [
        {"quantity": quantity, "around": around, "direction": direction, "eps": eps}
        | statistics(np.concatenate(parts))
        for (quantity, eps), parts in found.items()
    ]


def _lengths(x: Array, eps: float) -> Array:
    return array_namespace(x).ones_like(x.reshape((len(x), -1))[:, 0]) * eps
