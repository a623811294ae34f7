import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from onr.jacobians.interpolated_bounds import NODES, interpolated, neighbours, schur_bound

INF = math.inf
laws = settings(max_examples=30, deadline=None, derandomize=True)
KINDS = {
    "numpy": lambda J: J,
    "numpy float32": lambda J: J.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda J: torch.from_numpy(J).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
exponents = st.sampled_from([1, 1.01, 1.3, 2, 2.5, 3, 10, 40, INF])
EVERY_CELL = [(p, q) for p in (1.01, 1.3, 2, 3, 40, INF) for q in (1, 1.2, 2, 3, 10, 40, INF)]
# Angles on which kinks and vertices of two dimensions lie.
ANGLES = np.pi * np.arange(40000) / 40000
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
CIRCLE[np.abs(CIRCLE) < 1e-15] = 0


@st.composite
def grids(draw, n=0):
    """Sixteenths: zeros, zero rows and zero columns are common."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), n or draw(st.integers(1, 5)))
    elements = st.integers(-2, 2) | st.integers(-48, 48).map(lambda k: k / 16)
    return draw(arrays(np.float64, shape, elements=elements))


def size(x, p, axis=-1):
    """The p-norm along an axis, whatever the exponent."""
    a = np.abs(x)
    largest = a.max(axis=axis, keepdims=True)
    if p == INF:
        return largest.squeeze(axis)
    scaled = a / np.where(largest > 0, largest, 1)
    return (largest * np.sum(scaled**p, axis=axis, keepdims=True) ** (1 / p)).squeeze(axis)


def dual(p):
    return {1: INF, INF: 1}.get(p) or p / (p - 1)


def plane(J, p, q):
    """``||J||_{p,q}`` of matrices with two columns: every direction."""
    gains = size(J @ CIRCLE, q, axis=1) / size(CIRCLE, p, axis=0)
    return gains.max(axis=1)


def normalised(z, p):
    """The maximiser of ``<v, z>`` on the unit sphere of the p-norm, for 1 < p <= inf."""
    scaled = np.abs(z) / np.abs(z).max(axis=-1, keepdims=True)
    v = np.sign(z) * scaled ** (dual(p) - 1)
    return v / size(v, p)[..., None]


def nonnegative_norm(A, p, q):
    """Boyd's power method from a positive start, for positive matrices and q <= p."""
    v = np.ones((len(A), A.shape[2]))
    for _ in range(400):
        image = (A @ v[:, :, None])[:, :, 0]
        u = (image / image.max(axis=1, keepdims=True)) ** (q - 1)
        v = normalised((u[:, None] @ A)[:, 0], p)
    return size((A @ v[:, :, None])[:, :, 0], q) / size(v, p)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@given(p=exponents | st.floats(1, 1e6))
def test_neighbours(p):
    found = neighbours(p)
    assert all(a in NODES for a, _ in found)
    assert all(0 <= weight <= 1 for _, weight in found)
    assert sum(weight for _, weight in found) == pytest.approx(1)
    assert sum(weight / a for a, weight in found) == pytest.approx(1 / p, rel=1e-9)
    if p in NODES:
        assert found == [(p, 1)]
    else:
        assert found[0][0] < p < found[1][0]


@pytest.mark.parametrize(("p", "q"), list(itertools.product(NODES, repeat=2)))
def test_at_a_node_what_was_given(p, q):
    given_there = np.array([0, 1e-30, 0.3, 7, 1e30])
    assert np.array_equal(interpolated({(p, q): given_there}, p, q), given_there)


@laws
@given(p=exponents, q=exponents, c=arrays(np.float64, 4, elements=st.floats(-3, 3)))
def test_log_bilinear_functions_are_reproduced(p, q, c):
    def f(a, b):
        return np.exp([c[0] + c[1] / a + c[2] / b + c[3] / (a * b)])

    corners = {(a, b): f(a, b) for a in NODES for b in NODES}
    np.testing.assert_allclose(interpolated(corners, p, q), f(p, q), rtol=1e-12)


@pytest.mark.parametrize(("p", "q"), EVERY_CELL)
def test_interpolated_by_hand(p, q):
    # Identities: n^max(0, 1/q - 1/p), whose logarithm is linear away from p = q.
    corners = {(a, b): np.array([6 ** max(0, 1 / b - 1 / a)]) for a in NODES for b in NODES}
    bound, truth = interpolated(corners, p, q), 6 ** max(0, 1 / q - 1 / p)
    assert bound >= truth * (1 - 1e-12)
    if (p >= 2) != (q > 2):
        assert bound == pytest.approx(truth)
    zero = {corner: np.zeros(2) for corner in corners}
    assert np.array_equal(interpolated(zero, p, q), [0, 0])


@laws
@given(J=grids(n=2), p=exponents, q=exponents)
def test_hoelder_holds_between_true_norms(J, p, q):
    corners = {(a, b): plane(J, a, b) for a in NODES for b in NODES}
    assert np.all(interpolated(corners, p, q) >= plane(J, p, q) * (1 - 1e-6))


def test_riesz_thorin_fails_and_hoelder_holds():
    # Half way from (inf, 1) to (2, 2) in the reciprocals.
    J, p, q = np.array([[[1.0, 1], [1, -1]]]), 4, 4 / 3
    truth = plane(J, p, q)
    riesz_thorin = math.sqrt(plane(J, INF, 1)[0] * plane(J, 2, 2)[0])
    assert truth[0] > 1.01 * riesz_thorin
    corners = {(a, b): plane(J, a, b) for a in NODES for b in NODES}
    assert interpolated(corners, p, q)[0] >= truth[0]
    assert schur_bound(J, p, q)[0] >= truth[0]


@every_kind
@laws
@given(J=grids(n=2), p=exponents, q=exponents, scale=st.sampled_from([1, 1e-30, 1e30]))
def test_schur_bounds_every_direction(kind, J, p, q, scale):
    if p == 1:
        p = 1.01
    p, q = max(p, q), min(p, q, 40)
    J = kind(J * scale)
    bound = schur_bound(J, p, q)
    assert type(bound) is type(J)
    assert bound.dtype == J.dtype
    tolerance = 1e-5 if "32" in str(J.dtype) else 1e-9
    truth = plane(np.asarray(J, dtype=float) / scale, p, q)
    assert np.all(np.asarray(bound, dtype=float) / scale >= truth * (1 - tolerance))
    assert np.array_equal(np.asarray(bound) == 0, truth == 0)


@laws
@given(J=grids(), p=exponents, q=exponents, seed=st.integers(0, 9))
def test_schur_bounds_what_a_search_finds(J, p, q, seed):
    if p == 1:
        p = 1.01
    p, q = max(p, q), min(p, q, 40)
    v = np.concatenate([random(seed, 50, J.shape[2]), np.ones((1, J.shape[2]))])
    gains = size(v @ np.abs(J).transpose(0, 2, 1), q) / size(v, p)
    assert np.all(gains.max(axis=1) <= schur_bound(J, p, q) * (1 + 1e-12))


@every_kind
@pytest.mark.parametrize(("p", "q"), [(p, q) for p, q in EVERY_CELL if q <= p and q < INF])
def test_schur_is_exact_for_positive_matrices(kind, p, q):
    A = np.abs(random(1, 4, 4, 5)) + 0.1
    A[1] = np.round(8 * A[1]) / 8 + 0.125
    A[2] = np.exp(4 * random(2, 4, 5))
    A[3, :, 1:] = A[3, :, :1]
    J = kind(A)
    tolerance = 2e-5 if "32" in str(J.dtype) else 1e-6
    truth = nonnegative_norm(A, p, q)
    np.testing.assert_allclose(schur_bound(J, p, q), truth, rtol=tolerance)


@pytest.mark.parametrize(("p", "q"), [(p, q) for p, q in EVERY_CELL if q <= p and q < INF])
def test_schur_with_zeros(p, q):
    A = np.abs(random(3, 1, 3, 4)) + 0.1
    truth = nonnegative_norm(A, p, q)
    larger = np.zeros((1, 5, 7))
    larger[:, 1:4, 2:6] = A
    np.testing.assert_allclose(schur_bound(larger, p, q), truth, rtol=1e-6)
    np.testing.assert_allclose(schur_bound(larger.astype(np.float32), p, q), truth, rtol=2e-5)
    assert np.array_equal(schur_bound(0 * larger, p, q), [0])
    # Reducible: two blocks, of which for p = q the larger counts.
    blocks = np.zeros((1, 6, 8))
    blocks[:, :3, :4], blocks[:, 3:, 4:] = A, A / 2
    together = schur_bound(blocks, p, q)
    if p == q:
        np.testing.assert_allclose(together, truth, rtol=1e-6)
    else:
        r = p * q / (p - q) if p < INF else q
        np.testing.assert_allclose(together, truth * (1 + 0.5**r) ** (1 / r), rtol=1e-6)


@pytest.mark.parametrize(("p", "q"), [(p, q) for p, q in EVERY_CELL if q <= p and q < INF])
def test_schur_at_every_step(p, q):
    J = random(4, 3, 4, 5)
    J[1, 2:] = 0
    J[2, :, 3] = 0
    bounds = [schur_bound(J, p, q, steps=steps) for steps in (1, 2, 5, 50)]
    assert np.all(np.diff(bounds, axis=0) <= 1e-12)
    v = random(5, 2000, 5)
    gains = size(v @ np.abs(J).transpose(0, 2, 1), q) / size(v, p)
    assert np.all(gains.max(axis=1) <= bounds[-1])
    # It sees magnitudes alone, and no order.
    signs = np.sign(random(6, 4, 5))
    np.testing.assert_allclose(schur_bound(J * signs, p, q), bounds[-1], rtol=1e-12)
    np.testing.assert_allclose(schur_bound(J[:, ::-1, ::-1].copy(), p, q), bounds[-1], rtol=1e-9)


@pytest.mark.parametrize(("p", "q"), [(1000, 1000), (1000, 300), (200, 1.01), (1.001, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_schur_at_extreme_exponents(p, q, dtype):
    A = (np.abs(random(7, 2, 4, 5)) + 0.1).astype(dtype)
    A[1, :, 2] = 0
    np.testing.assert_allclose(
        schur_bound(A, p, q)[0], nonnegative_norm(A[:1].astype(float), p, q)[0], rtol=1e-4
    )
    assert np.all(np.isfinite(schur_bound(A, p, q)))
    # Nearly (inf, inf): the largest row sum.
    if q == 1000:
        np.testing.assert_allclose(schur_bound(A, p, q), A.sum(axis=2).max(axis=1), rtol=1e-2)


@pytest.mark.parametrize(("p", "q"), [(2, 1.2), (3, 3), (10, 2), (INF, 3)])
def test_rows_are_independent(p, q):
    J = random(8, 5, 4, 6)
    J[1] = 0
    J[2] *= 1e20
    J[3, :, 2:] = 0
    together = schur_bound(J, p, q)
    alone = np.concatenate([schur_bound(J[i : i + 1], p, q) for i in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-12)
