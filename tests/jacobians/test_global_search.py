import importlib.util
from pathlib import Path

import numpy as np
import pytest

SPEC = importlib.util.spec_from_file_location(
    "global_search", Path(__file__).with_name("global_search.py")
)
search = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(search)


def test_lower_bounds_reach_a_global_search():
    """The small form of ``make norms``; docs/theorem.md has the result of the large one."""
    for pair, numbers, found, sought in search.compare(20, seed=1, exponents=(1.05, 2, 3, 20)):
        assert search.misses(pair, numbers, found, sought) == []
        assert np.all(found.upper >= sought * (1 - search.ROUNDING))


def test_a_lower_bound_that_misses_is_listed():
    J = np.ones((1, 2, 3))
    found = search.operator_norm(J, p=3, q=3)
    assert search.misses((3, 3), [7], found, found.lower) == []
    (text,) = search.misses((3, 3), [7], found, found.lower * (1 + 2e-6))
    assert "matrix 7" in text
    assert "2 x 3, p = 3, q = 3" in text.replace("), p", ", p")


@pytest.mark.parametrize(("p", "q"), [(1.2, 3), (3, 1.2), (20, 4), (2, 3)])
def test_the_search_finds_what_every_direction_of_the_plane_has(p, q):
    J = np.random.default_rng(0).standard_normal((6, 3, 2))
    J[3:] = np.sign(J[3:])
    angles = np.pi * np.arange(20000) / 20000
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    gains = search.size(circle @ J.swapaxes(1, 2), q) / search.size(circle, p)
    found = search.global_search(J, p, q, np.random.default_rng(0))
    assert np.all(found >= gains.max(axis=1))
    np.testing.assert_allclose(found, gains.max(axis=1), rtol=1e-5)
