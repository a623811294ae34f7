import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy.sparse.linalg import svds

from onr.architectures import Affine, Architecture, Conv, Flatten, MaxPool, ReLU, initial_parameters
from onr.errors import OnrError
from onr.jacobians.dense import Matrices, jacobian, singular_values
from onr.jacobians.lanczos import singular_triplets
from onr.jacobians.scipy_operator import linear_operator
from onr_numpy.network import DenseNetwork
from onr_torch.backend import TorchBackend

laws = settings(max_examples=40, deadline=None, derandomize=True)
KINDS = {
    "numpy": lambda J: J,
    "numpy float32": lambda J: J.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda J: torch.from_numpy(J).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
scales = st.sampled_from([1, 1e-12, 1e12])
sizes = st.integers(1, 9)


@st.composite
def grids(draw):
    """Sixteenths: zeros, zero rows and equal rows are common; at every scale."""
    shape = (draw(st.integers(1, 3)), draw(sizes), draw(sizes))
    elements = st.integers(-48, 48).map(lambda k: k / 16)
    return draw(scales) * draw(arrays(np.float64, shape, elements=elements))


@st.composite
def planted(draw):
    """Few different singular values, zero among them, with generic vectors."""
    d, n, scale = draw(sizes), draw(sizes), draw(scales)
    S = draw(arrays(np.float64, (2, min(d, n)), elements=st.sampled_from([0, 1, 2, 2.5])))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return scale * with_values(S, d, n, rng)


def with_values(S, d, n, rng):
    """Matrices with these singular values, shape ``(batch, min(d, n))``."""
    U, V = (np.linalg.qr(rng.standard_normal((len(S), m, m)))[0] for m in (d, n))
    k = S.shape[1]
    return U[:, :, :k] * S[:, None] @ V[:, :, :k].transpose(0, 2, 1)


def generic(seed, batch=3, d=20, n=30):
    return np.random.default_rng(seed).standard_normal((batch, d, n))


def decaying(seed, d=60, n=80, ratios=(0.6, 0.7, 0.8)):
    S = np.array(ratios)[:, None] ** np.arange(min(d, n))
    return with_values(S, d, n, np.random.default_rng(seed))


def triplets(J, k, seed=0, **options):
    return singular_triplets(Matrices(J), k, rng=np.random.default_rng(seed), **options)


def in_float64(array):
    return np.asarray(array, dtype=float)


def check(J, found, k):
    """What holds of every result; returns the singular values of ``J``."""
    eps = 200 * float(torch.finfo(torch.from_numpy(np.asarray(found.S)).dtype).eps)
    J = in_float64(J)
    batch, d, n = J.shape
    U, S, V = in_float64(found.U), in_float64(found.S), in_float64(found.V)
    assert U.shape == (batch, k, d)
    assert V.shape == (batch, k, n)
    assert S.shape == found.residual.shape == (batch, k)
    assert found.converged.shape == (batch,)
    assert type(found.U) is type(found.S) is type(found.V) is type(found.residual)
    assert k <= found.iterations <= min(d, n)
    assert np.all(S >= 0)
    assert np.all(np.diff(S, axis=1) <= 0)
    for vectors in (U, V):
        gram = vectors @ vectors.transpose(0, 2, 1)
        np.testing.assert_allclose(gram, np.broadcast_to(np.eye(k), gram.shape), atol=eps)
    truth = np.linalg.svd(J, compute_uv=False)
    size = truth[:, :1]
    assert np.all(truth[:, :k] + eps * size >= S)
    forward = V @ J.transpose(0, 2, 1) - S[:, :, None] * U
    backward = U @ J - S[:, :, None] * V
    residual = np.sqrt(np.sum(forward**2, axis=2) + np.sum(backward**2, axis=2))
    assert np.all(np.abs(residual - in_float64(found.residual)) <= eps * size)
    nearest = np.abs(truth[:, None] - S[:, :, None]).min(axis=2)
    assert np.all(nearest <= residual + eps * size)
    return truth, eps * size


def exact(J, found, k):
    truth, atol = check(J, found, k)
    assert np.all(np.abs(in_float64(found.S) - truth[:, :k]) <= atol)
    assert np.all(in_float64(found.converged))


@every_kind
@laws
@given(J=grids() | planted(), data=st.data())
def test_every_step_gives_the_svd(kind, J, data):
    k = data.draw(st.integers(1, min(J.shape[1:])))
    J = kind(J)
    found = triplets(J, k, tolerance=0)
    exact(J, found, k)
    assert found.iterations == min(J.shape[1:])
    assert np.all(in_float64(found.residual) == 0)


@every_kind
@pytest.mark.parametrize(("d", "n"), [(20, 30), (30, 20), (25, 25)])
def test_generic_matrices(kind, d, n):
    J = kind(generic(0, d=d, n=n))
    exact(J, triplets(J, 7), 7)
    exact(J, triplets(J, min(d, n)), min(d, n))


@every_kind
@laws
@given(J=grids() | planted(), data=st.data())
def test_fewer_steps_give_lower_bounds(kind, J, data):
    J = kind(J)
    small = min(J.shape[1:])
    k = data.draw(st.integers(1, small))
    before = 0
    for steps in range(k, small + 1):
        found = triplets(J, k, steps=steps, tolerance=0)
        assert found.iterations == steps
        truth, atol = check(J, found, k)
        S = in_float64(found.S)
        assert np.all(before - atol <= S)
        before = S
    assert np.all(np.abs(before - truth[:, :k]) <= atol)


def test_bounds_are_strict_and_say_that_they_have_not_converged():
    J = generic(1)
    found = triplets(J, 3, steps=6)
    truth, _ = check(J, found, 3)
    assert np.all(truth[:, :3] > found.S)
    assert np.all(found.residual > 0)
    assert not np.any(found.converged)


@every_kind
@pytest.mark.parametrize(("d", "n"), [(1, 1), (1, 6), (6, 1), (6, 8), (8, 6)])
def test_zero(kind, d, n):
    J = kind(np.zeros((2, d, n)))
    for k in range(1, min(d, n) + 1):
        found = triplets(J, k)
        check(J, found, k)
        assert np.all(in_float64(found.S) == 0)
        assert np.all(in_float64(found.residual) == 0)
        assert np.all(in_float64(found.converged))


@every_kind
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_scale_is_carried_through(kind, scale):
    J = generic(2, d=8)
    found, scaled = triplets(kind(J), 3), triplets(kind(scale * J), 3)
    rtol = 1e-4 if "32" in str(found.S.dtype) else 1e-12
    np.testing.assert_allclose(in_float64(scaled.S), scale * in_float64(found.S), rtol=rtol)
    np.testing.assert_allclose(in_float64(scaled.V), in_float64(found.V), atol=100 * rtol)


@every_kind
@pytest.mark.parametrize("shape", [(12, 15), (15, 12)])
def test_repeated_values_and_low_rank(kind, shape):
    d, n = shape
    S = np.array([[3.0] * 12, [3] * 5 + [1] * 7, [2, 2, 2] + [0] * 9, [5] + [0] * 11, [0] * 12])
    J = kind(with_values(S, d, n, np.random.default_rng(3)))
    for k in (1, 4, 12):
        found = triplets(J, k, tolerance=0)
        exact(J, found, k)
        assert np.all(np.abs(in_float64(found.S) - S[:, :k]) < 1e-5)


@every_kind
@pytest.mark.parametrize("J", [np.eye(90), np.eye(90, 99, 9), np.ones((90, 99)), np.tri(90)])
def test_many_vectors_stay_orthonormal(kind, J):
    found = triplets(kind(J[None]), 90, tolerance=0)
    exact(J[None], found, 90)


@every_kind
def test_many_decaying_values(kind):
    J = kind(decaying(14, ratios=(0.3, 0.6, 0.9)))
    exact(J, triplets(J, 60, tolerance=0), 60)


@every_kind
@pytest.mark.parametrize(("d", "n"), [(6, 8), (8, 6)])
def test_what_vanishes_is_exactly_zero(kind, d, n):
    u, v = np.random.default_rng(15).standard_normal((2, 4, 8))
    J = kind(u[:, :d, None] * v[:, None, :n])  # of rank 1
    # The second step finds nothing new, and what follows is rounding.
    for steps in (2, 3, 4):
        found = triplets(J, 2, steps=steps, tolerance=0)
        exact(J, found, 2)
        assert np.all(in_float64(found.residual) == 0)


def test_a_repeated_value_may_come_once_before_the_last_step():
    S = np.array([[3, 3, *np.linspace(0.1, 2, 18)[::-1]]])
    J = with_values(S, 20, 30, np.random.default_rng(4))
    found = triplets(J, 2, steps=14, tolerance=1e-3)
    check(J, found, 2)
    assert found.converged[0]
    assert found.S[0, 1] < 2.1
    exact(J, triplets(J, 2, tolerance=0), 2)


@every_kind
@pytest.mark.parametrize(("d", "n"), [(60, 80), (80, 60)])
def test_it_stops_at_the_tolerance(kind, d, n):
    J = kind(decaying(5, d=d, n=n))
    iterations = []
    for tolerance in (0.5, 1e-2, 1e-5):
        found = triplets(J, 4, tolerance=tolerance)
        truth, atol = check(J, found, 4)
        assert np.all(in_float64(found.converged))
        residual = in_float64(found.residual)
        assert np.all(residual <= tolerance * in_float64(found.S)[:, :1])
        iterations.append(found.iterations)
    # A value is as good as the square of its residual over the gap to the next.
    assert np.all(np.abs(truth[:, :4] - in_float64(found.S)) <= 1e-8 + atol)
    assert iterations[0] < iterations[1] < iterations[2] < 60
    assert found.iterations % 5 == 0


class Counting(Matrices):
    def __init__(self, J):
        super().__init__(J)
        object.__setattr__(self, "calls", [])

    def jvp(self, v):
        self.calls.append("jvp")
        return super().jvp(v)

    def vjp(self, u):
        self.calls.append("vjp")
        return super().vjp(u)


@pytest.mark.parametrize(("d", "n"), [(4, 60), (60, 4), (60, 80)])
def test_cost_is_a_product_each_a_step(d, n):
    linearization = Counting(decaying(6, d=d, n=n))
    found = singular_triplets(linearization, 2, rng=np.random.default_rng(0))
    counts = [linearization.calls.count(name) for name in ("vjp", "jvp")]
    # After the last possible step there is nothing left to multiply.
    less = found.iterations == min(d, n)
    assert sorted(counts) == [found.iterations - less, found.iterations]


@every_kind
@pytest.mark.parametrize("transposed", [False, True])
def test_no_example_depends_on_the_batch(kind, transposed):
    # One is zero, one has rank 2, one is much larger; they take 5, 10, ... steps.
    J = decaying(7, ratios=(0.4, 0.7, 0.85, 0.9, 0.95))
    J[1] = 0
    J[2] *= 1e10
    J[3] = J[3, :, :2] @ J[3, :2]
    J = kind(J.transpose(0, 2, 1).copy() if transposed else J)
    k = 2
    found = triplets(J, k, tolerance=1e-3)
    check(J, found, k)
    iterations = []
    for i in range(len(J)):
        alone = triplets(J[i : i + 1], k, tolerance=1e-3)
        iterations.append(alone.iterations)
        rtol = 1e-4 if "32" in str(found.S.dtype) else 1e-10
        np.testing.assert_allclose(in_float64(found.S[i]), in_float64(alone.S[0]), rtol=rtol)
        size = in_float64(alone.S[0])[0]
        np.testing.assert_allclose(
            in_float64(found.residual[i]), in_float64(alone.residual[0]), atol=rtol * size
        )
        for name in ("U", "V"):
            mine, its = in_float64(getattr(found, name)[i]), in_float64(getattr(alone, name)[0])
            signs = np.sign(np.sum(mine * its, axis=1))[:, None]
            np.testing.assert_allclose(mine, signs * its, atol=100 * rtol)
    assert found.iterations == max(iterations)
    assert len(set(iterations)) > 2


def test_only_the_random_numbers_change_the_result():
    J = generic(9)
    first, again, other = (triplets(J, 2, seed, steps=5) for seed in (0, 0, 1))
    assert np.array_equal(first.V, again.V)
    assert not np.any(first.S == other.S)


def test_the_svds_of_scipy():
    J = generic(10, 2, 40, 50)
    found = triplets(J, 5)
    for i in range(len(J)):
        at = linear_operator(Matrices(J[i : i + 1]))
        S = svds(at, k=5, rng=np.random.default_rng(0), return_singular_vectors=False)
        np.testing.assert_allclose(found.S[i], np.sort(S)[::-1], rtol=1e-9)


@pytest.mark.parametrize(
    "model",
    [
        Architecture((2, 6, 6), (Conv(3), ReLU(), MaxPool(2), Flatten(), Affine(5))),
        Architecture((1, 2, 3), (Flatten(), Affine(12), ReLU(), Affine(9))),
    ],
    ids=["wide", "tall"],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_networks(model, dtype):
    x = np.random.default_rng(11).standard_normal((3, *model.input_shape))
    parameters = initial_parameters(model, 0)
    backend = TorchBackend()
    module = backend.build(model, parameters=parameters, dtype=dtype)
    dense = DenseNetwork(model, parameters).linearize(x)
    at = module.linearize(module.asarray(x))
    k = 4
    for linearization in (dense, at):
        found = singular_triplets(linearization, k, rng=np.random.default_rng(0))
        assert found.V.shape == (3, k, *model.input_shape)
        assert found.V.dtype == linearization.value.dtype
        atol = 1e-5 if "32" in str(found.S.dtype) else 1e-12
        truth = singular_values(dense)[:, :k]
        np.testing.assert_allclose(in_float64(found.S), truth, atol=atol)
        image = linearization.jvp(found.V[:, 0])
        np.testing.assert_allclose(image, found.S[:, :1] * found.U[:, 0], atol=atol)
        J = in_float64(jacobian(linearization))
        exact(J, singular_triplets(Matrices(J), k, rng=np.random.default_rng(0)), k)


@pytest.mark.parametrize("k", [0, -1, 4, 100])
def test_as_many_triplets_as_there_are(k):
    for shape in ((1, 3, 5), (1, 5, 3)):
        with pytest.raises(OnrError, match=f"k = {k}: expected 1, ..., min\\(d, n\\) = 3"):
            triplets(np.ones(shape), k)


@pytest.mark.parametrize("steps", [0, 1, -1])
def test_fewer_steps_than_triplets_are_refused(steps):
    with pytest.raises(OnrError, match=f"steps = {steps}: expected at least k = 2"):
        triplets(generic(12), 2, steps=steps)


def test_more_steps_than_there_are_end_in_time():
    J = generic(13, d=4)
    assert triplets(J, 2, steps=1000, tolerance=0).iterations == 4
