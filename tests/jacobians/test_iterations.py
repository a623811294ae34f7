import itertools
import math
import types

import numpy as np
import pytest
import torch

from onr.architectures import Affine, Architecture, ReLU, initial_parameters
from onr.arrays import to_numpy
from onr.errors import NotAvailableError, OnrError
from onr.jacobians.estimates import estimate_operator_norm, operator_norm_iteration
from onr.jacobians.iterations import projected_gradient_ascent
from onr.losses import CrossEntropy, LogitDistance, Margin
from onr.norms import LpNorm
from onr_numpy.backend import NumpyBackend
from onr_numpy.network import DenseNetwork
from onr_torch.backend import TorchBackend

INF = math.inf
EXPONENTS = (1, 1.5, 2, 3, INF)
every_p = pytest.mark.parametrize("p", EXPONENTS)
every_q = pytest.mark.parametrize("q", EXPONENTS)
closed_p = pytest.mark.parametrize("p", [1, 2, INF])


def linear(J):
    J = np.asarray(J, dtype=float)
    d, n = J.shape
    return DenseNetwork(Architecture((n,), (Affine(d),)), {"0.weight": J, "0.bias": np.zeros(d)})


def random_matrix(seed, d=3, n=4):
    return np.random.default_rng(seed).standard_normal((d, n))


def at_zero(J, batch=1):
    return linear(J).linearize(np.zeros((batch, np.shape(J)[1])))


def starts(seed, batch, n=4):
    return np.random.default_rng([seed, 1]).standard_normal((batch, n))


def iterate(J, v, p, q, **options):
    """The estimate and the trace."""
    steps = []
    found = operator_norm_iteration(
        at_zero(J, len(v)), v, p=LpNorm(p), q=LpNorm(q), trace=steps.append, **options
    )
    return found, steps


def length(x, p):
    return np.linalg.norm(x, p, axis=1)


def normalised(z, p):
    """Eq. 12's map to the unit sphere of the p-norm, generic z."""
    if p == 1:
        return np.sign(z) * (np.abs(z) == np.abs(z).max(axis=1, keepdims=True))
    if p == INF:
        return np.sign(z)
    dual = p / (p - 1)
    return np.sign(z) * np.abs(z) ** (dual - 1) / length(z, dual)[:, None] ** (dual - 1)


def gradient(z, q):
    """Eq. 10's u, generic z."""
    return normalised(z, {1: INF, INF: 1}.get(q, q / (q - 1) if q != 1 else 1))


@pytest.mark.parametrize("seed", range(5))
def test_spectral_norm(seed):
    J = random_matrix(seed, 4, 6)
    found, _ = iterate(J, starts(seed, 3, 6), 2, 2, steps=300)
    sigma = np.linalg.svd(J, compute_uv=False)[0]
    np.testing.assert_allclose(found.value, sigma, rtol=1e-10)
    assert np.all(found.stationary)
    assert found.iterations == 300


def test_power_method_step_by_step():
    # Eq. 6.
    J, v = random_matrix(1), starts(1, 5)
    _, steps = iterate(J, v, 2, 2, steps=6)
    v = v / length(v, 2)[:, None]
    for step in steps:
        forward = v @ J.T
        u = forward / length(forward, 2)[:, None]
        back = u @ J
        np.testing.assert_allclose(step.forward, forward, atol=1e-13)
        np.testing.assert_allclose(step.value, length(forward, 2), atol=1e-13)
        np.testing.assert_allclose(step.u, u, atol=1e-13)
        np.testing.assert_allclose(step.gradient, back, atol=1e-13)
        v = back / length(back, 2)[:, None]
        np.testing.assert_allclose(step.v, v, atol=1e-13)


@every_p
@every_q
def test_eq_12_step_by_step(p, q):
    J, v = random_matrix(2), starts(2, 5)
    found, steps = iterate(J, v, p, q, steps=5)
    v = v / length(v, p)[:, None]
    for step in steps:
        u = gradient(v @ J.T, q)
        np.testing.assert_allclose(step.u, u, atol=1e-12)
        v = normalised(u @ J, p)
        np.testing.assert_allclose(step.v, v, atol=1e-12)
    np.testing.assert_allclose(found.v, v, atol=1e-12)
    np.testing.assert_allclose(found.value, length(v @ J.T, q), rtol=1e-12)


@every_p
@every_q
@pytest.mark.parametrize("ties", ["average", "vertex"])
def test_the_value_never_decreases(p, q, ties):
    planted = np.array([[1, 1, 0, 0], [1, -1, 1, -1], [0, 0, 2, 0]])
    for J in (random_matrix(3), np.array([[1, -1, 0, 1], [1, 1, 1, 0], [0, 0, 2, 2.0]])):
        v = np.concatenate([starts(3, 10), planted])
        found, steps = iterate(J, v, p, q, steps=8, ties=ties)
        values = np.array([step.value for step in steps] + [found.value])
        assert np.all(np.diff(values, axis=0) >= -1e-12 * values[1:])
        np.testing.assert_allclose(length(found.v, p), 1, rtol=1e-12)
        np.testing.assert_allclose(found.value, length(found.v @ J.T, q), rtol=1e-12)
        np.testing.assert_allclose(np.sum(found.u * (found.v @ J.T), axis=1), found.value)


@every_p
@every_q
def test_scale_of_the_start_does_not_matter(p, q):
    J, v = random_matrix(4), starts(4, 5)
    found, _ = iterate(J, v, p, q)
    scaled, _ = iterate(J, 1e9 * v, p, q)
    np.testing.assert_allclose(scaled.v, found.v, atol=1e-10)


def estimate(J, p, q, seed=0, batch=1, **options):
    return estimate_operator_norm(
        at_zero(J, batch),
        p=LpNorm(p),
        q=LpNorm(q),
        rng=np.random.default_rng(seed),
        like_input=np.zeros((batch, np.shape(J)[1])),
        **options,
    )


def brute_force(J):
    """``||J||_(inf, 1)`` over all sign vectors of the smaller side."""
    J = J if J.shape[1] <= J.shape[0] else J.T  # ||J||_(inf, 1) = ||J^T||_(inf, 1)
    signs = np.array(list(itertools.product([1, -1], repeat=J.shape[1])))
    return length(signs @ J.T, 1).max()


@pytest.mark.parametrize("seed", range(5))
def test_lower_bound_on_the_hard_norm(seed):
    J = random_matrix(seed, 4, 7)
    truth = brute_force(J)
    assert estimate(J, INF, 1).value[0] <= truth * (1 + 1e-12)
    assert estimate(J, INF, 1, restarts=40).value[0] == pytest.approx(truth)


@every_q
@pytest.mark.parametrize("seed", range(3))
def test_norms_from_l1_are_the_largest_column(q, seed):
    J = random_matrix(seed)
    found = estimate(J, 1, q, restarts=30)
    np.testing.assert_allclose(found.value, length(J.T, q).max(), rtol=1e-12)
    np.testing.assert_allclose(np.abs(found.v).max(), 1)


@every_p
@pytest.mark.parametrize("seed", range(3))
def test_norms_to_linf_are_the_largest_row(p, seed):
    J = random_matrix(seed)
    truth = LpNorm(p).dual(J).max()
    np.testing.assert_allclose(estimate(J, p, INF, restarts=30).value, truth, rtol=1e-12)


@every_p
@every_q
def test_nothing_sampled_has_a_larger_gain_than_many_restarts_find(p, q):
    J = random_matrix(5, 2, 3)
    found = estimate(J, p, q, restarts=12, steps=30).value[0]
    v = np.random.default_rng(6).standard_normal((2000, 3))
    gains = length(v @ J.T, q) / length(v, p)
    assert gains.max() <= found * (1 + 1e-6)


@closed_p
@every_q
def test_finite_alpha_tends_to_the_limit(p, q):
    J, v = random_matrix(7), starts(7, 5)
    _, limit = iterate(J, v, p, q, steps=4)
    errors = []
    for alpha in (1e2, 1e4, 1e7):
        _, steps = iterate(J, v, p, q, steps=4, alpha=alpha)
        for step in steps:
            np.testing.assert_allclose(length(step.v, p), 1, rtol=1e-7)
        errors.append(max(np.abs(a.v - b.v).max() for a, b in zip(steps, limit, strict=True)))
    # p = 1 and inf reach the limit at a finite alpha, p = 2 as 1 / alpha.
    assert errors[2] <= (1e-6 if p == 2 else 1e-8)
    assert errors[2] <= errors[1] <= errors[0]


def test_eq_11_by_hand():
    J, v, alpha = random_matrix(8), starts(8, 5), 0.7
    _, steps = iterate(J, v, 2, 3, steps=3, alpha=alpha)
    v = v / length(v, 2)[:, None]
    for step in steps:
        v = v + alpha * gradient(v @ J.T, 3) @ J
        v = v / length(v, 2)[:, None]
        np.testing.assert_allclose(step.v, v, atol=1e-12)


def test_steps_into_the_ball_have_no_projection_for_other_p():
    # The step (-0.3, 1) leaves the l2 ball, as every ascent does, but enters the l3 ball.
    J, start = [[-0.3, 1]], np.array([[1, 0.5]])
    with pytest.raises(NotAvailableError):
        iterate(J, start, 3, 2, alpha=0.02)
    found, _ = iterate(J, start, 3, 2, alpha=3.0)
    np.testing.assert_allclose(length(found.v, 3), 1)


@every_p
@every_q
def test_restarts_never_decrease_the_value(p, q):
    J = random_matrix(9, 5, 6)
    values = [estimate(J, p, q, batch=8, restarts=k, steps=3).value for k in (1, 2, 5, 20)]
    assert np.all(np.diff(values, axis=0) >= 0)


def test_restarts_are_chosen_for_each_example():
    model = Architecture((6,), (Affine(9), ReLU(), Affine(5)))
    network = DenseNetwork(model, initial_parameters(model, 3))
    x = np.random.default_rng(12).standard_normal((10, 6))
    at, p, q, restarts = network.linearize(x), LpNorm(INF), LpNorm(1), 4
    rng = np.random.default_rng(13)
    starts = [np.broadcast_to(rng.standard_normal((1, 6)), x.shape) for _ in range(restarts)]
    runs = [operator_norm_iteration(at, start, p=p, q=q, steps=3) for start in starts]
    values = np.array([run.value for run in runs])
    winner = values.argmax(axis=0)
    assert len(set(winner)) > 1
    rng = np.random.default_rng(13)
    best = estimate_operator_norm(at, p=p, q=q, rng=rng, like_input=x, restarts=restarts, steps=3)
    assert np.array_equal(best.value, values.max(axis=0))
    for i, run in enumerate(winner):
        assert np.array_equal(best.v[i], runs[run].v[i])
        assert np.array_equal(best.u[i], runs[run].u[i])
        assert best.stationary[i] == runs[run].stationary[i]
    np.testing.assert_allclose(q(at.jvp(best.v)), best.value)
    alone = network.linearize(x[3:4])
    rng = np.random.default_rng(13)
    one = estimate_operator_norm(
        alone, p=p, q=q, rng=rng, like_input=x[3:4], restarts=restarts, steps=3
    )
    np.testing.assert_allclose(one.value[0], best.value[3], rtol=1e-12)


def test_no_restart_is_refused():
    with pytest.raises(OnrError):
        estimate(np.eye(2), 2, 2, restarts=0)


@every_p
@every_q
@pytest.mark.parametrize("alpha", [INF, 1.0])
def test_the_zero_map(p, q, alpha):
    # At finite alpha the iterate stays on the unit sphere, so no p is inside it.
    found, _ = iterate(np.zeros((3, 4)), starts(1, 2), p, q, alpha=alpha)
    assert np.array_equal(found.value, [0, 0])
    assert np.all(np.isfinite(found.v))
    assert np.array_equal(found.u, np.zeros((2, 3)))
    if alpha == INF:
        assert np.array_equal(found.v, np.zeros((2, 4)))


@every_p
def test_a_zero_start_gives_zero(p):
    found, _ = iterate(np.eye(2), np.array([[0.0, 0.0], [1.0, 2.0]]), p, 2)
    assert found.value[0] == 0
    assert np.array_equal(found.v[0], [0, 0])
    assert found.value[1] > 0


def test_averaged_ties_are_a_spurious_fixed_point():
    start = np.array([[1.0, 1.0]])
    average, steps = iterate(np.eye(2), start, 1, 2, ties="average")
    np.testing.assert_allclose([step.value for step in steps], math.sqrt(0.5))
    np.testing.assert_allclose(average.value, math.sqrt(0.5))
    vertex, _ = iterate(np.eye(2), start, 1, 2, ties="vertex")
    assert np.array_equal(vertex.value, [1])


def test_no_step_is_refused():
    with pytest.raises(OnrError):
        iterate(np.eye(2), np.ones((1, 2)), 2, 2, steps=0)


@pytest.mark.parametrize("steps", [1, 7])
def test_trace_is_called_once_a_step(steps):
    found, trace = iterate(random_matrix(1), starts(1, 2), 3, 1.5, steps=steps)
    assert [step.k for step in trace] == list(range(1, steps + 1))
    assert found.iterations == steps
    for step in trace:
        assert step.forward.shape == step.u.shape == (2, 3)
        assert step.gradient.shape == step.v.shape == (2, 4)
        assert step.value.shape == (2,)
        assert step.delta is None


def test_stationary_says_whether_the_last_step_gained():
    # The ratio of the singular values is 0.99: ten steps are not enough, a thousand are.
    J, start = np.diag([1, 0.99]), np.array([[0.1, 1], [1, 0]])
    few, _ = iterate(J, start, 2, 2, steps=10)
    many, _ = iterate(J, start, 2, 2, steps=1000)
    assert few.stationary.tolist() == [False, True]
    assert many.stationary.tolist() == [True, True]
    loose, _ = iterate(J, start, 2, 2, steps=10, tolerance=0.1)
    assert np.all(loose.stationary)


@pytest.mark.parametrize(("p", "q"), [(1, 2), (1.5, 3), (2, 2), (3, INF), (INF, 1)])
def test_norm_iteration_in_torch(p, q):
    model = Architecture((6,), (Affine(9), ReLU(), Affine(5)))
    backend = TorchBackend()
    parameters = initial_parameters(model, 4)
    x = np.random.default_rng(14).standard_normal((3, 6))
    dense = DenseNetwork(model, parameters).linearize(x)
    network = backend.build(model, parameters=parameters, dtype="float64")
    module = network.linearize(network.asarray(x))
    options = {"p": LpNorm(p), "q": LpNorm(q), "restarts": 2, "steps": 4}
    wanted = estimate_operator_norm(dense, rng=np.random.default_rng(1), like_input=x, **options)
    found = estimate_operator_norm(
        module, rng=np.random.default_rng(1), like_input=torch.from_numpy(x), **options
    )
    for name in ("value", "v", "u", "stationary"):
        np.testing.assert_allclose(
            to_numpy(getattr(found, name)), getattr(wanted, name), atol=1e-10
        )


def classifier(seed=0):
    model = Architecture((6,), (Affine(12), ReLU(), Affine(8), ReLU(), Affine(4)))
    return DenseNetwork(model, initial_parameters(model, seed))


def loss_at(x, y):
    return CrossEntropy().value(classifier()(x), labels=y)


def pixels(batch=8, seed=15):
    rng = np.random.default_rng(seed)
    x = rng.random((batch, 6))
    x[0], x[1, :3] = 0, 1
    return x, rng.integers(0, 4, batch)


def ascend(x, y, delta, p, eps, loss=None, network=None, **options):
    return projected_gradient_ascent(
        network or classifier(),
        x,
        delta,
        loss=loss or CrossEntropy(),
        labels=y,
        p=LpNorm(p),
        eps=eps,
        **options,
    )


@every_p
@pytest.mark.parametrize("alpha", [0.05, 1.0, INF])
@pytest.mark.parametrize("keep", ["last", "best"])
def test_ascent_stays_in_ball_and_box(p, alpha, keep):
    (x, y), eps = pixels(), 0.3
    start = eps * LpNorm(p).sample_ball(np.random.default_rng(16), x.shape)
    deltas = []
    found = ascend(
        x,
        y,
        start,
        p,
        eps,
        alpha=alpha,
        keep=keep,
        steps=5,
        bounds=(0, 1),
        trace=lambda step: deltas.append(step.delta),
    )
    last = ascend(x, y, start, p, eps, alpha=alpha, keep=keep, steps=5)
    for delta in [*deltas, last.delta]:
        assert np.all(length(delta, p) <= eps * (1 + 1e-12))
    for delta in deltas:
        assert np.all((x + delta >= -1e-15) & (x + delta <= 1 + 1e-15))
    assert length(last.delta, p).max() > 0.5 * eps
    if keep == "best":
        assert np.array_equal(found.value, loss_at(x + found.delta, y))
    else:
        assert found.value is None


@every_p
@pytest.mark.parametrize("alpha", [1.0, INF])
def test_eps_zero_stays(p, alpha):
    x, y = pixels()
    found = ascend(x, y, np.zeros_like(x), p, 0, alpha=alpha)
    assert np.array_equal(found.delta, np.zeros_like(x))


@every_p
@pytest.mark.parametrize("alpha", [0.2, INF])
def test_best_is_at_least_last(p, alpha):
    x, y = pixels(40)
    start = 0.5 * LpNorm(p).sample_ball(np.random.default_rng(17), x.shape)
    seen = [loss_at(x + start, y)]
    last = ascend(x, y, start, p, 0.5, alpha=alpha, trace=lambda step: seen.append(step.value))
    best = ascend(x, y, start, p, 0.5, alpha=alpha, keep="best")
    assert np.array_equal(best.value, np.max([*seen, loss_at(x + last.delta, y)], axis=0))


@closed_p
def test_small_steps_ascend(p):
    x, y = pixels(40)
    deltas = [ascend(x, y, 0 * x, p, 1.0, alpha=1e-4, steps=k).delta for k in (0, 5)]
    values = [loss_at(x + delta, y) for delta in deltas]
    assert np.all(values[1] >= values[0] - 1e-12)
    assert np.mean(values[1] > values[0]) > 0.9


@pytest.mark.parametrize("keep", ["last", "best"])
def test_no_steps_give_the_start(keep):
    x, y = pixels()
    start = np.full_like(x, 0.01)
    found = ascend(x, y, start, 2, 1.0, steps=0, keep=keep)
    assert np.array_equal(found.delta, start)


def test_the_ascent_s_trace():
    x, y = pixels()
    trace = []
    start = np.full_like(x, 0.05)
    loss = LogitDistance(LpNorm(2))
    found = ascend(x, y, start, INF, 0.1, loss=loss, steps=4, trace=trace.append)
    delta = start
    assert [step.k for step in trace] == [1, 2, 3, 4]
    for step in trace:
        moved = classifier()(x + delta) - classifier()(x)
        np.testing.assert_allclose(step.forward, moved, atol=1e-14)
        np.testing.assert_allclose(step.value, length(moved, 2))
        np.testing.assert_allclose(step.u, moved / length(moved, 2)[:, None])
        np.testing.assert_allclose(
            step.gradient, classifier().linearize(x + delta).vjp(step.u), atol=1e-13
        )
        delta = step.delta
    assert np.array_equal(found.delta, delta)


@every_p
@pytest.mark.parametrize("alpha", [0.3, INF])
def test_a_radius_and_a_step_for_each_example(p, alpha):
    x, y = pixels(4)
    eps = np.linspace(0, 1, len(x))
    alphas = alpha if alpha == INF else alpha * eps
    together = ascend(x, y, 0 * x, p, eps, alpha=alphas, bounds=(0, 1), keep="best")
    for i in range(len(x)):
        row = slice(i, i + 1)
        step = alpha if alpha == INF else float(alphas[i])
        alone = ascend(
            x[row], y[row], 0 * x[row], p, float(eps[i]), alpha=step, bounds=(0, 1), keep="best"
        )
        np.testing.assert_allclose(together.delta[row], alone.delta, atol=1e-12)
        np.testing.assert_allclose(together.value[row], alone.value, atol=1e-12)


@every_p
@pytest.mark.parametrize("loss", [CrossEntropy(), Margin(), LogitDistance(LpNorm(1))])
def test_ascent_in_torch(p, loss):
    (x, y), backend = pixels(), TorchBackend()
    start = np.full_like(x, 0.01)
    eps = np.linspace(0.1, 0.5, len(x))
    network = backend.build(
        classifier().architecture, parameters=classifier().weights, dtype="float64"
    )
    for alpha in (0.1, INF):
        options = {"alpha": alpha, "steps": 3, "bounds": (0, 1), "keep": "best"}
        wanted = ascend(x, y, start, p, eps, loss=loss, **options)
        found = ascend(
            *map(torch.from_numpy, (x, y, start)),
            p,
            torch.from_numpy(eps),
            loss=loss,
            network=network,
            **options,
        )
        for name in ("delta", "value"):
            np.testing.assert_allclose(
                to_numpy(getattr(found, name)), getattr(wanted, name), atol=1e-9
            )


def both_sequences(J, start, p, q, steps=6, eps=0.5, **options):
    """Directions of Eq. 12 and of the ascent of ``||f(x + delta) - f(x)||_q``, over eps."""
    start = np.asarray(start, dtype=float)
    start = start / length(start, p)[:, None]
    norm_steps, ascent_steps = [], []
    operator_norm_iteration(
        at_zero(J, len(start)),
        start,
        p=LpNorm(p),
        q=LpNorm(q),
        steps=steps,
        trace=norm_steps.append,
    )
    projected_gradient_ascent(
        linear(J),
        np.zeros_like(start),
        eps * start,
        loss=LogitDistance(LpNorm(q)),
        labels=np.zeros(len(start), dtype=int),
        p=LpNorm(p),
        eps=eps,
        steps=steps,
        trace=ascent_steps.append,
        **options,
    )
    directions = np.array([step.v for step in norm_steps])
    return directions, np.array([step.delta / eps for step in ascent_steps])


@closed_p
@every_q
def test_theorem_1_on_a_linear_map(p, q):
    directions, deltas = both_sequences(random_matrix(20), starts(20, 6), p, q)
    np.testing.assert_allclose(deltas, directions, atol=1e-12)


@pytest.mark.parametrize(
    ("p", "J", "start"),
    [(1, [[3, 1], [1, 0]], [0, 1]), (INF, [[1, -1.5], [-3, 1]], [1, 1])],
)
def test_alpha_of_twice_eps_is_enough_and_tight(p, J, start):
    # The first step leads from a vertex to another one (p = 1), or to the opposite facet.
    eps = 0.5
    for ratio, equal in ((2.0, True), (1.9, False)):
        directions, deltas = both_sequences(J, [start], p, 2, eps=eps, alpha=ratio * eps)
        assert np.allclose(deltas[0], directions[0], atol=1e-12) == equal


@pytest.mark.parametrize("p", [1.5, 3, 10])
def test_only_the_raw_gradient_has_eq_12_as_its_limit_for_other_p(p):
    J, start = random_matrix(21), starts(21, 6)
    directions, raw = both_sequences(J, start, p, 2, raw_gradient=True)
    np.testing.assert_allclose(raw, directions, atol=1e-11)
    _, twice = both_sequences(J, start, p, 2)
    assert np.all(np.abs(twice - directions).max(axis=(1, 2)) > 0.01)


@pytest.mark.parametrize("p", [1.5, 2, 3])
def test_the_raw_gradient_s_limit_is_approached(p):
    J, start = random_matrix(22), starts(22, 4)
    directions, _ = both_sequences(J, start, p, 2)
    errors = []
    for alpha in (1e2, 1e5, 1e8):
        _, deltas = both_sequences(J, start, p, 2, alpha=alpha, raw_gradient=True)
        errors.append(np.abs(deltas - directions).max())
    assert errors[2] < 1e-5
    assert errors[2] < errors[1] < errors[0]


def test_a_zero_entry_stops_the_ascent_for_ever():
    # Eq. 83 drops the case (J^T u)_i = 0: the ball keeps that coordinate, sign(0) = 0 does not.
    J = np.array([[-1, -1], [0, -1]])
    directions, deltas = both_sequences(J, [[1, -0.5]], INF, 1)
    assert length(directions[-1] @ J.T, 1) == 3 == brute_force(J)
    for delta in deltas:
        assert length(delta @ J.T, 1) == 1


def test_a_tie_keeps_what_the_ball_can_keep():
    directions, deltas = both_sequences(np.eye(2), [[0.75, 0.25]], 1, 1)
    np.testing.assert_allclose(directions[0], [[0.5, 0.5]])
    np.testing.assert_allclose(deltas[0], [[0.75, 0.25]])


def test_a_logit_that_is_nan_at_one_iterate_alone_is_not_forgotten():
    network = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")

    class Once:
        """The value is NaN at the first iterate; gradients are sound throughout."""

        calls = 0

        def linearize(self, x, jvp=True):
            here = network.linearize(x)
            self.calls += 1
            value = here.value + (math.nan if self.calls == 1 else 0.0)
            return types.SimpleNamespace(value=value, vjp=lambda u: here.vjp(np.ones_like(u)))

    class Unchecked:
        """A loss that does not look at its logits, as on a GPU, where that would wait."""

        uses_clean = False

        def direction(self, logits, labels, clean):
            return np.ones_like(logits)

    x, y = np.full((2, 3), 0.5), np.zeros(2, int)
    given = {"loss": Unchecked(), "labels": y, "p": LpNorm(2), "eps": 0.1, "steps": 3}
    assert np.isnan(projected_gradient_ascent(Once(), x, 0 * x, **given).sound).all()
    assert np.isfinite(projected_gradient_ascent(network, x, 0 * x, **given).sound).all()
