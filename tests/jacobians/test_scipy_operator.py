import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy.sparse.linalg import LinearOperator, lsqr, svds

from onr.architectures import Affine, Architecture, Conv, Flatten, ReLU, initial_parameters
from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.jacobians.dense import Matrices
from onr.jacobians.scipy_operator import linear_operator
from onr_numpy.network import DenseNetwork
from onr_torch.backend import TorchBackend

laws = settings(max_examples=25, deadline=None, derandomize=True)
KINDS = {
    "numpy": lambda J: J,
    "numpy float32": lambda J: J.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda J: torch.from_numpy(J).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)

# Sixteenths: every product below is exact, in float32 too.
sixteenths = st.integers(-48, 48).map(lambda k: k / 16)
matrices = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=sixteenths)
)


def operator(J, kind=KINDS["numpy"]):
    return linear_operator(Matrices(kind(J)[None]))


def random_matrix(seed, d=12, n=20):
    return np.random.default_rng(seed).standard_normal((d, n))


@every_kind
@laws
@given(J=matrices)
def test_it_is_the_matrix(kind, J):
    d, n = J.shape
    A = operator(J, kind)
    assert isinstance(A, LinearOperator)
    assert A.shape == (d, n)
    assert A.dtype == np.asarray(kind(J)).dtype
    np.testing.assert_array_equal(A @ np.eye(n), J)
    np.testing.assert_array_equal(A.T @ np.eye(d), J.T)
    np.testing.assert_array_equal(A.H @ np.eye(d), J.T)
    for v in np.eye(n):
        image = A.matvec(v)
        assert isinstance(image, np.ndarray)
        assert image.dtype == A.dtype
        np.testing.assert_array_equal(image, J @ v)
        np.testing.assert_array_equal(A.matvec(v[:, None]), (J @ v)[:, None])


@every_kind
def test_vectors_of_every_layout(kind):
    J = random_matrix(0)
    A = operator(J, kind)
    wide = np.random.default_rng(1).standard_normal((20, 3))
    frozen = wide[:, 0].copy()
    frozen.flags.writeable = False
    for v in (wide[:, 1], wide[::-1, 2], frozen, frozen.astype(np.float32), np.arange(20)):
        np.testing.assert_allclose(A @ v, J @ v, rtol=1e-5, atol=1e-5)
    for u in (wide[:12, 1], wide[11::-1, 2], frozen[:12], np.arange(12)):
        np.testing.assert_allclose(A.rmatvec(u), J.T @ u, rtol=1e-5, atol=1e-5)


class Kept:
    """A linearisation that returns what it is given, as a network of views might."""

    value = np.zeros((1, 4))
    input_shape = output_shape = (4,)

    def jvp(self, v):
        return v

    vjp = jvp


def test_results_do_not_share_memory_with_the_vector():
    v = np.arange(4.0)
    A = linear_operator(Kept())
    assert not np.shares_memory(A.matvec(v), v)
    assert not np.shares_memory(A.rmatvec(v), v)


@every_kind
@pytest.mark.parametrize("solver", ["arpack", "propack"])
def test_svds(kind, solver):
    J = random_matrix(2)
    rng = np.random.default_rng(0)
    U, S, Vt = svds(operator(J, kind), k=2, solver=solver, rng=rng)
    order = np.argsort(S)[::-1]
    truth = np.linalg.svd(J, compute_uv=False)[:2]
    np.testing.assert_allclose(S[order], truth, rtol=1e-4)
    np.testing.assert_allclose(J @ Vt.T, U * S, atol=1e-2)


@every_kind
def test_lsqr(kind):
    J = random_matrix(3, 20, 12)
    b = np.random.default_rng(4).standard_normal(20)
    x = lsqr(operator(J, kind), b, atol=1e-9, btol=1e-9)[0]
    np.testing.assert_allclose(x, np.linalg.lstsq(J, b)[0], atol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_networks(dtype):
    model = Architecture((2, 4, 5), (Conv(3), ReLU(), Flatten(), Affine(6), ReLU(), Affine(4)))
    parameters = initial_parameters(model, 0)
    x = np.random.default_rng(5).standard_normal((1, *model.input_shape))
    dense = DenseNetwork(model, parameters)
    backend = TorchBackend()
    module = backend.build(model, parameters=parameters, dtype=dtype)
    J = dense.jacobian(x)[0]
    for at in (dense.linearize(x), module.linearize(module.asarray(x))):
        A = linear_operator(at)
        assert A.shape == (4, 40)
        assert A.dtype == to_numpy(torch.as_tensor(at.value)).dtype
        np.testing.assert_allclose(A @ np.eye(40), J, atol=1e-5)
        np.testing.assert_allclose(A.T @ np.eye(4), J.T, atol=1e-5)


@pytest.mark.parametrize("batch", [0, 2, 5])
def test_one_example_alone(batch):
    with pytest.raises(OnrError, match=rf"{batch} inputs.*x\[i : i \+ 1\]"):
        linear_operator(Matrices(np.ones((batch, 3, 4))))
