import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
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
from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.jacobians.dense import jacobian
from onr.norms import LpNorm
from onr_numpy.backend import NumpyBackend
from onr_numpy.layers import toeplitz
from onr_numpy.network import DenseNetwork
from onr_torch.backend import TorchBackend

COLOURS = Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
ZOO = {
    "linear": Architecture((5,), (Affine(3),)),
    "mlp": Architecture((6,), (Affine(9), ReLU(), Affine(7), ReLU(), Affine(3))),
    "relu first and last": Architecture((6,), (ReLU(), Affine(4), Affine(5), ReLU())),
    "conv pool": Architecture(
        (2, 6, 6),
        (Conv(3), ReLU(), MaxPool(2), Conv(4, padding=0), ReLU(), Flatten(), Affine(3)),
    ),
    "pool before relu": Architecture(
        (1, 6, 6), (Conv(3, 2, 0), MaxPool(2), ReLU(), Flatten(), Affine(4), ReLU(), Affine(3))
    ),
    "border": Architecture((2, 5, 5), (Conv(2), MaxPool(2), ReLU(), Flatten(), Affine(3))),
    "large windows": Architecture((1, 6, 6), (MaxPool(3), Conv(2, 1, 0), ReLU(), Flatten())),
    "batch norm": Architecture(
        (2, 4, 4),
        (
            Conv(4),
            BatchNorm(),
            ReLU(),
            MaxPool(2),
            Conv(3),
            ReLU(),
            BatchNorm(),
            Flatten(),
            Affine(3),
        ),
    ),
    "normalize": Architecture(
        (3, 4, 4), (COLOURS, Conv(2, 3, 2), ReLU(), Flatten(), Affine(6), ReLU(), Affine(3))
    ),
}
NORMS = [LpNorm(p) for p in (1, 2, math.inf, 3)]

every_model = pytest.mark.parametrize("model", ZOO.values(), ids=ZOO)
every_p = pytest.mark.parametrize("p", NORMS, ids=str)
hidden = pytest.mark.parametrize(
    "model",
    [m for name, m in ZOO.items() if name != "linear"],
    ids=[n for n in ZOO if n != "linear"],
)


def parameters(model, seed=0):
    """Drawn weights, and statistics that are not those of an identity."""
    drawn = initial_parameters(model, seed)
    rng = np.random.default_rng(seed)
    for name, value in drawn.items():
        if name.endswith("running_mean"):
            drawn[name] = rng.standard_normal(value.shape)
        elif name.endswith("running_var"):
            drawn[name] = rng.uniform(0.3, 3, value.shape)
    return drawn


@pytest.mark.parametrize("backend", [NumpyBackend(), TorchBackend()])
def test_parameters_that_do_not_fit_are_refused(backend):
    model = ZOO["mlp"]
    drawn = initial_parameters(model, seed=0)
    name = next(iter(drawn))
    less = {other: value for other, value in drawn.items() if other != name}
    for wrong in (less, drawn | {name: drawn[name][1:]}, drawn | {"9.weight": drawn[name]}):
        with pytest.raises(OnrError, match="parameters do not fit the model"):
            backend.build(model, parameters=wrong)


def build(model, seed=0, **options):
    return DenseNetwork(model, parameters(model, seed), **options)


def inputs(model, batch=4, seed=0):
    return np.random.default_rng([seed, 7]).standard_normal((batch, *model.input_shape))


def rational(array):
    return np.vectorize(lambda value: Fraction(float(value)), otypes=[object])(array)


def rows(x):
    return x.reshape(len(x), -1)


@every_model
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_products_are_torch_s(model, seed):
    network, x = build(model, seed), inputs(model, seed=seed)
    backend = TorchBackend()
    module = backend.build(model, seed=seed, parameters=parameters(model, seed), dtype="float64")
    at = module.linearize(torch.from_numpy(x))
    np.testing.assert_allclose(network(x), rows(to_numpy(at.value)), atol=1e-12)
    rng = np.random.default_rng(seed)
    v, u = rng.standard_normal(x.shape), rng.standard_normal(at.value.shape)
    dense = network.linearize(x)
    image, back = at.jvp(torch.from_numpy(v)), at.vjp(torch.from_numpy(u))
    np.testing.assert_allclose(dense.jvp(v), rows(image.numpy()), atol=1e-11)
    np.testing.assert_allclose(dense.vjp(rows(u)), back.numpy(), atol=1e-11)


def test_one_seed_is_one_network_on_both_backends():
    model = ZOO["conv pool"]
    x = inputs(model)
    module = TorchBackend().build(model, seed=5, dtype="float64")
    dense = DenseNetwork(model, initial_parameters(model, 5))
    np.testing.assert_allclose(dense(x), module(torch.from_numpy(x)).numpy(), atol=1e-12)


@every_model
def test_jacobian_is_torch_s(model):
    network, x = build(model), inputs(model, 3)
    module = TorchBackend().build(model, parameters=parameters(model), dtype="float64")
    full = torch.autograd.functional.jacobian(
        lambda z: module.module(z).sum(dim=0), torch.from_numpy(x), vectorize=False
    )
    wanted = full.reshape(-1, *x.shape).movedim(0, 1).reshape(3, -1, rows(x).shape[1])
    np.testing.assert_allclose(network.jacobian(x), wanted, atol=1e-12)


@every_model
def test_jacobian_is_the_stacked_products(model):
    network, x = build(model), inputs(model, 3)
    J, at, n = network.jacobian(x), network.linearize(x), rows(x).shape[1]
    np.testing.assert_allclose(J, jacobian(at), atol=1e-12)
    columns = [at.jvp(np.broadcast_to(e, (3, n)).reshape(x.shape)) for e in np.eye(n)]
    np.testing.assert_allclose(J, np.stack(columns, axis=2), atol=1e-12)


@every_model
def test_jacobian_is_the_difference_quotient_inside_the_cell(model):
    network, x = build(model), inputs(model, 3)
    J = network.jacobian(x)
    radius = np.minimum(network.cell_radius(x, p=LpNorm(math.inf)), 1)
    h = (0.9 * radius).reshape(-1, *[1] * (x.ndim - 1))
    for index, e in enumerate(np.eye(rows(x).shape[1])):
        e = e.reshape(model.input_shape)
        # The network is affine in its cell: the quotient is exact at any step inside.
        quotient = (network(x + h * e) - network(x - h * e)) / rows(2 * h)
        np.testing.assert_allclose(quotient, J[:, :, index], atol=1e-12 / radius.min())


@every_model
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20))
def test_adjoint(model, seed):
    network, x = build(model, seed % 7), inputs(model, 3, seed)
    at, rng = network.linearize(x), np.random.default_rng(seed)
    v, u = rng.standard_normal(x.shape), rng.standard_normal(at.value.shape)
    left, right = np.sum(u * at.jvp(v), axis=1), np.sum(rows(at.vjp(u) * v), axis=1)
    np.testing.assert_allclose(left, right, atol=1e-11)


@every_model
def test_folding_changes_nothing(model):
    folded, apart, x = build(model), build(model, fold=False), inputs(model)
    assert len(folded.layers) <= len(apart.layers)
    np.testing.assert_allclose(folded(x), apart(x), atol=1e-12)
    np.testing.assert_allclose(folded.jacobian(x), apart.jacobian(x), atol=1e-12)
    assert np.array_equal(folded.linear_region(x), apart.linear_region(x))
    for p in NORMS:
        np.testing.assert_allclose(folded.cell_radius(x, p=p), apart.cell_radius(x, p=p), rtol=1e-9)


@every_model
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_that_of_the_parameters(model, fold, dtype):
    cast = {name: value.astype(dtype) for name, value in parameters(model).items()}
    network, x = DenseNetwork(model, cast, fold=fold), inputs(model).astype(dtype)
    at = network.linearize(x)
    for found in (at.value, at.jvp(x), at.vjp(at.value), network.jacobian(x)):
        assert found.dtype == dtype
    np.testing.assert_allclose(at.value, build(model)(x.astype(float)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["mlp", "relu first and last", "pool before relu", "border"])
def test_rational_arithmetic(name):
    model = ZOO[name]
    exact = DenseNetwork(model, {k: rational(v) for k, v in parameters(model).items()})
    network, x = build(model), inputs(model, 1)
    at = exact.linearize(rational(x))
    J = exact.jacobian(rational(x))
    radius = exact.cell_radius(rational(x), p=LpNorm(math.inf))
    u = rational(np.random.default_rng(1).standard_normal(at.value.shape))
    for found, wanted in (
        (at.value, network(x)),
        (J, network.jacobian(x)),
        (at.vjp(u), network.linearize(x).vjp(u.astype(float))),
        (radius, network.cell_radius(x, p=LpNorm(math.inf))),
    ):
        assert all(isinstance(value, Fraction | int) for value in found.ravel())
        np.testing.assert_allclose(found.astype(float), wanted, atol=1e-12)
    # In rationals the adjoint is the transpose and the network is affine in its cell, exactly.
    assert np.array_equal(rows(at.vjp(u)), np.einsum("bd,bdn->bn", u, J))
    shift = np.full(x.shape, radius[0] * Fraction(999, 1000), dtype=object)
    shift.reshape(-1)[::2] *= -1
    moved = exact(rational(x) + shift) - at.value
    assert np.array_equal(moved, np.einsum("bdn,bn->bd", J, rows(shift)))


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2, 4])
def test_toeplitz_is_the_convolution(kernel, padding):
    rng = np.random.default_rng([kernel, padding])
    weight, x = rng.standard_normal((2, 3, kernel, kernel)), rng.standard_normal((4, 3, 4, 5))
    wanted = torch.nn.functional.conv2d(
        torch.from_numpy(x), torch.from_numpy(weight), padding=padding
    )
    matrix = toeplitz(weight, x.shape[1:], padding)
    np.testing.assert_allclose(rows(x) @ matrix.T, rows(wanted.numpy()), atol=1e-13)


def nearest_wall(network, x, p):
    """The distance of the nearest wall of each example's cell, and the step that leads there."""
    distance, step = np.full(len(x), np.inf), np.zeros_like(x)
    for z, gradients in network.boundaries(x):
        for j in range(z.shape[1]):
            g = gradients[:, j].reshape(x.shape)
            steep = p.dual(g)
            away = np.abs(z[:, j]) / np.where(steep > 0, steep, np.nan)
            towards = p.duality_map(g) * -np.sign(z[:, j]).reshape(-1, *[1] * (x.ndim - 1))
            closer = away < distance
            distance, step[closer] = np.where(closer, away, distance), towards[closer]
    return distance, step


@hidden
@every_p
def test_the_radius_is_the_distance_of_the_nearest_wall(model, p):
    network, x = build(model), inputs(model, 5)
    pattern, radius = network.linear_region(x), network.cell_radius(x, p=p)
    distance, step = nearest_wall(network, x, p)
    np.testing.assert_allclose(radius, distance, rtol=1e-12)
    assert np.all((radius > 0) & (radius < np.inf))
    scale = radius.reshape(-1, *[1] * (x.ndim - 1))
    inside = network.linear_region(x + (1 - 1e-6) * scale * step)
    outside = network.linear_region(x + (1 + 1e-6) * scale * step)
    assert np.array_equal(inside, pattern)
    assert np.all(np.any(outside != pattern, axis=1))


@hidden
@every_p
def test_the_pattern_is_constant_in_the_ball(model, p):
    network, x = build(model, 1), inputs(model, 2, 1)
    pattern, radius = network.linear_region(x), network.cell_radius(x, p=p)
    at, rng = network.linearize(x), np.random.default_rng(2)
    for _ in range(50):
        delta = p.sample_ball(rng, x.shape)
        if rng.random() < 0.5:  # vertices of the ball for p = 1 and inf
            delta = p.duality_map(delta, ties="vertex")
        delta *= 0.999 * radius.reshape(-1, *[1] * (x.ndim - 1))
        assert np.array_equal(network.linear_region(x + delta), pattern)
        np.testing.assert_allclose(network(x + delta), at.value + at.jvp(delta), atol=1e-11)


@pytest.mark.parametrize("size", [2, 3])
@every_p
def test_a_pooling_window_has_a_wall_for_each_loser(size, p):
    model = Architecture((1, size, size), (MaxPool(size), Flatten(), Affine(1)))
    x = np.arange(size * size, dtype=float).reshape(1, 1, size, size) ** 2
    gap = x.max() - np.sort(x.ravel())[-2]
    # Two pixels meet: e_winner - e_loser has dual norm 2^(1/p*).
    wanted = gap / LpNorm(p.dual.p)(np.array([[1.0, -1.0]]))
    np.testing.assert_allclose(build(model).cell_radius(x, p=p), wanted)


def test_windows_of_one_pixel_have_no_wall():
    model = Architecture((1, 2, 2), (MaxPool(1), Flatten(), Affine(2)))
    assert build(model).cell_radius(np.ones((3, 1, 2, 2)), p=LpNorm(2)).tolist() == [math.inf] * 3


def planted(weight, bias):
    weight, bias = np.array(weight, dtype=float), np.array(bias, dtype=float)
    model = Architecture((2,), (Affine(len(bias)), ReLU(), Affine(1)))
    last = {"2.weight": np.ones((1, len(bias))), "2.bias": np.zeros(1)}
    return DenseNetwork(model, {"0.weight": weight, "0.bias": bias, **last})


@every_p
def test_a_unit_with_zero_gradient_has_no_wall(p):
    x = np.array([[1.0, 2.0]])
    for bias in (1.0, 0.0, -1.0):
        assert planted([[0, 0]], [bias]).cell_radius(x, p=p).tolist() == [math.inf]
        assert planted([[0, 0], [1, 0]], [bias, 0]).cell_radius(x, p=p) == 1


@every_p
def test_a_unit_at_zero_gives_radius_zero(p):
    network = planted([[1, -1], [3, 0]], [0, 0])
    x = np.array([[1.0, 1.0], [2.0, 1.0]])
    radius = network.cell_radius(x, p=p)
    assert radius[0] == 0
    assert radius[1] > 0
    assert not network.linear_region(x)[0, 0]  # z = 0 counts as off
    assert np.array_equal(network.jacobian(x), [[[3, 0]], [[4, -1]]])


@every_p
@pytest.mark.parametrize("layers", [(Affine(3),), (), (Affine(3), Affine(2))])
def test_no_hidden_units_no_walls(p, layers):
    model = Architecture((4,), layers)
    x = inputs(model, 3)
    network = build(model)
    assert network.cell_radius(x, p=p).tolist() == [math.inf] * 3
    assert network.linear_region(x).shape == (3, 0)


@every_p
def test_radius_by_hand(p):
    # |z| / ||g||_{p*}: 5 / ||(3, 4)||_{p*} and 2 / ||(0, 1)||_{p*}.
    network = planted([[3, 4], [0, 1]], [0, 3])
    x = np.array([[3.0, -1.0]])
    steep = np.linalg.norm([3, 4], p.dual.p)
    np.testing.assert_allclose(network.cell_radius(x, p=p), min(5 / steep, 2))


def test_rows_are_independent():
    network, x = build(ZOO["conv pool"]), inputs(ZOO["conv pool"], 5)
    for method in (
        network,
        network.jacobian,
        network.linear_region,
        lambda z: network.cell_radius(z, p=LpNorm(3)),
    ):
        alone = np.concatenate([method(x[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(method(x), alone, rtol=1e-12, atol=1e-12)
