"""Functions, Flax and Equinox models through the verbs of ``import onr``."""

from __future__ import annotations

import doctest
import importlib
import math
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed; make jax runs these tests")

import torch
from jax import numpy as jnp

import onr
import onr_jax
from onr.errors import OnrError
from onr.training.factories import versions
from onr_jax.backend import JaxBackend
from onr_jax.model import Model

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.random((6, 1, 8, 8)), jnp.float32)
W, B = (jnp.asarray(RNG.standard_normal(s), jnp.float32) for s in ((64, 5), (5,)))


@pytest.fixture(autouse=True, scope="module")
def _float32() -> Any:
    with jax.enable_x64(False):
        yield


def linear(x: Any) -> Any:
    return x.reshape(len(x), -1) @ W + B


def linen() -> tuple[Model, Callable[[Any], Any]]:
    nn = pytest.importorskip("flax.linen", reason="Flax is not installed")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool = False) -> Any:
            x = nn.relu(nn.Conv(4, (3, 3))(x.transpose(0, 2, 3, 1)))
            x = nn.BatchNorm(use_running_average=not train)(x)
            x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME").reshape(len(x), -1)
            return nn.Dense(5)(nn.leaky_relu(nn.Dense(12)(x)))

    net = Net()
    variables = net.init(jax.random.key(0), X)
    return onr_jax.adapt(net.apply, variables), lambda x: net.apply(variables, x)


def nnx() -> tuple[Model, Callable[[Any], Any]]:
    nn = pytest.importorskip("flax.nnx", reason="Flax is not installed")

    class Net(nn.Module):
        def __init__(self, rngs: Any) -> None:
            self.first = nn.Linear(64, 12, rngs=rngs)
            self.norm = nn.BatchNorm(12, rngs=rngs)
            self.last = nn.Linear(12, 5, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(nn.relu(self.norm(self.first(x.reshape(len(x), -1)))))

    net = Net(nn.Rngs(0))
    net.eval()
    return onr_jax.adapt(net), net


def equinox() -> tuple[Model, Callable[[Any], Any]]:
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")
    keys = jax.random.split(jax.random.key(0), 2)
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(1, 4, 3, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(36, 5, key=keys[1]),
        ]
    )
    return onr_jax.adapt(net, each=True), jax.vmap(net)


def function() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return linear, linear


MODELS = pytest.mark.parametrize("made", [function, linen, nnx, equinox])


@MODELS
def test_products_are_those_of_jax(made: Any) -> None:
    model, call = made()
    here = onr.linearize(model, X)
    v, u = jnp.asarray(RNG.standard_normal(X.shape), X.dtype), jnp.ones((6, 5))
    value, image = jax.jvp(call, (X,), (v,))
    (back,) = jax.vjp(call, X)[1](u)
    for found, expected in ((here.value, value), (here.jvp(v), image), (here.vjp(u), back)):
        assert isinstance(found, jax.Array)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    J = jax.vmap(jax.jacrev(lambda x: call(x[None])[0]))(X).reshape(6, 5, 64)
    np.testing.assert_allclose(onr.jacobian(model, X), J, rtol=1e-4, atol=1e-5)
    found = onr.operator_norm(model, X, p=2, q=2).value
    np.testing.assert_allclose(found, np.linalg.norm(J, 2, axis=(1, 2)), rtol=1e-4)


@pytest.mark.parametrize("made", [linen, nnx, equinox])
def test_verbs(made: Any) -> None:
    model, call = made()
    y = call(X).argmax(1)
    moved = onr.attack(model, X, y, p="inf", eps="0.2", attack="multitargeted")
    assert isinstance(moved, jax.Array)
    assert np.abs(moved - X).max() <= 0.2 + 1e-6
    clean, robust = onr.measure.robust_accuracy(model, X, y, p="inf", eps=[0, 0.2])
    assert clean == 1 == onr.measure.accuracy(model, [(X[:2], y[:2]), (X[2:], y[2:])])
    assert robust == np.mean(np.asarray(call(moved).argmax(1) == y))
    # Inside its cell a network is linear, and outside it is not.
    radius = np.asarray(onr.cell_radius(model, X, p=2))
    v = RNG.standard_normal(X.shape).astype("float32")
    v /= np.linalg.norm(v.reshape(6, -1), axis=1).reshape(-1, 1, 1, 1)
    here, step = onr.linearize(model, X), radius.reshape(-1, 1, 1, 1) * v
    inside = here.value + here.jvp(0.99 * step)
    np.testing.assert_allclose(call(X + 0.99 * step), inside, atol=1e-5)
    rows = onr.measure.spectrum(model, X, y, p=2, eps=0.1)
    assert rows[0]["images"] == 6
    assert model.programs.value._cache_size() <= 4


def test_an_audit() -> None:
    model, call = equinox()
    y = np.asarray(call(X).argmax(1))
    found = onr.audit(model, X, y, p="inf", eps="0.1", checks=())
    assert found.curve[0]["accuracy"] == 1
    again = onr.audit(model, np.asarray(X), y, p="inf", eps="0.1", checks=())
    assert found.curve == again.curve
    assert "jax" in versions()


def test_the_pattern_of_activations() -> None:
    model, _ = linen()
    pattern = JaxBackend().adopt(model, X).activation_pattern(X)
    assert pattern.shape == (6, 4 * 64 + 12)
    with pytest.raises(OnrError, match="no ReLU"):
        JaxBackend().adopt(linear, X).activation_pattern(X)
    with pytest.raises(OnrError, match="other states"):
        JaxBackend().adopt(lambda x: jax.nn.relu6(linear(x)), X).activation_pattern(X)
    smooth = JaxBackend().adopt(lambda x: jax.nn.softplus(jax.nn.elu(linear(x))), X)
    with pytest.raises(OnrError, match="no ReLU"):
        smooth.activation_pattern(X)


CELLS = {
    "relu": (jax.nn.relu, 1),
    "maximum": (lambda z: jnp.maximum(0, z), 1),
    "leaky": (jax.nn.leaky_relu, 1),
    "where": (lambda z: jnp.where(z > 0, z, 0), 1),
    "abs": (jnp.abs, 1),
    "clip": (lambda z: jnp.clip(z, 0, 5), 1),
    "max": (lambda z: jnp.stack([z, -z]).max(axis=0), 2),
}


@pytest.mark.parametrize("name", CELLS)
def test_the_radius_of_cells(name: str) -> None:
    activation, factor = CELLS[name]
    x = jnp.array([[3.0, -4.0], [0.5, 0.25], [0.0, 1.0]])
    # The walls are at z = 0; of max(z, -z) the difference is 2 z, with twice the slope.
    found = onr.cell_radius(lambda x: activation(x), x, p=2)
    np.testing.assert_allclose(found, [2.0 if name == "clip" else 3.0, 0.25, 0.0])
    assert factor


@pytest.mark.parametrize(
    "activation", [jnp.tanh, jax.nn.softplus, jax.nn.gelu, jnp.sign, lambda z: jnp.sort(z)]
)
def test_the_radius_of_other_nonlinearities_is_refused(activation: Any) -> None:
    with pytest.raises(OnrError, match="not linear in the cell"):
        onr.cell_radius(lambda x: activation(linear(x)), X[:1], p=2)


def test_features_know_the_derivative_of_a_relu() -> None:
    network = JaxBackend().adopt(lambda x: jax.nn.relu(x) @ W[:2, :2] + 1, jnp.ones((1, 2)))
    x = jnp.array([[0.0, 2.0]])
    np.testing.assert_array_equal(network.features().linearize(x).vjp(x + 1), [[0, 3]])
    last = JaxBackend().adopt(lambda x: jnp.tanh(x @ W[:2, :2]), jnp.ones((1, 2)))
    with pytest.raises(OnrError, match="last operation of the model is tanh"):
        last.features()(x)


def test_a_shrinking_batch_is_not_compiled_anew() -> None:
    model = onr_jax.adapt(linear)
    network = JaxBackend().adopt(model, X)
    whole = network(X)
    before = model.programs.value._cache_size()
    for count in (5, 4, 3):
        np.testing.assert_array_equal(network(X[:count]), whole[:count])
    assert model.programs.value._cache_size() == before


def test_a_network_takes_numpy_where_the_model_is_known_to_be_of_jax() -> None:
    model = onr_jax.adapt(linear)
    x = np.asarray(X)
    found = onr.attack(model, x, np.zeros(6, int), p=2, eps=0.1)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, onr.attack(model, X, np.zeros(6, int), p=2, eps=0.1))
    with pytest.raises(OnrError, match="jax_enable_x64"):
        onr.linearize(model, x.astype(np.float64))


def test_float64() -> None:
    with jax.enable_x64(True):
        weight = jnp.asarray(W, jnp.float64)
        x = jnp.asarray(X, jnp.float64)
        model = onr_jax.adapt(lambda w, x: x.reshape(len(x), -1) @ w, weight)
        moved = onr.attack(model, x, np.zeros(6, int), p=2, eps=0.1)
        assert moved.dtype == jnp.float64
        np.testing.assert_allclose(
            onr.singular_values(model, x)[0], np.linalg.svd(weight)[1], rtol=1e-12
        )


def no_forward() -> Callable[[Any], Any]:
    @jax.custom_vjp
    def double(x: Any) -> Any:
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, u: (2 * u,))
    return lambda x: double(linear(x))


def test_a_custom_vjp_has_no_forward_product() -> None:
    here = onr.linearize(no_forward(), X)
    expected = onr.linearize(linear, X).vjp(jnp.ones((6, 5)))
    np.testing.assert_allclose(here.vjp(jnp.ones((6, 5))), 2 * expected, rtol=1e-6)
    with pytest.raises(OnrError, match="custom_jvp"):
        here.jvp(X)


WRONG = {
    "no function": (lambda: (3, X), "the model is a int"),
    "integers": (lambda: (linear, jnp.ones((2, 3), int)), "expected floats; images"),
    "one input": (lambda: (linear, X[0, 0, 0]), "one input is x\\[None\\]"),
    "nothing": (lambda: (linear, X[:0]), "one input is x\\[None\\]"),
    "another shape": (lambda: (linear, X[:, :, :2]), "the model fails at x of shape"),
    "no logits": (lambda: (lambda x: x, X), "expected logits \\(2, d\\)"),
    "classes": (lambda: (lambda x: linear(x).astype(int), X), "expected floats, the logits"),
    "one example": (
        lambda: (lambda x: x.reshape(-1)[:5], X),
        "onr_jax.adapt\\(model, each=True\\)",
    ),
    "a mixed batch": (lambda: (lambda x: linear(x - x.mean(0)), X), "depend on the other inputs"),
    "torch": (lambda: (onr_jax.adapt(linear), torch.ones(2, 3)), "array of jax"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(OnrError, match=message):
        onr.linearize(*make())


def test_another_shape_than_before_is_refused() -> None:
    network = JaxBackend().adopt(linear, X)
    with pytest.raises(OnrError, match="expected \\(batch, 1, 8, 8\\)"):
        onr.linearize(network, X.reshape(6, 64))


def test_inside_a_transformation_it_is_refused() -> None:
    with pytest.raises(OnrError, match="call onr outside of them"):
        jax.jit(lambda x: onr.linearize(linear, x).value)(X)


def test_a_model_of_a_plugin_is_built() -> None:
    model = onr_jax.adapt(linear, input_shape=(1, 8, 8))
    network = JaxBackend().build(lambda: model)
    np.testing.assert_array_equal(network(np.asarray(X)), network(X))
    with pytest.raises(OnrError, match="input_shape"):
        JaxBackend().build(onr_jax.adapt(linear))


def test_parameters_have_the_names_of_their_paths() -> None:
    model, _ = linen()
    found = JaxBackend().adopt(model, X).parameters()
    assert found["params.Dense_0.kernel"].shape == (12, 5)
    assert "batch_stats.BatchNorm_0.mean" in found


def modules() -> list[str]:
    walked = pkgutil.walk_packages(onr_jax.__path__, "onr_jax.")
    return [module.name for module in walked]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name: str) -> None:
    known = {"np": np, "math": math, "jnp": jnp, "jax": jax, "onr_jax": onr_jax}
    assert doctest.testmod(importlib.import_module(name), extraglobs=known).failed == 0


def test_the_blocks_of_the_readme_run() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text()
    known: dict[str, Any] = {}
    for block in page.split("```python\n")[1:]:
        exec(block.partition("```")[0], known)  # noqa: S102 - our own page
    assert known["found"].kind == "exact"
    assert known["radius"].shape == (2,)


def test_a_window_with_a_tie_has_the_derivative_of_its_first_winner() -> None:
    window = (1, 1, 2, 2)

    def pooled(x: Any) -> Any:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")[:, 0, 0]

    here = onr.linearize(pooled, jnp.ones((1, 1, 2, 2)))
    assert here.vjp(jnp.ones((1, 1))).tolist() == [[[[1, 0], [0, 0]]]]
    assert here.jvp(jnp.arange(1.0, 5).reshape(1, 1, 2, 2)).tolist() == [[1]]
