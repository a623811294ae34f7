import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy import stats

from onr.errors import NotAvailableError
from onr.norms import LpNorm

EXPONENTS = (1, 1.01, 1.5, 2, 3, 50, math.inf)
CLOSED_FORM = (1, 2, math.inf)

laws = settings(max_examples=25, deadline=None, derandomize=True)
every_p = pytest.mark.parametrize("p", EXPONENTS)
closed_p = pytest.mark.parametrize("p", CLOSED_FORM)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# Eighths: zeros and ties are common.
batches = arrays(np.float64, (3, 4), elements=st.integers(-24, 24).map(lambda k: k / 8))
radii = st.sampled_from([0.0, 0.25, 1.0, 3.0])


def size(x, p):
    a = np.abs(x)
    return a.max(axis=1) if p == math.inf else np.sum(a**p, axis=1) ** (1 / p)


def inner(a, b):
    return np.sum((a * b).reshape(len(a), -1), axis=1)


def twin(y, p, radius):
    """The ball projection by nested bisection of its optimality conditions."""
    if p == math.inf:
        return np.clip(y, -radius, radius)
    w = np.abs(y) / radius

    def magnitudes(c):
        if p == 1:
            return np.maximum(w - c, 0)
        low, high = np.zeros_like(w), np.minimum(w, 1)
        for _ in range(60):
            u = (low + high) / 2
            above = u + c * u ** (p - 1) > w
            low, high = np.where(above, low, u), np.where(above, u, high)
        return high

    low, high = np.zeros((len(w), 1)), w.sum(axis=1, keepdims=True)
    for _ in range(80):
        c = (low + high) / 2
        outside = (magnitudes(c) ** p).sum(axis=1, keepdims=True) > 1
        low, high = np.where(outside, c, low), np.where(outside, high, c)
    projected = np.sign(y) * radius * magnitudes(high)
    return np.where(size(np.minimum(w, 2), p)[:, None] <= 1, y, projected)


def planted(scale=1.0):
    """Generic rows, ties, zeros, a unit vector, near ties, the zero vector."""
    y = np.random.default_rng(8).standard_normal((8, 6))
    y[1, :3] = [2.5, -2.5, 2.5]
    y[2, ::2] = 0
    y[3] = np.sign(y[3])
    y[4] = [0, 0, -1.75, 0, 0, 0]
    y[5] = 1 + y[5] / 10
    y[6] *= [1, 1e-3, 1e-6, 1, 1, 1e-9]
    y[7] = 0
    return scale * y


@every_p
@pytest.mark.parametrize("radius", [0.1, 1.0, 2.0])
def test_ball_projection_is_its_naive_twin(p, radius):
    y = planted()
    found = LpNorm(p).project_ball(y, radius)
    np.testing.assert_allclose(found, twin(y, p, radius), atol=1e-11 * radius)


@every_p
@laws
@given(y=batches, radius=radii)
def test_variational_inequality(p, y, radius):
    norm = LpNorm(p)
    found = norm.project_ball(y, radius)
    assert np.all(size(found, p) <= radius * (1 + 1e-12))
    # The support function of the ball is the largest <y - found, w> over every w in it.
    farthest = radius * size(y - found, norm.dual.p)
    assert np.all(farthest - inner(y - found, found) <= 1e-11 * (1 + inner(y, y)))


@every_p
@laws
@given(y=batches, w=batches, radius=radii)
def test_no_sampled_point_of_the_ball_is_closer(p, y, w, radius):
    found = LpNorm(p).project_ball(y, radius)
    inside = w * (radius / np.maximum(size(w, p), radius + 1e-300))[:, None]
    assert np.all(inner(y - found, inside - found) <= 1e-11 * (1 + inner(y, y)))


@every_p
@dtypes
def test_points_of_the_ball_are_unchanged_bit_for_bit(p, dtype):
    norm = LpNorm(p)
    y = norm.sample_ball(np.random.default_rng(3), (50, 2, 3)).astype(dtype)
    y[0], y[1, 0, 0], y[2] = 0, -0.0, 1e-30
    radius = norm(y).max()
    assert norm.project_ball(y, radius).tobytes() == y.tobytes()
    tensor = norm.project_ball(torch.from_numpy(y), 1.001 * float(radius))
    assert tensor.numpy().tobytes() == y.tobytes()


@every_p
def test_projecting_twice_is_projecting_once(p):
    norm = LpNorm(p)
    for scale in (0.1, 1.0, 30.0):
        once = norm.project_ball(planted(scale), 0.7)
        np.testing.assert_allclose(norm.project_ball(once, 0.7), once, atol=1e-14)


@every_p
def test_ball_projection_does_not_expand(p):
    norm, y = LpNorm(p), planted()
    for seed in range(5):
        z = y + np.random.default_rng(seed).standard_normal(y.shape) / 4**seed
        apart = norm.project_ball(y, 1) - norm.project_ball(z, 1)
        assert np.all(inner(apart, apart) <= inner(y - z, y - z) * (1 + 1e-9))


@every_p
def test_radius_zero_and_the_zero_vector(p):
    norm, y = LpNorm(p), planted()
    assert np.array_equal(norm.project_ball(y, 0), np.zeros_like(y))
    assert np.array_equal(norm.project_ball(0 * y, 0), np.zeros_like(y))
    assert np.array_equal(norm.project_ball(0 * y, 1.0), np.zeros_like(y))
    assert np.array_equal(norm.project_ball(1e-3 * y, 0), np.zeros_like(y))


@every_p
def test_signs_zeros_and_ties_are_kept(p):
    y = planted(10.0)
    found = LpNorm(p).project_ball(y, 1.0)
    assert np.all(found[y == 0] == 0)
    assert np.all(found * y >= 0)
    assert np.all(np.abs(found) <= np.abs(y) * (1 + 1e-14))
    assert np.ptp(np.abs(found[1, :3])) == 0
    assert np.ptp(np.abs(found[3])) == 0


@every_p
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_radius_for_each_example(p, kind):
    norm, y = LpNorm(p), planted().reshape(8, 2, 3)
    r = np.array([0, 0.1, 0.5, 1, 2, 3, 0.7, 1])
    points, each = (torch.from_numpy(y), torch.from_numpy(r)) if kind == "torch" else (y, r)
    for project in (
        lambda y, r: norm.project_ball(y, r),
        lambda y, r: norm.project_face(y, y * y - y, r),
        lambda y, r: norm.project_sphere(10 * y + 10, r),
    ):
        together = np.asarray(project(points, each))
        alone = [project(y[i : i + 1], float(r[i])) for i in range(8)]
        np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-13)


@every_p
@pytest.mark.parametrize("ratio", [1e2, 1e6, 1e12])
def test_points_far_outside(p, ratio):
    y = planted()[:7] * ratio
    found = LpNorm(p).project_ball(y, 1.0)
    np.testing.assert_allclose(size(found, p), 1, rtol=1e-12)
    if ratio <= 1e6:  # bisection itself loses digits beyond
        np.testing.assert_allclose(found, twin(y, p, 1.0), atol=1e-9)
    # Far away the projection is the face that y exposes, or close to it.
    reach = inner(found, y) / LpNorm(p).dual(y)
    assert np.all(reach >= 1 - 10 / ratio)


@every_p
@pytest.mark.parametrize("ratio", [1.5, 1e3, 1e6, 1e20])
def test_float32_is_as_good_as_float32_can_be(p, ratio):
    y = (planted()[:7] * ratio).astype(np.float32)
    norm = LpNorm(p)
    found = norm.project_ball(y, 1.0)
    # The duality map, which the projection tends to, has condition number 1 / (p - 1).
    tolerance = 10 * np.finfo(np.float32).eps * max(1, 1 / (p - 1) if p > 1 else 1)
    np.testing.assert_allclose(found, norm.project_ball(y.astype(float), 1.0), atol=tolerance)


@pytest.mark.parametrize("level", [1.0, 1e3, 1e6])
def test_float32_simplex_with_near_ties(level):
    # An attack with a large finite step size in p = 1 projects exactly such points.
    y = (level + np.random.default_rng(4).uniform(-0.5, 0.5, (2, 3072))).astype(np.float32)
    found = LpNorm(1).project_ball(y, 1.0)
    np.testing.assert_allclose(size(found.astype(float), 1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, LpNorm(1).project_ball(y.astype(float), 1.0), atol=1e-5)


@pytest.mark.parametrize(
    ("p", "alpha", "tolerance"),
    [(1, 1e4, 1e-10), (2, 1e8, 1e-6), (math.inf, 1e4, 1e-10), (1.5, 1e8, 1e-6), (3, 1e10, 1e-4)],
)
@laws
@given(y=batches, direction=batches, radius=radii)
def test_face_projection_is_the_limit_of_the_ball_projection(
    p, alpha, tolerance, y, direction, radius
):
    # For p = 3 a coordinate with zero direction vanishes only as alpha^(-1/2).
    norm = LpNorm(p)
    far = norm.project_ball(y + alpha * direction, radius)
    np.testing.assert_allclose(norm.project_face(y, direction, radius), far, atol=tolerance)


@pytest.mark.parametrize("p", [1.01, 10, 50])
def test_face_projection_is_the_limit_without_zeros(p):
    norm, rng = LpNorm(p), np.random.default_rng(2)
    y = rng.standard_normal((6, 4))
    direction = rng.uniform(0.5, 1, (6, 4)) * rng.choice([-1, 1], (6, 4))
    face = norm.project_face(y, direction, 0.5)
    errors = [
        np.abs(norm.project_ball(y + alpha * direction, 0.5) - face).max()
        for alpha in (1e2, 1e4, 1e6)
    ]
    assert errors[2] < 1e-4
    assert errors[2] <= errors[1] <= errors[0]


@every_p
@laws
@given(y=batches, direction=batches, radius=radii)
def test_face_projection_is_on_the_face(p, y, direction, radius):
    norm = LpNorm(p)
    face = norm.project_face(y, direction, radius)
    assert np.all(size(face, p) <= radius * (1 + 1e-12))
    reach = radius * size(direction, norm.dual.p)
    np.testing.assert_allclose(inner(face, direction), reach, rtol=1e-12, atol=1e-13)


@laws
@given(y=batches, direction=batches)
def test_nothing_of_the_simplex_face_is_closer(y, direction):
    face = LpNorm(1).project_face(y, direction, 2.0)
    tied = np.abs(direction) == np.abs(direction).max(axis=1, keepdims=True)
    # The vertices of the face are 2 sign(d_i) e_i over the tied entries i.
    gain = (y - face) * 2 * np.sign(direction) - inner(y - face, face)[:, None]
    assert np.all(gain[tied & (direction != 0)] <= 1e-12)


@laws
@given(y=batches, direction=batches)
def test_the_cube_keeps_coordinates_with_zero_direction(y, direction):
    face = LpNorm(math.inf).project_face(y, direction, 2.0)
    assert np.array_equal(face, np.where(direction == 0, np.clip(y, -2, 2), 2 * np.sign(direction)))


@every_p
def test_zero_direction_gives_the_ball_projection(p):
    norm, y = LpNorm(p), planted(2.0)
    assert np.array_equal(norm.project_face(y, 0 * y, 1.0), norm.project_ball(y, 1.0))


@every_p
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_face_projection_of_points_far_away(p, dtype):
    y = np.array([[1e18, 3, 2], [-1e18, 3, 2], [3, 1e18, -1e18]], dtype=dtype)
    direction = np.array([[1, 1, 0], [1, 0, 1], [1, 1, -1]], dtype=dtype)
    norm = LpNorm(p)
    face = norm.project_face(y, direction, 1.0)
    np.testing.assert_allclose(inner(face, direction), norm.dual(direction), rtol=1e-6)
    np.testing.assert_allclose(norm(face), 1, rtol=1e-6)


@closed_p
@pytest.mark.parametrize("scale", [0.3, 0.999, 3.0])
def test_nothing_sampled_from_the_sphere_is_closer(p, scale):
    norm, rng = LpNorm(p), np.random.default_rng(6)
    y = rng.standard_normal((6, 3))
    y[0], y[1], y[2, 1] = [0.5, -0.5, 0.5], [0, 0, -1], 0
    y *= scale / norm(y)[:, None]
    y = np.concatenate([y, np.zeros((1, 3))])
    found = norm.project_sphere(y, 1.0)
    np.testing.assert_allclose(norm(found), 1, rtol=1e-14)
    sampled = rng.standard_normal((20000, 3)) * rng.choice([0, 1], (20000, 3), p=[0.2, 0.8])
    sampled = sampled[norm(sampled) > 0]
    sampled /= norm(sampled)[:, None]
    distances = np.linalg.norm(y[:, None, :] - sampled, axis=2).min(axis=1)
    found_distances = np.linalg.norm(y - found, axis=1)
    assert np.all(found_distances <= distances + 1e-14)
    assert np.all(found_distances >= distances - 0.1)


@closed_p
@laws
@given(y=batches, radius=st.sampled_from([0.5, 3.0, 40.0]))
def test_distance_to_the_sphere(p, y, radius):
    norm = LpNorm(p)
    found = norm.project_sphere(y, radius)
    np.testing.assert_allclose(norm(found), radius, rtol=1e-13)
    inside = norm(y) < radius
    gap = (radius - norm(y)) / (2 if p == 1 else 1)  # the facets of p = 1 are 1/sqrt(n) away
    np.testing.assert_allclose(
        np.linalg.norm(found - y, axis=1)[inside], gap[inside], rtol=1e-12, atol=1e-13
    )
    assert np.array_equal(found[~inside], norm.project_ball(y, radius)[~inside])


def test_the_zero_vector_goes_to_the_sphere():
    zero = np.zeros((1, 4))
    assert np.array_equal(LpNorm(1).project_sphere(zero, 2), [[0.5, 0.5, 0.5, 0.5]])
    assert np.array_equal(LpNorm(2).project_sphere(zero, 2), [[2, 0, 0, 0]])
    assert np.array_equal(LpNorm(math.inf).project_sphere(zero, 2), [[2, 0, 0, 0]])


@pytest.mark.parametrize("p", [1.01, 1.5, 3, 50])
def test_other_spheres_only_from_outside(p):
    norm, y = LpNorm(p), planted()[:7]
    y = y / norm(y)[:, None]
    assert np.array_equal(norm.project_sphere(2 * y, 1.0), norm.project_ball(2 * y, 1.0))
    mixed = y * np.array([2, 2, 0.9, 2, 2, 2, 2])[:, None]
    with pytest.raises(NotAvailableError):
        norm.project_sphere(mixed, 1.0)


@every_p
@dtypes
def test_unit_vectors_are_on_the_sphere_not_inside(p, dtype):
    norm = LpNorm(p)
    y = np.random.default_rng(12).standard_normal((200, 30)).astype(dtype)
    y = y / norm(y)[:, None]
    np.testing.assert_allclose(norm.project_sphere(y, 1.0), y, atol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_radii_of_samples_are_uniform_by_volume(p):
    points = LpNorm(p).sample_ball(np.random.default_rng(9), (4000, 2, 2)).reshape(4000, 4)
    volume = size(points, p) ** 4
    assert volume.max() <= 1
    assert stats.kstest(volume, "uniform").pvalue > 0.01


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_samples_are_symmetric_and_exchangeable(p):
    points = LpNorm(p).sample_ball(np.random.default_rng(10), (8000, 3))
    orthants = np.bincount((points > 0) @ [1, 2, 4], minlength=8)
    orders = np.bincount(np.argsort(np.abs(points), axis=1) @ [1, 3, 9], minlength=22)
    assert stats.chisquare(orthants).pvalue > 0.01
    assert stats.chisquare(orders[orders > 0]).pvalue > 0.01
    assert np.count_nonzero(orders) == 6


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_samples_have_the_moments_of_rejection(p):
    rng = np.random.default_rng(11)
    points = LpNorm(p).sample_ball(rng, (40000, 3))
    cube = rng.uniform(-1, 1, (200000, 3))
    accepted = cube[size(cube, p) <= 1]
    for moment in (2, 4):
        a, b = np.abs(points) ** moment, np.abs(accepted) ** moment
        error = np.hypot(a.std() / math.sqrt(a.size), b.std() / math.sqrt(b.size))
        assert abs(a.mean() - b.mean()) < 4 * error
    assert stats.ks_2samp(points[:, 0], accepted[:, 0]).pvalue > 0.01
