"""Balls: the true number is always inside, and what they do not decide is never guessed."""

import math
import operator
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from onr.arrays import inner, safe, sqrt
from onr.exact.surds import exact_array
from onr.norms import LpNorm

flint = pytest.importorskip("flint")

from onr.exact.balls import Ball, UndecidedError, decided  # noqa: E402 - needs flint

laws = settings(max_examples=80, deadline=None, derandomize=True)
rationals = st.fractions(-100, 100, max_denominator=1000)
precisions = st.sampled_from([8, 20, 53, 128])


def ball(x):
    return Ball(x.numerator, x.denominator)


def holds(found, x):
    """Whether the rational, to 4000 bits, meets the ball."""
    with flint.ctx.workprec(4000):
        return found.arb.overlaps(flint.arb(flint.fmpq(x.numerator, x.denominator)))


def decision(compare, x, y):
    """What the balls say: an answer, or ``None``."""
    try:
        return compare(x, y)
    except UndecidedError:
        return None


ORDERS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@laws
@given(data=st.data(), bits=precisions)
def test_the_true_number_is_inside(data, bits):
    numbers = data.draw(st.lists(rationals, min_size=1, max_size=3))
    with flint.ctx.workprec(bits):
        balls = [ball(x) for x in numbers]
        for _ in range(data.draw(st.integers(1, 12))):
            i, j = (data.draw(st.integers(0, len(numbers) - 1)) for _ in range(2))
            a, b, k = numbers[i], numbers[j], data.draw(rationals)
            what = data.draw(st.sampled_from(["+", "-", "*", "/", "neg", "abs", "k+", "k-", "k/"]))
            if (what == "/" and b == 0) or (what == "k/" and a == 0):
                continue
            both = {
                "+": (a + b, balls[i] + balls[j]),
                "-": (a - b, balls[i] - balls[j]),
                "*": (a * b, balls[i] * balls[j]),
                "neg": (-a, -balls[i]),
                "abs": (abs(a), abs(balls[i])),
                "k+": (k + a, k + balls[i]),
                "k-": (k - a, k - balls[i]),
                **({"/": (a / b, balls[i] / balls[j])} if b else {}),
                **({"k/": (k / a, k / balls[i])} if a else {}),
            }[what]
            numbers.append(both[0])
            balls.append(both[1])
            assert holds(balls[-1], numbers[-1])
        for i in range(len(numbers)):
            for j in range(len(numbers)):
                for compare in ORDERS.values():
                    said = decision(compare, balls[i], balls[j])
                    assert said in (None, compare(numbers[i], numbers[j]))
                    said = decision(compare, balls[i], numbers[j])
                    assert said in (None, compare(numbers[i], numbers[j]))


@laws
@given(x=st.fractions(0, 100, max_denominator=1000), bits=precisions)
def test_the_square_root(x, bits):
    with flint.ctx.workprec(bits):
        root = ball(x).sqrt()
        assert holds(root * root, x)
        assert decision(operator.ge, root, 0) in (None, True)
        array = sqrt(np.array([ball(x), ball(x) + 1], dtype=object))
        assert isinstance(array[0], Ball)
        assert holds(array[1] * array[1], x + 1)


@laws
@given(x=rationals, y=rationals)
def test_enough_bits_decide_numbers_that_differ(x, y):
    if x != y:
        for compare in ORDERS.values():
            assert compare(ball(x), ball(y)) == compare(x, y)


def test_equal_numbers():
    third, again = Ball(1, 3), Ball(1, 3)
    assert operator.eq(third, third) is True
    assert operator.ne(third, third) is False
    # The same number: no precision tells.
    for compare in ORDERS.values():
        with pytest.raises(UndecidedError, match="or so close that 53 bits"):
            compare(third, again)
    # What is exact is decided.
    half = Ball(1, 2)
    assert half == Ball(2, 4) == Fraction(1, 2)
    assert half >= Fraction(1, 2)
    assert not half < Fraction(1, 2)
    assert Ball(0) == 0
    assert not Ball(0) > 0
    with pytest.raises(TypeError):
        hash(half)


def test_a_ball_about_zero_has_no_sign():
    zero = Ball(1, 3) - Ball(1, 3)
    for work in (
        lambda: np.sign(np.array([zero], dtype=object)),
        lambda: np.sort(np.array([Ball(0), zero], dtype=object)),
        lambda: safe(np.array([zero], dtype=object)),
        lambda: zero > 0,
        lambda: (1 / zero) > 0,
        lambda: (1 / zero) == 1,
        lambda: (-abs(zero) - 1).sqrt() > 0,
        lambda: LpNorm(1).duality_map(np.array([[zero, Ball(0)]], dtype=object)),
    ):
        with pytest.raises(UndecidedError):
            work()


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_the_norms_on_balls(p):
    norm, rng = LpNorm(p), np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 6))
    balls, others = exact_array(x, Ball), exact_array(y, Ball)
    np.testing.assert_allclose(norm(balls).astype(float), norm(x), rtol=1e-14)
    v = norm.duality_map(balls)
    np.testing.assert_allclose(v.astype(float), norm.duality_map(x), atol=1e-15)
    found = norm.project_ball(balls, Fraction(1, 2))
    np.testing.assert_allclose(found.astype(float), norm.project_ball(x, 0.5), atol=1e-15)
    gap = np.abs(inner(v, balls) - norm.dual(balls))
    assert np.all(gap < Fraction(1, 2**40))
    assert np.all(inner(v, others) <= norm.dual(others) * Fraction(2**40 + 1, 2**40))


def test_floats_and_balls_do_not_mix():
    for work in (lambda: Ball(1) + 0.5, lambda: Ball(1) < 0.5, lambda: Ball(1) == 0.5):
        with pytest.raises(AttributeError):
            work()


# More bits


@pytest.mark.parametrize("bits", [1, 10, 127, 200, 1000, 4000, 8000])
def test_more_bits_until_it_is_decided(bits):
    tried = []

    def work():
        tried.append(flint.ctx.prec)
        return Ball(1, 3) + Fraction(1, 2**bits) > Ball(1, 3)

    before = flint.ctx.prec
    assert decided(work) is True
    assert tried == [128 * 2**k for k in range(len(tried))]
    assert tried[-1] <= max(128, 2 * (bits + 2))
    assert flint.ctx.prec == before


def test_it_gives_up_on_equal_numbers():
    tried = []

    def work():
        tried.append(flint.ctx.prec)
        two = Ball(2).sqrt()
        return two * two < 2

    before = flint.ctx.prec
    with pytest.raises(UndecidedError, match="2 and 2 are equal, or so close that 8192 bits"):
        decided(work)
    assert tried == [128, 256, 512, 1024, 2048, 4096, 8192]
    assert flint.ctx.prec == before
    tried.clear()
    with pytest.raises(UndecidedError, match="100 bits"):
        decided(work, bits=50, most=100)
    assert tried == [50, 100]


def test_other_errors_are_not_taken_for_undecided():
    tried = []

    def work():
        tried.append(flint.ctx.prec)
        raise ValueError("something else")

    before = flint.ctx.prec
    with pytest.raises(ValueError, match="something else"):
        decided(work)
    assert tried == [128]
    assert flint.ctx.prec == before


@laws
@given(x=st.fractions(0, 10, max_denominator=50), y=st.fractions(0, 10, max_denominator=50))
def test_roots_compare_as_their_squares(x, y):
    def less():
        return ball(x).sqrt() + 1 < ball(y).sqrt() + 1

    try:
        assert decided(less, most=512) == (x < y)
    except UndecidedError:
        assert x == y
