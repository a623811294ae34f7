"""Signs of the collapse that cheap adversarial training is known for, in the record of a run.

A network collapses when it learns to bend between the image and the one point at which training
looks: clean accuracy then rises, and accuracy under an attack of several steps falls to nothing
(Wong et al. 2020; Andriushchenko and Flammarion 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onr.arrays import in_float32, inner, to_numpy
from onr.losses import Margin
from onr.measurements.batches import Inputs, batches
from onr.measurements.predictions import batch_size
from onr.protocols import Network, Norm
from onr.typing import Array

__all__ = ["collapse", "median_rho"]

MARGIN = Margin()
SHARE = 1 / 3
"""Accuracy under attack has collapsed when it is at most this share of its best."""
ERRORS = 3
"""The fall has to be more than so many standard errors, or it may be chance."""


def median_rho(network: Network, x: Inputs, y: Array, /, *, p: Norm, eps: float) -> float | None:
    """How linear the network is over the ball, in the direction in which one step would go.

    ``rho = <u, f(x + eps v) - f(x)> / (eps ||J^T u||_{p*})``, where ``u`` leads from the label to
    the other class of largest logit, and ``v`` is the maximiser of ``<J^T u, v>``. It is 1 where
    the network is linear from ``x`` to ``x + eps v``, and near 0, or below, where a step along the
    gradient does not do what the gradient says. The cost is a forward and a backward pass, and one
    more forward pass; ``x + eps v`` is not kept to the box.

    Returns:
        The median over the inputs whose gradient is not zero; ``None`` if there is none.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> round(median_rho(network, x, y, p=LpNorm(2), eps=0.1), 9)
        1.0

    """
    found = []
    for _, images, labels in batches(x, y, batch_size(network)):
        here = network.linearize(images, jvp=False)
        u = MARGIN.gradient(here.value, labels=labels)
        slope = here.vjp(u)
        change = inner(u, network(images + eps * p.duality_map(slope)) - here.value)
        rise, run = (to_numpy(in_float32(z)).astype(np.float64) for z in (change, p.dual(slope)))
        found.append(rise[run > 0] / (eps * run[run > 0]))
    known = np.concatenate(found)
    return float(np.median(known)) if len(known) else None


def collapse(
    record: Mapping[str, Any], before: Sequence[Mapping[str, Any]], *, images: int
) -> str | None:
    """Say that robustness has collapsed: a third of its best is left, and clean accuracy rose.

    Args:
        record: the record of an epoch, as :class:`onr.training.loop.Training` keeps it.
        before: the records of all epochs before.
        images: on how many images accuracy under attack was measured. A fall of less than three
            standard errors counts as chance.

    Returns:
        A sentence, or ``None``.

    Example:
        >>> clean, robust = "validation_accuracy", "validation_robust_accuracy"
        >>> before = [{"epoch": 1, clean: 0.3, robust: 0.2}]
        >>> collapse({"epoch": 2, clean: 0.5, robust: 0.01}, before, images=250)[:47]
        'accuracy under attack has collapsed: 1.0% after'

    """
    clean, robust = "validation_accuracy", "validation_robust_accuracy"
    if robust not in record or not before:
        return None
    best = max(before, key=lambda one: float(one[robust]))
    most, now = float(best[robust]), float(record[robust])
    error = math.sqrt(most * (1 - most) / images)
    if now > SHARE * most or most - now <= ERRORS * error or record[clean] <= best[clean]:
        return None
    return (
        f"accuracy under attack has collapsed: {now:.1%} after {most:.1%} in epoch "
        f"{best['epoch']}, while clean accuracy rose from {best[clean]:.1%} to "
        f"{record[clean]:.1%}; the best epoch is kept: try a smaller eps or lr, a larger lam, more "
        "steps, or noise"
    )
