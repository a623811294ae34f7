import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from onr.norms import LpNorm
from onr_numpy.backend import NumpyBackend
from onr_numpy.network import DenseLinearization, DenseNetwork
from onr_torch.backend import TorchBackend
from onr_validation.theorem.check_theorem import check_theorem
from onr_validation.theorem.draws import (
    COUNTEREXAMPLES,
    INPUT_SHAPE,
    REPAIRED,
    Counterexample,
    architecture,
    check_counterexample,
    check_draws,
    random_draws,
)
from onr_validation.theorem.identities import radius_is_tight
from onr_validation.theorem.reports import LEAST_GENERIC, PairReport

NETWORKS = ("24,24", "24,24,24", "c4,m2,16")
CELLS = list(itertools.product((1, 2, math.inf), repeat=2))


def report(layers, p, q, *, alpha=math.inf, trials=20, backend=None, seed=0, iterations=20):
    p, q = LpNorm(p), LpNorm(q)
    checks = check_draws(
        backend or NumpyBackend(),
        random_draws(layers, trials=trials, seed=seed),
        p=p,
        q=q,
        alpha=alpha,
        iterations=iterations,
    )
    return PairReport(p.name, q.name, alpha, tuple(checks))


# A finite step of twice eps is enough for p in {1, inf}; p = 2 needs the limit.
@pytest.mark.parametrize(("p", "q"), CELLS)
@pytest.mark.parametrize("layers", NETWORKS)
def test_holds_in_every_generic_draw(layers, p, q):
    for alpha in (math.inf,) if p == 2 else (math.inf, 2):
        found = report(layers, p, q, alpha=alpha, trials=100)
        assert found.failures == []
        assert found.generic.sum() >= 99
        deviation = np.concatenate([check.deviation for check in found.checks])[found.generic]
        assert np.median(deviation) < 1e-12


@pytest.mark.parametrize(("p", "q"), CELLS)
def test_holds_on_torch(p, q):
    assert report("c4,m2,16", p, q, backend=TorchBackend()).holds


@pytest.mark.parametrize("case", COUNTEREXAMPLES, ids=lambda case: f"p={case.p}")
def test_counterexamples_are_found_and_named(case):
    check = check_counterexample(case, iterations=20)
    assert check.deviation[0] > 0.01
    assert check.cause[0] or not check.proven
    assert not PairReport(check.p, check.q, math.inf, (check,)).holds


def test_the_cause_is_the_hypothesis_that_fails_and_the_sequences_may_meet_again():
    # J v has a zero too, which float64 cannot judge, but it is J^T u's that the theorem forbids.
    case = Counterexample("", math.inf, 1, ((-1, -2, 1), (-2, 0, 1)), (0, 0.25, 0.5))
    check = check_counterexample(case, iterations=5)
    assert check.cause == ["step 1: J^T u has a zero entry (p = inf)"]
    assert [step.deviation[0] for step in check.steps] == [0.5, 0, 0, 0, 0]


def test_the_ascent_stays_below_the_norm_for_ever():
    # mathematics: ||J|| = 3, Eq. 12 reaches it, projected gradient ascent keeps the value 1.
    case = COUNTEREXAMPLES[0]
    check = check_counterexample(case, iterations=50)
    assert check.steps[-1].norm_step.value[0] == 3
    assert check.steps[-1].ascent_step.value[0] == 1


@pytest.mark.parametrize("p", [1, math.inf])
def test_twice_eps_is_tight(p):
    found = report("24,24", p, 1, alpha=1.9)
    assert not found.checks[0].proven
    assert np.concatenate([check.deviation for check in found.checks]).max() > 1e-3


@pytest.mark.parametrize("q", [1, 2, math.inf])
def test_p_2_has_a_gap_at_a_finite_step(q):
    for alpha in (2.0, 10.0, 1e4):
        found = report("24,24", 2, q, alpha=alpha, iterations=3)
        assert found.proven
        assert found.holds
        gaps = np.concatenate([check.steps[0].deviation for check in found.checks])
        assert 0 < gaps.max() <= math.sqrt(2) / alpha
    below = report("24,24", 2, q, alpha=1.5, iterations=3)
    assert not below.proven
    assert "alpha >= 2 eps" in below.verdict


@pytest.mark.parametrize("p", [1.5, 3])
def test_other_p_deviate(p):
    found = report("24,24", p, 2)
    assert not found.holds
    assert "does not speak" in found.verdict


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_other_q_agree_though_the_theorem_is_silent(p):
    found = report("24,24", p, 3)
    assert not found.checks[0].proven
    assert found.holds


class Spoiled:
    """A norm with one method replaced."""

    euclidean = False  # attacks would take the closest point in its inner product, not its own

    def __init__(self, norm, **methods):
        self._norm, self._methods = norm, methods

    def __getattr__(self, name):
        return self._methods.get(name) or getattr(self._norm, name)

    def __call__(self, x):
        return self._norm(x)


def spoiled_check(p, q, network=None, layers="24,24"):
    model = architecture(layers)
    reference = NumpyBackend().build(model, seed=3, dtype="float64")
    rng = np.random.default_rng(0)
    x, start = rng.standard_normal((2, 10, *INPUT_SHAPE))
    under_test = reference if network is None else network(model, reference.weights)
    check = check_theorem(under_test, reference, x, start, p=p, q=q)
    assert check.proven
    return PairReport(p.name, q.name, math.inf, (check,))


WRONG_MAPS = {
    "scaled": lambda norm, z: 0.999 * norm.duality_map(z),
    "negated": lambda norm, z: -norm.duality_map(z),
    "of another norm": lambda norm, z: LpNorm(1.5).duality_map(z),
    "shifted": lambda norm, z: np.roll(norm.duality_map(z), 1, axis=-1),
}


@pytest.mark.parametrize("p", [1, 2, math.inf])
@pytest.mark.parametrize("wrong", WRONG_MAPS)
def test_a_wrong_duality_map_turns_the_verdict(p, wrong):
    norm = LpNorm(p)
    spoiled = Spoiled(norm, duality_map=lambda z, ties="average": WRONG_MAPS[wrong](norm, z))
    assert spoiled_check(norm, LpNorm(1)).holds
    assert not spoiled_check(spoiled, LpNorm(1)).holds


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_a_wrong_projection_turns_the_verdict(p):
    norm = LpNorm(p)
    for wrong in (
        lambda y, direction, radius: 0.5 * norm.project_face(y, direction, radius),
        lambda y, direction, radius: norm.project_ball(y, radius),
        lambda y, direction, radius: norm.project_face(y, y, radius),
    ):
        assert not spoiled_check(Spoiled(norm, project_face=wrong), LpNorm(2)).holds


class Unmasked(DenseLinearization):
    """The linearisation with the first ReLU's mask forgotten in one direction or both."""

    forget = ("jvp", "vjp")

    def jvp(self, v):
        return self._without(super().jvp, v) if "jvp" in self.forget else super().jvp(v)

    def vjp(self, u):
        return self._without(super().vjp, u) if "vjp" in self.forget else super().vjp(u)

    def _without(self, product, argument):
        kept, self.memory[1] = self.memory[1], np.ones_like(self.memory[1])
        try:
            return product(argument)
        finally:
            self.memory[1] = kept


@pytest.mark.parametrize("forget", [("jvp",), ("vjp",), ("jvp", "vjp")])
@pytest.mark.parametrize(("p", "q"), CELLS)
def test_a_missing_mask_turns_the_verdict(p, q, forget):
    class Wrong(DenseNetwork):
        def linearize(self, x, *, jvp=True):
            at = Unmasked(self, x)
            at.forget = forget
            return at

    assert not spoiled_check(LpNorm(p), LpNorm(q), network=Wrong).holds


def test_too_few_generic_draws_give_no_verdict():
    # A single hidden unit is off in every second draw: J = 0.
    found = report("1", math.inf, 1, trials=100, iterations=2)
    assert found.failures == []
    assert 0.3 < found.generic.mean() < LEAST_GENERIC
    assert not found.holds
    assert "too little to judge" in found.verdict
    assert replace(found, least_generic=0.25).holds


def test_a_counterexample_must_deviate_and_nothing_else_be_wrong():
    for case in (*COUNTEREXAMPLES, REPAIRED):
        assert case.shown_by(check_counterexample(case, iterations=5))
    case = COUNTEREXAMPLES[0]
    there = replace(case, start=(-1, -1))  # the fixed point, where both sequences stay
    assert not there.shown_by(check_counterexample(there, iterations=5))
    wrong = replace(check_counterexample(case, iterations=5), faults=("f(x) is wrong",))
    assert not case.shown_by(wrong)
    assert not replace(case, raw_gradient=True).shown_by(check_counterexample(case, iterations=5))


class Silent(DenseLinearization):
    """The linearisation with a vjp of zeros."""

    def vjp(self, u):
        return 0 * super().vjp(u)


@pytest.mark.parametrize(("p", "q"), CELLS)
def test_a_zero_product_is_no_excuse(p, q):
    class Wrong(DenseNetwork):
        def linearize(self, x, *, jvp=True):
            return Silent(self, x)

    found = spoiled_check(LpNorm(p), LpNorm(q), network=Wrong)
    assert not found.holds
    assert len(found.failures) == 10
    assert "J^T u is wrong" in found.verdict


@pytest.mark.parametrize("factor", [0.01, 0.999, 1.001, 1.9])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
@pytest.mark.parametrize("layers", NETWORKS)
def test_a_radius_is_tight(layers, p, factor):
    network = NumpyBackend().build(architecture(layers), seed=1, dtype="float64")
    x = np.random.default_rng(2).standard_normal((10, *INPUT_SHAPE))
    radius = network.cell_radius(x, p=LpNorm(p))
    assert radius_is_tight(network, x, radius, LpNorm(p))[1].all()
    assert not radius_is_tight(network, x, factor * radius, LpNorm(p))[1].any()


def test_a_draw_is_its_seed():
    one, two = (report("24,24", 2, 2, trials=5, seed=4).summary() for _ in range(2))
    assert one == two
    assert one != report("24,24", 2, 2, trials=5, seed=5).summary()
