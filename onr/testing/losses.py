"""The laws of a loss."""

from __future__ import annotations

import numpy as np

from onr.arrays import inner
from onr.protocols import Loss
from onr.testing.laws import BATCH, CLOSE, STEP, TOLERANCE, Laws, law, require

__all__ = ["check_loss", "loss_laws"]


def check_loss(loss: Loss, classes: int = 5, *, seed: int = 0) -> None:
    """Check the gradient of a loss by finite differences, and its direction by its gradient.

    Args:
        loss: the loss.
        classes: the number of classes of the random logits.
        seed: the seed of the random logits and labels.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> from onr.losses import CrossEntropy
        >>> check_loss(CrossEntropy(beta=2))

    """
    require(loss_laws(loss, classes, seed=seed))


def loss_laws(loss: Loss, classes: int = 5, *, seed: int = 0) -> Laws:
    """The laws that :func:`check_loss` checks, one after the other."""
    rng = np.random.default_rng(seed)
    logits, clean = 3 * rng.standard_normal((2, BATCH, classes))
    labels = rng.integers(0, classes, BATCH)
    before = logits.copy()

    def value(z: np.ndarray) -> np.ndarray:
        return np.asarray(loss.value(z, labels=labels, clean=clean))

    inputs = {"logits": logits, "label": labels}
    here, gradient = value(logits), loss.gradient(logits, labels=labels, clean=clean)
    yield law("one number for each example", here.shape == (BATCH,), shape=here.shape)
    yield law("the gradient is shaped as the logits", gradient.shape == logits.shape)
    for index in range(classes):
        moved = STEP * (np.arange(classes) == index)
        slope = (value(logits + moved) - value(logits - moved)) / (2 * STEP)
        yield law(
            "the gradient is the derivative",
            np.abs(slope - gradient[:, index]) <= CLOSE * (1 + np.abs(slope)),
            **inputs,
            logit=index,
            gradient=gradient[:, index],
            slope=slope,
        )
    direction = loss.direction(logits, labels=labels, clean=clean)
    lengths = np.sqrt(inner(direction, direction) * inner(gradient, gradient))
    some = (gradient != 0).any(axis=1) == (direction != 0).any(axis=1)
    yield law(
        "the direction is a positive multiple of the gradient",
        some & (inner(direction, gradient) >= (1 - TOLERANCE) * lengths),
        **inputs,
        direction=direction,
        gradient=gradient,
    )
    alone = [
        loss.value(logits[i : i + 1], labels=labels[i : i + 1], clean=clean[i : i + 1])
        for i in range(BATCH)
    ]
    apart = np.abs(np.concatenate(alone) - here)
    yield law("a loss does not depend on its batch", apart <= TOLERANCE * (1 + np.abs(here)))
    yield law("the logits are left alone", logits == before, **inputs)
