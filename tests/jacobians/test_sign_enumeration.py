import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from onr.exact.surds import exact_array, square_root
from onr.jacobians import sign_enumeration
from onr.jacobians.sign_enumeration import best_signs
from onr.norms import LpNorm
from onr_pixel_norms.norms import PixelMax, PixelSum

laws = settings(max_examples=15, deadline=None, derandomize=True)
KINDS = {
    "numpy": lambda A: A,
    "numpy float32": lambda A: A.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda A: torch.from_numpy(A).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
every_p = pytest.mark.parametrize("p", [1, 1.3, 2, 3, math.inf])
whole_p = pytest.mark.parametrize("p", [1, 2, math.inf])
blocks = st.sampled_from([1, 4, 9, 32, 2**17])


@st.composite
def grids(draw, largest=6):
    """Sixteenths: zeros, zero rows, equal rows and ties are common, sums and squares are exact."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, largest)), draw(st.integers(1, largest)))
    elements = st.integers(-2, 2) | st.integers(-48, 48).map(lambda k: k / 16)
    return draw(arrays(np.float64, shape, elements=elements))


def in_blocks(block, A, size, shape):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sign_enumeration, "BLOCK", block)
        return best_signs(A, size, shape)


def counted(k):
    """All with first entry +1, in the order of counting with +1 as 0."""
    return np.array(list(itertools.product([1.0], *[[1.0, -1.0]] * (k - 1))))


def everything(k):
    return np.array(list(itertools.product([1.0, -1.0], repeat=k)))


@every_kind
@every_p
@laws
@given(A=grids(), scale=st.sampled_from([1, 1e-30, 1e30]), block=blocks)
def test_no_other_signs_give_more(kind, p, A, scale, block):
    _, k, m = A.shape
    A = kind(A * scale)
    s = in_blocks(block, A, LpNorm(p), (m,))
    assert type(s) is type(A)
    assert s.dtype == A.dtype
    s, A = np.asarray(s, dtype=float), np.asarray(A, dtype=float) / scale
    assert np.all(np.abs(s) == 1)
    assert np.all(s[:, 0] == 1)
    truth = np.linalg.norm(everything(k) @ A, p, axis=2).max(axis=1)
    found = np.linalg.norm((s[:, None] @ A)[:, 0], p, axis=1)
    np.testing.assert_allclose(found, truth, rtol=1e-5 if scale != 1 else 1e-6)


@every_kind
@whole_p
@laws
@given(A=grids(), block=blocks)
def test_at_ties_the_first_in_the_order_of_counting(kind, p, A, block):
    _, k, m = A.shape
    sums = counted(k) @ A
    # All of these numbers are exact in either float type.
    sizes = np.sum(sums**2, axis=2) if p == 2 else np.linalg.norm(sums, p, axis=2)
    first = counted(k)[np.argmax(sizes, axis=1)]
    assert np.array_equal(np.asarray(in_blocks(block, kind(A), LpNorm(p), (m,))), first)


def test_order_by_hand():
    # Of (1, 1) and (1, -1), and of (1, 1, -1) and (1, -1, -1), which are equally good.
    assert best_signs(np.eye(2)[None], LpNorm(1), (2,)).tolist() == [[1, 1]]
    A = np.array([[[1.0, 0], [0, 1], [-2, 0]]])
    for p in (1, 2):
        assert best_signs(A, LpNorm(p), (2,)).tolist() == [[1, 1, -1]]


@whole_p
@laws
@given(A=grids(4), block=blocks)
def test_exact_numbers(p, A, block):
    _, k, m = A.shape
    thirds = exact_array(A) / 3
    s = in_blocks(block, thirds, LpNorm(p), (m,))
    assert s.dtype == object
    sums = exact_array(counted(k)) @ thirds
    size = {
        1: lambda x: np.sum(np.abs(x), axis=2),
        2: lambda x: square_root(np.sum(x * x, axis=2)),
        math.inf: lambda x: np.max(np.abs(x), axis=2),
    }[p](sums)
    assert np.array_equal(s, counted(k)[np.argmax(size, axis=1)])


@pytest.mark.parametrize("norm", [PixelSum(), PixelMax()], ids=["sum", "max"])
@pytest.mark.parametrize("block", [1, 50, 2**17])
def test_norms_of_images(norm, block):
    A = np.random.default_rng(0).standard_normal((3, 5, 12))
    A[1, 2] = 0
    s = in_blocks(block, A, norm, (3, 2, 2))
    sums = (everything(5) @ A).reshape(-1, 3, 2, 2)
    truth = norm(sums).reshape(3, -1).max(axis=1)
    np.testing.assert_allclose(norm((s[:, None] @ A).reshape(-1, 3, 2, 2)), truth, rtol=1e-12)


@every_p
def test_more_signs_than_a_block(p):
    # 2^10 sign vectors of 300 numbers, where a block has room for 2^8.
    A = np.random.default_rng(1).standard_normal((2, 11, 300))
    s = best_signs(A, LpNorm(p), (300,))
    truth = np.linalg.norm(counted(11) @ A, p, axis=2).max(axis=1)
    np.testing.assert_allclose(np.linalg.norm((s[:, None] @ A)[:, 0], p, axis=1), truth, rtol=1e-12)


@every_p
def test_rows_are_independent(p):
    A = np.random.default_rng(2).standard_normal((4, 6, 5))
    A[1] = 0
    A[2] *= 1e9
    together = best_signs(A, LpNorm(p), (5,))
    alone = [best_signs(A[i : i + 1], LpNorm(p), (5,)) for i in range(4)]
    assert np.array_equal(together, np.concatenate(alone))
