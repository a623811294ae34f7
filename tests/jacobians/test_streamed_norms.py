import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from onr.errors import OnrError
from onr.jacobians import operator_norms
from onr.jacobians.dense import Matrices
from onr.jacobians.operator_norms import operator_norm
from onr.norms import LpNorm
from onr_pixel_norms.norms import PixelMax, PixelSum

INF = math.inf
EXPONENTS = (1, 1.3, 2, 3, 20, INF)
STREAMED = [(1, q) for q in EXPONENTS] + [(p, INF) for p in EXPONENTS[1:]] + [(2, 2)]
laws = settings(max_examples=20, deadline=None, derandomize=True)
KINDS = {
    "numpy": lambda J: J,
    "numpy float32": lambda J: J.astype(np.float32),
    "torch": torch.from_numpy,
    "torch float32": lambda J: torch.from_numpy(J).float(),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@st.composite
def grids(draw):
    """Sixteenths: zeros, ties and zero matrices are common."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(2, 6)), draw(st.integers(2, 6)))
    elements = st.integers(-1, 1) | st.integers(-48, 48).map(lambda k: k / 16)
    return draw(arrays(np.float64, shape, elements=elements))


def streamed(J, p, q, shape=()):
    """The norm from products alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operator_norms, "WHOLE", 0)
        return operator_norm(Matrices(J, shape), p=p, q=q)


@every_kind
@pytest.mark.parametrize(("p", "q"), STREAMED)
@laws
@given(J=grids(), scale=st.sampled_from([1, 1e-30, 1e30]))
def test_the_norm_is_that_of_the_matrix(kind, p, q, J, scale):
    J = kind(J * scale)
    found, wanted = streamed(J, p, q), operator_norm(J, p=p, q=q)
    rtol = 1e-5 if "32" in str(J.dtype) else 1e-12
    assert found.kind == wanted.kind == "exact"
    assert found.how == wanted.how
    assert found.upper is found.lower
    for name in ("lower", "v", "u", "stationary", "guarantee"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert type(one) is type(other)
        assert one.dtype == other.dtype
        assert one.shape == other.shape
    np.testing.assert_allclose(found.lower, wanted.lower, rtol=rtol)
    moving = np.asarray(found.lower) > 0
    np.testing.assert_allclose(np.asarray(LpNorm(p)(found.v))[moving], 1, rtol=rtol)


@pytest.mark.parametrize(("p", "q"), STREAMED)
def test_more_outputs_than_are_formed(p, q):
    J = np.random.default_rng(0).standard_normal((2, 70, 66))
    found = operator_norm(Matrices(J), p=p, q=q)
    assert found.kind == "exact"
    np.testing.assert_allclose(found.lower, operator_norm(J, p=p, q=q).lower, rtol=1e-12)


@pytest.mark.parametrize("norm", [PixelSum(), PixelMax()], ids=["sum", "max"])
def test_norms_of_images_as_the_domain(norm):
    J = np.random.default_rng(1).standard_normal((2, 5, 27))
    found = streamed(J, norm, INF, shape=(3, 3, 3))
    rows = norm.dual(J.reshape(-1, 3, 3, 3)).reshape(2, 5)
    np.testing.assert_allclose(found.lower, rows.max(axis=1), rtol=1e-12)


class Counted(Matrices):
    """Matrices that count their products."""

    def __init__(self, J):
        super().__init__(J)
        object.__setattr__(self, "calls", {"jvp": 0, "vjp": 0})

    def jvp(self, v, /):
        self.calls["jvp"] += 1
        return super().jvp(v)

    def vjp(self, u, /):
        self.calls["vjp"] += 1
        return super().vjp(u)


@pytest.mark.parametrize(
    ("p", "q", "vjps", "jvps"),
    [(1, 1, 70, 0), (1, 3, 70, 0), (3, INF, 70, 0), (2, INF, 70, 0), (2, 2, 71, 70)],
)
def test_what_it_costs_and_how_it_tells(p, q, vjps, jvps):
    J, told = Counted(np.random.default_rng(2).standard_normal((3, 70, 80))), []
    operator_norm(J, p=p, q=q, on_progress=lambda done, total: told.append((done, total)))
    # One jvp more for the value at the maximiser.
    assert J.calls == {"vjp": vjps, "jvp": jvps + 1}
    total = 140 if (p, q) == (2, 2) else 70
    assert told == [(k * total // 70, total) for k in range(1, 71)]


def test_a_row_is_not_kept():
    """At no time are there arrays of more than a few rows."""
    rows = []

    class Watched(Matrices):
        def vjp(self, u, /):
            import weakref

            row = super().vjp(u)
            rows.append(weakref.ref(row))
            assert sum(each() is not None for each in rows) <= 4
            return row

    J = Watched(np.random.default_rng(3).standard_normal((1, 70, 80)))
    for p, q in STREAMED:
        operator_norm(J, p=p, q=q)
    assert len(rows) > 70 * len(STREAMED)


@every_kind
@pytest.mark.parametrize(("p", "q"), [*STREAMED, (3, 2), (2, 1)])
@pytest.mark.parametrize("value", [math.nan, INF])
def test_entries_that_are_no_numbers(kind, p, q, value):
    J = np.ones((2, 4, 5))
    J[1, 2, 3] = value
    with np.errstate(invalid="ignore"), pytest.raises(OnrError, match="nan or infinite"):
        streamed(kind(J), p, q)
