"""Exact numbers: the laws of a field, an order that is never guessed, and nothing rounded."""

import decimal
import itertools
import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis.extra.numpy import arrays

from onr.arrays import array_namespace, flatten, inner, safe
from onr.exact.surds import (
    FASTEST,
    NotExactError,
    Surd,
    below,
    exact_array,
    float_array,
    require_exact,
    sign,
    square_root,
)
from onr.norms import LpNorm

laws = settings(max_examples=40, deadline=None, derandomize=True)
every_kind = pytest.mark.parametrize("kind", ["Fraction", "fmpq"])
every_p = pytest.mark.parametrize("p", [1, 2, math.inf])

SQUARE_FREE = (2, 3, 5, 6)
parts = st.fractions(-9, 9, max_denominator=12)
positive = st.fractions(Fraction(1, 12), 9, max_denominator=12)
pairs = st.tuples(parts, parts)
roots = st.tuples(st.sampled_from(SQUARE_FREE), positive)


def rational(kind):
    return Fraction if kind == "Fraction" else pytest.importorskip("flint").fmpq


def cast(number, x):
    return number(x.numerator, x.denominator)


def root(number, m, scale=1):
    """``sqrt(m)``, written as ``sqrt(scale^2 m) / scale``."""
    scale = Fraction(scale)
    value = cast(number, scale * scale * m)
    return square_root(np.array([value], dtype=object))[0] / cast(number, scale)


def build(number, pair, m, scale=1):
    """``a + b sqrt(m)``; ``scale`` changes how the root is written, not the number."""
    a, b = (cast(number, x) for x in pair)
    return a + b * root(number, m, scale)


def digits(x, places=400):
    """The number in decimals, by Python's own square root."""
    with decimal.localcontext(prec=places):
        a, b, m = (x.a, x.b, x.m) if isinstance(x, Surd) else (x, 0, 0)
        a, b, m = (
            decimal.Decimal(int(y.numerator)) / decimal.Decimal(int(y.denominator))
            for y in (a, b, m)
        )
        return a + b * m.sqrt()


def order(x, y):
    """Which is larger in decimals; numbers this short are equal or 1e-300 apart."""
    with decimal.localcontext(prec=400):
        gap = digits(x) - digits(y)
        if abs(gap) < decimal.Decimal("1e-300"):
            return 0
        return 1 if gap > 0 else -1


def objects(*values):
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result


# The field


@every_kind
@laws
@given(x=pairs, y=pairs, z=pairs, m=st.sampled_from(SQUARE_FREE), s=positive, t=positive)
def test_the_laws_of_a_field(kind, x, y, z, m, s, t):
    number = rational(kind)
    x, y, z = build(number, x, m), build(number, y, m, s), build(number, z, m, t)
    assert x + y == y + x
    assert x * y == y * x
    assert (x + y) + z == x + (y + z)
    assert (x * y) * z == x * (y * z)
    assert x * (y + z) == x * y + x * z
    assert x - y == -(y - x) == x + -y
    assert x + 0 == x * 1 == 0 + x == 1 * x == x
    assert x - x == 0 * x == 0
    if x != 0:
        assert x * (1 / x) == 1 == x / x
        assert (y / x) * x == y
        assert y / x == y * (1 / x)


@every_kind
@laws
@given(x=pairs, y=pairs, m=st.sampled_from(SQUARE_FREE), s=positive)
def test_results_are_the_numbers_that_they_should_be(kind, x, y, m, s):
    number = rational(kind)
    x, y = build(number, x, m), build(number, y, m, s)
    with decimal.localcontext(prec=400):
        wanted = [digits(x) + digits(y), digits(x) - digits(y), digits(x) * digits(y)]
        found = [x + y, x - y, x * y]
        if y != 0:
            wanted.append(digits(x) / digits(y))
            found.append(x / y)
        for one, other in zip(found, wanted, strict=True):
            assert abs(digits(one) - other) <= decimal.Decimal("1e-350") * (1 + abs(other))
    # What is rational is a rational, and no Surd has the root of a square.
    for value in found:
        if isinstance(value, Surd):
            assert value.b != 0
            assert value.m > 0
            require_exact(square_root(objects(value.m)))
            assert isinstance(square_root(objects(value.m))[0], Surd)


@every_kind
@laws
@given(x=pairs, y=pairs, m=st.sampled_from(SQUARE_FREE))
def test_an_order_that_the_operations_respect(kind, x, y, m):
    number = rational(kind)
    x, y = build(number, x, m), build(number, y, m, 3)
    if x < y:
        assert x + 1 < y + 1
        assert -x > -y
        assert x * root(number, m) < y * root(number, m)
        assert (x - y) * (x - y) > 0
    assert abs(x) == max(x, -x) >= 0
    assert sign(x) == (x > 0) - (x < 0) == order(x, number(0))


# The order, of different roots too


@every_kind
@laws
@given(x=pairs, y=pairs, one=roots, other=roots)
def test_any_two_numbers_compare_as_their_decimals(kind, x, y, one, other):
    number = rational(kind)
    x, y = build(number, x, *one), build(number, y, *other)
    wanted = order(x, y)
    assert (x < y, x == y, x > y) == (wanted < 0, wanted == 0, wanted > 0)
    assert (x <= y, x != y, x >= y) == (wanted <= 0, wanted != 0, wanted >= 0)
    assert (y < x, y == x, y > x) == (wanted > 0, wanted == 0, wanted < 0)


@every_kind
@laws
@given(x=pairs, m=st.sampled_from(SQUARE_FREE), s=positive, t=positive)
def test_one_number_in_two_forms(kind, x, m, s, t):
    number = rational(kind)
    one, other = build(number, x, m, s), build(number, x, m, t)
    assert one == other
    assert (one != other) is False
    assert not one < other
    assert not one > other
    assert one <= other
    assert one - other == 0
    assert max(one, other) is one


@every_kind
def test_the_root_of_eight_is_twice_the_root_of_two(kind):
    number = rational(kind)
    two, eight = root(number, 2), square_root(objects(number(8)))[0]
    assert eight.m == 8
    assert eight == two + two == 2 * two == two * 2
    assert two / eight == number(1, 2)
    assert two * eight == 4
    assert 3 * two - eight == two


@every_kind
@laws
@given(x=pairs, m=st.sampled_from(SQUARE_FREE), k=st.sampled_from((2, 3, 5, 7)))
def test_close_calls_are_decided_exactly(kind, x, m, k):
    number = rational(kind)
    x = build(number, x, m)
    assume(x != 0)
    with decimal.localcontext(prec=400):
        c = int(digits(x) / decimal.Decimal(k).sqrt() * 10**60)
    for nearby in (c - 1, c, c + 1):
        y = number(nearby, 10**60) * root(number, k)
        wanted = order(x, y)
        assert (x < y, x == y, x > y) == (wanted < 0, wanted == 0, wanted > 0)
        assert sign(x - y if k == m else x) == (wanted if k == m else order(x, number(0)))


@every_kind
def test_convergents_of_a_root_stay_on_their_side(kind):
    number = rational(kind)
    two, p, q = root(number, 2), 1, 1
    for step in range(200):
        near = number(p, q)
        # p^2 - 2 q^2 is -1 and 1 in turn.
        assert (near < two) == (step % 2 == 0)
        assert (near > two) == (step % 2 == 1)
        assert near != two
        rest = near - two
        assert sign(rest) == (-1 if step % 2 == 0 else 1)
        # It is 1 / (q^2 (near + sqrt 2)), between 1 / (3 q^2) and 1 / (2 q^2).
        assert number(1, 3 * q * q) < abs(rest) <= number(1, 2 * q * q)
        wanted = float(digits(rest, 600))
        assert abs(float(rest) - wanted) <= math.ulp(wanted)
        assert float_array(objects(rest))[0] == float(rest) != 0
        size = abs(rest)
        assert number(0) < below(size, number) <= size
        assert below(size, number) >= number(99, 100) * size
        p, q = p + 2 * q, p + q


@every_kind
def test_floats_and_infinities_in_an_order(kind):
    two = root(rational(kind), 2)
    assert 1.4142 < two < 1.4143
    assert -math.inf < -two < two < math.inf
    assert two != math.sqrt(2)
    assert (two < math.sqrt(2)) != (two > math.sqrt(2))
    with pytest.raises(TypeError):
        hash(two)


# What is not there


@every_kind
def test_a_second_root_is_refused(kind):
    number = rational(kind)
    two, three = root(number, 2), root(number, 3)
    for work in (
        lambda: two + three,
        lambda: two - three,
        lambda: (1 + two) * three,
        lambda: three * (1 + two),
        lambda: (1 + two) * (1 + three),
        lambda: (1 + two) / (1 + three),
        lambda: two / (1 + three),
        lambda: square_root(objects(two)),
        lambda: square_root(objects(number(1), 1 + two)),
    ):
        with pytest.raises(NotExactError):
            work()
    # Where both have no rational part their product and quotient are there.
    assert two * three == root(number, 6)
    assert (two * three) * two == 2 * three
    assert (two / three) * three == two
    assert 1 / two == two / 2


@every_kind
def test_division_by_zero(kind):
    number = rational(kind)
    for work in (lambda: root(number, 2) / 0, lambda: root(number, 2) / number(0)):
        with pytest.raises(ZeroDivisionError):
            work()


@pytest.mark.parametrize(
    "part", [(0, 1, 2), (0.5, Fraction(1), Fraction(2)), (Fraction(1), Fraction(2), 2)]
)
def test_parts_whose_quotient_would_be_a_float(part):
    with pytest.raises(NotExactError, match="expected Fraction or fmpq"):
        Surd(*part)


@every_kind
@pytest.mark.parametrize("value", [0.5, np.float64(0.5), -1.0])
def test_a_float_does_not_slip_into_a_part(kind, value):
    two = root(rational(kind), 2)
    for work in (
        lambda: two + value,
        lambda: value + two,
        lambda: two - value,
        lambda: two * value,
        lambda: two / value,
        lambda: value / two,
    ):
        with pytest.raises(NotExactError):
            work()


# Square roots


@every_kind
@laws
@given(x=st.fractions(0, 10**6, max_denominator=10**4))
def test_the_square_root(kind, x):
    number = rational(kind)
    value = cast(number, x)
    (found,) = square_root(objects(value))
    assert found * found == value
    assert found >= 0
    (again,) = square_root(objects(value * value))
    assert type(again) is number
    assert again == value


def test_the_square_root_of_integers_and_its_shape():
    found = square_root(np.array([[0, 1, 4], [2, 9, 10**40]], dtype=object))
    assert found.shape == (2, 3)
    assert found[0].tolist() == [0, 1, 2]
    assert isinstance(found[1, 0], Surd)
    assert found[1, 1:].tolist() == [3, 10**20]
    require_exact(found)
    for value in found.reshape(-1):
        require_exact(objects(value / 2, 1 / (value + 1)))
    with pytest.raises(ValueError, match="nonnegative"):
        square_root(objects(Fraction(-1)))


# In and out of floats


@every_kind
@laws
@given(x=st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_there_and_back(kind, x):
    (value,) = exact_array(np.array([x]), rational(kind))
    assert float(value) == x
    assert float_array(objects(value))[0] == x
    assert Fraction(int(value.numerator), int(value.denominator)) == Fraction(x)


@every_kind
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "bool"])
def test_every_type_there_and_back(kind, dtype):
    number = rational(kind)
    x = np.array([[0, 1, -1], [-0.0, 100, 0.1]]).astype(dtype)
    found = exact_array(x, number)
    assert found.shape == x.shape
    assert all(type(value) is number for value in found.reshape(-1))
    assert np.array_equal(float_array(found), x.astype(float))
    if dtype.startswith("float"):
        info = np.finfo(dtype)
        edge = np.array([info.max, info.tiny, info.smallest_subnormal, -info.max], dtype=dtype)
        assert np.array_equal(float_array(exact_array(edge, number)), edge.astype(float))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_has_no_exact_one(value):
    with pytest.raises((OverflowError, ValueError)):
        exact_array(np.array([value]))


@every_kind
@laws
@given(x=pairs, m=st.sampled_from(SQUARE_FREE), e=st.integers(-300, 300))
def test_the_nearest_float(kind, x, m, e):
    number = rational(kind)
    value = build(number, x, m) * number(10) ** e
    wanted = float(digits(value))
    assert abs(float(value) - wanted) <= math.ulp(wanted)
    (found,) = float_array(objects(value))
    assert found == float(value)


@every_kind
def test_what_is_not_zero_stays_so(kind):
    number = rational(kind)
    tiny = number(1) / number(10) ** 400
    values = objects(tiny, -tiny, number(0), tiny * root(number, 2), -tiny * root(number, 2))
    assert np.sign(float_array(values)).tolist() == [1, -1, 0, 1, -1]


@every_kind
@laws
@given(
    x=st.tuples(positive, st.fractions(0, 9, max_denominator=12)),
    m=st.sampled_from(SQUARE_FREE),
    e=st.integers(-1500, 1500),
)
def test_just_below(kind, x, m, e):
    number = rational(kind)
    for value in (build(number, x, m) * number(2) ** e, cast(number, x[0]) * number(2) ** e):
        found = below(value, number)
        assert type(found) is number
        assert number(0) < found <= value
        assert found >= number(99, 100) * value
        # Ten binary digits, and where they stand.
        odd = int(found.numerator) * int(found.denominator)
        assert (odd // (odd & -odd)).bit_length() <= 10


@every_kind
def test_just_below_what_has_few_digits_is_itself(kind):
    number = rational(kind)
    for value in (number(1), number(3, 8), number(1023), number(1023) * number(2) ** 5000):
        assert below(value, number) == value


@every_kind
@pytest.mark.parametrize("short", [1, 3, 513, 1023])
def test_just_below_what_floats_do_not_tell_from_a_short_number(kind, short):
    number = rational(kind)
    tiny = number(1) / number(2) ** 200
    for value in (number(short) - tiny, short - tiny * root(number, 3)):
        assert float(value) == short
        found = below(value, number)
        assert number(99, 100) * value <= found < value
        assert number(short) + tiny > below(number(short) + tiny, number) == short


@pytest.mark.parametrize("wrong", [0.5, np.float64(1), np.int64(1), None, 1j])
def test_a_float_among_exact_numbers(wrong):
    exact = objects(1, Fraction(1, 2), root(Fraction, 2))
    require_exact(exact)
    require_exact(exact.reshape(3, 1))
    with pytest.raises(NotExactError, match=type(wrong).__name__):
        require_exact(np.append(exact, objects(wrong)))


def test_the_faster_rationals_are_taken_where_they_are():
    require_exact(objects(FASTEST(1, 2)))
    flint = pytest.importorskip("flint")
    assert FASTEST is flint.fmpq
    require_exact(objects(flint.fmpq(1, 2)))


# NumPy's functions on them


vectors = st.lists(pairs, min_size=1, max_size=6)


def vector(number, entries, m):
    return objects(*(build(number, x, m) for x in entries))


@every_kind
@laws
@given(entries=vectors, m=st.sampled_from(SQUARE_FREE))
def test_numpy_s_functions(kind, entries, m):
    number = rational(kind)
    x = vector(number, entries, m)
    signs = np.array([order(value, number(0)) for value in x])
    assert np.sign(x).tolist() == signs.tolist()
    assert np.array_equal(np.abs(x), x * signs)
    assert np.array_equal(x > 0, signs > 0)
    assert np.array_equal(x == 0, signs == 0)
    ranked = sorted(range(len(x)), key=lambda i: digits(x[i]))
    ordered = np.sort(x)
    assert np.array_equal(ordered, x[ranked])
    assert x.max() == ordered[-1] == x[np.argmax(x)]
    assert x.min() == ordered[0]
    assert np.array_equal(np.where(x > 0, x, 0 * x), np.maximum(x, 0 * x))
    assert np.array_equal(np.minimum(np.maximum(x, -1 + 0 * x), 1 + 0 * x), np.clip(x, -1, 1))
    sums = array_namespace(x).cumulative_sum(x)
    assert sums[-1] == x.sum() == sum(x.tolist())
    assert np.array_equal(np.diff(sums), x[1:])
    assert (x @ x) == np.sum(x * x)
    require_exact(np.concatenate([np.abs(x), ordered, sums, safe(x), x / safe(x)]))


@every_kind
def test_a_number_beside_an_array(kind):
    number = rational(kind)
    two = root(number, 2)
    x = objects(number(1), number(3), two)
    for found, wanted in (
        (two + x, [two + 1, two + 3, 2 * two]),
        (two - x, [two - 1, two - 3, number(0)]),
        (two * x, [two, 3 * two, number(2)]),
        (two / x, [two, two / 3, number(1)]),
        (x / two, [1 / two, 3 / two, number(1)]),
    ):
        assert found.dtype == object
        assert all(a == b for a, b in zip(found, wanted, strict=True))
    assert (two == x).tolist() == [False, False, True]
    assert (two < x).tolist() == (x > two).tolist() == [False, True, False]
    assert (two >= x).tolist() == [True, False, True]
    # A scalar radius, as the projections take it.
    y = np.array([[number(3), number(4)]], dtype=object)
    found = LpNorm(2).project_ball(y, two)
    assert np.array_equal(found, y * two / 5)


# The norms in exact numbers

EXACT = [1, 2, math.inf]
entries = st.integers(-24, 24).map(lambda k: Fraction(k, 8))
batches = arrays(object, (3, 4), elements=entries)
radii = st.sampled_from([Fraction(1, 2), Fraction(1), Fraction(7, 3)])


def converted(number, x):
    return exact_array(x.astype(float), number)


@every_kind
@every_p
@laws
@given(x=batches)
def test_the_norm_and_the_duality_map(kind, p, x):
    number, norm = rational(kind), LpNorm(p)
    x = converted(number, x)
    zero = np.all(x == 0, axis=1)
    np.testing.assert_allclose(float_array(norm(x)), norm(float_array(x)), rtol=1e-14)
    for ties in ("average", "vertex"):
        v = norm.duality_map(x, ties=ties)
        require_exact(v)
        assert np.array_equal(inner(v, x), norm.dual(x))
        assert np.all((norm(v) == 1) | zero)
        assert np.all(v[zero] == 0)
        floats = norm.duality_map(float_array(x), ties=ties)
        np.testing.assert_allclose(float_array(v), floats, atol=1e-15)
    # The average is kept by every change of signs that keeps z, and scale does not matter.
    assert np.array_equal(norm.duality_map(x * number(3, 7)), norm.duality_map(x))
    assert np.array_equal(norm.duality_map(-x), -norm.duality_map(x))
    g = norm.gradient(x)
    assert np.array_equal(inner(g, x), norm(x))
    assert np.all((norm.dual(g) == 1) | zero)


@every_kind
@every_p
@laws
@given(x=batches, y=batches)
def test_hoelder_and_the_triangle_inequality(kind, p, x, y):
    number, norm = rational(kind), LpNorm(p)
    x, y = converted(number, x), converted(number, y)
    assert np.all(np.abs(inner(x, y)) <= norm(x) * norm.dual(y))
    assert np.all(inner(norm.gradient(x), y) <= norm(y))
    one, other, both = norm(x), norm(y), norm(x + y)
    # For p = 2 the sum of two roots is no exact number, but its square is, up to one root.
    if p == 2:
        assert np.all(both * both <= one * one + other * other + 2 * one * other)
    else:
        assert np.all(both <= one + other)


def corners(number, norm, z, radius):
    """Points of the ball, one for each row: the vertex that z exposes, scaled in and out."""
    return [0 * z, *(norm.duality_map(z) * (radius * number(k, 4)) for k in (-4, -1, 2, 4))]


@every_kind
@every_p
@laws
@given(y=batches, z=batches, radius=radii)
def test_the_projection_onto_the_ball(kind, p, y, z, radius):
    number, norm = rational(kind), LpNorm(p)
    y, z, radius = converted(number, y), converted(number, z), cast(number, radius)
    found = norm.project_ball(y, radius)
    require_exact(found)
    size = norm(y)
    assert np.all(norm(found) <= radius)
    assert np.all((norm(found) == radius) | (size <= radius))
    assert np.all((found == y) | (size > radius)[:, None])
    assert np.array_equal(norm.project_ball(found, radius), found)
    np.testing.assert_allclose(
        float_array(found), norm.project_ball(float_array(y), float(radius)), atol=1e-14
    )
    # No point of the ball is closer: <y - found, inside - found> <= 0 for each.
    points = corners(number, norm, y, radius)
    if p != 2:
        points += corners(number, norm, z, radius)
        points += corners(number, norm, y - found, radius)
    for inside in points:
        assert np.all(inner(y - found, inside - found) <= 0)
    assert np.array_equal(norm.project_ball(y, np.array([radius] * 3, dtype=object)), found)


@every_kind
@pytest.mark.parametrize("p", [1, math.inf])
@laws
@given(y=batches, direction=batches, radius=radii)
def test_the_face_is_the_projection_from_far_out(kind, p, y, direction, radius):
    number, norm = rational(kind), LpNorm(p)
    y, direction, radius = (
        converted(number, y),
        converted(number, direction),
        cast(number, radius),
    )
    inside = norm.project_ball(y, radius)
    face = norm.project_face(inside, direction, radius)
    require_exact(face)
    # Entries of the direction that differ differ by 1/8 at least: 64 (radius + |inside|) is far.
    for far in (64, 65, 10**9):
        alpha = number(far) * (radius + radius)
        assert np.array_equal(norm.project_ball(inside + alpha * direction, radius), face)
    assert np.array_equal(inner(face, direction), radius * norm.dual(direction))
    zero = np.all(direction == 0, axis=1)
    assert np.array_equal(face[zero], inside[zero])
    np.testing.assert_allclose(
        float_array(face),
        norm.project_face(float_array(inside), float_array(direction), float(radius)),
        atol=1e-14,
    )


@every_kind
@laws
@given(y=batches, direction=batches, radius=radii)
def test_the_face_for_two_is_a_point(kind, y, direction, radius):
    number, norm = rational(kind), LpNorm(2)
    y, direction, radius = (
        converted(number, y),
        converted(number, direction),
        cast(number, radius),
    )
    zero = np.all(direction == 0, axis=1)
    face = norm.project_face(0 * y, direction, radius)
    require_exact(face)
    assert np.array_equal(inner(face, direction), radius * norm(direction))
    assert np.all((norm(face) == radius) | zero)
    assert np.all(face[zero] == 0)


@every_kind
@every_p
@laws
@given(y=batches, radius=radii)
def test_the_projection_onto_the_sphere(kind, p, y, radius):
    number, norm = rational(kind), LpNorm(p)
    y, radius = converted(number, y), cast(number, radius)
    found = norm.project_sphere(y, radius)
    require_exact(found)
    assert np.all(norm(found) == radius)
    assert np.array_equal(norm.project_sphere(found, radius), found)
    outside = norm(y) >= radius
    assert np.array_equal(found[outside], norm.project_ball(y, radius)[outside])
    np.testing.assert_allclose(
        float_array(found), norm.project_sphere(float_array(y), float(radius)), atol=1e-14
    )
    # No vertex of the sphere is closer, nor is any of its axes' points.
    for axis, way in itertools.product(np.eye(4, dtype=int), (1, -1)):
        other = np.broadcast_to(converted(number, way * axis), y.shape) * radius
        closest, there = inner(y - found, y - found), inner(y - other, y - other)
        assert np.all(closest <= there)


@every_kind
@every_p
def test_one_example_does_not_depend_on_the_others(kind, p):
    number, norm = rational(kind), LpNorm(p)
    rng = np.random.default_rng(0)
    x = exact_array(rng.integers(-3, 4, (6, 2, 2)).astype(float), number)
    d = exact_array(rng.integers(-3, 4, (6, 2, 2)).astype(float), number)
    for method in (
        norm,
        norm.duality_map,
        lambda y: norm.project_ball(y, number(1)),
        lambda y: norm.project_sphere(y, number(1)),
        lambda y: norm.project_face(0 * y, d[: len(y)] if len(y) > 1 else d[:1], number(1)),
    ):
        whole = method(x)
        assert np.array_equal(whole[:1], method(x[:1]))
        assert whole.shape[1:] in ((), (2, 2))
    assert flatten(x).shape == (6, 4)
