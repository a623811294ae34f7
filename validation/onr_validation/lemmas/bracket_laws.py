"""The bounds of ``onr.operator_norm`` for any p and q, beside the truth on matrices that have one.

Four kinds of matrices have a norm that a few lines find. With two columns the unit vectors are a
curve, which is searched. The norm of ``a b^T`` is ``||a||_q ||b||_p*`` at every size. The
relaxation of (inf, 2) is a maximum over unit vectors, one for each column, which coordinate ascent
finds. With 17 rows or columns, one more than the product enumerates, the signs are enumerated here.
"""

from __future__ import annotations

import math

import numpy as np

from onr.errors import OnrError
from onr.jacobians.dense import Matrices
from onr.jacobians.inf_1_bound import grothendieck_bound
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
KRIVINE = 1.7822139782
"""``pi / (2 ln(1 + sqrt 2))``, which Grothendieck's constant is below."""
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
        ['holds', 'holds', 'holds', 'holds', 'holds', 'holds', 'holds']

    """
    parts = (_two_columns, _rank_one, _products, _schur, _interpolation, _relaxation, _guarantees)
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
        _factors(law, found, truth, 1.0)


def _factors(law: Law, found: OperatorNorm, truth: np.ndarray, most: float) -> None:
    """Check that ``upper <= guarantee * truth`` and ``guarantee <= most``."""
    if found.guarantee is None:
        law.fail("no guarantee")
        return
    law.at_most(known_upper(law, found), found.guarantee * truth)
    law.at_most(found.guarantee, np.full(len(truth), most))


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
    # operator_norm takes the least of two bounds here; each relaxation is tight by itself.
    for bound, truth in (
        (grothendieck_bound(J)[0], size(a, 1) * size(b, 1)),
        (cube_bound(J)[0], size(a, 2) * size(b, 1)),
    ):
        law.at_most(truth, bound)
        law.at_most(bound, truth * (1 + TIGHT))
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
    law = Law("(inf, 2) in large", "the bound is the relaxation's value, to 0.2 %", "float")
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


def _guarantees(trials: int, rng: np.random.Generator) -> Law:
    """Check ``guarantee`` on matrices with 17 rows or columns.

    The columns of the first matrix are 17 directions all around a circle. Its upper bound for
    (inf, 2) is 1.109 times its norm, so that a guarantee of 1 is surely wrong.
    """
    law = Law("guarantee", "upper <= guarantee ||J||, guarantee <= the factor at rank r", "float")
    angle = np.pi * np.arange(17) / 17
    wide = [np.stack([np.cos(angle), np.sin(angle)]), *rng.standard_normal((2, 3, 17))]
    signs = 1.0 - 2 * (np.arange(2**16)[:, None] >> np.arange(17) & 1)
    for J in (*wide, rng.standard_normal((1, 17)) * rng.standard_normal((3, 1))):
        rank = np.linalg.matrix_rank(J)
        truth = size(signs @ J.T, 2).max(keepdims=True)
        for matrix, p, q in ((J, math.inf, 2.0), (J.T, 2.0, 1.0)):
            found = found_norm(law, matrix[None], p, q)
            if found is not None:
                _factors(law, found, truth, _nesterov(rank) * (1 + TIGHT))
    J = rng.standard_normal((17, 17))
    found = found_norm(law, J[None], math.inf, 1.0)
    if found is not None:
        _factors(law, found, size(signs @ J, 1).max(keepdims=True), KRIVINE * (1 + TIGHT))
    return law


def _nesterov(rank: int) -> float:
    """``sqrt(pi / 2) E||g||_2 / sqrt(r)`` for a Gaussian ``g``: from 1 (r = 1) up to 1.2533."""
    mean = math.sqrt(2) * math.gamma((rank + 1) / 2) / math.gamma(rank / 2)
    return math.sqrt(math.pi / 2 / rank) * mean
