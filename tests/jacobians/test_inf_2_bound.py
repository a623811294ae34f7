import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy.linalg import hadamard

from onr.jacobians.inf_2_bound import cube_bound, nesterov_factor

laws = settings(max_examples=25, deadline=None, derandomize=True)
KINDS = {
    "numpy": lambda J: J,
    "numpy float32": lambda J: J.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda J: torch.from_numpy(J).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
scales = st.sampled_from([1, 1e-30, 1e30])

NESTEROV = math.sqrt(math.pi / 2)
GAP = 1 + 1e-3


@st.composite
def grids(draw):
    """Sixteenths: zeros and zero columns are common; each example has a structure of its own."""
    d, n = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return np.array([draw(matrix(d, n)) for _ in range(draw(st.integers(1, 3)))])


@st.composite
def matrix(draw, d, n):
    J = draw(arrays(np.float64, (d, n), elements=st.integers(-48, 48).map(lambda k: k / 16)))
    structure = draw(st.sampled_from(["", "zero", "zero columns", "equal", "rank one", "powers"]))
    if structure == "zero":
        J[:] = 0
    if structure == "zero columns":
        J[:, ::2] = 0
    if structure == "equal":
        J[:] = J[:, :1]
    if structure == "rank one":
        J = np.outer(J[:, 0], J[-1])
    if structure == "powers":
        J *= 10.0 ** -np.arange(0, 2 * n, 2)
    return J


def vertices(n):
    """Half of them: the others are their negatives."""
    return np.array(list(itertools.product([1.0], *[[1.0, -1.0]] * (n - 1))))


def brute_force(J):
    return np.linalg.norm(J @ vertices(J.shape[2]).T, axis=1).max(axis=1)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def within(bound, truth, tolerance=1e-12):
    assert np.all(bound >= truth * (1 - tolerance))
    assert np.all(bound <= NESTEROV * GAP * truth * (1 + tolerance))


@every_kind
@laws
@given(J=grids(), scale=scales)
def test_within_nesterovs_factor_of_the_truth(kind, J, scale):
    J = kind(J * scale)
    bound, root = cube_bound(J)
    batch, d, n = J.shape
    assert type(bound) is type(root) is type(J)
    assert bound.dtype == root.dtype == J.dtype
    assert bound.shape == (batch,)
    assert root.shape == (batch, min(d, n), d)
    tolerance = 1e-5 if "32" in str(J.dtype) else 1e-12
    J, bound = np.asarray(J, dtype=float) / scale, np.asarray(bound, dtype=float) / scale
    within(bound, brute_force(J), tolerance)
    # A density matrix, or zero where J is and the iteration had to go on for others.
    root = np.asarray(root, dtype=float)
    trace = np.sum(root**2, axis=(1, 2))
    np.testing.assert_allclose(trace[np.any(J != 0, axis=(1, 2))], 1, rtol=1e-4)
    assert np.all(trace <= 1 + 1e-4)


@pytest.mark.parametrize(("d", "n"), [(1, 10), (2, 10), (4, 10), (10, 10), (14, 10), (20, 7)])
def test_larger_matrices(d, n):
    rng = np.random.default_rng([d, n])
    J = rng.standard_normal((8, d, n))
    J[1] = np.exp(4 * J[1]) * rng.choice([-1, 1], (d, n))
    J[2] *= rng.random((d, n)) < 0.3
    J[3] *= 10.0 ** rng.uniform(-8, 0, n)
    J[4] *= 10.0 ** rng.uniform(-8, 0, (d, 1))
    J[5] = np.sign(J[5])
    J[6] = np.eye(d, n) - 1 / d
    J[7, 1:] = 0
    bound, _ = cube_bound(J)
    truth = brute_force(J)
    within(bound, truth)
    # One row: the l1 norm, and the relaxation is tight.
    np.testing.assert_allclose(bound[7], np.abs(J[7]).sum(), rtol=2e-3)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@laws
@given(J=grids())
def test_every_step_bounds(steps, J):
    bound, _ = cube_bound(J, steps=steps)
    assert np.all(bound >= brute_force(J) * (1 - 1e-12))
    assert np.all(cube_bound(J, steps=2 * steps)[0] <= bound * (1 + 1e-12))


@laws
@given(J=grids(), gap=st.sampled_from([0.3, 1e-1, 1e-2]))
def test_the_gap_is_what_is_promised(J, gap):
    least = cube_bound(J, steps=2000, gap=1e-5)[0]
    assert np.all(cube_bound(J, gap=gap)[0] <= (1 + gap) * least * (1 + 1e-9))


TIGHT = {
    "identity": (np.eye(20), math.sqrt(20)),
    "wide identity": (np.eye(5, 20), math.sqrt(5)),
    "tall identity": (np.eye(20, 5), math.sqrt(5)),
    "Hadamard": (hadamard(32).astype(float), 32),
    "half of Hadamard": (hadamard(32)[:16].astype(float), 32),
    "orthogonal": (np.linalg.qr(random(1, 20, 20))[0] @ np.diag([3] + [0] * 19), 3),
    "diagonal": (np.diag(np.arange(18.0)), math.sqrt(sum(k * k for k in range(18)))),
    "one column": (np.eye(20) * (np.arange(20) == 7), 1),
    "ones": (np.ones((17, 30)), 30 * math.sqrt(17)),
}


@pytest.mark.parametrize(("J", "truth"), TIGHT.values(), ids=TIGHT)
def test_tight_where_the_relaxation_is(J, truth):
    bound, _ = cube_bound(J[None])
    np.testing.assert_allclose(bound, truth, rtol=1.01e-3)
    assert bound[0] >= truth * (1 - 1e-12)


@laws
@given(data=st.data())
def test_rank_one_is_exact(data):
    u = data.draw(arrays(np.float64, 7, elements=st.integers(-9, 9)))
    v = data.draw(arrays(np.float64, 19, elements=st.integers(-9, 9)))
    bound, _ = cube_bound(np.outer(u, v)[None])
    np.testing.assert_allclose(bound, np.linalg.norm(u) * np.abs(v).sum(), rtol=1e-9)


@pytest.mark.parametrize(("d", "n"), [(4, 6), (6, 4)])
def test_columns_that_are_zero_or_repeated(d, n):
    J = random(3, 5, d, n)
    bound, _ = cube_bound(J)
    rest = cube_bound(np.concatenate([J, np.zeros((5, d, 9))], axis=2))[0]
    np.testing.assert_allclose(rest, bound, rtol=2e-3)
    # In halves, or in equal and opposite parts that the signs make up for.
    halves = cube_bound(np.concatenate([J / 2, J / 2], axis=2))[0]
    np.testing.assert_allclose(halves, bound, rtol=2e-3)
    parts = cube_bound(np.concatenate([J / 4, -3 * J / 4], axis=2))[0]
    np.testing.assert_allclose(parts, bound, rtol=2e-3)


@pytest.mark.parametrize(("d", "n"), [(3, 6), (6, 3)])
def test_what_the_norm_does_not_see(d, n):
    J = random(4, 5, d, n)
    bound, _ = cube_bound(J)
    signs = np.where(np.arange(n) % 2, 1, -1)
    rotation = np.linalg.qr(random(5, d, d))[0]
    for other in (J * signs, J[:, :, ::-1].copy(), rotation @ J, -J):
        np.testing.assert_allclose(cube_bound(other)[0], bound, rtol=2e-3)
    taller = np.concatenate([J, np.zeros((5, 20, n))], axis=1)
    np.testing.assert_allclose(cube_bound(taller)[0], bound, rtol=2e-3)


@pytest.mark.parametrize(("d", "n"), [(4, 30), (12, 12), (30, 8)])
def test_nesterovs_rounding(d, n):
    J = random(6, 3, d, n)
    bound, root = cube_bound(J)
    g = random(7, 4000, min(d, n))
    v = np.sign(g @ root @ J)
    mean = np.mean(np.sum((v @ J.transpose(0, 2, 1)) ** 2, axis=2), axis=1)
    # E >= 2 / pi times the relaxation; the standard error is below 1 %.
    assert np.all(mean >= 2 / math.pi * bound**2 * 0.97)


def test_rows_are_independent():
    J = random(8, 6, 5, 7)
    J[1] = np.exp(4 * J[1])
    J[2] = np.eye(5, 7)
    J[3] = 0
    J[4] *= 1e12
    J[5, :, :6] = 0
    for matrices in (J, J.transpose(0, 2, 1)):
        bound, root = cube_bound(matrices)
        for i in range(6):
            alone, root_alone = cube_bound(matrices[i : i + 1])
            np.testing.assert_allclose(alone[0], bound[i], rtol=1e-10)
            if i != 3:
                np.testing.assert_allclose(root_alone[0], root[i], atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("d", "n"), [(10, 50), (30, 20)])
def test_numpy_and_torch_agree(dtype, d, n):
    J = random(9, 3, d, n).astype(dtype)
    rtol = 1e-8 if dtype == "float64" else 1e-4
    found = cube_bound(torch.from_numpy(J))[0]
    np.testing.assert_allclose(found, cube_bound(J)[0], rtol=rtol)
    np.testing.assert_allclose(found, cube_bound(random(9, 3, d, n))[0], rtol=1e-3)


# The factor that the solution gives


@pytest.mark.parametrize(
    ("rank", "factor"), [(1, 1), (2, 1.1107), (3, 1.1547), (10, 1.2224), (300, 1.25227)]
)
def test_the_factor_of_equal_eigenvalues(rank, factor):
    root = np.eye(rank)[None]
    J = root[:, :, :1]  # its value is 1 / sqrt(rank)
    found = nesterov_factor(J, np.array([rank**-0.5]), root)
    np.testing.assert_allclose(found, factor, rtol=1e-4)
    # E||g|| = sqrt(2) Gamma((r + 1) / 2) / Gamma(r / 2)
    log = math.lgamma((rank + 1) / 2) - math.lgamma(rank / 2)
    np.testing.assert_allclose(found, math.sqrt(math.pi / rank) * math.exp(log), rtol=1e-12)


@laws
@given(spectrum=arrays(np.float64, 5, elements=st.floats(0, 1)))
def test_the_factor_is_an_expectation(spectrum):
    spectrum[0] += 0.1
    root = np.diag(np.sqrt(spectrum))[None]
    J = np.eye(5)[None, :, :1]
    value = math.sqrt(spectrum[0] / spectrum.sum())
    found = nesterov_factor(J, np.array([value]), root)[0]
    g = random(0, 200_000, 5)
    sample = np.sqrt(g**2 @ (spectrum / spectrum.sum()))
    assert found == pytest.approx(math.sqrt(math.pi / 2) * sample.mean(), rel=0.01)
    assert (
        1
        <= found
        <= math.sqrt(math.pi / 2)
        * math.sqrt(2 / 5)
        * math.exp(math.lgamma(3) - math.lgamma(5 / 2))
        * (1 + 1e-9)
    )


@every_kind
@laws
@given(J=grids(), scale=scales)
def test_the_factor_holds(kind, J, scale):
    J = kind(J * scale)
    bound, root = cube_bound(J)
    factor = nesterov_factor(J, bound, root)
    assert type(factor) is type(J)
    assert factor.dtype == J.dtype
    tolerance = 1e-4 if "32" in str(J.dtype) else 1e-12
    truth = brute_force(np.asarray(J, dtype=float) / scale)
    bound = np.asarray(bound, dtype=float) / scale
    factor = np.asarray(factor, dtype=float)
    assert np.all(bound <= factor * truth * (1 + tolerance))
    # At J of this many rows or columns, once converged.
    most = math.sqrt(math.pi) * math.exp(math.lgamma(7 / 2) - math.lgamma(3)) / math.sqrt(6)
    assert np.all((factor >= 1) & (factor <= most * GAP * (1 + tolerance)))
