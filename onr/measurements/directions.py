"""How attacks, the power method and the maximiser of the (p, q) norm relate."""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import like
from onr.jacobians.iterations import projected_gradient_ascent, walk
from onr.jacobians.operator_norms import operator_norm
from onr.losses import LogitDistance
from onr.measurements.batches import Inputs, Values, batches
from onr.measurements.perturbations import STEPS, absolute_cosine
from onr.protocols import Network, Norm
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["directions"]

BATCH = 50


def directions(
    network: Network, x: Inputs, y: Array, /, *, p: Norm, q: Norm, eps: float, seed: int = 0
) -> list[Row]:
    """Compare an attack on the lq distance of the logits with Eq. 12 and with the maximiser.

    The attack is ten steps of projected gradient ascent in Theorem 1's limit of alpha (Eq. 108).
    Rows of five quantities:

    ``power method``  ``|cos|`` of the attack's perturbation with the iterate of Eq. 12 from the
                      same start after as many steps; 1 inside the ReLU cell, by Theorem 1
    ``gain``          ``||J z||_q / (||z||_p ||J||_{p,q})`` with the norm's upper bound; 1 where the
                      attack's direction is a maximiser
    ``actual gain``   the same of the change of the logits themselves
    ``cosine``        ``|cos|`` with the maximiser of :mod:`onr.jacobians.operator_norms`
    ``bracket``       the norm's lower bound over its upper bound; 1 where the norm is exact

    Args:
        network: with at most 64 outputs.
        x: inputs, ``(N, *input_shape)``.
        y: their labels; the lq distance does not depend on them.
        p: the norm of the attack, an lp norm.
        q: the norm of the logits, an lp norm.
        eps: the radius.
        seed: of the starts.

    """
    found = Values[str]()
    for index, images, labels in batches(x, y, BATCH):
        rng = np.random.default_rng([seed, index])
        start = eps * like(p.sample_ball(rng, tuple(images.shape)), images)
        z = projected_gradient_ascent(
            network,
            images,
            start,
            loss=LogitDistance(q),
            labels=labels,
            p=p,
            eps=eps,
            alpha=math.inf,
            steps=STEPS,
            keep="last",
        ).delta
        here = network.linearize(images)
        norm = operator_norm(here, p=p, q=q)
        assert norm.upper is not None  # noqa: S101 - lp norms have both bounds
        largest = p(z) * norm.upper
        walked = walk(here, start, p=p, q=q, alpha=math.inf, steps=STEPS).v
        found.add("power method", absolute_cosine(z, walked))
        found.add("gain", q(here.jvp(z)) / largest)
        found.add("actual gain", q(network(images + z) - here.value) / largest)
        found.add("cosine", absolute_cosine(z, norm.v))
        found.add("bracket", norm.lower / norm.upper)
    return [
        {"quantity": quantity, "p": p.name, "q": q.name, "eps": eps} | statistics(values)
        for quantity, values in found.items()
    ]
