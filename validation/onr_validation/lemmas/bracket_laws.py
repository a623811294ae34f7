"""The bounds of ``onr.operator_norm`` for any p and q, beside the truth on matrices that have one.

Three kinds of matrices have a norm that a few lines find. With two columns the unit vectors are a
curve, which is searched. The norm of ``a b^T`` is ``||a||_q ||b||_p*`` at every size. The
relaxation of (inf, 2) is a maximum over unit vectors, one for each column, which coordinate ascent
finds.
"""

from __future__ import annotations

import math

import numpy as np

from onr.errors import OnrError
from onr.jacobians.dense import Matrices
from onr.jacobians.inf_2_bound import cube_bound
from onr.jacobians.interpolated_bounds import interpolated, schur_bound
from onr.jacobians.operator_norms import OperatorNorm, operator_norm
from onr.protocols import Array, Linearization
from onr_validation.lemmas.laws import Law
from onr_validation.naive import conjugate, size, steepest

__all__ = ["attains", "check_brackets", "found_norm", "known_upper"]

PAIRS = (
    *((1.5, 3.0), (3.0, 1.5), (3.0, 2.0), (2.0, 3.0), (4.0, 4.0), (1.25, 1.5)),
    *((math.inf, 3.0), (3.0, math.inf), (1.0, 3.0), (3.0, 1.0)),
)
LARGE = ((math.inf, 2.0), (2.0, 1.0), (math.inf, 1.0), (3.0, 2.0), (1.5, 4.0))
"""Pairs without an exact algorithm where both sides of the matrix are above 16."""
TIGHT = 0.002
"""How far a bound by relaxation may be above the relaxation's own value, relative to it."""
NEAR = 1e-5
"""How far an iteration may stop below a maximum: it stops once a step gains less than 1e-6."""


def check_brackets(trials: int, rng: np.random.Generator) -> list[Law]:
    """Check the brackets, and each upper bound on its own, in floats.

    Args:
        trials: the number of matrices for each statement.
        rng: draws them.

    Example:
        >>> laws = check_brackets(2, np.random.default_rng(0))
        >>> [law.verdict for law in laws]
        ['holds', 'holds', 'holds', 'holds', 'holds', 'holds']

    """
    parts = (_two_columns, _rank_one, _products, _schur, _interpolation, _relaxation)
    return [part(trials, rng) for part in parts]


def found_norm(law: Law, J: np.ndarray | Linearization, p: float, q: float) -> OperatorNorm | None:
    """The product's answer; an error (as of an upper bound below a lower one) fails the law.

    Example:
        >>> law = Law("", "", "float")
        >>> found_norm(law, np.ones((1, 2, 2)), 1, 0.5) is None, law.failures
        (True, 1)

    """
    try:
        return operator_norm(J, p=p, q=q)
    except OnrError as error:
        law.fail(str(error))
        return None


def attains(law: Law, found: OperatorNorm, J: np.ndarray, p: float, q: float) -> None:
    """Check that ``v`` and ``u`` are unit vectors with ``<u, J v> = ||J v||_q = lower``.

    Where the norm is zero, they may be zero.

    Example:
        >>> law, J = Law("", "", "float"), np.ones((1, 2, 2))
        >>> attains(law, operator_norm(J, p=2, q=1), J, 2, 1)
        >>> law.verdict
        'holds'

    """
    v = found.v.reshape(len(J), -1)
    image = (J @ v[:, :, None])[:, :, 0]
    ones = np.ones(len(J), dtype=int)
    alive = np.any(image != 0, axis=1)
    law.equal(found.lower, size(image, q))
    law.equal((found.u * image).sum(axis=1), found.lower)
    law.equal(np.where(np.any(J != 0, axis=(1, 2)), size(v, p), 1), ones)
    law.equal(np.where(alive, size(found.u, conjugate(q)), 1), ones)


def known_upper(law: Law, found: OperatorNorm) -> Array:
    """The upper bound; a missing one fails the law, and the lower bound takes its place.

    Example:
        >>> law, found = Law("", "", "float"), operator_norm(np.ones((1, 2, 2)), p=1, q=1)
        >>> known_upper(law, found), law.failures
        (array([2.]), 0)

    """
    if found.upper is None:
        law.fail("no upper bound")
        return found.lower
    return found.upper


def _brackets(law: Law, J: np.ndarray, p: float, q: float, truth: np.ndarray) -> None:
    found = found_norm(law, J, p, q)
    if found is None:
        return
    attains(law, found, J, p, q)
    law.at_most(found.lower, truth)
    law.at_most((1 - NEAR) * truth, found.lower)
    law.at_most(truth, known_upper(law, found))
    if found.kind == "exact":
        law.equal(found.lower, truth)
        law.equal(known_upper(law, found), truth)


def _two_columns(trials: int, rng: np.random.Generator) -> Law:
    law = Law("any p, q", "n = 2: lower is the truth <= upper, attained by v and u", "float")
    J = rng.standard_normal((trials, 3, 2))
    J[::2] = np.abs(J[::2])
    for p, q in PAIRS:
        _brackets(law, J, p, q, _on_the_curve(J, p, q))
    return law


def _on_the_curve(J: np.ndarray, p: float, q: float) -> np.ndarray:
    """``||J||_{p,q}`` of matrices with two columns, by a search over all angles."""

    def values(angle: np.ndarray) -> np.ndarray:
        v = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        found: np.ndarray = size(np.einsum("bij,b...j->b...i", J, v), q) / size(v, p)
        return found

    angle = np.linspace(0, np.pi, 1024, endpoint=False) + np.zeros((len(J), 1))
    value = values(angle)
    peak = (value >= np.roll(value, 1, axis=1)) & (value >= np.roll(value, -1, axis=1))
    best = np.argsort(np.where(peak, -value, 0.0), axis=1)[:, :4]
    middle, width = np.take_along_axis(angle, best, axis=1), np.pi / 1024
    for _ in range(6):
        near = middle[..., None] + width * np.linspace(-1, 1, 33)
        top = values(near).argmax(axis=-1)[..., None]
        middle, width = np.take_along_axis(near, top, axis=-1)[..., 0], width / 16
    largest: np.ndarray = values(middle).max(axis=1)
    return largest


def _rank_one(trials: int, rng: np.random.Generator) -> Law:
    law = Law("any p, q", "||a b^T|| = ||a||_q ||b||_p* between the bounds, 18 x 20", "float")
    a, b = rng.standard_normal((2, 18)), rng.standard_normal((2, 20))
    J = a[:, :, None] * b[:, None, :]
    for p, q in LARGE:
        _brackets(law, J, p, q, size(a, q) * size(b, conjugate(p)))
    return law


def _products(trials: int, rng: np.random.Generator) -> Law:
    """Check matrices that are given as products alone, where a bound from below is enough."""
    law = Law("from products", "lower = ||J v||_q <= truth, 65 x 66", "float")
    J = rng.standard_normal((1, 65, 66))
    for p, q in ((1.0, 2.0), (2.0, math.inf), (2.0, 2.0)):
        found = found_norm(law, Matrices(J), p, q)
        if found is None:
            continue
        attains(law, found, J, p, q)
        if (p, q) == (2, 2):
            truth = np.linalg.norm(J, 2, axis=(1, 2))
            law.equal(found.lower, truth)
        else:
            truth = size(J.swapaxes(1, 2), q).max(axis=1) if p == 1 else size(J, 2).max(axis=1)
        law.at_most(found.lower, truth)
        if found.upper is not None:
            law.at_most(truth, found.upper)
        if found.kind == "exact":
            law.equal(found.lower, truth)
    return law


def _schur(trials: int, rng: np.random.Generator) -> Law:
    law = Law("Schur's test", "q <= p: ||J|| <= ||(|J|)|| <= bound, equal where J > 0", "float")
    J = rng.standard_normal((trials, 3, 2))
    positive = np.abs(J) + 0.25
    for p, q in PAIRS:
        if q <= p < math.inf:
            law.at_most(_on_the_curve(np.abs(J), p, q), schur_bound(J, p, q))
            law.equal(schur_bound(positive, p, q), _on_the_curve(positive, p, q))
    return law


def _interpolation(trials: int, rng: np.random.Generator) -> Law:
    law = Law("Hoelder's inequality", "||J|| <= the mean of the logarithms of its corners", "float")
    J = rng.standard_normal((trials, 3, 2))
    for p, q in PAIRS:
        rows, columns = _between(p), _between(q)
        corners = {(a, b): _on_the_curve(J, a, b) for a in rows for b in columns}
        bound = interpolated(corners, p, q)
        law.at_most(_on_the_curve(J, p, q), bound)
        mean = sum(rows[a] * columns[b] * np.log(corner) for (a, b), corner in corners.items())
        law.equal(bound, np.exp(mean))
    return law


def _between(p: float) -> dict[float, float]:
    """The exponents a <= p <= b of Table 1 with weights whose mean of 1/a and 1/b is 1/p."""
    if p in (1, 2, math.inf):
        return {p: 1.0}
    a, b = (1.0, 2.0) if p < 2 else (2.0, math.inf)
    share = (1 / a - 1 / p) / (1 / a - 1 / b)
    return {a: 1 - share, b: share}


def _relaxation(trials: int, rng: np.random.Generator) -> Law:
    """Check the bound for (inf, 2) against its dual, whose value no correct bound is below.

    ``max ||J V||_F`` over matrices ``V`` with rows of length 1 is the semidefinite relaxation
    itself where ``V`` has as many columns as rows (Burer and Monteiro, 2003).
    """
    law = Law("(inf, 2) in large", "the bound is the relaxation's value, to 1 %", "float")
    for d, n in ((4, 6), (3, 3), (6, 4), (1, 5)):
        J = rng.standard_normal((trials, d, n))
        J[0, :, 0] = 0
        bound, root = cube_bound(J)
        least = _dual(J, rng)
        law.at_most(least, bound)
        law.at_most(bound, least * (1 + TIGHT))
        law.equal((root * root).sum(axis=(1, 2)), np.ones(trials))
        v = steepest((root[:, :1] @ J)[:, 0], math.inf)
        law.at_most(size((J @ v[:, :, None])[:, :, 0], 2), bound)
    return law


def _dual(J: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gram, n = J.swapaxes(1, 2) @ J, J.shape[2]
    V = rng.standard_normal((len(J), n, n))
    V /= size(V, 2)[..., None]
    for _ in range(50):
        for i in range(n):
            pull = (gram[:, i, None] @ V)[:, 0] - gram[:, i, i, None] * V[:, i]
            length = size(pull, 2)[:, None]
            V[:, i] = np.where(length > 0, pull / np.where(length > 0, length, 1.0), V[:, i])
    largest: np.ndarray = np.sqrt(((J @ V) ** 2).sum(axis=(1, 2)))
    return largest
