"""The network over exact numbers is the one in floats, and what is linear is linear by ``==``."""

import itertools
import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Flatten,
    MaxPool,
    Normalize,
    ReLU,
    initial_parameters,
)
from onr.arrays import flatten, inner
from onr.exact.surds import (
    NotExactError,
    Surd,
    exact_array,
    float_array,
    require_exact,
    square_root,
)
from onr.norms import LpNorm
from onr_numpy.backend import NumpyBackend
from onr_numpy.exact_network import ExactDense, ExactNetwork
from onr_numpy.layers import Dense
from onr_numpy.network import DenseNetwork

ZOO = {
    "mlp": Architecture((5,), (Affine(6), ReLU(), Affine(4), ReLU(), Affine(3))),
    "linear": Architecture((4,), (Affine(3),)),
    "two affine in a row": Architecture((4,), (Affine(3), Affine(5), ReLU(), Affine(2))),
    "relu first and last": Architecture((4,), (ReLU(), Affine(5), ReLU())),
    "convolutions": Architecture(
        (2, 4, 4),
        (
            Normalize((0.4, 0.5), (0.3, 0.7)),
            Conv(2),
            BatchNorm(),
            ReLU(),
            MaxPool(2),
            Conv(3, kernel=2, padding=0),
            ReLU(),
            Flatten(),
            Affine(3),
        ),
    ),
    "pool before relu": Architecture(
        (1, 5, 5), (Conv(2, kernel=3, padding=0), MaxPool(2), ReLU(), Flatten(), Affine(2))
    ),
    "a window of one": Architecture((1, 3, 3), (MaxPool(1), ReLU(), Flatten(), Affine(2))),
}
every_model = pytest.mark.parametrize("name", ZOO)
every_kind = pytest.mark.parametrize("kind", ["Fraction", "fmpq"])
every_p = pytest.mark.parametrize("p", [1, 2, math.inf])
laws = settings(max_examples=10, deadline=None, derandomize=True)


def rational(kind):
    return Fraction if kind == "Fraction" else pytest.importorskip("flint").fmpq


def parameters(model, seed=0):
    rng = np.random.default_rng(seed)
    drawn = initial_parameters(model, seed)
    for name, value in drawn.items():
        if name.endswith("running_mean"):
            drawn[name] = rng.standard_normal(value.shape)
        if name.endswith("running_var"):
            drawn[name] = rng.uniform(0.5, 2, value.shape)
    return drawn


def build(name, seed=0, dtype="float64", **options):
    model = ZOO[name]
    cast = {key: value.astype(dtype) for key, value in parameters(model, seed).items()}
    return DenseNetwork(model, cast, **options)


def inputs(name, batch=2, seed=0):
    rng = np.random.default_rng([seed, 5])
    return rng.standard_normal((batch, *ZOO[name].input_shape)).astype(np.float16).astype(float)


def vectors(number, shape, rng, *, surd=None):
    """Short rationals, times a square root if one is given."""
    x = exact_array(rng.integers(-16, 17, shape) / 8, number)
    if surd is None:
        return x
    (root,) = square_root(np.array([number(surd)], dtype=object))
    return x + exact_array(rng.integers(-16, 17, shape) / 8, number) * root


def only(number, *arrays):
    """Whether there is nothing but these rationals, and numbers with a root made of them."""
    for array in arrays:
        for value in array.reshape(-1):
            if isinstance(value, Surd):
                assert {type(value.a), type(value.b), type(value.m)} == {number}
                assert value.b != 0
            else:
                assert type(value) is number, (type(value), value)
    return True


@every_model
@every_kind
def test_it_is_the_network_in_floats(name, kind):
    number = rational(kind)
    for fold, seed in itertools.product((True, False), (0, 1)):
        dense, x = build(name, seed, fold=fold), inputs(name, 3, seed)
        exact, y = ExactNetwork(dense, number=number), exact_array(x, number)
        rng = np.random.default_rng(seed)
        v, u = rng.standard_normal(x.shape), rng.standard_normal((3, dense(x).shape[1]))
        one, other = dense.linearize(x), exact.linearize(y)
        for found, wanted in (
            (other.value, one.value),
            (exact(y), dense(x)),
            (other.jvp(exact_array(v, number)), one.jvp(v)),
            (other.vjp(exact_array(u, number)), one.vjp(u)),
            (exact.jacobian(y), dense.jacobian(x)),
        ):
            require_exact(found)
            assert only(number, found)
            assert found.shape == wanted.shape
            np.testing.assert_allclose(float_array(found), wanted, atol=1e-12)
        assert np.array_equal(exact.linear_region(y), dense.linear_region(x))
        assert exact.input_shape == dense.input_shape
        assert other.output_shape == one.output_shape
        for p in (1, 2, math.inf):
            found, wanted = (net.cell_radius(z, p=LpNorm(p)) for net, z in ((exact, y), (dense, x)))
            np.testing.assert_allclose(found.astype(float), wanted, rtol=1e-9)


@every_model
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_coefficients_are_taken_without_loss(name, dtype):
    dense = build(name, dtype=dtype, fold=False)
    exact = ExactNetwork(dense)
    doubles = {key: value.astype(float) for key, value in dense.weights.items()}
    apart = DenseNetwork(dense.architecture, doubles, fold=False)
    count = 0
    for one, other, original in zip(exact.layers, apart.layers, dense.layers, strict=True):
        assert type(one) is (ExactDense if isinstance(other, Dense) else type(other))
        if isinstance(one, ExactDense):
            for key in ("weight", "bias"):
                values, floats = getattr(one, key), getattr(other, key)
                assert values.shape == floats.shape
                assert all(
                    value == Fraction(x)
                    for value, x in zip(values.ravel(), floats.ravel().tolist(), strict=True)
                )
                assert np.array_equal(float_array(values), floats)
                if not isinstance(ZOO[name].layers[0], Normalize):
                    assert np.array_equal(values.astype(dtype), getattr(original, key))
                count += 1
    assert count >= 2
    # The network that it was taken from is left as it was.
    assert all(value.dtype == dtype for value in dense.weights.values())


@every_model
@every_kind
@pytest.mark.parametrize("surd", [None, 2])
@laws
@given(seed=st.integers(0, 2**20))
def test_the_linearisation_is_linear_and_its_adjoint_its_adjoint(name, kind, surd, seed):
    number, rng = rational(kind), np.random.default_rng(seed)
    exact = ExactNetwork(build(name, seed % 3), number=number)
    x = exact_array(inputs(name, 2, seed), number)
    at = exact.linearize(x)
    v, w = (vectors(number, x.shape, rng, surd=surd) for _ in range(2))
    u, t = (vectors(number, at.value.shape, rng, surd=surd) for _ in range(2))
    assert np.array_equal(inner(u, at.jvp(v)), inner(at.vjp(u), v))
    k = number(-3, 7)
    assert np.array_equal(at.jvp(k * v + w), k * at.jvp(v) + at.jvp(w))
    assert np.array_equal(at.vjp(k * u + t), k * at.vjp(u) + at.vjp(t))
    assert np.all(at.jvp(0 * v) == 0)
    assert at.vjp(u).shape == x.shape
    assert only(number, at.value, at.jvp(v), at.vjp(u), at.jvp(0 * v))
    # The Jacobian, by its own product, is the linear map.
    J = exact.jacobian(x)
    assert np.array_equal((J @ flatten(v)[:, :, None])[:, :, 0], at.jvp(v))
    assert np.array_equal((u[:, None, :] @ J)[:, 0], flatten(at.vjp(u)))


@every_model
@every_kind
def test_whole_numbers_of_python_become_rationals(name, kind):
    # As np.sign of exact numbers gives them: a quotient of two would be a float.
    number = rational(kind)
    exact, x = ExactNetwork(build(name), number=number), inputs(name)
    y = exact_array(x, number)
    at = exact.linearize(y)
    v, u = np.sign(y), np.sign(at.value)
    assert {type(value) for value in v.reshape(-1)} == {int}
    layers = ZOO[name].layers
    if not isinstance(layers[0], ReLU | MaxPool):
        assert only(number, at.jvp(v), exact.linearize(v).value, exact.jacobian(v))
    if not isinstance(layers[-1], ReLU):
        assert only(number, at.vjp(u))
    np.testing.assert_allclose(
        float_array(at.jvp(v)), build(name).linearize(x).jvp(np.sign(x)), atol=1e-12
    )


@every_model
@every_kind
@every_p
def test_the_network_is_affine_in_its_cell(name, kind, p):
    number, norm, rng = rational(kind), LpNorm(p), np.random.default_rng(3)
    dense = build(name, 2)
    exact, x = ExactNetwork(dense, number=number), exact_array(inputs(name, 2, 1), number)
    radius = exact.cell_radius(x, p=norm)
    if name == "linear":
        assert radius.tolist() == [math.inf, math.inf]
        radius = np.array([number(7), number(7)], dtype=object)
    else:
        assert np.all(radius > 0)
        # By hand: the nearest of all walls.
        for i in range(len(x)):
            distances = [
                abs(value) / steep
                for z, gradients in exact.boundaries(x)
                for value, g in zip(z[i], gradients[i], strict=True)
                if (steep := norm.dual(g.reshape(1, *x.shape[1:]))[0]) > 0
            ]
            assert radius[i] == min(distances)
    at, pattern, J = exact.linearize(x), exact.linear_region(x), exact.jacobian(x)
    for _ in range(3):
        v = vectors(number, x.shape, rng)
        v = norm.duality_map(v) if p != 2 else norm.project_ball(v, number(1))
        h = v * (radius * number(999, 1000)).reshape(-1, *[1] * (x.ndim - 1))
        if p == 2 and name != "linear":
            # Its radius and its direction have two different roots: a rational point inside.
            h = exact_array(0.9 * float_array(h) / 0.999, number)
        moved = exact.linearize(x + h)
        assert np.array_equal(exact.linear_region(x + h), pattern)
        assert np.array_equal(moved.value - at.value, at.jvp(h))
        assert np.array_equal(exact.jacobian(x + h), J)


@pytest.mark.parametrize("name", ["mlp", "two affine in a row", "convolutions", "pool before relu"])
@every_kind
@pytest.mark.parametrize("p", [1, math.inf])
def test_the_wall_is_where_the_radius_says(name, kind, p):
    number, norm = rational(kind), LpNorm(p)
    exact = ExactNetwork(build(name, 4), number=number)
    x = exact_array(inputs(name, 1, 2), number)
    (radius,) = exact.cell_radius(x, p=norm)
    found = 0
    for z, gradients in exact.boundaries(x):
        for value, g in zip(z[0], gradients[0], strict=True):
            g = g.reshape(x.shape)
            if norm.dual(g)[0] * radius != abs(value):
                continue
            step = norm.duality_map(g, ties="vertex") * np.sign(-value) * radius
            # Exactly on the wall, and through it a moment later.
            assert value + inner(g, step)[0] == 0
            pattern = exact.linear_region(x)
            before, after = (
                exact.linear_region(x + step * number(k, 10**9)) for k in (10**9 - 1, 10**9 + 1)
            )
            assert np.array_equal(before, pattern)
            assert not np.array_equal(after, pattern)
            found += 1
    assert found >= 1


@every_kind
@pytest.mark.parametrize("surd", [None, 3])
@laws
@given(seed=st.integers(0, 2**20))
def test_the_integer_product_is_the_plain_one(kind, surd, seed):
    number, rng = rational(kind), np.random.default_rng(seed)
    m, n, batch = rng.integers(1, 7, 3)
    weight = exact_array(rng.standard_normal((m, n)) * 10.0 ** rng.integers(-30, 30), number)
    bias = exact_array(rng.standard_normal(m).astype(np.float32), number)
    fast, plain = ExactDense(weight, bias), Dense(weight, bias)
    z, u = (vectors(number, (batch, k), rng, surd=surd) for k in (n, m))
    z[rng.random(z.shape) < 0.3] = number(0)
    gradient = vectors(number, (batch, n, 3), rng, surd=surd)
    for one, other in (
        (fast.forward(z, None), plain.forward(z, None)),
        (fast.jvp(z, None), plain.jvp(z, None)),
        (fast.vjp(u, None), plain.vjp(u, None)),
        (fast.after(gradient), plain.after(gradient)),
    ):
        assert one.shape == other.shape
        assert np.array_equal(one, other)
        assert only(number, one)


@every_kind
def test_a_product_may_have_one_root_in_each_row(kind):
    number = rational(kind)
    weight = exact_array(np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 0.0]]), number)
    layer = ExactDense(weight, exact_array(np.zeros(3), number))
    two, three = square_root(np.array([number(2), number(3)], dtype=object))
    rows = np.array([[two, number(1)], [2 * three, three]], dtype=object)
    assert np.array_equal(layer.jvp(rows, None), rows @ weight.T)
    assert layer.jvp(rows, None)[1].tolist() == [4 * three, 0, 0]
    assert only(number, layer.jvp(rows, None))
    with pytest.raises(NotExactError, match="two different square roots"):
        layer.jvp(np.array([[two, three]], dtype=object), None)
    assert layer.jvp(rows[:0], None).shape == (0, 3)


@every_model
def test_an_example_does_not_depend_on_its_batch(name):
    exact, x = ExactNetwork(build(name)), exact_array(inputs(name, 3))
    rng = np.random.default_rng(0)
    v, u = vectors(Fraction, x.shape, rng), vectors(Fraction, exact(x).shape, rng)
    at = exact.linearize(x)
    for i in range(3):
        one = slice(i, i + 1)
        alone = exact.linearize(x[one])
        assert np.array_equal(alone.value, at.value[one])
        assert np.array_equal(alone.jvp(v[one]), at.jvp(v)[one])
        assert np.array_equal(alone.vjp(u[one]), at.vjp(u)[one])
        assert np.array_equal(exact.jacobian(x[one]), exact.jacobian(x)[one])


def test_a_unit_at_zero_is_off_and_leaves_no_room():
    model = Architecture((2,), (Affine(1), ReLU(), Affine(1)))
    weights = {
        "0.weight": np.array([[0.1, -0.1]]),
        "0.bias": np.zeros(1),
        "2.weight": np.array([[3.0]]),
        "2.bias": np.array([0.3]),
    }
    exact = ExactNetwork(NumpyBackend().build(model, parameters=weights, dtype="float64"))
    x = exact_array(np.array([[0.3, 0.3], [0.3, math.nextafter(0.3, 0)]]))
    assert exact.linear_region(x).tolist() == [[False], [True]]
    assert exact(x)[0] == Fraction(0.3) < exact(x)[1]
    for p in (1, 2, math.inf):
        radius = exact.cell_radius(x, p=LpNorm(p))
        assert radius[0] == 0 < radius[1] < Fraction(1, 2**50)


@every_model
def test_balls_hold_the_exact_numbers(name):
    flint = pytest.importorskip("flint")
    from onr.exact.balls import Ball

    exact = ExactNetwork(build(name), number=flint.fmpq)
    balls = ExactNetwork(build(name), number=Ball)
    x = inputs(name)
    one, other = exact_array(x, flint.fmpq), exact_array(x, Ball)
    v, w = exact.linearize(one), balls.linearize(other)
    for found, wanted in (
        (w.value, v.value),
        (w.jvp(other), v.jvp(one)),
        (balls.jacobian(other), exact.jacobian(one)),
    ):
        assert found.shape == wanted.shape
        for ball, number in zip(found.reshape(-1), wanted.reshape(-1), strict=True):
            assert ball.arb.overlaps(flint.arb(number))
            assert ball.arb.rad() < 1e-12
    assert np.array_equal(balls.linear_region(other), exact.linear_region(one))
