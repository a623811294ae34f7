"""A JAX network is what the other backends' networks of the same weights are."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed; make jax runs these tests")

from click.testing import CliRunner
from jax import numpy as jnp

import onr
from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Flatten,
    MaxPool,
    Normalize,
    ReLU,
)
from onr.arrays import to_numpy
from onr.cli.main import main
from onr.errors import OnrError
from onr.jacobians.iterations import projected_gradient_ascent
from onr.losses import CrossEntropy
from onr.norms import LpNorm
from onr.registry import load
from onr.testing import check_attack, check_backend, check_network
from onr.text import attack_by_name, norm
from onr_jax.backend import JaxBackend
from onr_jax.network import JaxNetwork
from onr_numpy.backend import NumpyBackend
from onr_numpy.network import DenseNetwork
from onr_torch.backend import TorchBackend
from onr_torch.network import TorchNetwork

SHAPE = (2, 8, 8)
LAYERS = (
    Normalize((0.4, 0.5), (0.2, 0.3)),
    Conv(4),
    BatchNorm(),
    ReLU(),
    MaxPool(2),
    Conv(5, kernel=2, padding=0),
    ReLU(),
    Flatten(),
    Affine(9),
    ReLU(),
    Affine(6),
)
RNG = np.random.default_rng(0)
X, Y = RNG.random((5, *SHAPE)), RNG.integers(0, 6, 5)
V, U = RNG.standard_normal((5, *SHAPE)), RNG.standard_normal((5, 6))


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def networks() -> tuple[DenseNetwork, TorchNetwork, JaxNetwork]:
    """Networks of equal weights: drawn ones, and running statistics that do something."""
    architecture = Architecture(SHAPE, LAYERS)
    drawn = NumpyBackend().build(architecture, seed=3).parameters()
    drawn["2.running_mean"], drawn["2.running_var"] = RNG.random(4), 0.5 + RNG.random(4)
    backends = NumpyBackend(), TorchBackend(), JaxBackend()
    dense, module, jaxs = (
        backend.build(architecture, parameters=drawn, dtype="float64") for backend in backends
    )
    return dense, module, jaxs


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    found, expected = to_numpy(found), to_numpy(expected)
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("given", ["numpy", "jax"])
def test_products(networks: Any, given: str) -> None:
    dense, module, network = networks
    taken = np.asarray if given == "numpy" else jnp.asarray
    here = network.linearize(taken(X))
    for other in (dense, module):
        there = other.linearize(other.asarray(X))
        close(here.value, there.value)
        close(here.jvp(taken(V)), there.jvp(other.asarray(V)))
        close(here.vjp(taken(U)), there.vjp(other.asarray(U)))
        close(network(taken(X)), other(other.asarray(X)))
        close(network.features()(taken(X)), other.features()(other.asarray(X)))
    kind = np.ndarray if given == "numpy" else jax.Array
    for found in (here.value, here.jvp(taken(V)), here.vjp(taken(U)), network(taken(X))):
        assert isinstance(found, kind)


def test_cells(networks: Any) -> None:
    dense, module, network = networks
    pattern = to_numpy(network.activation_pattern(X))
    for other in (dense, module):
        np.testing.assert_array_equal(pattern, other.activation_pattern(other.asarray(X)))
    for p in (1, 1.5, 2, math.inf):
        found = network.cell_radius(X, p=LpNorm(p))
        for other in (dense, module):
            close(found, other.cell_radius(other.asarray(X), p=LpNorm(p)))


@pytest.mark.parametrize(("p", "q"), [("inf", 1), (2, 2), (1, "inf"), (3, 1.5)])
def test_operator_norms(networks: Any, p: Any, q: Any) -> None:
    dense, module, network = networks
    found = onr.operator_norm(network, jnp.asarray(X), p=p, q=q)
    assert isinstance(found.v, jax.Array)
    for other in (dense, module):
        there = onr.operator_norm(other, other.asarray(X), p=p, q=q)
        assert found.kind == there.kind
        close(found.lower, there.lower, 1e-9)
        close(found.upper, there.upper, 1e-9)


@pytest.mark.parametrize("p", ["1", "2", "inf", "1.5"])
def test_an_attack_from_one_start_ends_at_one_point(networks: Any, p: str) -> None:
    dense, module, network = networks
    found = onr.attack(network, jnp.asarray(X), Y, p=p, eps=0.3, steps=10, rng=2)
    assert isinstance(found, jax.Array)
    assert found.dtype == jnp.float64
    for other in (dense, module):
        moved = onr.attack(other, other.asarray(X), Y, p=p, eps=0.3, steps=10, rng=2)
        close(found, moved, 1e-9)


@pytest.mark.parametrize("p", ["1", "2", "inf"])
def test_the_core_computes_in_jax_arrays_too(networks: Any, p: str) -> None:
    """As on a device that is not the CPU; arrays of JAX cannot be written to."""
    dense, _, network = networks
    x, start = jnp.asarray(X), jnp.asarray(0.01 * V)
    ball = {"p": norm(p), "eps": 0.3, "alpha": 0.1, "bounds": (0.0, 1.0), "keep": "best"}
    aim = {"loss": CrossEntropy(), "labels": jnp.asarray(Y)}
    here = projected_gradient_ascent(network, x, start, **aim, **ball, steps=4)
    assert isinstance(here.delta, jax.Array)
    aim["labels"] = Y
    close(here.delta, projected_gradient_ascent(dense, X, 0.01 * V, **aim, **ball, steps=4).delta)
    attack = attack_by_name("multitargeted", steps=3).make(norm(p), 0.3, (0.0, 1.0))
    moved = attack(network, x, jnp.asarray(Y), rng=np.random.default_rng(0))
    assert isinstance(moved, jax.Array)
    close(moved, attack(dense, X, Y, rng=np.random.default_rng(0)), 1e-9)


def test_the_laws_of_a_backend() -> None:
    check_backend(JaxBackend())


def test_laws(networks: Any) -> None:
    network = networks[-1]
    check_network(network, X)
    for name, p in (("pga", 2), ("multitargeted", math.inf), ("fgm", 1)):
        check_attack(load("attack", name), network, X, Y, p=LpNorm(p), eps=0.1)


def test_ties_and_zeros(networks: Any) -> None:
    """The derivative of a ReLU at 0 is 0; a window with a tie has that of its first winner."""
    layers = (Conv(1, kernel=1, padding=0), MaxPool(2), ReLU(), Flatten(), Affine(1))
    architecture = Architecture((1, 2, 2), layers)
    ones = {"0.weight": np.ones((1, 1, 1, 1)), "4.weight": np.ones((1, 1))}
    ones |= {"0.bias": np.zeros(1), "4.bias": np.zeros(1)}
    x = np.array([[0.0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 1], [-1, -1, -1, -1]])
    x = x.reshape(4, 1, 2, 2)
    dense = NumpyBackend().build(architecture, parameters=ones, dtype="float64")
    network = JaxBackend().build(architecture, parameters=ones, dtype="float64")
    for direction in (np.ones((4, 1)), -np.ones((4, 1))):
        back = network.linearize(x).vjp(direction)
        np.testing.assert_array_equal(back, dense.linearize(x).vjp(direction))
    for v in (np.ones_like(x), RNG.standard_normal(x.shape)):
        np.testing.assert_allclose(network.linearize(x).jvp(v), dense.linearize(x).jvp(v))
    for p in (1, 2, math.inf):
        radius = network.cell_radius(x, p=LpNorm(p))
        np.testing.assert_allclose(radius, dense.cell_radius(x, p=LpNorm(p)))


def test_the_theorem() -> None:
    options = ["verify-theorem", "--backend", "jax", "--all", "--trials", "4", "--json"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {(cell["p"], cell["q"]) for cell in found["cells"]} == {
        (p, q) for p in ("1", "2", "inf") for q in ("1", "2", "inf")
    }
    assert all(cell["holds"] for cell in found["cells"])
    assert found["wall"] == []
    assert found["served"]["backend"]["distribution"] == "onr-jax"


FLOAT64 = """
from onr.architectures import Affine, Architecture
from onr_jax.backend import JaxBackend

network = JaxBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
assert {value.dtype.name for value in network.parameters().values()} == {"float64"}
"""


def test_a_process_that_asks_for_float64_gets_it() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", FLOAT64], check=True)


def test_training_is_refused_in_one_line(tmp_path: Any) -> None:
    out = tmp_path / "run"
    options = ["train", "--backend", "jax", "--train-images", "40", "--out", str(out)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 2
    assert "backend jax does not train" in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "bfloat16"}, "float32 or float64"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"parameters": {}}, "parameters do not fit"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OnrError, match=message):
        JaxBackend().build(Architecture((3,), (Affine(2),)), **wrong)
