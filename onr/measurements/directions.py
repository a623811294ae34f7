"""How attacks, the power method and the maximiser of the (p, q) norm relate on trained networks."""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import like
from onr.experiments import Row, Subject, statistics
from onr.jacobians.iterations import projected_gradient_ascent, walk
from onr.jacobians.operator_norms import operator_norm
from onr.measurements.perturbations import STEPS, absolute_cosine
from onr.registry import load
from onr.registry import norm as norm_named

__all__ = ["directions"]

BATCH = 50


def directions(subject: Subject, *, p: str, q: str, eps: float, images: int) -> list[Row]:
    """Projected gradient ascent on the lq distance of the logits, in Theorem 1's limit of alpha.

    Rows of five quantities: ``power method``, ``|cos|`` of the attack's perturbation with the
    iterate of Eq. 12 from the same start after as many steps, 1 by Theorem 1 inside the cell;
    ``gain``, ``||J z||_q / (||z||_p ||J||_{p,q})`` with the upper bound of the norm, 1 where the
    attack's direction is a maximiser; ``actual gain``, the same of the change of the logits
    themselves; ``cosine`` with the maximiser that :mod:`onr.jacobians.operator_norms` finds; and ``bracket``,
    the norm's lower bound over its upper one, 1 where it is exact.

    Args:
        subject: the model.
        p: the norm of the attack.
        q: the norm of the logits.
        eps: the radius.
        images: of the test part, its first ones.

    """
    domain, codomain = norm_named(p), norm_named(q)
    loss = load("loss", f"lq:{q}")()
    found: dict[str, list[np.ndarray]] = {}
    for index, (x, y) in enumerate(subject.batches(images, BATCH)):
        rng = np.random.default_rng([subject.config.seed, index])
        start = eps * like(domain.sample_ball(rng, tuple(x.shape)), x)
        z = projected_gradient_ascent(
            subject.network,
            x,
            start,
            loss=loss,
            labels=y,
            p=domain,
            eps=eps,
            alpha=math.inf,
            steps=STEPS,
            keep="last",
        ).delta
        at = subject.network.linearize(x)
        norm = operator_norm(at, p=domain, q=codomain)
        assert norm.upper is not None  # noqa: S101 - lp norms have both bounds
        largest = domain(z) * norm.upper
        walked = walk(at, start, p=domain, q=codomain, alpha=math.inf, steps=STEPS).v
        for quantity, values in (
            ("power method", absolute_cosine(z, walked)),
            ("gain", codomain(at.jvp(z)) / largest),
            ("actual gain", codomain(subject.network(x + z) - at.value) / largest),
            ("cosine", absolute_cosine(z, norm.v)),
            ("bracket", norm.lower / norm.upper),
        ):
            found.setdefault(quantity, []).append(subject.backend.to_numpy(values))
    return [
        {"quantity": quantity, "p": p, "q": q, "eps": eps} | statistics(np.concatenate(parts))
        for quantity, parts in found.items()
    ]
