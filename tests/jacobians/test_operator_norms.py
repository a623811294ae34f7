import itertools
import math
from dataclasses import replace
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy.linalg import hadamard

from onr.architectures import Affine, Architecture, Conv, Flatten, ReLU, initial_parameters
from onr.errors import OnrError
from onr.exact.surds import NotExactError, Surd, exact_array
from onr.jacobians import bracketed_norms, exact_norms, operator_norms
from onr.jacobians.dense import Matrices, jacobian
from onr.jacobians.multistart import ROUNDS
from onr.jacobians.operator_norms import operator_norm
from onr.norms import BaseNorm, LpNorm
from onr_numpy.network import DenseNetwork
from onr_pixel_norms.norms import PixelMax, PixelSum
from onr_torch.backend import TorchBackend

INF = math.inf
EXPONENTS = (1, 1.3, 2, 3, 10, INF)
CELLS = list(itertools.product(EXPONENTS, repeat=2))
TABLE_1 = [(p, q) for p, q in itertools.product((1, 2, INF), repeat=2)]
HARD = [(INF, 1), (INF, 2), (2, 1)]
# About those corners, and one for each side of p = q.
GENERAL = [(3, 2), (1.3, 1.3), (INF, 3), (1.3, 3), (2, 1.3), (3, 1.3), (10, 10), (2, 10)]
NESTEROV = math.sqrt(math.pi / 2)

laws = settings(max_examples=15, deadline=None, derandomize=True)
exponents = st.sampled_from(EXPONENTS)
scales = st.sampled_from([1, 1e-30, 1e30])
KINDS = {
    "numpy": lambda J: J,
    "numpy float32": lambda J: J.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda J: torch.from_numpy(J).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
every_cell = pytest.mark.parametrize(("p", "q"), CELLS)
every_cell_of_table_1 = pytest.mark.parametrize(("p", "q"), TABLE_1)


@st.composite
def matrices(draw, d=0, n=0):
    """Sixteenths, zeros and ties are common; each example has a structure of its own."""
    d, n = d or draw(st.integers(1, 5)), n or draw(st.integers(1, 5))
    return np.array([draw(matrix(d, n)) for _ in range(draw(st.integers(1, 3)))])


@st.composite
def matrix(draw, d, n):
    elements = st.integers(-48, 48).map(lambda k: k / 16) | st.integers(-1, 1)
    J = draw(arrays(np.float64, (d, n), elements=elements))
    structure = draw(st.sampled_from(["", "", "zero", "zeros", "rank one", "nonnegative", "ties"]))
    if structure == "zero":
        J[:] = 0
    if structure == "zeros":
        J[:, draw(st.integers(0, n - 1))] = 0
        J[draw(st.integers(0, d - 1))] = 0
    if structure == "rank one":
        J = np.outer(J[:, 0], J[-1])
    if structure == "nonnegative":
        J = np.abs(J)
    if structure == "ties":
        J = np.sign(J)
    return J


def planted(seed=0, d=5, n=6):
    """Generic, nonnegative, zero, with zeros, of rank one, diagonal, of widely different sizes."""
    J = np.random.default_rng(seed).standard_normal((7, d, n))
    J[1] = np.abs(J[1])
    J[2] = 0
    J[3, :, n // 2] = 0
    J[3, d // 2] = 0
    J[4] = np.outer(J[4, :, 0], J[4, 0])
    J[5] = np.diag(np.arange(1, 1 + max(d, n)))[:d, :n]
    J[6] *= 10.0 ** np.arange(0, -2 * n, -2)
    return J


def dual(p):
    return {1: INF, INF: 1}.get(p) or p / (p - 1)


def size(x, p, axis=-1):
    return np.linalg.norm(x, p, axis=axis)


def signs(k):
    return np.array(list(itertools.product([1.0, -1.0], repeat=k)))


def is_exact(p, q, d, n, enumerated=16):
    """Whether the table promises the norm itself."""
    easy = p == 1 or q == INF or (p, q) == (2, 2) or 1 in (d, n)
    return easy or (q == 1 and d <= enumerated) or (p == INF and n <= enumerated)


def brute_force(J, p, q):
    """``||J||_{p,q}`` of each matrix: all vertices of whichever ball has them."""
    _, d, n = J.shape
    if p == 1 or n == 1:
        return size(J, q, axis=1).max(axis=1)
    if q == INF or d == 1:
        return size(J, dual(p)).max(axis=1)
    if p == INF and (q != 1 or n <= d):
        return size(signs(n) @ J.transpose(0, 2, 1), q).max(axis=1)
    if q == 1:
        return size(signs(d) @ J, dual(p)).max(axis=1)
    assert (p, q) == (2, 2)
    return np.linalg.svd(J, compute_uv=False)[:, 0]


def search(J, p, q, seed=0, starts=200, steps=30):
    """The best of Gaussian directions and Eq. 12 from them, for one matrix."""
    v = np.random.default_rng(seed).standard_normal((starts, J.shape[1]))
    best = 0
    for _ in range(steps):
        v = v / np.maximum(size(v, p), 1e-300)[:, None]
        best = max(best, size(v @ J.T, q).max())
        v = sphere(sphere(v @ J.T, dual(q)) @ J, p)
    return best


def sphere(z, p):
    """A multiple of ``argmax <v, z>`` over the ball of the p-norm."""
    largest = np.abs(z).max(axis=-1, keepdims=True)
    scaled = np.abs(z) / np.where(largest > 0, largest, 1)
    if p == 1:
        return np.sign(z) * (scaled == 1)
    return np.sign(z) * scaled ** (dual(p) - 1)


def in_float64(x):
    return np.asarray(x, dtype=float)


def tolerance_of(J):
    return 1e-5 if "32" in str(J.dtype) else 1e-9


def check(J, found, p, q, scale=1, shape=None, kind=None):
    """What holds of every result for lp norms, and what kind it must be; lower and upper."""
    batch, d, n = J.shape
    rtol = tolerance_of(J)
    for array in (found.lower, found.v, found.u):
        assert type(array) is type(J)
        assert array.dtype == J.dtype
    assert found.v.shape == (batch, *(shape or (n,)))
    assert found.u.shape == (batch, d)
    assert found.lower.shape == found.stationary.shape == (batch,)
    assert found.value is found.lower
    assert "bool" in str(found.stationary.dtype)
    A, v, u = in_float64(J) / scale, in_float64(found.v).reshape(batch, n), in_float64(found.u)
    lower = in_float64(found.lower) / scale
    zero = ~np.any(A != 0, axis=(1, 2))
    assert np.array_equal(lower == 0, zero)
    image = (A @ v[:, :, None])[:, :, 0]
    np.testing.assert_allclose(size(image, q), lower, rtol=rtol)
    np.testing.assert_allclose(size(v, p)[~zero], 1, rtol=rtol)
    np.testing.assert_allclose(size(u, dual(q))[~zero], 1, rtol=rtol)
    np.testing.assert_allclose(np.sum(u * image, axis=1), lower, rtol=rtol)
    assert np.all(np.isfinite(v))
    if p == INF and found.iterations:
        # Ties are broken towards vertices, so that nothing is left to gain.
        assert np.all(np.abs(v[~zero]) == 1)
    assert np.all(u[zero] == 0)
    assert found.kind == (kind or ("exact" if is_exact(p, q, d, n) else "bracket"))
    if found.kind == "lower":
        assert found.upper is None
        return lower, None
    assert found.upper.shape == (batch,)
    assert found.upper.dtype == J.dtype
    upper = in_float64(found.upper) / scale
    assert np.all(lower <= upper)
    if found.kind == "exact":
        assert np.array_equal(lower, upper)
        assert found.iterations == 0
        assert np.all(in_float64(found.stationary))
    else:
        assert 1 <= found.iterations <= 100
    return lower, upper


@every_kind
@settings(laws, max_examples=60)
@given(J=matrices(), p=exponents, q=exponents, scale=scales)
def test_against_brute_force_and_search(kind, J, p, q, scale):
    J = kind(J * scale)
    found = operator_norm(J, p=p, q=q)
    lower, upper = check(J, found, p, q, scale)
    A, rtol = in_float64(J) / scale, tolerance_of(J)
    if found.kind == "exact":
        np.testing.assert_allclose(lower, brute_force(A, p, q), rtol=rtol)
    else:
        assert np.all([search(a, p, q) for a in A] <= upper * (1 + rtol))


@pytest.mark.parametrize("ord_", [1, 2, INF])
@laws
@given(J=matrices())
def test_numpys_matrix_norms(ord_, J):
    found = operator_norm(J, p=ord_, q=ord_)
    np.testing.assert_allclose(found.lower, np.linalg.norm(J, ord_, axis=(1, 2)), rtol=1e-10)


@every_kind
@settings(laws, max_examples=40)
@given(J=matrices(n=2), p=exponents, q=exponents)
def test_every_direction_of_the_plane(kind, J, p, q):
    J = kind(J)
    angles = np.pi * np.arange(8000) / 8000
    circle = np.stack([np.cos(angles), np.sin(angles)])
    circle[np.abs(circle) < 1e-15] = 0
    truth = (size(in_float64(J) @ circle, q, axis=1) / size(circle, p, axis=0)).max(axis=1)
    lower, upper = check(J, operator_norm(J, p=p, q=q), p, q)
    # A grid misses some of the maximum, and the iteration stops when it gains little.
    assert np.all(lower >= truth * 0.999)
    assert np.all(upper >= truth * (1 - tolerance_of(J)))
    # Here the corners of the interpolation are exact: at most a few per cent between them.
    assert np.all(upper <= 1.5 * lower)


@every_kind
@pytest.mark.parametrize(("p", "q"), HARD)
@laws
@given(J=matrices(), scale=scales)
def test_brackets_of_what_is_not_enumerated(kind, p, q, J, scale):
    J = kind(J * scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_norms, "ENUMERATED", 1)
        found = operator_norm(J, p=p, q=q)
    _, d, n = J.shape
    lower, upper = check(J, found, p, q, scale, kind=None if 1 in (d, n) else "bracket")
    truth, rtol = brute_force(in_float64(J) / scale, p, q), tolerance_of(J)
    assert np.all(lower <= truth * (1 + rtol))
    assert np.all(truth <= upper * (1 + rtol))
    # l1 is at most sqrt(k) times l2, on either side of J.
    factor = NESTEROV * (math.sqrt(min(d, n)) if (p, q) == (INF, 1) else 1)
    assert np.all(upper <= 1.001 * factor * truth * (1 + rtol))
    # Small matrices: the starts find the maximum.
    np.testing.assert_allclose(lower, truth, rtol=1e-4)


@every_kind
@pytest.mark.parametrize(("p", "q"), GENERAL)
def test_general_brackets(kind, p, q):
    J = kind(planted())
    lower, upper = check(J, operator_norm(J, p=p, q=q), p, q)
    found = np.array([search(a, p, q) for a in in_float64(J)])
    assert np.all(lower >= found * (1 - 1e-3))
    assert np.all(found <= upper * (1 + tolerance_of(J)))
    if q <= p:
        # The nonnegative, that of rank one up to signs, and the diagonal one.
        closed = [1, 2, 4, 5]
        np.testing.assert_allclose(upper[closed], lower[closed], rtol=1e-4)


@pytest.mark.parametrize(("p", "q"), [(3, 2), (2, 1.3), (1.3, 1.3), (10, 10), (INF, 3)])
@settings(laws, max_examples=20)
@given(J=arrays(np.float64, (2, 4, 3), elements=st.integers(1, 48).map(lambda k: k / 16)))
def test_positive_matrices_have_closed_brackets(p, q, J):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_norms, "ENUMERATED", 1)
        lower, upper = check(J, operator_norm(J, p=p, q=q), p, q, kind="bracket")
    np.testing.assert_allclose(upper, lower, rtol=1e-5)


@settings(laws, max_examples=60)
@given(J=matrices(), p=exponents, q=exponents, c=st.sampled_from([-1, -0.3, 1e-9, 1e9]))
def test_scaling(J, p, q, c):
    found, scaled = operator_norm(J, p=p, q=q), operator_norm(c * J, p=p, q=q)
    np.testing.assert_allclose(scaled.upper, abs(c) * found.upper, rtol=1e-4)
    if found.kind == "exact":
        np.testing.assert_allclose(scaled.lower, abs(c) * found.lower, rtol=1e-9)


@settings(laws, max_examples=60)
@given(J=matrices(), p=exponents, q=exponents)
def test_duality(J, p, q):
    found = operator_norm(J, p=p, q=q)
    transposed = operator_norm(J.transpose(0, 2, 1).copy(), p=dual(q), q=dual(p))
    if found.kind == transposed.kind == "exact":
        np.testing.assert_allclose(transposed.lower, found.lower, rtol=1e-9)
    else:
        assert np.all(found.lower <= transposed.upper * (1 + 1e-9))
        assert np.all(transposed.lower <= found.upper * (1 + 1e-9))


@laws
@given(J=matrices(d=3, n=4), K=matrices(d=4, n=2), p=exponents, q=exponents, r=exponents)
def test_norms_are_submultiplicative(J, K, p, q, r):
    J, K = J[:1], K[:1]
    product = operator_norm(J @ K, p=p, q=r).lower
    factors = operator_norm(K, p=p, q=q).upper * operator_norm(J, p=q, q=r).upper
    assert np.all(product <= factors * (1 + 1e-9) + 1e-12)


def test_averaged_ties_do_not_hold_it_back():
    # Eq. 12 with averages stays at sqrt(1/2) from (1, 1).
    identity = np.eye(2)[None]
    assert operator_norm(identity, p=1, q=2).lower == 1
    found = operator_norm(identity, p=1.01, q=2)
    assert found.lower[0] == pytest.approx(1)
    assert found.upper[0] == pytest.approx(1, rel=0.02)


@every_cell_of_table_1
def test_identity(p, q):
    # n^max(0, 1/q - 1/p)
    for n in (1, 2, 5, 16, 20):
        found = operator_norm(np.eye(n)[None], p=p, q=q)
        truth = n ** max(0, 1 / q - 1 / p)
        np.testing.assert_allclose(found.lower, truth, rtol=1e-9)
        np.testing.assert_allclose(found.upper, truth, rtol=2e-3)


def large(d, n):
    rng = np.random.default_rng([d, n])
    J = rng.standard_normal((6, d, n))
    J[1] = np.exp(2 * J[1]) * rng.choice([-1, 1], (d, n))
    J[2] = np.linalg.qr(rng.standard_normal((max(d, n), max(d, n))))[0][:d, :n]
    J[3] *= rng.random((d, n)) < 0.2
    J[4] = np.sign(J[4])
    J[5] = np.eye(d, n) - 1 / d
    return J


@pytest.mark.parametrize(("d", "n"), [(3, 40), (10, 24), (20, 20), (30, 18)])
def test_l2_from_the_cube_within_nesterovs_factor(d, n):
    J = large(d, n)
    lower, upper = check(J, operator_norm(J, p=INF, q=2), INF, 2)
    assert np.all(upper <= 1.26 * lower)
    # Its dual, l1 from the sphere.
    turned = J.transpose(0, 2, 1).copy()
    found = operator_norm(turned, p=2, q=1)
    assert np.all(found.lower <= upper * (1 + 1e-9))
    assert np.all(found.upper <= 1.26 * found.lower)
    np.testing.assert_allclose(found.upper, upper, rtol=2e-3)


KNOWN = {
    "identity": (np.eye(20), math.sqrt(20)),
    "Hadamard": (hadamard(32).astype(float), 32),
    "half of Hadamard": (hadamard(32)[:16].astype(float), 32),
    "rank one": (np.outer(np.arange(1, 19), np.arange(-9, 9)), 81 * math.sqrt(2109)),
    "diagonal": (np.diag(np.arange(18.0)), math.sqrt(1785)),
    "one entry": (np.eye(20) * (np.arange(20) == 7), 1),
}


@pytest.mark.parametrize(("J", "truth"), KNOWN.values(), ids=KNOWN)
def test_l2_from_the_cube_where_it_is_known(J, truth):
    for matrix_, p, q in ((J, INF, 2), (J.T, 2, 1)):
        found = operator_norm(matrix_[None].astype(float), p=p, q=q)
        np.testing.assert_allclose(found.lower, truth, rtol=1e-9)
        np.testing.assert_allclose(found.upper, truth, rtol=1.01e-3)


def test_more_logits_and_inputs_than_are_enumerated():
    J = large(18, 17)
    lower, upper = check(J, operator_norm(J, p=INF, q=1), INF, 1)
    turned = operator_norm(J.transpose(0, 2, 1).copy(), p=INF, q=1)
    np.testing.assert_allclose(turned.upper, upper, rtol=2e-3)
    assert np.all(upper <= 2 * lower)
    # Sixteen of either are enumerated, and zeros do not count.
    for part in (J[:, :16], J[:, :, :16]):
        exact = operator_norm(part, p=INF, q=1)
        assert exact.kind == "exact"
        more = np.zeros_like(J)
        more[:, : part.shape[1], : part.shape[2]] = part
        found = operator_norm(more, p=INF, q=1)
        assert np.all(found.lower <= exact.lower * (1 + 1e-12))
        assert np.all(exact.lower <= found.upper * (1 + 1e-12))


@pytest.mark.parametrize("p", EXPONENTS)
def test_enumerations_go_up_to_sixteen(p):
    J = np.random.default_rng(1).standard_normal((1, 17, 18))
    for d, n, kind in ((16, 18, "exact"), (17, 18, "bracket")):
        expected = "exact" if p == 1 else kind
        assert operator_norm(J[:, :d, :n], p=p, q=1).kind == expected
        assert operator_norm(J[:, :d, :n].transpose(0, 2, 1), p=INF, q=dual(p)).kind == expected


@every_cell
def test_no_row_depends_on_its_batch(p, q):
    J = np.concatenate([planted(1, 4, 4), planted(2, 4, 4)[::-1]])
    J[3] = np.diag([1, 0.999, 0.99, 0])  # slow
    J[5] *= 1e9
    together = operator_norm(J, p=p, q=q)
    for i in (0, 3, 5, 9, 13):
        alone = operator_norm(J[i : i + 1], p=p, q=q)
        np.testing.assert_allclose(alone.lower, together.lower[i : i + 1], rtol=1e-12)
        np.testing.assert_allclose(alone.upper, together.upper[i : i + 1], rtol=1e-9)
        np.testing.assert_allclose(alone.v, together.v[i : i + 1], atol=1e-9)


@pytest.mark.parametrize(("p", "q"), HARD)
def test_no_row_of_a_bracket_depends_on_its_batch(p, q):
    J = large(18, 19)
    together = operator_norm(J, p=p, q=q)
    for i in (1, 4, 5):
        alone = operator_norm(J[i : i + 1], p=p, q=q)
        np.testing.assert_allclose(alone.lower, together.lower[i : i + 1], rtol=1e-9)
        np.testing.assert_allclose(alone.upper, together.upper[i : i + 1], rtol=1e-9)


@pytest.mark.parametrize(("p", "q"), [*TABLE_1, *GENERAL])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_and_torch_agree(p, q, dtype):
    J = planted(3).astype(dtype)
    found, wanted = operator_norm(torch.from_numpy(J), p=p, q=q), operator_norm(J, p=p, q=q)
    rtol = 1e-4 if dtype == "float32" else 1e-6
    np.testing.assert_allclose(found.lower, wanted.lower, rtol=rtol)
    np.testing.assert_allclose(found.upper, wanted.upper, rtol=rtol)
    assert found.kind == wanted.kind
    assert found.how == wanted.how


def test_the_smaller_side_is_enumerated():
    J = np.random.default_rng(6).standard_normal((1, 10, 3))
    for matrices_, side in ((J, "inputs"), (J.transpose(0, 2, 1), "logits")):
        assert (
            operator_norm(matrices_, p=INF, q=1).how
            == f"enumeration of 4 sign vectors of the {side}"
        )


def test_results_can_be_had_again():
    J = large(18, 19)
    first, again = (operator_norm(J, p=INF, q=2) for _ in range(2))
    assert np.array_equal(first.v, again.v)
    other = operator_norm(J, p=INF, q=2, rng=np.random.default_rng(7))
    np.testing.assert_allclose(other.lower, first.lower, rtol=0.1)
    np.testing.assert_allclose(other.upper, first.upper, rtol=1e-2)


def test_effort_is_what_is_asked_for():
    J = np.diag([1, 0.9999])[None]
    little = operator_norm(J, p=3, q=2.9, restarts=1, steps=13)
    assert little.iterations <= 13
    assert operator_norm(J, p=2.1, q=2.1, restarts=1, steps=3).iterations == 3
    # Of each sort, but not more columns, rows, or maximisers of exact entries than there are.
    assert "Eq. 12 from 30 starts" in operator_norm(J, p=3, q=2.9, restarts=11).how
    # The largest column is the best start, and gains nothing; the others still would.
    found = operator_norm(np.diag([1, 0.7])[None], p=2.1, q=2.1)
    assert found.iterations == sum(steps for _, steps in ROUNDS)
    assert np.all(found.stationary)


@every_cell_of_table_1
def test_exact_numbers_by_brute_force(p, q):
    numbers = exact_array(np.random.default_rng(5).integers(-3, 4, (4, 3, 4))) / 3
    numbers[1, 0] = numbers[1, :, 2] = Fraction(0)
    numbers[2] = Fraction(0)
    numbers[3] = np.abs(numbers[3])
    if (p, q) == (2, 2):
        with pytest.raises(NotExactError, match="p = 2, q = 2"):
            operator_norm(numbers, p=p, q=q)
        return
    found = operator_norm(numbers, p=p, q=q)
    assert found.kind == "exact"
    assert found.lower is found.upper
    for J, lower, v, u in zip(numbers, found.lower, found.v, found.u, strict=True):
        assert is_exact_number(lower)
        # Squares are rational, whatever the exponents.
        truth = max(naive_square(J, w, p, q) for w in vertices(p, q, J))
        assert lower * lower == truth
        image = [sum(a * b for a, b in zip(row, v, strict=True)) for row in J]
        assert square(image, q) == truth
        assert sum(a * b for a, b in zip(u, image, strict=True)) == lower
        if np.any(J != 0):
            assert square(v, p) == 1
            assert square(u, dual(q)) == 1
        assert all(is_exact_number(x) for x in [*v, *u])


def is_exact_number(x):
    return isinstance(x, int | Fraction | Surd)


def square(x, p):
    """``||x||_p^2`` of exact numbers."""
    if p == 2:
        return sum(a * a for a in x)
    largest = max(abs(a) for a in x) if p == INF else sum(abs(a) for a in x)
    return largest * largest


def vertices(p, q, J):
    """The vertices of the domain's ball, or of the dual ball of the co-domain."""
    d, n = J.shape
    polytope, k = (p, n) if p != 2 else (dual(q), d)
    points = np.eye(k) if polytope == 1 else signs(k)
    return exact_array(points)


def naive_square(J, w, p, q):
    return square(J @ w, q) if p != 2 else square(w @ J, dual(p))


@pytest.mark.parametrize(("p", "q"), [(1, 3), (3, INF), (1.5, 1), (INF, 3), (3, 2), (2, 3)])
def test_exact_numbers_have_no_other_powers(p, q):
    # (1, 3) is a largest column, but its cubic root is no exact number.
    with pytest.raises(NotExactError, match="float"):
        operator_norm(exact_array(planted()), p=p, q=q)


def test_exact_numbers_beyond_enumeration():
    numbers = exact_array(np.eye(17))[None]
    assert operator_norm(numbers, p=1, q=2).lower == 1
    assert operator_norm(numbers, p=2, q=INF).lower == 1
    for p, q in HARD:
        with pytest.raises(NotExactError, match=f"p = {LpNorm(p).name}"):
            operator_norm(numbers, p=p, q=q)


IMAGES = (3, 4, 4)
CNN = Architecture(IMAGES, (Conv(4), ReLU(), Flatten(), Affine(5)))
MLP = Architecture((7,), (Affine(9), ReLU(), Affine(12)))


def networks(model, seed=0, batch=3):
    """The linearisations of one network at the same inputs, in NumPy and in torch."""
    parameters = initial_parameters(model, seed)
    x = np.random.default_rng(seed).standard_normal((batch, *model.input_shape))
    backend = TorchBackend()
    module = backend.build(model, parameters=parameters, dtype="float64")
    dense = DenseNetwork(model, parameters).linearize(x)
    return dense, module.linearize(module.asarray(x))


@pytest.mark.parametrize("model", [CNN, MLP], ids=["cnn", "mlp"])
@pytest.mark.parametrize(("p", "q"), [*TABLE_1, (3, 1.3)])
def test_linearisations(model, p, q):
    for at in networks(model):
        J = jacobian(at)
        found, wanted = operator_norm(at, p=p, q=q), operator_norm(J, p=p, q=q)
        check(J, found, p, q, shape=model.input_shape)
        assert found.how == wanted.how
        np.testing.assert_allclose(found.lower, wanted.lower, rtol=1e-9)
        np.testing.assert_allclose(found.upper, wanted.upper, rtol=1e-9)
        np.testing.assert_allclose(LpNorm(q)(at.jvp(found.v)), found.lower, rtol=1e-9)


@pytest.mark.parametrize("model", [CNN, MLP], ids=["cnn", "mlp"])
@pytest.mark.parametrize(("p", "q"), [(INF, 1), (2, 1), (3, 1.3)])
def test_linearisations_too_large_to_be_formed(model, p, q, monkeypatch):
    monkeypatch.setattr(operator_norms, "WHOLE", 2)
    for at in networks(model):
        J = jacobian(at)
        found = operator_norm(at, p=p, q=q, restarts=6, steps=12)
        wanted = operator_norm(J, p=p, q=q)
        check(J, found, p, q, shape=model.input_shape, kind="lower")
        assert np.all(in_float64(found.lower) <= in_float64(wanted.upper) * (1 + 1e-9))
        assert np.all(in_float64(found.lower) >= 0.8 * in_float64(wanted.lower))
        assert found.how == "Eq. 12 from 6 starts"
        assert found.iterations == 12


def test_when_a_jacobian_is_formed():
    rng = np.random.default_rng(9)
    for d, n, calls in ((64, 70, 0), (70, 64, 0), (65, 65, 65)):
        J = rng.standard_normal((1, d, n))
        done = []
        found = operator_norm(
            Matrices(J), p=2, q=2, on_progress=lambda k, total, done=done: done.append((k, total))
        )
        assert found.kind == "exact"
        assert done == [(2 * k, 2 * d) for k in range(1, calls + 1)]
        np.testing.assert_allclose(found.lower, np.linalg.svd(J)[1][:, 0], rtol=1e-12)


# What the bounds promise


def test_a_maximum_between_the_entries_of_table_1():
    J = np.array([[[1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]]])
    # At (0, 1, 1) on the sphere; a largest column or row alone leads to 1.0537.
    assert operator_norm(J, p=1.05, q=20).lower[0] == pytest.approx(2 ** (41 / 420), rel=1e-12)


@every_kind
@pytest.mark.parametrize(("p", "q"), [(2, 1), (2, 1.3), (2, 3), (2, 20)])
def test_l2_inputs_need_the_factor_alone(kind, p, q):
    L = planted(5, 6, 6)
    Q = np.linalg.qr(np.random.default_rng(6).standard_normal((40, 6)))[0].T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_norms, "ENUMERATED", 1)
        found = operator_norm(kind(L @ Q), p=p, q=q)
        wanted = operator_norm(kind(L), p=p, q=q)
    lower, upper = check(kind(L @ Q), found, p, q, kind="bracket")
    np.testing.assert_allclose(lower, in_float64(wanted.lower), rtol=1e-5)
    # Schur's test depends on the entries, so the other matrix may have a smaller bound.
    assert np.all(upper >= in_float64(wanted.lower) * (1 - 1e-5))
    # The maximiser lies in the row space.
    v = in_float64(found.v)
    np.testing.assert_allclose((v @ Q.T) @ Q, v, atol=1e-4)


@every_kind
@pytest.mark.parametrize(("p", "q"), [(INF, 2), (2, 1), (INF, 1)])
@laws
@given(J=matrices(), scale=scales)
def test_guarantees_hold(kind, p, q, J, scale):
    J = kind(J * scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_norms, "ENUMERATED", 1)
        found = operator_norm(J, p=p, q=q)
    truth, upper = brute_force(in_float64(J) / scale, p, q), in_float64(found.upper) / scale
    guarantee = in_float64(found.guarantee)
    assert found.guarantee.shape == found.upper.shape
    assert found.guarantee.dtype == J.dtype
    assert np.all(upper <= guarantee * truth * (1 + tolerance_of(J)))
    assert np.all((guarantee >= 1) & (guarantee <= (1.784 if q == 1 and p == INF else 1.2546)))
    if found.kind == "exact":
        assert np.all(guarantee == 1)


def test_no_guarantee_between_the_entries():
    assert operator_norm(planted(), p=3, q=3).guarantee is None
    assert operator_norm(planted(), p=Weighted(np.ones(6), 2), q=3).guarantee is None


@pytest.mark.parametrize(("name", "p", "q"), [("cube_bound", 3, 3), ("schur_bound", 4, 3)])
def test_an_upper_bound_that_is_too_small_is_an_error(name, p, q, monkeypatch):
    right = getattr(bracketed_norms, name)

    def wrong(*arguments):
        found = right(*arguments)
        return (found[0] / 2, found[1]) if isinstance(found, tuple) else found / 2

    monkeypatch.setattr(exact_norms, "ENUMERATED", 1)
    monkeypatch.setattr(bracketed_norms, name, wrong)
    with pytest.raises(OnrError, match="example 0: the lower bound"):
        operator_norm(planted(), p=p, q=q)


def test_a_lower_bound_that_is_too_large_is_an_error(monkeypatch):
    right = bracketed_norms.climb

    def wrong(*arguments, **options):
        found = right(*arguments, **options)
        return replace(found, value=found.value * (1 + 1e-3))

    monkeypatch.setattr(bracketed_norms, "climb", wrong)
    with pytest.raises(OnrError, match="is above the upper bound"):
        operator_norm(np.eye(20)[None], p=INF, q=1.5)


@pytest.mark.parametrize(("p", "q"), [(3, 3), (2, 3), (INF, 3), (20, 1.05)])
@pytest.mark.parametrize("exponent", [-900, -300, 300, 990])
def test_powers_of_two_change_no_digit(p, q, exponent):
    J = planted()
    found, scaled = operator_norm(J, p=p, q=q), operator_norm(J * 2.0**exponent, p=p, q=q)
    assert np.array_equal(scaled.v, found.v)
    assert np.array_equal(scaled.lower, found.lower * 2.0**exponent)


@pytest.mark.parametrize("norm", [PixelSum(), PixelMax()], ids=["sum", "max"])
def test_norms_of_images_as_the_domain(norm):
    for at in networks(CNN):
        J = in_float64(jacobian(at))
        rows = J.reshape(-1, *IMAGES)
        sums = (signs(5) @ J).reshape(-1, *IMAGES)
        truths = {
            INF: norm.dual(rows).reshape(3, -1).max(axis=1),
            1: norm.dual(sums).reshape(3, -1).max(axis=1),
        }
        for q in EXPONENTS:
            found = operator_norm(at, p=norm, q=q)
            assert found.v.shape == (3, *IMAGES)
            v = in_float64(found.v)
            np.testing.assert_allclose(norm(v), 1, rtol=1e-9)
            np.testing.assert_allclose(LpNorm(q)(at.jvp(found.v)), found.lower, rtol=1e-9)
            assert found.kind == ("exact" if q in truths else "lower")
            if q in truths:
                np.testing.assert_allclose(found.lower, truths[q], rtol=1e-9)
                assert found.lower is found.upper
            else:
                assert found.upper is None
                directions = np.random.default_rng(3).standard_normal((3, 500, 48))
                lengths = norm(directions.reshape(-1, *IMAGES)).reshape(3, 500)
                gains = size(directions @ J.transpose(0, 2, 1), q) / lengths
                assert np.all(gains.max(axis=1) <= in_float64(found.lower))
                # ||.||_inf >= ||.||_q / d^(1/q), ||.||_1 >= ||.||_q
                assert np.all(in_float64(found.lower) <= truths[1] * (1 + 1e-9))
                assert np.all(in_float64(found.lower) >= truths[INF] * (1 - 1e-9))


class Weighted(BaseNorm):
    """``||w x||_p`` on vectors, as a plugin would write it; no projections."""

    project_ball = project_face = None

    def __init__(self, w, p):
        self.w, self.inner = w, LpNorm(p)

    @property
    def name(self):
        return "weighted"

    @property
    def dual(self):
        return Weighted(1 / self.w, self.inner.dual.p)

    def __call__(self, x, /):
        return self.inner(x * self.w)

    def duality_map(self, z, /, *, ties="average"):
        return self.inner.duality_map(z / self.w, ties=ties) / self.w


@every_cell
@pytest.mark.parametrize(("d", "n"), [(4, 3), (1, 3), (4, 1), (1, 1)])
def test_norms_of_plugins(p, q, d, n):
    J = planted(4, d, n)
    a, b = np.arange(1, n + 1) / 2, np.arange(d, 0, -1.0)
    for domain, codomain in ((True, False), (False, True), (True, True)):
        # ||J|| between weighted norms is ||diag(b) J diag(1/a)|| between lp norms.
        weighed = J
        P, Q = LpNorm(p), LpNorm(q)
        if domain:
            P, weighed = Weighted(a, p), weighed / a
        if codomain:
            Q, weighed = Weighted(b, q), weighed * b[:, None]
        found, wanted = operator_norm(J, p=P, q=Q), operator_norm(weighed, p=p, q=q)
        easy = 1 in (d, n)
        easy = easy or (not domain and p in (1, INF)) or (not codomain and q in (1, INF))
        assert found.kind == ("exact" if easy else "lower")
        assert np.all(found.lower <= wanted.upper * (1 + 1e-9))
        np.testing.assert_allclose(found.lower, wanted.lower, rtol=1e-9 if easy else 1e-3)
        np.testing.assert_allclose(Q((J @ found.v[:, :, None])[:, :, 0]), found.lower, rtol=1e-9)
        moving = found.lower > 0
        np.testing.assert_allclose(P(found.v)[moving], 1, rtol=1e-9)
        np.testing.assert_allclose(Q.dual(found.u)[moving], 1, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"p": 0.5, "q": 2}, "0.5"),
        ({"p": 2, "q": 0.9}, "0.9"),
        ({"p": 2, "q": math.nan}, "nan"),
        ({"p": INF, "q": 3, "restarts": 0}, "restarts = 0"),
        ({"p": INF, "q": 3, "steps": 0}, "steps = 0"),
        ({"p": 1, "q": 3, "steps": -1}, "steps = -1"),
    ],
)
def test_what_is_no_norm_and_no_effort(options, named):
    with pytest.raises(OnrError, match=named):
        operator_norm(np.ones((1, 20, 20)), **options)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (1, 2, 3, 4)])
def test_what_is_no_batch_of_matrices(shape):
    for J in (np.ones(shape), torch.ones(shape)):
        with pytest.raises(OnrError, match=r"\(batch, d, n\)"):
            operator_norm(J, p=2, q=2)


@every_cell
@pytest.mark.parametrize("value", [math.nan, INF, -INF])
def test_entries_that_are_no_numbers(p, q, value):
    J = planted()
    J[3, 1, 2] = value
    for kind in (J, torch.from_numpy(J)):
        with pytest.raises(OnrError, match="nan or infinite"):
            operator_norm(kind, p=p, q=q)


def test_whole_numbers_are_refused():
    J = np.ones((1, 2, 3), dtype=int)
    for kind in (J, torch.from_numpy(J)):
        with pytest.raises(OnrError, match="int64"):
            operator_norm(kind, p=1, q=2)


def test_images_of_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x = datasets.load_digits().data[:4] / 16
    model = Architecture((64,), (Affine(20), ReLU(), Affine(10)))
    at = DenseNetwork(model, initial_parameters(model, 1)).linearize(x)
    J = jacobian(at)
    assert J.shape == (4, 10, 64)
    for p, q in CELLS:
        lower, upper = check(J, operator_norm(at, p=p, q=q), p, q)
        if is_exact(p, q, 10, 64):
            np.testing.assert_allclose(lower, brute_force(J, p, q), rtol=1e-9)
        if (p, q) == (INF, 2):
            assert np.all(upper <= 1.26 * lower)
        assert np.all([search(a, p, q, starts=50, steps=10) for a in J] <= upper * (1 + 1e-9))


@pytest.mark.parametrize("q", [1, 2, math.inf])
def test_the_largest_column_of_a_million_is_found_in_memory_of_their_size(q):
    J = np.ones((1, 2, 10**6))
    J[0, :, 7] = 3
    found = operator_norm(J, p=1, q=q)
    assert found.kind == "exact"
    assert np.flatnonzero(found.v).tolist() == [7]
