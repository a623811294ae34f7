import itertools
import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from onr.errors import NotAvailableError, OnrError
from onr.norms import BaseNorm, LpNorm, as_norm, dual_exponent
from onr.testing import check_norm
from onr.text import lp

EXPONENTS = (1, 1.01, 1.3, 2, 3, 10, math.inf)
TIES = ("average", "vertex")

laws = settings(max_examples=25, deadline=None, derandomize=True)
every_p = pytest.mark.parametrize("p", EXPONENTS)
exact_p = pytest.mark.parametrize("p", [1, math.inf])
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# Sixteenths: zeros and ties are common, sums and differences are exact.
batches = arrays(np.float64, (3, 5), elements=st.integers(-48, 48).map(lambda k: k / 16))
rationals = arrays(object, (3, 4), elements=st.fractions(-3, 3, max_denominator=4))

METHODS = {
    "value": lambda norm, x: norm(x),
    "dual value": lambda norm, x: norm.dual(x),
    "gradient": lambda norm, x: norm.gradient(x),
    "average": lambda norm, x: norm.duality_map(x),
    "vertex": lambda norm, x: norm.duality_map(x, ties="vertex"),
    "ball": lambda norm, x: norm.project_ball(x, 0.5),
    "face": lambda norm, x: norm.project_face(x, x * x * x - x, 0.5),
    "sphere": lambda norm, x: norm.project_sphere(x, 0.25 * norm(x)),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def test_a_number_is_an_lp_norm():
    for p in (2, 2.0, np.int64(2), np.float32(2), Fraction(2)):
        assert as_norm(p).name == "2"
    assert as_norm(math.inf).name == "inf"
    norm = LpNorm(3)
    assert as_norm(norm) is norm
    for wrong in ("inf", None, [2]):
        with pytest.raises(OnrError, match="expected a number"):
            as_norm(wrong)
    with pytest.raises(OnrError, match=">= 1"):
        as_norm(0.5)


def definition(x, p):
    a = np.abs(x)
    return a.max(axis=1) if p == math.inf else np.sum(a**p, axis=1) ** (1 / p)


def inner(a, b):
    return np.sum((a * b).reshape(len(a), -1), axis=1)


def planted():
    """Generic rows, ties for the largest entry, zeros, a unit vector, the zero vector."""
    x = np.random.default_rng(5).standard_normal((7, 6))
    x[1, :3] = [2.5, -2.5, 2.5]
    x[2, ::2] = 0
    x[3] = np.sign(x[3])
    x[4] = [0, 0, -0.75, 0, 0, 0]
    x[5] = 0
    return x


def is_exact(x):
    return all(isinstance(value, Fraction | int) for value in np.asarray(x).ravel())


@every_p
@laws
@given(x=batches)
def test_value_is_the_definition(p, x):
    np.testing.assert_allclose(LpNorm(p)(x), definition(x, p), rtol=1e-12)


@every_p
def test_the_laws_of_a_norm(p):
    check_norm(LpNorm(p), (5,), draws=2)


@every_p
def test_dual_exponents_are_conjugate(p):
    dual = dual_exponent(p)
    assert 1 / p + 1 / dual == pytest.approx(1, abs=1e-15)
    assert LpNorm(p).dual.p == dual
    assert LpNorm(p).dual.dual.p == pytest.approx(p, rel=1e-12)


@every_p
@pytest.mark.parametrize("ties", TIES)
def test_duality_map_at_planted_ties_and_zeros(p, ties):
    norm, z = LpNorm(p), planted()
    v = norm.duality_map(z, ties=ties)
    np.testing.assert_allclose(inner(v, z), norm.dual(z), rtol=1e-12)
    np.testing.assert_allclose(norm(v), [1, 1, 1, 1, 1, 0, 1], rtol=1e-12)
    assert np.array_equal(v[5], np.zeros(6))


@pytest.mark.parametrize("p", [p for p in EXPONENTS if 1 < p < math.inf])
def test_duality_map_formula(p):
    # Eq. 16: sign(z) |z|^(p*-1) / ||z||_{p*}^(p*-1).
    z, dual = planted()[:5], p / (p - 1)
    scaled = z / np.abs(z).max(axis=1, keepdims=True)
    naive = np.sign(z) * np.abs(scaled) ** (dual - 1)
    naive /= definition(scaled, dual)[:, None] ** (dual - 1)
    for ties in TIES:
        np.testing.assert_allclose(LpNorm(p).duality_map(z, ties=ties), naive, rtol=1e-11)


def test_eq_29_average_and_first_vertex():
    z = np.array([[2.0, -2.0, 1.0], [-3.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    average = [[0.5, -0.5, 0], [-1, 0, 0], [0, 0, 0]]
    vertex = [[1, 0, 0], [-1, 0, 0], [0, 0, 0]]
    assert np.array_equal(LpNorm(1).duality_map(z), average)
    assert np.array_equal(LpNorm(1).duality_map(z, ties="vertex"), vertex)
    assert np.array_equal(LpNorm(math.inf).gradient(z), average)


def test_sign_of_zero_in_the_cube():
    z = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    assert np.array_equal(LpNorm(math.inf).duality_map(z), [[1, 0, -1], [0, 0, 0]])
    vertex = LpNorm(math.inf).duality_map(z, ties="vertex")
    assert np.array_equal(vertex, [[1, 1, -1], [0, 0, 0]])


@exact_p
@laws
@given(z=batches)
def test_average_is_the_mean_of_the_maximising_vertices(p, z):
    norm = LpNorm(p)
    found, vertex = norm.duality_map(z), norm.duality_map(z, ties="vertex")
    if p == 1:
        vertices = np.concatenate([np.eye(5), -np.eye(5)])
    else:
        vertices = np.array(list(itertools.product([1.0, -1.0], repeat=5)))
    for row, v, w in zip(z, found, vertex, strict=True):
        if np.any(row):
            maximisers = vertices[vertices @ row == np.max(vertices @ row)]
            np.testing.assert_allclose(v, maximisers.mean(axis=0), atol=1e-15)
            assert np.any(np.all(maximisers == w, axis=1))


@pytest.mark.parametrize("p", [p for p in EXPONENTS if 1 < p < math.inf])
def test_gradient_is_the_derivative(p):
    norm, x, h = LpNorm(p), np.random.default_rng(1).uniform(0.5, 2, (4, 5)), 1e-6
    x *= np.where(np.arange(5) % 2, -1, 1)
    slopes = [(norm(x + h * e) - norm(x - h * e)) / (2 * h) for e in np.eye(5)]
    np.testing.assert_allclose(norm.gradient(x), np.stack(slopes, axis=1), atol=1e-7)


@every_p
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (np.float32, 1e-30),
        (np.float32, 1e30),
        (np.float64, 1e-30),
        (np.float64, 1e30),
        (np.float64, 1e-290),
        (np.float64, 1e290),
    ],
)
def test_scale_does_not_matter(p, dtype, scale):
    norm, x = LpNorm(p), planted().astype(dtype)
    scaled = x * dtype(scale)
    tolerance = 500 * np.finfo(dtype).eps
    np.testing.assert_allclose(norm(scaled) / dtype(scale), norm(x), rtol=tolerance)
    for ties in TIES:
        np.testing.assert_allclose(
            norm.duality_map(scaled, ties=ties), norm.duality_map(x, ties=ties), atol=tolerance
        )
    np.testing.assert_allclose(norm.gradient(scaled), norm.gradient(x), atol=tolerance)


@pytest.mark.parametrize("p", [1, 1 + 1e-9, 1.0001, 1.01, 1e4, math.inf])
@dtypes
def test_extreme_exponents_give_unit_steps(p, dtype):
    norm = LpNorm(p)
    x = np.random.default_rng(2).standard_normal((4, 500)).astype(dtype)
    for scale in (1e-30, 1, 1e30):
        z = x * np.dtype(dtype).type(scale)
        v = norm.duality_map(z)
        assert np.all(np.isfinite(v))
        np.testing.assert_allclose(norm(v), 1, rtol=1e-5)
        np.testing.assert_allclose(inner(v.astype(float), z), norm.dual(z), rtol=1e-5)


@every_p
@every_method
def test_rows_are_independent(p, method):
    norm, x = LpNorm(p), planted()
    x[6] *= 1e5
    together = method(norm, x)
    alone = np.concatenate([method(norm, x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(method(norm, x[::-1].copy())[::-1], together, rtol=1e-12, atol=1e-12)


@every_p
@every_method
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_all_axes_but_the_first_are_one_example(p, method, kind):
    norm, x = LpNorm(p), np.random.default_rng(3).standard_normal((4, 2, 3, 5))
    x[1, 0] = x[1, 1]
    image = torch.from_numpy(x) if kind == "torch" else x
    found = np.asarray(method(norm, image))
    flat = method(norm, x.reshape(4, -1))
    assert found.shape == ((4,) if flat.ndim == 1 else x.shape)
    np.testing.assert_allclose(found.reshape(flat.shape), flat, rtol=1e-12, atol=1e-13)


@every_p
@every_method
@dtypes
def test_dtype_is_kept(p, method, dtype):
    norm, x = LpNorm(p), planted().astype(dtype)
    assert method(norm, x).dtype == dtype
    assert method(norm, torch.from_numpy(x)).dtype == getattr(torch, dtype)


@every_p
@every_method
@dtypes
def test_numpy_and_torch_agree(p, method, dtype):
    norm, x = LpNorm(p), planted().astype(dtype)
    tolerance = 2e-12 if dtype == "float64" else 5e-5
    found = method(norm, torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, method(norm, x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("p", [0.999, 0, -1, -math.inf, math.nan])
def test_exponents_below_one_are_refused(p):
    with pytest.raises(OnrError):
        LpNorm(p)


def test_written_exponents():
    assert lp("1.5").p == 1.5
    assert [LpNorm(p).name for p in (1, 1.01, 2, math.inf)] == ["1", "1.01", "2", "inf"]
    for text in ("0.5", "nan", "two"):
        with pytest.raises(OnrError):
            lp(text)


@exact_p
def test_exact_values_by_hand(p):
    third = Fraction(1, 3)
    x = np.array([[third, -third, Fraction(0)], [Fraction(0)] * 3], dtype=object)
    norm = LpNorm(p)
    assert list(norm(x)) == [2 * third if p == 1 else third, 0]
    half = Fraction(1, 2)
    average = [half, -half, 0] if p == 1 else [1, -1, 0]
    vertex = [1, 0, 0] if p == 1 else [1, -1, 1]
    assert norm.duality_map(x).tolist() == [average, [0, 0, 0]]
    assert norm.duality_map(x, ties="vertex").tolist() == [vertex, [0, 0, 0]]


@exact_p
@pytest.mark.parametrize("ties", TIES)
@laws
@given(z=rationals)
def test_exact_duality_map(p, ties, z):
    norm = LpNorm(p)
    v = norm.duality_map(z, ties=ties)
    assert is_exact(v)
    assert is_exact(norm(z))
    assert np.all(inner(v, z) == norm.dual(z))
    assert np.all(norm(v) == np.any(z != 0, axis=1))


@exact_p
@laws
@given(y=rationals, radius=st.fractions(0, 4, max_denominator=3))
def test_exact_ball_projection(p, y, radius):
    norm = LpNorm(p)
    found = norm.project_ball(y, radius)
    assert is_exact(found)
    assert np.all(norm(found) <= radius)
    # The variational inequality, with the support function of the ball: equality in rationals.
    assert np.all(inner(y - found, found) == radius * norm.dual(y - found))


@exact_p
@laws
@given(y=rationals, direction=rationals, radius=st.fractions(0, 4, max_denominator=3))
def test_exact_face_projection(p, y, direction, radius):
    norm = LpNorm(p)
    found = norm.project_face(y, direction, radius)
    assert is_exact(found)
    # Distinct magnitudes are at least 1/12 apart: from this alpha on the limit is reached.
    limit = norm.project_ball(y + 2000 * direction, radius)
    assert np.array_equal(found, limit)


@exact_p
@laws
@given(y=rationals, radius=st.fractions(Fraction(1, 3), 20, max_denominator=3))
def test_exact_sphere_projection(p, y, radius):
    norm = LpNorm(p)
    found = norm.project_sphere(y, radius)
    assert is_exact(found)
    assert np.all(norm(found) == radius)
    inside = norm(y) < radius
    gap = (radius - norm(y))[inside]
    moved = inner(found - y, found - y)[inside]
    # The distance to the nearest facet, in closed form.
    assert np.all(moved == (gap * gap / y.shape[1] if p == 1 else gap * gap))
    assert np.array_equal(found[~inside], norm.project_ball(y, radius)[~inside])


# The ends of the range

RANGES = {"float32": 120, "float64": 1000}
ranges = pytest.mark.parametrize(("dtype", "power"), RANGES.items())
kinds = pytest.mark.parametrize("kind", ["numpy", "torch"])
far_p = pytest.mark.parametrize("p", [*EXPONENTS, 1.0001, 1001, 1e10, 1e300])
sixteenths = arrays(np.float64, (3, 5), elements=st.integers(-48, 48).map(lambda k: k / 16))


def wide_norm(x, p):
    """The norm in 80 bits, whose exponents reach further than those of float64."""
    wide = np.abs(x.astype(np.longdouble))
    largest = np.maximum(wide.max(axis=1), np.longdouble(2) ** -16000)
    if p == math.inf:
        return wide.max(axis=1)
    return largest * np.sum((wide / largest[:, None]) ** p, axis=1) ** (1 / np.longdouble(p))


def given_as(kind, x):
    return torch.from_numpy(x) if kind == "torch" else x


@far_p
@kinds
@ranges
@pytest.mark.parametrize("end", [-1, 1])
@laws
@given(x=sixteenths)
def test_powers_of_two_scale_the_norm_and_keep_the_duality_map(p, kind, dtype, power, end, x):
    norm, plain = LpNorm(p), x.astype(dtype)
    scaled = np.ldexp(plain, end * power).astype(dtype)
    found = np.asarray(norm(given_as(kind, scaled)))
    tolerance = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(np.ldexp(found, -end * power), norm(plain), rtol=tolerance)
    for ties in TIES:
        v = np.asarray(norm.duality_map(given_as(kind, scaled), ties=ties)).astype(np.longdouble)
        reached = np.sum(v * scaled.astype(np.longdouble), axis=1)
        dual = wide_norm(scaled, dual_exponent(p))
        assert np.all(np.abs(reached - dual) <= 1000 * np.finfo(dtype).eps * dual)
        assert np.all(wide_norm(v, p) <= 1 + 1000 * np.finfo(dtype).eps)


@far_p
@kinds
@ranges
@pytest.mark.parametrize("end", [-1, 0, 1])
@pytest.mark.parametrize("radius_end", [-1, 0, 1])
def test_projections_at_every_size_of_point_and_radius(p, kind, dtype, power, end, radius_end):
    norm, radius = LpNorm(p), 2.0 ** (radius_end * power)
    y = np.ldexp(planted(), end * power).astype(dtype)
    size = wide_norm(y, p)
    slack = 1e-5 * radius + 40 * float(np.finfo(dtype).smallest_subnormal)
    found = np.asarray(norm.project_ball(given_as(kind, y), radius))
    assert found.dtype == dtype
    outside = size > radius * (1 + 1e-5)
    assert np.all(np.abs(wide_norm(found, p) - radius)[outside] <= slack)
    inside = size < radius * (1 - 1e-5)
    assert np.array_equal(found[inside], y[inside])
    face = np.asarray(norm.project_face(given_as(kind, found), given_as(kind, y), radius))
    some = np.any(y, axis=1)
    assert np.all(np.abs(wide_norm(face, p) - radius)[some] <= slack)
    if p in (1, 2, math.inf):
        found = np.asarray(norm.project_sphere(given_as(kind, y), radius))
        assert np.all(np.abs(wide_norm(found, p) - radius) <= slack)


@pytest.mark.parametrize("p", [1.3, 3])
def test_far_points_are_projected_as_their_direction(p):
    y = planted()[:5].astype(np.float32)
    norm = LpNorm(p)
    near = norm.project_ball(y * np.float32(1e8), 1.0)
    for scale, radius in ((1e38, 1.0), (1.0, 1e-42), (1e30, 1e-30)):
        found = norm.project_ball(y * np.float32(scale), radius)
        np.testing.assert_allclose(
            found / np.float32(radius), near, atol=2e-2 if radius < 1e-40 else 1e-5
        )


@every_p
@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_the_rounded_result_of_float32(p, method, dtype):
    x = torch.randn(3, 700, generator=torch.Generator().manual_seed(0)).to(dtype)
    norm = LpNorm(p)
    found, wanted = method(norm, x), method(norm, x.float())
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=0.02)


@every_p
def test_integers_are_no_directions(p):
    for x in (np.array([[-128, 3]], np.int8), torch.tensor([[-128, 3]], dtype=torch.int8)):
        for method in ("__call__", "duality_map"):
            with pytest.raises(OnrError, match="an array of int8: expected floats"):
                getattr(LpNorm(p), method)(x)
        with pytest.raises(OnrError, match="an array of int8"):
            LpNorm(p).project_ball(x, 1.0)


@every_p
@kinds
def test_infinite_entries_have_an_infinite_norm_and_nan_stays(p, kind):
    norm = LpNorm(p)
    x = np.array([[1.0, math.inf], [math.nan, 1.0], [2.0, 0.0]])
    assert np.array_equal(norm(given_as(kind, x)), [math.inf, math.nan, 2], equal_nan=True)
    v = np.asarray(norm.duality_map(given_as(kind, x)))
    assert np.isnan(v[1]).any()
    assert np.isnan(np.asarray(norm.project_ball(given_as(kind, x), 0.5))[1]).any()


def test_numbers_that_are_too_large_for_an_exponent():
    for make in (LpNorm, as_norm):
        with pytest.raises(OnrError, match="p is too large for a number"):
            make(10**400)
    for wrong in ("2", None, 2j):
        with pytest.raises(OnrError, match="expected a number"):
            LpNorm(wrong)


def test_a_sphere_of_exact_numbers_from_inside_is_refused_in_words():
    class Plain(BaseNorm):
        name, dual = "plain", None

        def __call__(self, x):
            return LpNorm(1)(x)

        def duality_map(self, z, *, ties="average"):
            return z

        def project_ball(self, y, radius):
            return LpNorm(1).project_ball(y, radius)

        def project_face(self, y, direction, radius):
            return y

    y = np.array([[Fraction(1), Fraction(1)]], dtype=object)
    assert list(Plain().project_sphere(y, Fraction(1))[0]) == [Fraction(1, 2)] * 2
    with pytest.raises(NotAvailableError, match="no projection onto the sphere"):
        Plain().project_sphere(y, Fraction(3))
