import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from onr.jacobians.inf_1_bound import KRIVINE, grothendieck_bound
from onr.jacobians.inf_2_bound import cube_bound

laws = settings(max_examples=25, deadline=None, derandomize=True)
KINDS = {
    "numpy": lambda J: J,
    "numpy float32": lambda J: J.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda J: torch.from_numpy(J).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
GAP = 1 + 1e-3


@st.composite
def grids(draw):
    """Sixteenths: zeros, zero rows and zero columns are common."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    elements = st.integers(-1, 1) | st.integers(-48, 48).map(lambda k: k / 16)
    J = draw(arrays(np.float64, shape, elements=elements))
    structure = draw(st.sampled_from(["", "zero", "powers", "rank one"]))
    if structure == "zero":
        J[0] = 0
    if structure == "powers":
        J *= 10.0 ** -np.arange(0, 2 * shape[2], 2)
    if structure == "rank one":
        J = J[:, :, :1] * J[:, -1:, :]
    return J


def brute_force(J):
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=J.shape[1])))
    return np.abs(signs @ J).sum(axis=2).max(axis=1)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@every_kind
@laws
@given(J=grids(), scale=st.sampled_from([1, 1e-30, 1e30]), steps=st.sampled_from([1, 3, 200]))
def test_between_the_truth_and_grothendiecks_constant(kind, J, scale, steps):
    J = kind(J * scale)
    bound, value, root = grothendieck_bound(J, steps=steps)
    batch, d, n = J.shape
    assert type(bound) is type(value) is type(root) is type(J)
    assert bound.dtype == value.dtype == root.dtype == J.dtype
    assert bound.shape == value.shape == (batch,)
    assert root.shape == (batch, min(d, n), min(d, n))
    tolerance = 1e-5 if "32" in str(J.dtype) else 1e-12
    truth = brute_force(np.asarray(J, dtype=float) / scale)
    bound, value = (np.asarray(x, dtype=float) / scale for x in (bound, value))
    assert np.all(bound >= truth * (1 - tolerance))
    # The relaxation's value is attained, so it is at most the constant times the norm.
    assert np.all(value <= KRIVINE * truth * (1 + 1e-4))
    if steps == 200:
        assert np.all(bound <= GAP * KRIVINE * truth * (1 + tolerance))
    np.testing.assert_allclose(np.sum(np.asarray(root) ** 2, axis=1), 1, rtol=1e-4)


TIGHT = {
    "identity": (np.eye(20), 20),
    "wide identity": (np.eye(5, 20), 5),
    "ones": (np.ones((17, 30)), 17 * 30),
    "signs of rank one": (np.outer([1, -1, 1], [1, 1, -1, -1]), 12),
    "rank one": (np.outer(np.arange(1, 19), np.arange(-9, 9)), 171 * 81),
    "diagonal": (np.diag(np.arange(18.0)), 153),
    "one entry": (np.eye(20) * (np.arange(20) == 7), 1),
}


@pytest.mark.parametrize(("J", "truth"), TIGHT.values(), ids=TIGHT)
def test_tight_where_the_relaxation_is(J, truth):
    bound, value, _ = grothendieck_bound(J[None].astype(float))
    np.testing.assert_allclose(bound, truth, rtol=1.01e-3)
    assert bound[0] >= truth
    assert value[0] <= truth * (1 + 1e-5)


def test_the_smallest_gap_in_the_plane():
    # CHSH: the relaxation is at 2 sqrt(2), the norm at 2.
    bound, _, _ = grothendieck_bound(np.array([[[1.0, 1.0], [1.0, -1.0]]]), gap=1e-9)
    np.testing.assert_allclose(bound, 2 * math.sqrt(2), rtol=1e-8)


@pytest.mark.parametrize(("d", "n"), [(4, 30), (12, 12), (30, 8), (20, 300)])
def test_it_converges_and_is_below_the_bounds_of_hoelder(d, n):
    J = random([d, n], 5, d, n)
    J[1] = np.exp(3 * J[1]) * np.sign(random([n, d], d, n))
    J[2] = np.sign(J[2])
    J[3, d // 2] = J[3, :, n // 2] = 0
    J[4] = np.outer(J[4, :, 0], J[4, 0]) + 0.1 * J[4]
    bound, value, _ = grothendieck_bound(J)
    assert np.all(bound <= GAP * value * (1 + 1e-12))
    turned = J.transpose(0, 2, 1)
    hoelder = np.minimum(d**0.5 * cube_bound(J)[0], n**0.5 * cube_bound(turned)[0])
    assert np.all(bound <= hoelder * GAP)
    np.testing.assert_allclose(grothendieck_bound(turned)[0], bound, rtol=2e-3)


def test_krivines_rounding_is_a_start():
    J = random(3, 4, 18, 40)
    _, value, root = grothendieck_bound(J)
    signs = np.sign(random(4, 500, 18) @ root)
    # Grothendieck's identity and Krivine's analysis promise more than half on average.
    assert np.all(np.abs(signs @ J).sum(axis=2).max(axis=1) >= value / KRIVINE)


def test_rows_are_independent():
    J = random(8, 4, 5, 7)
    J[1] = np.exp(4 * J[1])
    J[2] = 0
    bound, _, root = grothendieck_bound(J)
    for i in range(4):
        alone = grothendieck_bound(J[i : i + 1])
        np.testing.assert_allclose(alone[0][0], bound[i], rtol=1e-10)
        np.testing.assert_allclose(alone[2][0], root[i], atol=1e-7)
