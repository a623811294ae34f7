"""The iteration for the operator norm (Eqs. 9 to 12) beside one in a few lines of NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from onr.jacobians.dense import Matrices
from onr.jacobians.iterations import Step, walk
from onr.norms import LpNorm
from onr_validation.lemmas.laws import Arithmetic, Law
from onr_validation.lemmas.projection_laws import closest_on_sphere
from onr_validation.naive import closed_form, conjugate, size

__all__ = ["check_iterations"]

OUTPUTS, INPUTS = 3, 4
STEPS = 3


def check_iterations(
    arithmetic: Arithmetic, trials: int, rng: np.random.Generator
) -> Iterator[Law]:
    """Check three steps of the iteration at step sizes from 1/8 up, and in the limit.

    Exact arithmetic leaves out p = 2 and q = 2, whose iterates have more than one square root.

    Example:
        >>> laws = check_iterations(Arithmetic(exact=False), 4, np.random.default_rng(0))
        >>> [law.verdict for law in laws]
        ['holds', 'holds', 'holds']

    """
    name = arithmetic.name
    finite = Law("Eq. 11", "v_k is a closest point to v + alpha J^T u on the sphere", name)
    limit = Law("Eq. 12", "v_k is the duality map of J^T u, step by step", name)
    values = Law("Eqs. 9-12", "u_k is the gradient at J v, the value ||J v||_q", name)
    exponents = (1.0, math.inf) if arithmetic.exact else (1.0, 2.0, math.inf)
    J, start = rng.standard_normal((trials, OUTPUTS, INPUTS)), rng.standard_normal((trials, INPUTS))
    if arithmetic.exact:  # zeros and ties
        J, start = np.round(J), np.round(4 * start) / 4 + np.eye(INPUTS)[0] / 8
    J, start = arithmetic.array(J), arithmetic.array(start)
    for p, q in itertools.product(exponents, repeat=2):
        v0 = start / size(start, p)[:, None]
        for alpha in (0.125, 4.0, math.inf):
            steps = _steps(J, start, p, q, alpha)
            step_size = alpha if alpha == math.inf else arithmetic.array(np.array([alpha]))[0]
            values.equal([len(steps)], [STEPS])
            v = v0
            for step in steps:
                image = (J @ v[:, :, None])[:, :, 0]
                alive = np.any(image != 0, axis=1)
                u = np.where(alive[:, None], closed_form(_alive(image), conjugate(q)), 0 * image)
                values.equal(step.u, u)
                values.equal(step.value, size(image, q))
                g = (u[:, None, :] @ J)[:, 0, :]
                if alpha == math.inf:
                    moving = np.any(g != 0, axis=1)[:, None]
                    limit.equal(step.v, np.where(moving, closed_form(_alive(g), p), 0 * g))
                else:
                    closest_on_sphere(finite, v + step_size * g, step.v, 1, p)
                v = step.v
    yield from (finite, limit, values)


def _steps(J: np.ndarray, start: np.ndarray, p: float, q: float, alpha: float) -> list[Step]:
    steps: list[Step] = []
    size_of_step: Any = alpha
    if J.dtype == object and alpha < math.inf:
        size_of_step = J.flat[0] * 0 + int(8 * alpha)
        size_of_step = size_of_step / 8
    walk(
        Matrices(J),
        start,
        p=LpNorm(p),
        q=LpNorm(q),
        alpha=size_of_step,
        steps=STEPS,
        trace=steps.append,
    )
    return steps


def _alive(z: np.ndarray) -> np.ndarray:
    """The rows, with ones for a row of zeros, which has no direction."""
    return np.where(np.any(z != 0, axis=1)[:, None], z, 0 * z + 1)
