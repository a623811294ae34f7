import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from onr.errors import OnrError
from onr.losses import CrossEntropy, LogitDistance, Margin
from onr.norms import LpNorm
from onr.text import cross_entropy, targeted_cross_entropy

laws = settings(max_examples=25, deadline=None, derandomize=True)

CROSS_ENTROPIES = {
    "cross-entropy": CrossEntropy(),
    "warm": CrossEntropy(0.3),
    "cold": CrossEntropy(4),
    "targeted": CrossEntropy(targeted=True),
    "targeted cold": CrossEntropy(4, targeted=True),
}
LOSSES = CROSS_ENTROPIES | {
    "margin": Margin(),
    "l1": LogitDistance(LpNorm(1)),
    "l1.5": LogitDistance(LpNorm(1.5)),
    "l2": LogitDistance(LpNorm(2)),
    "linf": LogitDistance(LpNorm(math.inf)),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_cross_entropy = pytest.mark.parametrize("loss", CROSS_ENTROPIES.values(), ids=CROSS_ENTROPIES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

logit_batches = arrays(np.float64, (4, 5), elements=st.floats(-6, 6, width=16))
label_batches = arrays(np.int64, 4, elements=st.integers(0, 4))


def draw(seed=0, batch=6, classes=5):
    rng = np.random.default_rng(seed)
    logits, clean = 3 * rng.standard_normal((2, batch, classes))
    return logits, rng.integers(0, classes, batch), clean


def naive(loss, z, y, clean):
    """The value of one example, from the definition."""
    others = np.delete(z, y)
    if isinstance(loss, Margin):
        return others.max() - z[y]
    if isinstance(loss, LogitDistance):
        return np.linalg.norm(z - clean, loss.norm.p)
    probability = np.exp(loss.beta * z[y]) / np.sum(np.exp(loss.beta * z))
    return -loss.sign * math.log(probability)


def softmax(z):
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@every_loss
@laws
@given(logits=logit_batches, labels=label_batches, clean=logit_batches)
def test_value_is_the_definition(loss, logits, labels, clean):
    value = loss.value(logits, labels=labels, clean=clean)
    wanted = [naive(loss, *row) for row in zip(logits, labels, clean, strict=True)]
    np.testing.assert_allclose(value, wanted, rtol=1e-10, atol=1e-12)


@every_loss
@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_the_derivative(loss, seed):
    logits, labels, clean = draw(seed)
    h = 1e-6

    def value(z):
        return loss.value(z, labels=labels, clean=clean)

    slopes = [(value(logits + h * e) - value(logits - h * e)) / (2 * h) for e in np.eye(5)]
    gradient = loss.gradient(logits, labels=labels, clean=clean)
    np.testing.assert_allclose(gradient, np.stack(slopes, axis=1), atol=2e-8)


@every_loss
@laws
@given(logits=logit_batches, labels=label_batches, clean=logit_batches)
def test_direction_is_a_positive_multiple_of_the_gradient(loss, logits, labels, clean):
    gradient = loss.gradient(logits, labels=labels, clean=clean)
    direction = loss.direction(logits, labels=labels, clean=clean)
    lengths = np.linalg.norm(gradient, axis=1) * np.linalg.norm(direction, axis=1)
    np.testing.assert_allclose(np.sum(gradient * direction, axis=1), lengths, rtol=1e-12)
    assert np.array_equal(np.any(gradient, axis=1), np.any(direction, axis=1))


@every_loss
def test_rows_are_independent(loss):
    logits, labels, clean = draw()
    logits[2] *= 100
    for method in (loss.value, loss.gradient, loss.direction):
        together = method(logits, labels=labels, clean=clean)
        alone = [
            method(logits[i : i + 1], labels=labels[i : i + 1], clean=clean[i : i + 1])
            for i in range(6)
        ]
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-13, atol=0)


@every_loss
@dtypes
def test_numpy_and_torch_agree_in_the_given_dtype(loss, dtype):
    logits, labels, clean = draw()
    logits, clean = logits.astype(dtype), clean.astype(dtype)
    tensors = {"labels": torch.from_numpy(labels), "clean": torch.from_numpy(clean)}
    for name in ("value", "gradient", "direction"):
        found = getattr(loss, name)(torch.from_numpy(logits), **tensors)
        wanted = getattr(loss, name)(logits, labels=labels, clean=clean)
        assert wanted.dtype == dtype
        assert found.dtype == getattr(torch, dtype)
        tolerance = 1e-13 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(found.numpy(), wanted, rtol=tolerance, atol=tolerance)


@every_cross_entropy
def test_cross_entropy_is_torch_s(loss):
    logits, labels, _ = draw()
    wanted = torch.nn.functional.cross_entropy(
        torch.from_numpy(loss.beta * logits), torch.from_numpy(labels), reduction="none"
    )
    np.testing.assert_allclose(loss.value(logits, labels=labels), loss.sign * wanted, rtol=1e-12)


def test_eq_26_and_27():
    logits, labels, _ = draw()
    untargeted = softmax(logits) - np.eye(5)[labels]
    np.testing.assert_allclose(
        CrossEntropy().gradient(logits, labels=labels), untargeted, rtol=1e-9
    )
    targeted = CrossEntropy(targeted=True).gradient(logits, labels=labels)
    np.testing.assert_allclose(targeted, -untargeted, rtol=1e-9)


def test_temperature():
    logits, labels, _ = draw()
    for beta in (0.1, 7.0):
        loss = CrossEntropy(beta)
        wanted = beta * (softmax(beta * logits) - np.eye(5)[labels])
        np.testing.assert_allclose(loss.gradient(logits, labels=labels), wanted, rtol=1e-9)
        cold = CrossEntropy().value(beta * logits, labels=labels)
        np.testing.assert_allclose(loss.value(logits, labels=labels), cold, rtol=1e-13)


def test_low_temperature_flips_the_label():
    # Section 7.4: beta -> inf turns u into delta_target - delta_argmax.
    logits, labels, _ = draw(3)
    labels = np.where(labels == logits.argmax(axis=1), (labels + 1) % 5, labels)
    flip = np.eye(5)[labels] - np.eye(5)[logits.argmax(axis=1)]
    direction = CrossEntropy(1e6, targeted=True).direction(logits, labels=labels)
    np.testing.assert_allclose(direction, flip, atol=1e-12)


@every_cross_entropy
@dtypes
def test_direction_does_not_vanish_where_softmax_is_one_hot(loss, dtype):
    logits, _, _ = draw(4)
    logits = (1000 * logits).astype(dtype)
    for labels in (logits.argmax(axis=1), logits.argmin(axis=1)):
        direction = loss.direction(logits, labels=labels)
        assert np.all(np.isfinite(direction))
        np.testing.assert_allclose(np.abs(direction).max(axis=1), 1)
        np.testing.assert_allclose(direction[range(6), labels], -loss.sign)
        np.testing.assert_allclose(direction.sum(axis=1), 0, atol=1e-6)


@every_cross_entropy
@dtypes
def test_gradient_is_small_not_zero_where_softmax_rounds_to_one_hot(loss, dtype):
    gap = 40 / loss.beta
    logits = np.array([[gap, 0, -gap]], dtype=dtype)
    gradient = loss.gradient(logits, labels=np.array([0]))
    wanted = loss.sign * loss.beta * math.exp(-40) * np.array([[-1, 1, math.exp(-40)]])
    np.testing.assert_allclose(gradient, wanted, rtol=1e-4)


@every_cross_entropy
@dtypes
@pytest.mark.parametrize("gap", [10, 60])
def test_the_value_of_a_confident_example_does_not_cancel(loss, dtype, gap):
    # -log softmax = log(1 + exp(-gap)), about exp(-gap): an attack compares such values.
    logits = np.array([[gap / loss.beta, 0.0, -1e3]], dtype=dtype)
    wanted = loss.sign * math.log1p(math.exp(-gap))
    np.testing.assert_allclose(loss.value(logits, labels=np.array([0])), wanted, rtol=1e-4)


@every_cross_entropy
@dtypes
def test_the_value_does_not_overflow(loss, dtype):
    logits = np.array([[0.0, 3e4, -3e4], [-3e4, 3e4, 3e4]], dtype=dtype)
    value = loss.value(logits, labels=np.array([2, 0]))
    wanted = np.array([6e4 * loss.beta, 6e4 * loss.beta + math.log(2)])
    np.testing.assert_allclose(loss.sign * value, wanted, rtol=1e-6)


@every_cross_entropy
@laws
@given(logits=logit_batches, labels=label_batches)
def test_cross_entropy_ignores_a_common_shift(loss, logits, labels):
    np.testing.assert_allclose(loss.gradient(logits, labels=labels).sum(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(
        loss.value(logits + 100, labels=labels), loss.value(logits, labels=labels), atol=1e-11
    )


@pytest.mark.parametrize("beta", [0, -1, math.inf, math.nan])
def test_temperatures_that_are_refused(beta):
    with pytest.raises(OnrError):
        CrossEntropy(beta)


@pytest.mark.parametrize("beta", [1, 2, 0.5, 1 / 3, 1234567.5])
def test_names_resolve_to_the_loss(beta):
    for make, targeted in ((cross_entropy, False), (targeted_cross_entropy, True)):
        loss = CrossEntropy(beta, targeted=targeted)
        _, _, argument = loss.name.partition(":")
        again = make(argument) if argument else make()
        assert (again.beta, again.sign) == (loss.beta, loss.sign)
    with pytest.raises(OnrError):
        cross_entropy("warm")


@laws
@given(logits=logit_batches, labels=label_batches)
def test_margin_is_positive_exactly_where_the_prediction_is_wrong(logits, labels):
    margin = Margin().value(logits, labels=labels)
    top = np.sort(logits, axis=1)
    tie = top[:, -1] == top[:, -2]
    wrong = logits.argmax(axis=1) != labels
    assert np.array_equal(margin[~tie] > 0, wrong[~tie])
    assert np.all((margin > 0) == (logits.max(axis=1) > logits[range(4), labels]))


def test_margin_gradient_at_ties_is_the_mean():
    logits = np.array([[1.0, 3.0, 3.0, 0.0], [3.0, 3.0, 1.0, 0.0]])
    gradient = Margin().gradient(logits, labels=np.array([0, 0]))
    assert np.array_equal(gradient, [[-1, 0.5, 0.5, 0], [-1, 1, 0, 0]])


def test_logit_distance_is_eq_28_of_the_movement():
    logits, labels, clean = draw()
    moved = logits - clean
    for q in (1.5, 2, 3):
        wanted = np.sign(moved) * np.abs(moved) ** (q - 1)
        wanted /= np.linalg.norm(moved, q, axis=1, keepdims=True) ** (q - 1)
        gradient = LogitDistance(LpNorm(q)).gradient(logits, labels=labels, clean=clean)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-12)


@pytest.mark.parametrize("q", [1, 2, 3, math.inf])
def test_logit_distance_has_no_direction_where_nothing_moved(q):
    logits, labels, _ = draw()
    loss = LogitDistance(LpNorm(q))
    assert not np.any(loss.value(logits, labels=labels, clean=logits))
    assert not np.any(loss.direction(logits, labels=labels, clean=logits))


@pytest.mark.parametrize("q", [1, 2, 3, math.inf])
def test_direction_of_logit_distance_has_dual_norm_one(q):
    logits, labels, clean = draw()
    u = LogitDistance(LpNorm(q)).direction(logits, labels=labels, clean=clean)
    np.testing.assert_allclose(LpNorm(q).dual(u), 1, rtol=1e-12)


def test_missing_clean_logits_are_named():
    logits, labels, _ = draw()
    loss = LogitDistance(LpNorm(1))
    for method in (loss.value, loss.gradient, loss.direction):
        with pytest.raises(OnrError, match="lq:1"):
            method(logits, labels=labels)
    assert loss.uses_clean
    assert not CrossEntropy().uses_clean
    assert not Margin().uses_clean
