"""How attacks, the power method and the maximiser of the (p, q) norm relate."""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import like
from onr.errors import OnrError
from onr.jacobians.iterations import projected_gradient_ascent, walk
from onr.jacobians.operator_norms import operator_norm
from onr.losses import LogitDistance
from onr.measurements.batches import Inputs, Values
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

    The attack is ten steps of projected gradient ascent with ``alpha = inf``, the limit in
    Theorem 1 (Eq. 108). There are rows of five quantities of its perturbation ``z``:

    ``power method``  ``|cos|`` of ``z`` with the iterate of Eq. 12 from the same start after as
                      many steps; 1 inside the ReLU cell, by Theorem 1
    ``gain``          ``||J z||_q / (||z||_p ||J||_{p,q})`` with the norm's upper bound; 1 where
                      ``z`` is a maximiser
    ``actual gain``   ``||f(x + z) - f(x)||_q`` over the same denominator
    ``cosine``        ``|cos|`` of ``z`` with the maximiser that
                      :func:`onr.jacobians.operator_norms.operator_norm` finds
    ``bracket``       the norm's lower bound over its upper bound; 1 where the norm is exact

    Args:
        network: a network with at most 64 outputs.
        x: inputs, ``(N, *input_shape)``.
        y: the labels of the inputs; the lq distance does not depend on them.
        p: the norm of the attack, an lp norm.
        q: the norm of the logits, an lp norm.
        eps: the radius of the attack.
        seed: the seed of the starts.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = directions(network, x, y, p=LpNorm(2), q=LpNorm(2), eps=1.0)
        >>> rows[0]["quantity"], round(rows[0]["mean"], 6)
        ('power method', 1.0)

    """
    found = Values[str]()
    for index, images, labels in found.batches(x, y, BATCH):
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
        if norm.upper is None:
            raise OnrError(
                f"the ({p.name}, {q.name}) norm of {here.output_shape[0]} outputs is known from "
                "below only: expected lp norms and at most 64 outputs"
            )
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
