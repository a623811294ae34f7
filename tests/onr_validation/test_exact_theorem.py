"""Theorem 1 by ``==``: it holds in every cell, says why where it does not, and can fail."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from onr.architectures import Affine, Architecture
from onr.arrays import column
from onr.data import pixels
from onr.errors import OnrError
from onr.exact.surds import FASTEST, NotExactError, exact_array, float_array
from onr.norms import LpNorm
from onr.registry import load
from onr.training.config import TrainConfig
from onr.training.factories import run_record
from onr.training.loop import Training
from onr.training.runs import Run
from onr_numpy.backend import NumpyBackend
from onr_numpy.exact_network import ExactNetwork
from onr_numpy.network import DenseLinearization
from onr_validation.theorem.check_theorem import check_theorem
from onr_validation.theorem.comparison import GapComparison
from onr_validation.theorem.draws import (
    COUNTEREXAMPLES,
    Draw,
    architecture,
    check_counterexample,
    check_draws,
    planted_draws,
    random_draws,
    run_draws,
)
from onr_validation.theorem.reports import PairReport

CELLS = list(itertools.product((1, 2, math.inf), repeat=2))
every_cell = pytest.mark.parametrize(("p", "q"), CELLS)


def report(draws, p, q, **options):
    options = {"iterations": 3, **options}
    checks = check_draws(NumpyBackend(), draws, p=LpNorm(p), q=LpNorm(q), exact=True, **options)
    alpha = options.get("alpha", math.inf)
    return PairReport(LpNorm(p).name, LpNorm(q).name, alpha, tuple(checks))


def generic(trials, seed=0, layers="6"):
    return random_draws(layers, trials=trials, seed=seed, short=True)


def explained(found):
    """No draw contradicts the theorem, and where the sequences part a hypothesis fails there."""
    assert found.proven
    assert found.exact
    assert found.failures == []
    for check in found.checks:
        assert check.arithmetic == "exact"
        assert np.all(check.eps < check.radius)
        for i in range(len(check.eps)):
            apart = [step for step in check.steps if step.deviation[i] > 0]
            if apart:
                assert apart[0].degenerate[i]
                assert check.cause[i]
            else:
                assert check.inside[i]
    assert np.all(found.all("deviation")[found.generic] == 0)
    return True


# 25 networks a pair: 5 as they come, 20 in which zeros and ties abound.


@every_cell
def test_holds_exactly_in_every_cell(p, q):
    found = report(generic(5), p, q)
    assert explained(found)
    # So few units may all be off; beside that nothing is degenerate.
    causes = {cause.partition(": ")[2] for cause in found.causes if cause}
    assert causes <= {"J v is zero"}
    assert found.generic.sum() >= 3
    assert {check.steps[-1].norm_step.k for check in found.checks} == {3}


@every_cell
def test_zeros_and_ties_are_named_where_the_sequences_part(p, q):
    found = report(planted_draws(trials=20, seed=3), p, q)
    assert explained(found)
    count, parted = int(np.sum(~found.generic)), found.parted
    assert 0 < parted <= count < 20
    causes = " ".join(found.causes)
    assert ("zero entry (p = inf)" in causes) == (p == math.inf)
    assert ("tie for its largest (p = 1)" in causes) == (p == 1)
    assert "J v is zero" in causes
    if p != 2:
        # They abound, and some go on together: such a draw is followed to its end.
        assert count > 6
        assert parted < count


@every_cell
def test_holds_with_the_fractions_of_python(p, q):
    found = report(itertools.chain(generic(2), planted_draws(trials=3, seed=1)), p, q)
    same = itertools.chain(generic(2), planted_draws(trials=3, seed=1))
    other = report(same, p, q, rational=Fraction)
    assert explained(other)
    assert found.summary() == other.summary()


@every_cell
def test_holds_on_convolutions_and_pooling(p, q):
    found = report(generic(3, layers="c1,m2,4"), p, q)
    assert explained(found)
    assert found.generic.any()


@pytest.mark.parametrize("fraction", [1e-300, 1e-9, 0.9, 1 - 2**-53])
@every_cell
def test_holds_at_every_radius_inside_the_cell(p, q, fraction):
    found = report(generic(2, seed=3), p, q, fraction=fraction)
    assert explained(found)
    share = found.all("eps") / found.all("radius")
    assert np.all((share <= fraction) & (share >= 0.99 * fraction))


def test_an_exact_draw_is_its_seed():
    one, two = (report(generic(3, seed=7), 2, 2).summary() for _ in range(2))
    assert one == two != report(generic(3, seed=8), 2, 2).summary()


# Finite steps


@pytest.mark.parametrize("alpha", [2, 1e6])
@pytest.mark.parametrize(("p", "q"), [cell for cell in CELLS if cell[0] != 2])
def test_twice_eps_is_enough(p, q, alpha):
    draws = itertools.chain(generic(3), planted_draws(trials=3, seed=2))
    found = report(draws, p, q, alpha=alpha)
    assert found.failures == []
    assert found.proven
    assert found.generic.sum() >= 3
    assert np.all(found.all("deviation")[found.generic] == 0)


@pytest.mark.parametrize(("p", "q"), [cell for cell in CELLS if cell[0] != 2])
def test_less_than_twice_eps_is_not(p, q):
    # For p = 1 a draw shows it only where the largest entry changes.
    found = report(generic(60 if p == 1 else 6), p, q, alpha=1.9)
    assert not found.proven
    assert not found.holds
    assert "alpha >= 2 eps" in found.verdict
    assert found.all("deviation").max() > 1e-3


@pytest.mark.parametrize("q", [1, 2, math.inf])
@pytest.mark.parametrize("alpha", [2, 5.5, 1e4])
def test_the_gap_of_p_2_is_within_its_bound(q, alpha):
    pytest.importorskip("flint")
    found = report(generic(4), 2, q, alpha=alpha)
    assert found.holds
    assert found.proven
    assert "certified" in found.verdict
    for check in found.checks:
        assert check.arithmetic == "balls"
        for step in check.steps:
            assert 0 < step.deviation[0] <= step.bound[0]
            np.testing.assert_allclose(step.bound, math.sqrt(2) / alpha, rtol=1e-9)


@pytest.mark.parametrize("q", [1, 2, math.inf])
def test_a_smaller_bound_for_p_2_is_violated(q, monkeypatch):
    pytest.importorskip("flint")
    # For alpha >= 2 eps the gap is at most 1.036 |x_(k-1) - x| / alpha, and often not far below.
    original = GapComparison.__init__

    def shrunk(self, network, x, v0, eps, alpha):
        original(self, network, x, v0, eps, 2 * alpha)

    monkeypatch.setattr(GapComparison, "__init__", shrunk)
    found = report(generic(6), 2, q, alpha=8)
    assert not found.holds
    assert "the gap is larger than its bound" in found.verdict


def test_below_twice_eps_nothing_is_claimed_for_p_2():
    pytest.importorskip("flint")
    found = report(generic(2), 2, 2, alpha=1.5)
    assert not found.proven
    assert "does not speak" in found.verdict


# What its hypotheses are for


@pytest.mark.parametrize(
    "case", [c for c in COUNTEREXAMPLES if c.p in (1, 2, math.inf)], ids=lambda c: c.title[:20]
)
def test_the_counterexamples_part_exactly(case):
    check = check_counterexample(case, iterations=6, exact=True)
    assert check.arithmetic == "exact"
    assert check.deviation[0] > 0.01
    # Either a hypothesis fails, or the theorem does not speak of the step.
    assert check.cause[0] or not check.proven


def test_the_ascent_stays_at_one_for_ever_exactly():
    case = COUNTEREXAMPLES[0]
    check = check_counterexample(case, iterations=30, exact=True)
    assert [step.norm_step.value[0] for step in check.steps[2:]] == [3] * 28
    assert [step.ascent_step.value[0] for step in check.steps] == [1] * 30
    # So does it from every start near by.
    for first, second in itertools.product((0.9, 1, 0.95), (-0.5, -0.6, -0.4)):
        check = check_counterexample(replace(case, start=(first, second)), iterations=6, exact=True)
        assert check.steps[-1].norm_step.value[0] == 3
        assert check.steps[-1].ascent_step.value[0] < 1.5


def test_the_limit_at_a_tie_keeps_the_difference():
    # mathematics: eps/m + s_j d_j - mean(s d) on the tied coordinates, here (3/4, 1/4) as it was.
    check = check_counterexample(
        next(c for c in COUNTEREXAMPLES if c.p == 1 and c.alpha == math.inf),
        iterations=4,
        exact=True,
    )
    assert check.steps[-1].norm_step.v[0].tolist() == [0.5, 0.5]
    assert check.steps[-1].ascent_step.delta[0].tolist() == [0.75, 0.25]


def test_an_input_on_a_wall_and_norms_that_leave_the_numbers():
    model = Architecture((2,), (Affine(2),))
    draw = next(iter(generic(1)))
    for p, q in ((3, 2), (2, 1.5)):
        with pytest.raises((NotExactError, TypeError, OnrError)):
            report([draw], p, q)
    weights = {"0.weight": np.eye(2), "0.bias": np.zeros(2)}
    zero = Draw(model, weights, np.zeros((1, 2)), np.ones((1, 2)))
    assert report([zero], math.inf, 1).holds  # a linear network has no walls
    planted = next(iter(planted_draws(trials=1, seed=0)))
    parameters = {**planted.parameters, "0.bias": -planted.parameters["0.weight"] @ planted.x[0]}
    with pytest.raises(OnrError, match="on the wall"):
        report([replace(planted, parameters=parameters)], 2, 2)


# It can fail


class Spoiled:
    """A norm with one method replaced."""

    euclidean = False  # attacks would take the closest point in its inner product, not its own

    def __init__(self, norm, **methods):
        self._norm, self._methods = norm, methods

    def __getattr__(self, name):
        return self._methods.get(name) or getattr(self._norm, name)

    def __call__(self, x):
        return self._norm(x)


def spoiled_check(p, q, network=ExactNetwork, layers="6,5", alpha=math.inf):
    """Both sequences of one network at three inputs, with something of it broken."""
    rng = np.random.default_rng(1)
    model = architecture(layers)
    dense = NumpyBackend().build(model, seed=1, dtype="float32")
    reference, under_test = (kind(dense, number=FASTEST) for kind in (ExactNetwork, network))
    x, start = rng.standard_normal((2, 3, *model.input_shape)).astype(np.float16)
    check = check_theorem(under_test, reference, x, start, p=p, q=q, iterations=2, alpha=alpha)
    assert check.proven
    assert check.arithmetic == "exact"
    return PairReport(p.name, q.name, alpha, (check,))


@every_cell
def test_the_network_that_is_spoiled_below_is_sound(p, q):
    assert spoiled_check(LpNorm(p), LpNorm(q)).holds


TINY = Fraction(2**100 + 1, 2**100)


def scaled(x, factor):
    return x * FASTEST(factor.numerator, factor.denominator)


def across(norm, z):
    """A vector that is orthogonal to each: no product with ``z`` shows it."""
    z = norm.duality_map(z) if norm.name == "2" else z
    flat = z.reshape(len(z), -1)
    turned = 0 * flat
    turned[:, 0], turned[:, 1] = -flat[:, 1], flat[:, 0]
    return turned.reshape(z.shape)


WRONG_MAPS = {
    "scaled by one part in 2^100": lambda norm, z: scaled(norm.duality_map(z), TINY),
    "negated": lambda norm, z: -norm.duality_map(z),
    "shifted": lambda norm, z: np.roll(norm.duality_map(z), 1, axis=-1),
    "of another norm": lambda norm, z: LpNorm(math.inf if norm.name == "1" else 1).duality_map(z),
    "zero": lambda norm, z: 0 * norm.duality_map(z),
    "attaining too far out": lambda norm, z: norm.duality_map(z) + across(norm, z),
}


@pytest.mark.parametrize("p", [1, 2, math.inf])
@pytest.mark.parametrize("wrong", WRONG_MAPS)
def test_a_wrong_duality_map_turns_the_verdict(p, wrong):
    norm = LpNorm(p)
    spoiled = Spoiled(norm, duality_map=lambda z, ties="average": WRONG_MAPS[wrong](norm, z))
    assert not spoiled_check(spoiled, LpNorm(1)).holds


@pytest.mark.parametrize("q", [1, 2, math.inf])
@pytest.mark.parametrize("wrong", WRONG_MAPS)
def test_a_wrong_gradient_of_q_turns_the_verdict(q, wrong):
    norm = LpNorm(q)
    spoiled = Spoiled(norm, gradient=lambda x: WRONG_MAPS[wrong](norm.dual, x))
    assert not spoiled_check(LpNorm(math.inf), spoiled).holds


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_a_wrong_projection_turns_the_verdict(p):
    norm = LpNorm(p)
    for wrong in (
        lambda y, direction, radius: scaled(norm.project_face(y, direction, radius), TINY),
        lambda y, direction, radius: norm.project_ball(y, radius),
        lambda y, direction, radius: norm.project_face(y, y, radius),
        lambda y, direction, radius: -norm.project_face(y, direction, radius),
    ):
        assert not spoiled_check(Spoiled(norm, project_face=wrong), LpNorm(2)).holds


@pytest.mark.parametrize("p", [1, math.inf])
def test_a_wrong_projection_after_a_finite_step_turns_the_verdict(p):
    norm = LpNorm(p)
    assert spoiled_check(norm, LpNorm(1), alpha=2).holds
    for wrong in (
        lambda y, radius: scaled(norm.project_ball(y, radius), TINY),
        lambda y, radius: y,
        lambda y, radius: LpNorm(math.inf if p == 1 else 1).project_ball(y, radius),
    ):
        assert not spoiled_check(Spoiled(norm, project_ball=wrong), LpNorm(1), alpha=2).holds


class Unmasked(DenseLinearization):
    """The linearisation with the first ReLU's mask forgotten in one direction or both."""

    forget = ("jvp", "vjp")

    def jvp(self, v):
        return self._without(super().jvp, v) if "jvp" in self.forget else super().jvp(v)

    def vjp(self, u):
        return self._without(super().vjp, u) if "vjp" in self.forget else super().vjp(u)

    def _without(self, product, argument):
        first = next(i for i, memory in enumerate(self.memory) if memory is not None)
        kept, self.memory[first] = self.memory[first], np.ones_like(self.memory[first])
        try:
            return product(argument)
        finally:
            self.memory[first] = kept


@pytest.mark.parametrize("forget", [("jvp",), ("vjp",), ("jvp", "vjp")])
@every_cell
def test_a_missing_mask_turns_the_verdict(p, q, forget):
    class Wrong(ExactNetwork):
        def linearize(self, x, *, jvp=True):
            at = Unmasked(self, x)
            at.forget = forget
            return at

    assert not spoiled_check(LpNorm(p), LpNorm(q), network=Wrong).holds


def product_wrong(name, change):
    class Linearization(DenseLinearization):
        def jvp(self, v):
            image = super().jvp(v)
            return change(image) if name == "jvp" else image

        def vjp(self, u):
            image = super().vjp(u)
            return change(image) if name == "vjp" else image

    class Wrong(ExactNetwork):
        def linearize(self, x, *, jvp=True):
            return Linearization(self, x)

    return Wrong


WRONG_PRODUCTS = {
    "scaled by one part in 2^100": lambda image: scaled(image, TINY),
    "negated": lambda image: -image,
    "shifted": lambda image: np.roll(image, 1, axis=-1),
    "rounded": lambda image: exact_array(float_array(image), FASTEST),
    "zero": lambda image: 0 * image,
}


@pytest.mark.parametrize("name", ["jvp", "vjp"])
@pytest.mark.parametrize("wrong", WRONG_PRODUCTS)
@pytest.mark.parametrize("p", [1, math.inf])
def test_a_wrong_product_turns_the_verdict(p, name, wrong):
    network = product_wrong(name, WRONG_PRODUCTS[wrong])
    assert not spoiled_check(LpNorm(p), LpNorm(1), network=network).holds


def test_a_value_that_is_rounded_turns_the_verdict():
    class Linearization(DenseLinearization):
        @property
        def value(self):
            return exact_array(float_array(super().value), FASTEST)

    class Wrong(ExactNetwork):
        def linearize(self, x, *, jvp=True):
            return Linearization(self, x)

        def __call__(self, x):
            return self.linearize(x).value

    assert not spoiled_check(LpNorm(math.inf), LpNorm(1), network=Wrong).holds


def test_an_iterate_outside_the_cell_turns_the_verdict(monkeypatch):
    radius = ExactNetwork.cell_radius
    monkeypatch.setattr(ExactNetwork, "cell_radius", lambda *a, **k: 1000 * radius(*a, **k))
    found = spoiled_check(LpNorm(math.inf), LpNorm(1))
    assert not found.holds
    assert "the radius of the cell is wrong" in found.verdict
    (check,) = found.checks
    assert any("outside the cell" in broken for step in check.steps for broken in step.broken)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_a_difference_that_floats_do_not_show_is_one(p, monkeypatch):
    norm = LpNorm(p)
    wrong = Spoiled(
        norm, project_face=lambda *arguments: scaled(norm.project_face(*arguments), TINY)
    )
    checks = check_draws(NumpyBackend(), generic(3), p=wrong, q=LpNorm(1), exact=True, iterations=1)
    for check in checks:
        assert 0 < check.deviation[0] < 1e-29
        assert check.failure[0].startswith("step 1: deviation")


def ball_report(p, q):
    checks = check_draws(NumpyBackend(), generic(2), p=p, q=q, exact=True, alpha=8.0, iterations=2)
    return PairReport("2", q.name, 8.0, tuple(checks))


BALL_MAPS = {
    **{name: WRONG_MAPS[name] for name in ("negated", "shifted", "of another norm")},
    "scaled": lambda norm, z: norm.duality_map(z) * Fraction(999, 1000),
    "attaining a little too far out": lambda norm, z: (
        norm.duality_map(z) + across(norm, z) * Fraction(1, 10**6)
    ),
}


@pytest.mark.parametrize("q", [1, 2, math.inf])
def test_balls_notice_a_wrong_duality_map(q):
    pytest.importorskip("flint")
    two, q = LpNorm(2), LpNorm(q)
    assert ball_report(two, q).holds
    for wrong in BALL_MAPS.values():
        spoiled = Spoiled(two, duality_map=lambda z, ties="average", w=wrong: w(two, z))
        assert not ball_report(spoiled, q).holds
        if wrong is not BALL_MAPS["attaining a little too far out"]:
            spoiled = Spoiled(q, gradient=lambda x, w=wrong: w(q.dual, x))
            assert not ball_report(two, spoiled).holds


@pytest.mark.parametrize("wrong", ["negated", "shifted", "scaled"])
def test_balls_notice_a_wrong_adjoint(wrong, monkeypatch):
    pytest.importorskip("flint")
    change = WRONG_PRODUCTS.get(wrong, lambda image: image * Fraction(10**9 + 1, 10**9))
    monkeypatch.setattr("onr_validation.theorem.draws.ExactNetwork", product_wrong("vjp", change))
    assert not ball_report(LpNorm(2), LpNorm(1)).holds


def test_a_float_among_the_numbers_is_refused():
    norm = LpNorm(math.inf)
    floats = Spoiled(
        norm, duality_map=lambda z, ties="average": norm.duality_map(z).astype(float).astype(object)
    )
    with pytest.raises(NotExactError, match="a float among exact numbers"):
        list(
            check_draws(NumpyBackend(), generic(1), p=floats, q=LpNorm(1), exact=True, iterations=1)
        )


# A trained network


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Digits, two hidden layers, one epoch in NumPy."""
    pytest.importorskip("sklearn")
    config = TrainConfig(
        backend="numpy",
        model_options={"width": "6", "depth": "2"},
        epochs=1,
        batch_size=60,
        train_images=600,
        lr=0.02,
    )
    training = Training(config)
    run = Run.create(
        tmp_path_factory.mktemp("trained") / "run", run_record(config, training.method)
    )
    training.finish(run)
    assert training.records[0]["validation_accuracy"] > 0.2
    return run


@every_cell
def test_a_trained_network_at_real_images(trained, p, q):
    found = report(run_draws(trained, trials=2, seed=0), p, q)
    assert explained(found)
    assert found.generic.all()
    assert "holds exactly" in found.verdict
    # They are the digits' own test images, and the trained weights.
    draws = list(run_draws(trained, trials=2, seed=0))
    images = pixels(load("dataset", "digits")(data_dir=None, download=False).test.images[:2])
    for draw, image in zip(draws, images, strict=True):
        np.testing.assert_allclose(draw.x[0], image, atol=1e-7)
    tensors = dict(trained.load().tensors)
    for name, value in draws[0].parameters.items():
        assert np.array_equal(value, tensors[f"model.{name}"])


def test_the_exact_sequences_are_those_in_floats(trained):
    for p, q in CELLS:
        draws = [*generic(2, seed=5), *run_draws(trained, trials=1, seed=0)]
        exact = report(draws, p, q)
        norms = {"p": LpNorm(p), "q": LpNorm(q)}
        floats = check_draws(NumpyBackend(), draws, **norms, iterations=3)
        for one, other in zip(exact.checks, floats, strict=True):
            np.testing.assert_allclose(one.radius, other.radius, rtol=1e-6)
            for a, b in zip(one.steps, other.steps, strict=True):
                np.testing.assert_allclose(a.norm_step.v, b.norm_step.v, atol=1e-6)
                np.testing.assert_allclose(a.norm_step.value, b.norm_step.value, rtol=1e-6)


def test_an_exact_eps_is_a_short_number_below_its_share():
    draw = next(iter(generic(1)))
    dense = NumpyBackend().build(draw.model, parameters=draw.parameters, dtype="float64")
    exact = ExactNetwork(dense, number=FASTEST)
    for p in (1, 2, math.inf):
        (radius,) = exact.cell_radius(exact_array(draw.x, FASTEST), p=LpNorm(p))
        (check,) = report([draw], p, 1).checks
        eps = exact_array(check.eps, FASTEST)[0]
        assert 0 < eps <= radius / 2
        assert eps >= radius * FASTEST(99, 200)
        # The ball of that radius is in the cell: its corners have the pattern of x.
        x = exact_array(draw.x, FASTEST)
        rng = np.random.default_rng(0)
        for _ in range(5):
            z = exact_array(rng.standard_normal(x.shape).astype(np.float16), FASTEST)
            corner = LpNorm(p).duality_map(z) * column(np.array([eps], dtype=object), x)
            moved = exact.linear_region(x + corner)
            assert np.array_equal(moved, exact.linear_region(x))
