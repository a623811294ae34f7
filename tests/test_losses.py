import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from onr.errors import ImageError, OnrError
from onr.losses import CrossEntropy, LogitDistance, Margin
from onr.norms import LpNorm
from onr.testing import check_loss
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
def test_the_laws_of_a_loss(loss, seed):
    check_loss(loss, seed=seed)


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


# The ends of the range

CLASSIFYING = CROSS_ENTROPIES | {"margin": Margin()}
every_classifying_loss = pytest.mark.parametrize("loss", CLASSIFYING.values(), ids=CLASSIFYING)
PARTS = ("value", "gradient", "direction")


def given_as(kind, *arrays):
    return [torch.from_numpy(a) for a in arrays] if kind == "torch" else list(arrays)


@every_classifying_loss
@laws
@given(logits=logit_batches, labels=label_batches, shift=st.integers(-64, 64))
def test_a_shift_of_all_logits_changes_nothing(loss, logits, labels, shift):
    for part in PARTS:
        found = getattr(loss, part)(logits, labels=labels)
        shifted = getattr(loss, part)(logits + shift, labels=labels)
        np.testing.assert_allclose(shifted, found, rtol=1e-9, atol=1e-12)


@every_loss
@dtypes
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@laws
@given(
    logits=logit_batches,
    clean=logit_batches,
    labels=arrays(np.int64, 4, elements=st.integers(0, 2)),
    masked=st.lists(st.integers(0, 5), min_size=3, max_size=3, unique=True),
)
def test_a_masked_class_counts_as_no_class(loss, dtype, kind, logits, clean, labels, masked):
    logits, clean, place = logits.astype(dtype), clean.astype(dtype), np.sort(masked)
    kept = np.setdiff1d(np.arange(8), place)
    wide, still = (np.full((4, 8), -np.inf, dtype) for _ in range(2))
    wide[:, kept], still[:, kept] = logits, clean
    for part in PARTS:
        z, c, y = given_as(kind, logits, clean, labels)
        cut = np.asarray(getattr(loss, part)(z, labels=y, clean=c))
        z, c, y = given_as(kind, wide, still, kept[labels])
        found = np.asarray(getattr(loss, part)(z, labels=y, clean=c))
        tolerance = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(found if part == "value" else found[:, kept], cut, tolerance)
        assert part == "value" or not found[:, place].any()


@dtypes
@pytest.mark.parametrize("targeted", [False, True])
@laws
@given(logits=logit_batches, labels=label_batches, power=st.integers(-100, 100))
def test_scaled_logits_at_the_inverse_temperature_are_the_same(
    dtype, targeted, logits, labels, power
):
    scale = 2.0**power
    logits = logits.astype(dtype)
    plain, other = (CrossEntropy(beta, targeted=targeted) for beta in (1, 1 / scale))
    scaled = logits * np.dtype(dtype).type(scale)
    for part in ("value", "direction"):
        found = getattr(other, part)(scaled, labels=labels)
        wanted = getattr(plain, part)(logits, labels=labels)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@every_classifying_loss
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@dtypes
@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e-7, 1e4, 1e30, 1e37])
def test_finite_logits_have_losses_and_directions(loss, kind, dtype, scale):
    logits, labels, _ = draw(batch=30)
    logits = (logits * scale / 9).astype(dtype)
    z, y = given_as(kind, logits, labels)
    for part in PARTS:
        found = np.asarray(getattr(loss, part)(z, labels=y))
        assert np.isfinite(found).all()
        assert part != "direction" or np.abs(found).max(axis=1).all()
    if isinstance(loss, Margin):
        own = logits[np.arange(30), labels].astype(float)
        others = np.where(np.arange(5) == labels[:, None], -np.inf, logits).max(axis=1)
        np.testing.assert_allclose(loss.value(z, labels=y), others - own, rtol=1e-5)


@dtypes
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("scale", [1e-3, 1e-7, 1e-12, 1e-30])
def test_rounding_inverts_no_two_losses_of_nearly_equal_logits(dtype, kind, scale):
    rng = np.random.default_rng(0)
    logits, step = (scale * rng.standard_normal((2, 500, 10))).astype(dtype)
    labels = rng.integers(0, 10, 500)
    values, exact = [], []
    for z in (logits, logits + step / 16):
        wide = z.astype(np.longdouble)
        apart = wide - wide[np.arange(500), labels][:, None]
        exact.append(np.log1p(np.mean(np.expm1(apart), axis=1)))
        given_z, given_y = given_as(kind, z, labels)
        values.append(np.asarray(CrossEntropy().value(given_z, labels=given_y)).astype(float))
    one, two = values
    larger = exact[1] - exact[0]
    clear = np.abs(larger) > 100 * np.finfo(dtype).eps * scale
    assert np.all(((two - one) * np.sign(larger))[clear] >= 0)
    np.testing.assert_allclose(one, np.log(10) + exact[0].astype(float), rtol=1e-6)


@every_loss
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("place", [0, 3])
def test_a_logit_that_is_nan_names_its_image(loss, part, kind, place):
    logits, labels, clean = draw()
    labels[2] = 3
    logits[2, place] = math.nan
    z, y, c = given_as(kind, logits, labels, clean)
    with pytest.raises(ImageError, match=r"^image 2: the network gives logits \[.*nan") as error:
        getattr(loss, part)(z, labels=y, clean=c)
    assert error.value.index == 2


@every_classifying_loss
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("label", [5, -1, 0.5, 2**40])
def test_a_label_that_is_no_class_names_its_image(loss, part, label):
    logits, labels, _ = draw()
    labels = labels.astype(type(label))
    labels[4] = label
    for z, y in ((logits, labels), given_as("torch", logits, labels)):
        with pytest.raises(ImageError, match=f"^image 4: label {label} is no class: .* 0 to 4$"):
            getattr(loss, part)(z, labels=y)


@every_classifying_loss
@pytest.mark.parametrize("part", PARTS)
def test_one_logit_is_no_classifier(loss, part):
    for logits in (np.ones((2, 1)), torch.ones(2, 1), np.ones(2)):
        labels = given_as("torch" if isinstance(logits, torch.Tensor) else "", np.zeros(2, int))[0]
        with pytest.raises(OnrError, match="needs two logits or more"):
            getattr(loss, part)(logits, labels=labels)
    for labels in (np.zeros(3, int), np.zeros((2, 1), int), [0, 1]):
        with pytest.raises(OnrError, match="expected one label for each image"):
            getattr(loss, part)(np.ones((2, 3)), labels=labels)


@every_classifying_loss
def test_infinite_logits_have_the_limit(loss):
    inf = math.inf
    logits = np.array([[1.0, inf, 0, 2], [inf, 1, 0, 2], [-inf, 1, 0, 2], [1, -inf, -inf, -inf]])
    labels, sign = np.zeros(4, int), getattr(loss, "sign", 1)
    wanted = [inf, -inf if isinstance(loss, Margin) else 0, inf, 0]
    if isinstance(loss, Margin):
        wanted[3] = -inf
    assert np.array_equal(sign * loss.value(logits, labels=labels), wanted)
    direction = sign * loss.direction(logits, labels=labels)
    assert np.array_equal(direction[0], [-1, 1, 0, 0])
    assert direction[1, 0] == direction[2, 0] == -1
    np.testing.assert_allclose(direction.sum(axis=1), 0, atol=1e-12)
    assert not direction[3].any()
    for row in ([-inf] * 4, [inf, inf, 0, 0]):
        logits[1] = row
        for part in PARTS[:1] if isinstance(loss, Margin) else PARTS:
            with pytest.raises(ImageError, match=r"^image 1: "):
                getattr(loss, part)(logits, labels=labels)


@every_loss
@pytest.mark.parametrize("wrong", ["logit", "label"])
def test_where_a_look_would_wait_the_row_is_nan(loss, wrong, monkeypatch):
    monkeypatch.setattr("onr.losses.on_cpu", lambda x: False)
    logits, labels, clean = draw()
    if wrong == "logit":
        logits[2, labels[2]] = math.nan
    elif isinstance(loss, LogitDistance):
        return
    else:
        labels[2] = 7
    for z, y, c in ((logits, labels, clean), given_as("torch", logits, labels, clean)):
        for part in PARTS:
            found = np.asarray(getattr(loss, part)(z, labels=y, clean=c)).reshape(6, -1)
            assert np.isnan(found).any(axis=1).tolist() == [False, False, True, *[False] * 3]


@every_classifying_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_know_a_thousand_classes(loss, dtype):
    logits = torch.randn(6, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.tensor([0, 255, 257, 511, 998, 999])
    found = loss.direction(logits, labels=labels)
    assert found.dtype == loss.gradient(logits, labels=labels).dtype == dtype
    at_label = found.float().gather(1, labels[:, None])
    assert torch.equal(at_label, torch.full((6, 1), -float(getattr(loss, "sign", 1))))
    wide = loss.value(logits.float(), labels=labels)
    np.testing.assert_allclose(loss.value(logits, labels=labels).float(), wide, rtol=0.01)
    with pytest.raises(OnrError, match="an array of int8: expected floats"):
        CrossEntropy().value(np.zeros((1, 2), np.int8), labels=np.zeros(1, int))
