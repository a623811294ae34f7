from fractions import Fraction

import numpy as np
import pytest
import torch

from onr.errors import OnrError
from onr.jacobians.rounding import eigenvalue_above, least, not_crossed


def positive_definite(matrix):
    """All pivots of a Gaussian elimination over the rationals are positive."""
    rest = [row[:] for row in matrix]
    while rest:
        pivot = rest[0][0]
        if pivot <= 0:
            return False
        rest = [
            [a - row[0] * b / pivot for a, b in zip(row[1:], rest[0][1:], strict=True)]
            for row in rest[1:]
        ]
    return True


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["generic", "rank one", "ties", "scales"])
def test_eigenvalues_from_above_over_the_rationals(kind, dtype):
    rng = np.random.default_rng(0)
    for _ in range(10):
        d, n = rng.integers(1, 5, 2)
        J, y = rng.standard_normal((d, n)), rng.uniform(0.1, 1, n)
        if kind == "rank one":
            J = np.outer(J[:, 0], J[0])
        if kind == "ties":
            J, y = np.ones((d, n)), np.full(n, 1 / 3)
        if kind == "scales":
            y = 10.0 ** rng.uniform(-6, 0, n)
        J, y = J.astype(dtype), y.astype(dtype)
        bound = Fraction(float(eigenvalue_above(J[None], y[None])[0]))
        rows = [[Fraction(float(a)) for a in row] for row in J]
        weights = [1 / Fraction(float(a)) for a in y]
        gram = [
            [sum(a * b * w for a, b, w in zip(r, s, weights, strict=True)) for s in rows]
            for r in rows
        ]
        for slack, above in ((1, True), (1 - Fraction(1, 10**9), False)):
            shifted = [
                [bound * slack * (i == j) - a for j, a in enumerate(row)]
                for i, row in enumerate(gram)
            ]
            assert positive_definite(shifted) == above


@pytest.mark.parametrize("array", [np.asarray, torch.tensor])
@pytest.mark.parametrize(("dtype", "eps"), [("float32", 2.0**-23), ("float64", 2.0**-52)])
def test_bounds_may_cross_by_rounding_alone(array, dtype, eps):
    upper = array([0.0, 1.0, 2.0])
    upper = (
        upper.astype(dtype) if isinstance(upper, np.ndarray) else upper.to(getattr(torch, dtype))
    )
    for sign in (-1, 1):
        lower = upper * (1 + sign * 30 * eps)
        raised = not_crossed(lower, upper, 4)
        assert bool((raised >= lower).all())
        assert bool((raised >= upper).all())
    with pytest.raises(OnrError, match="example 1: the lower bound"):
        not_crossed(upper * (1 + 40 * eps), upper, 4)
    with pytest.raises(OnrError, match="example 0"):
        not_crossed(upper + 1, upper, 4)
    with pytest.raises(OnrError, match="nan"):
        not_crossed(upper * float("nan"), upper, 4)


def test_the_least_of_each_example():
    one, other = (np.array([1.0, 5.0]), np.eye(2)), (np.array([2.0, 4.0]), -np.eye(2))
    bound, kept = least(one, other)
    assert bound.tolist() == [1, 4]
    assert kept.tolist() == [[1, 0], [0, -1]]
    assert least(None, one) is one
