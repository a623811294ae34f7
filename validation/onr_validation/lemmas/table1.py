"""Checks of every entry of Table 1 against brute force, and of the bracket for (inf, 2)."""

from __future__ import annotations

import itertools
import math

import numpy as np

from onr.exact.surds import FASTEST, exact_array
from onr.jacobians.inf_2_bound import cube_bound
from onr.norms import LpNorm
from onr_validation.lemmas.bracket_laws import attains, check_brackets, found_norm, known_upper
from onr_validation.lemmas.laws import Arithmetic, Law
from onr_validation.naive import size

__all__ = ["ENTRIES", "check_table"]

ENTRIES = {
    (1, 1): "largest l1 norm of a column",
    (1, 2): "largest l2 norm of a column",
    (1, math.inf): "largest linf norm of a column",
    (2, 1): "NP-hard",
    (2, 2): "largest singular value",
    (2, math.inf): "largest l2 norm of a row",
    (math.inf, 1): "NP-hard",
    (math.inf, 2): "NP-hard",
    (math.inf, math.inf): "largest l1 norm of a row",
}
"""Table 1 as the paper prints it, by the exponents of domain and co-domain."""
SHAPES = ((4, 6), (3, 3), (5, 2), (1, 4), (4, 1))
NESTEROV = math.sqrt(math.pi / 2)
RELATIVE = 2.0**-40
"""The relative error to which exact arithmetic certifies the largest singular value."""


def check_table(arithmetic: Arithmetic, *, trials: int, seed: int) -> list[Law]:
    """Check every entry of Table 1 on random matrices with planted zeros and ties.

    A convex function attains its maximum over a polytope at a vertex, so brute force tries every
    vertex of the domain's unit ball. If p = 2 that ball is round, and brute force tries the
    vertices of the co-domain's dual ball. For (2, 2) both balls are round, and the reference is
    numpy's SVD, or Sylvester's criterion over the rationals.

    Args:
        arithmetic: floats or exact numbers.
        trials: the number of matrices of each shape.
        seed: the seed of the matrices.

    Returns:
        A law for each entry, in the order of the table, a law for the bracket of (inf, 2), and in
        floats those of :mod:`onr_validation.lemmas.bracket_laws`.

    Example:
        >>> laws = check_table(Arithmetic(exact=False), trials=2, seed=0)
        >>> len(laws), all(law.holds for law in laws)
        (17, True)

    """
    rng = np.random.default_rng([seed, 4])
    matrices = [_matrices(rng, trials, d, n) for d, n in SHAPES]
    laws = [_entry(arithmetic, matrices, p, q) for p, q in ENTRIES]
    laws.append(_bracket(arithmetic, matrices))
    return laws if arithmetic.exact else laws + check_brackets(max(2, trials // 3), rng)


def _matrices(rng: np.random.Generator, trials: int, d: int, n: int) -> np.ndarray:
    """Draw matrices of multiples of 1/16; half have entries in {-1, 0, 1}, and the last is zero."""
    J = rng.integers(-64, 65, (trials, d, n)) / 16
    J[::2] = rng.integers(-1, 2, J[::2].shape)
    J[-1] = 0
    return J


def _entry(arithmetic: Arithmetic, matrices: list[np.ndarray], p: float, q: float) -> Law:
    name = f"p = {_name(p)}, q = {_name(q)}"
    statement = ENTRIES[p, q]
    if statement == "NP-hard":
        statement = "by enumeration (NP-hard)"
    if (p, q) == (2, 2) and arithmetic.exact:
        statement += ", to 2^-40"
    law = Law(f"Table 1, {name}", statement, arithmetic.name)
    for J in matrices:
        if (p, q) == (2, 2) and arithmetic.exact:
            _certify_singular_value(law, J)
            continue
        numbers = arithmetic.array(J)
        found = found_norm(law, numbers, p, q)
        if found is None:
            continue
        truth = _brute_force(numbers, p, q)
        law.equal(found.lower, truth)
        law.equal(known_upper(law, found), truth)
        attains(law, found, numbers, p, q)
    return law


def _name(p: float) -> str:
    return LpNorm(p).name


def _brute_force(J: np.ndarray, p: float, q: float) -> np.ndarray:
    """The (p, q) norm of each matrix by enumeration, or by the SVD for (2, 2)."""
    if p != 2:
        images = J @ _vertices(p, J.shape[2], J).T
        largest: np.ndarray = size(images.swapaxes(1, 2), q).max(axis=1)
    elif q != 2:
        # ||J v||_q = max <w, J v> over the vertices w of the dual ball; the maximum of <w, J v>
        # over unit v is ||J^T w||_2.
        vertices = _vertices(1 if q == math.inf else math.inf, J.shape[1], J)
        largest = size(vertices @ J, 2).max(axis=1)
    else:
        largest = np.linalg.svd(J, compute_uv=False)[:, 0]
    return largest


def _vertices(p: float, count: int, J: np.ndarray) -> np.ndarray:
    signs = itertools.product((-1.0, 1.0), repeat=count)
    points = np.eye(count) if p == 1 else np.array(list(signs))
    return exact_array(points, FASTEST) if J.dtype == object else points


def _certify_singular_value(law: Law, J: np.ndarray) -> None:
    """Certify the float singular value ``sigma`` to a relative error of ``2^-40``.

    ``t I - J J^T`` must be positive definite for ``t`` above ``sigma^2`` and not for ``t`` below.
    The pivots of an elimination over the rationals decide that (Sylvester's criterion).
    """
    found = found_norm(law, J, 2, 2)
    if found is None:
        return
    law.equal(known_upper(law, found), found.lower)
    for matrix, sigma in zip(J, found.lower, strict=True):
        exact = exact_array(matrix, FASTEST)
        gram = exact @ exact.T
        for factor, definite in ((1 + RELATIVE, True), (1 - RELATIVE, False)):
            bound = exact_array(np.array([(sigma * factor) ** 2]), FASTEST)[0]
            shifted = bound * exact_array(np.eye(len(gram)), FASTEST) - gram
            expected = definite and sigma > 0
            law.equal([int(_positive_definite(shifted))], [int(expected)])
        # sigma = 0 passes both tests for every matrix, so zero is checked apart.
        law.equal([int(sigma > 0)], [int(matrix.any())])


def _positive_definite(matrix: np.ndarray) -> bool:
    """Whether all pivots of a symmetric rational matrix in Gaussian elimination are positive."""
    rest = matrix.copy()
    while len(rest):
        pivot = rest[0, 0]
        if not pivot > 0:
            return False
        rest = rest[1:, 1:] - np.outer(rest[1:, 0], rest[0, 1:]) / pivot
    return True


def _bracket(arithmetic: Arithmetic, matrices: list[np.ndarray]) -> Law:
    """Check the bracket for (inf, 2), which large matrices get, on small ones with a known norm."""
    statement = "truth <= (1 + 1e-9) bound <= 1.2534 truth"
    law = Law("(inf, 2) in large", statement, arithmetic.name)
    for J in matrices:
        truth = _brute_force(arithmetic.array(J), math.inf, 2)
        slack = 1 + 1e-9
        bound = cube_bound(J, steps=1000, gap=1e-6)[0]
        law.at_most(truth, arithmetic.array(bound * slack))
        law.at_most(arithmetic.array(bound / (NESTEROV * (1 + 2e-6))), truth)
    return law
