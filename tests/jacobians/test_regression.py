import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from onr.architectures import Affine, Architecture, Conv, Flatten, MaxPool, ReLU, initial_parameters
from onr.errors import OnrError
from onr.jacobians.dense import Matrices, jacobian
from onr.jacobians.regression import regress_jacobian
from onr_numpy.network import DenseNetwork
from onr_torch.backend import TorchBackend

laws = settings(max_examples=30, deadline=None, derandomize=True)
KINDS = {
    "numpy": lambda a: a,
    "numpy float32": lambda a: a.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda a: torch.from_numpy(a).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class Affinely:
    """``value + J delta``, recording what is run through it."""

    def __init__(self, J, value):
        self.J, self.value, self.runs = J, value, []
        self.input_shape, self.output_shape = (J.shape[2],), (J.shape[1],)

    def jvp(self, v):
        self.runs.append(v)
        return Matrices(self.J).jvp(v)

    def vjp(self, u):
        raise AssertionError("the method of the paper has no backward pass")


@st.composite
def affine_maps(draw):
    """Sixteenths: zeros, zero matrices and equal rows are common; and three scales."""
    batch, d, n = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    elements = st.integers(-48, 48).map(lambda k: k / 16)
    scale = draw(st.sampled_from([1, 1e-12, 1e12]))
    J = draw(arrays(np.float64, (batch, d, n), elements=elements))
    value = draw(arrays(np.float64, (batch, d), elements=elements))
    return scale * J, scale * value


def precision(array):
    return float(torch.finfo(torch.as_tensor(array).dtype).eps)


@every_kind
@pytest.mark.parametrize("samples", [None, 40])
@laws
@given(affine=affine_maps())
def test_affine_maps_are_recovered(kind, samples, affine):
    J, value = kind(affine[0]), kind(affine[1])
    at = Affinely(J, value)
    W, fitted = regress_jacobian(at, rng=np.random.default_rng(0), samples=samples)
    assert W.shape == J.shape
    assert fitted.shape == value.shape
    assert type(W) is type(fitted) is type(J)
    assert W.dtype == fitted.dtype == J.dtype
    size = max(np.abs(affine[0]).max(), np.abs(affine[1]).max())
    atol = 1e3 * precision(J) * size
    np.testing.assert_allclose(np.asarray(W), affine[0], atol=atol, rtol=0)
    np.testing.assert_allclose(np.asarray(fitted), affine[1], atol=atol, rtol=0)


@pytest.mark.parametrize(("samples", "runs"), [(None, 12), (7, 7), (30, 30)])
def test_each_sample_is_one_forward_pass_of_one_perturbation_for_all(samples, runs):
    rng = np.random.default_rng(1)
    at = Affinely(rng.standard_normal((3, 4, 6)), rng.standard_normal((3, 4)))
    W, fitted = regress_jacobian(at, rng=rng, samples=samples)
    assert len(at.runs) == runs
    for v in at.runs:
        assert np.array_equal(v, np.broadcast_to(v[:1], (3, 6)))
    delta = np.stack([v[0] for v in at.runs])
    assert np.linalg.matrix_rank(delta) == 6
    np.testing.assert_allclose(W, at.J, atol=1e-9)
    np.testing.assert_allclose(fitted, at.value, atol=1e-9)


def test_it_is_the_least_squares_solution():
    # Outputs that no affine map has tell a regression from a solution of the first equations.
    class Rough(Affinely):
        def jvp(self, v):
            return super().jvp(v) + np.sin(5 * v[:, :4])

    rng = np.random.default_rng(2)
    at = Rough(rng.standard_normal((2, 4, 6)), rng.standard_normal((2, 4)))
    W, fitted = regress_jacobian(at, rng=rng, samples=25)
    delta = np.stack([v[0] for v in at.runs])
    design = np.column_stack([delta, np.ones(25)])
    for i in range(2):
        outputs = at.value[i] + np.stack([at.J[i] @ v + np.sin(5 * v[:4]) for v in delta])
        wanted = np.linalg.lstsq(design, outputs)[0]
        np.testing.assert_allclose(W[i], wanted[:-1].T, atol=1e-12)
        np.testing.assert_allclose(fitted[i], wanted[-1], atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_networks(dtype):
    layers = (Conv(3), ReLU(), MaxPool(2), Flatten(), Affine(6), ReLU(), Affine(4))
    model = Architecture((2, 4, 4), layers)
    parameters = initial_parameters(model, 0)
    x = np.random.default_rng(3).standard_normal((3, *model.input_shape))
    dense = DenseNetwork(model, parameters)
    backend = TorchBackend()
    module = backend.build(model, parameters=parameters, dtype=dtype)
    for at in (dense.linearize(x), module.linearize(module.asarray(x))):
        W, fitted = regress_jacobian(at, rng=np.random.default_rng(4))
        atol = 1e3 * precision(at.value)
        np.testing.assert_allclose(W, jacobian(at), atol=atol)
        np.testing.assert_allclose(fitted, at.value, atol=atol)
        # W and b of the paper are the affine map of the input itself.
        flat = x.reshape(3, -1, 1)
        b = np.asarray(fitted) - (np.asarray(W) @ flat)[:, :, 0]
        near = (x + 1e-9).reshape(3, -1, 1)
        moved = (np.asarray(W) @ near)[:, :, 0] + b
        np.testing.assert_allclose(moved, dense(x + 1e-9), atol=10 * atol)


@pytest.mark.parametrize("samples", [-1, 0, 5, 6])
def test_fewer_samples_than_unknowns_are_refused(samples):
    at = Matrices(np.ones((1, 2, 6)))
    with pytest.raises(OnrError, match=rf"samples = {samples}: expected at least n \+ 1 = 7"):
        regress_jacobian(at, rng=np.random.default_rng(0), samples=samples)
