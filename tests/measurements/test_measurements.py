"""Measurements of networks, against naive twins and where the answer is known."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onr.architectures import Affine, Architecture, Flatten, ReLU, initial_parameters
from onr.data import Dataset, Split, validation_split
from onr.errors import OnrError
from onr.experiments import Claim
from onr.jacobians import operator_norms
from onr.jacobians.dense import right_singular_vectors
from onr.jacobians.lanczos import singular_triplets
from onr.jacobians.operator_norms import operator_norm
from onr.measurements.accuracy import accuracy
from onr.measurements.activations import activations
from onr.measurements.alignment import alignment
from onr.measurements.directions import directions
from onr.measurements.linearity import linearity
from onr.measurements.norms import norms
from onr.measurements.perturbations import (
    absolute_correlation,
    absolute_cosine,
    adversarial,
    random_of_length,
)
from onr.measurements.predictions import logits
from onr.measurements.spectrum import spectrum
from onr.norms import LpNorm
from onr.records import statistics
from onr.text import norm
from onr.training.config import TrainConfig
from onr.training.factories import make_backend
from onr.training.subject import Subject
from onr_numpy.backend import NumpyBackend

SHAPE = (1, 3, 4)
CONFIG = TrainConfig(dtype="float64", model="mlp", model_options={"width": "9"})


class Fixed(Subject):
    """A subject whose data and network the test chooses."""

    def __init__(self, config: TrainConfig, dataset: Dataset, architecture: Architecture) -> None:
        self.config, self.dataset, self._architecture = config, dataset, architecture
        self.backend = make_backend(config)
        self.network = self.backend.build(architecture, seed=config.seed, dtype=config.dtype)
        self.run, self.epochs = None, None

    @property
    def untrained(self) -> Subject:  # type: ignore[override]
        return Fixed(replace(self.config, seed=99), self.dataset, self._architecture)


def subject(*layers: Any, backend: str = "torch", classes: int = 4, images: int = 12) -> Fixed:
    rng = np.random.default_rng(5)

    def split(count: int) -> Split:
        return Split(
            rng.uniform(0.3, 0.7, (count, *SHAPE)), rng.integers(0, classes, count, np.int64)
        )

    dataset = Dataset("made", split(30), split(images), tuple("abcdefgh"[:classes]))
    layers = layers or (Flatten(), Affine(9), ReLU(), Affine(7), ReLU(), Affine(classes))
    return Fixed(replace(CONFIG, backend=backend), dataset, Architecture(SHAPE, layers))


LINEAR = (Flatten(), Affine(6), Affine(4))


def rows(table: list[dict[str, Any]], **columns: Any) -> list[dict[str, Any]]:
    return [row for row in table if all(row[k] == v for k, v in columns.items())]


def means(table: list[dict[str, Any]], **columns: Any) -> np.ndarray:
    return np.array([row["mean"] for row in rows(table, **columns)])


# Statistics and claims


def test_statistics_leave_out_what_is_unknown():
    found = statistics(np.array([1.0, math.nan, 3.0]))
    assert found == {"mean": 2.0, "standard_error": 1.0, "images": 2}
    assert math.isnan(float(statistics(np.array([1.0]))["standard_error"]))
    assert math.isnan(float(statistics(np.array([math.nan]))["mean"]))


@pytest.mark.parametrize(
    ("value", "low", "high", "held"),
    [
        (1.0, 1.0, None, True),
        (0.99, 1.0, None, False),
        (1.0, None, 1.0, True),
        (1.01, None, 1.0, False),
        (1.0, 0.5, 2.0, True),
        (2.5, 0.5, 2.0, False),
        (0.4, 0.5, 2.0, False),
        (math.nan, None, 1.0, False),
        (math.nan, 0.0, None, False),
        (math.inf, 0.0, None, False),
    ],
)
def test_the_number_decides(value: float, low: float | None, high: float | None, held: bool):
    claim = Claim("it is so", "a number", value, low, high)
    assert claim.held is held
    assert str(claim).startswith("Held: it is so." if held else "Did not hold: it is so.")
    assert claim.asked in str(claim)


# Perturbations


def test_random_directions_have_the_lengths_asked_for():
    x = torch.zeros(5, *SHAPE, dtype=torch.float64)
    lengths = torch.tensor([0.1, 0.2, 0.3, 0.4, 5.0], dtype=torch.float64)
    z = random_of_length(x, lengths, seed=3)
    torch.testing.assert_close(z.flatten(1).norm(dim=1), lengths)
    assert torch.equal(z, random_of_length(x, lengths, seed=3))
    assert not torch.equal(z, random_of_length(x, lengths, seed=4))


def test_cosine_and_correlation_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 4, *SHAPE))
    for index in range(4):
        u, v = a[index].ravel(), b[index].ravel()
        cosine = abs(u @ v) / np.linalg.norm(u) / np.linalg.norm(v)
        assert absolute_cosine(a, b)[index] == pytest.approx(cosine)
        expected = abs(np.corrcoef(u, v)[0, 1])
        assert absolute_correlation(a, b)[index] == pytest.approx(expected)


@pytest.mark.parametrize("p", ["1", "2", "inf"])
def test_attacks_reach_the_radius_and_gain_loss(p: str):
    one = subject()
    x, y = one.batch(12)
    z = adversarial(one.network, x, y, p=norm(p), eps=0.05, seed=(0, 0))
    sizes = torch.linalg.vector_norm(z.flatten(1), ord=float(p), dim=1)
    assert (sizes <= 0.05 * (1 + 1e-9)).all()
    assert (sizes > 0.045).all()
    loss = nn.functional.cross_entropy
    assert loss(one.network(x + z), y) > loss(one.network(x), y)


# Spectrum


def test_the_spectrum_is_numpys():
    one = subject(images=3)
    found = spectrum(
        one.network, *one.inputs(3), p=LpNorm(2), eps=0.1, reference=one.untrained.network
    )
    x, _ = one.batch(3)
    module = nn.Sequential(*list(one.network.module)[:-1])
    J = torch.func.vmap(torch.func.jacrev(lambda z: module(z[None])[0]))(x).reshape(3, 7, -1)
    S = np.linalg.svd(J.detach().numpy(), compute_uv=False)
    expected = S.mean(axis=0)
    np.testing.assert_allclose(
        means(found, quantity="singular value", of="clean"), expected, atol=1e-12
    )
    assert [row["rank"] for row in rows(found, quantity="cosine", of="random")] == [*range(1, 8)]
    attacked = means(found, quantity="singular value", of="adversarial")
    assert attacked.shape == expected.shape
    assert not np.allclose(attacked, expected)


def test_alignment_by_rank_is_a_projection():
    """Squared cosines with an orthonormal set sum to at most one, and to one if it is complete."""
    whole = subject(Flatten(), Affine(12), Affine(4), images=1)
    found = spectrum(
        whole.network, *whole.inputs(1), p=LpNorm(2), eps=0.1, reference=whole.untrained.network
    )
    for of in ("trained", "random"):
        assert np.sum(means(found, quantity="cosine", of=of) ** 2) == pytest.approx(1)
        assert (means(found, quantity="correlation", of=of) <= 1).all()


def test_zero_singular_values_are_so_up_to_rounding():
    eps = np.finfo(np.float64).eps
    J = np.zeros((4, 2, 3))
    J[0] = [[3, 0, 0], [0, 4, 0]]
    J[1] = [[3, 0, 0], [0, 3 * 4 * eps, 0]]
    J[2] = [[3, 0, 0], [0, 3 * 2 * eps, 0]]
    S, V = right_singular_vectors(J)
    np.testing.assert_allclose(S[0], [4, 3])
    known = ~np.isnan(V).any(axis=2)
    assert known.tolist() == [[True, True], [True, True], [True, False], [False, False]]
    assert np.isnan(V[~known]).all()


def test_vectors_of_singular_values_that_are_zero_are_left_out():
    whole = subject(Flatten(), Affine(12), ReLU(), Affine(4), images=1)
    found = spectrum(
        whole.network, *whole.inputs(1), p=LpNorm(2), eps=0.1, reference=whole.untrained.network
    )
    x, _ = whole.batch(1)
    on = int(whole.network.activation_pattern(x).sum())
    counted = [row["images"] for row in rows(found, quantity="cosine", of="trained")]
    assert counted == [1] * on + [0] * (12 - on)
    assert 0 < on < 12


# Linearity


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_linear_network_is_linear_everywhere(backend: str):
    one = subject(*LINEAR, backend=backend)
    found = linearity(one.network, *one.inputs(12), p=LpNorm(2), eps=[0.1, 2.0])
    assert means(found, quantity="deviation") == pytest.approx(0, abs=1e-12)
    assert means(found, quantity="relative deviation") == pytest.approx(0, abs=1e-9)
    sigma = means(found, quantity="sigma_1")
    W = one.network.parameters()["1.weight"]
    np.testing.assert_allclose(sigma, np.linalg.svd(W, compute_uv=False)[0], rtol=1e-5)
    for radius in (0.0, 0.1, 2.0):
        for row in rows(found, eps=radius):
            assert row["distance"] == pytest.approx(radius, rel=1e-9)


def test_deviation_is_what_the_formula_says():
    one = subject(images=2)
    found = linearity(one.network, *one.inputs(2), p=LpNorm(math.inf), eps=[0.3])
    x, y = one.batch(2)
    z = adversarial(one.network, x, y, p=norm("inf"), eps=0.3, seed=(0, 0))
    phi = nn.Sequential(*list(one.network.module)[:-1])
    with torch.no_grad():
        J = torch.func.vmap(torch.func.jacrev(lambda x: phi(x[None])[0]))(x).flatten(2)
        image = (J @ z.flatten(1)[:, :, None])[:, :, 0]
        change = phi(x + z) - phi(x)
        deviation = (change - image).norm(dim=1)
    where = {"direction": "adversarial", "eps": 0.3}
    assert means(found, quantity="deviation", **where) == pytest.approx(float(deviation.mean()))
    relative = float((deviation / change.norm(dim=1)).mean())
    assert means(found, quantity="relative deviation", **where) == pytest.approx(relative)
    (row,) = rows(found, quantity="deviation", **where)
    assert row["distance"] == pytest.approx(float(z.flatten(1).norm(dim=1).mean()))


# Activations


def test_shared_activations_count_units():
    one = subject()
    settings: dict[str, Any] = {"around": "data", "direction": "random"}
    found = activations(one.network, *one.inputs(12), eps=[1e-9, 0.5, 50.0], **settings)
    shared = means(found, quantity="shared")
    assert shared[0] == 1
    assert shared[0] > shared[1] > shared[2]
    x, _ = one.batch(12)
    here = one.network.activation_pattern(x)
    both = means(found, quantity="on in both")
    assert both[0] == pytest.approx(float(here.double().mean()))
    there = one.network.activation_pattern(
        x + random_of_length(x, torch.full((12,), 50.0, dtype=x.dtype), seed=0)
    )
    assert shared[2] == pytest.approx(float((here == there).double().mean()))
    assert both[2] == pytest.approx(float((here & there).double().mean()))


def test_noise_inputs_are_not_the_images():
    one = subject()
    settings: dict[str, Any] = {"direction": "random", "eps": [0.2]}
    on_data = activations(one.network, *one.inputs(12), around="data", **settings)
    on_noise = activations(one.network, *one.inputs(12), around="noise", **settings)
    assert means(on_data, quantity="on in both") != means(on_noise, quantity="on in both")
    attacked = activations(
        one.network, *one.inputs(12), around="data", **{**settings, "direction": "adversarial"}
    )
    assert rows(attacked, direction="adversarial")
    assert means(attacked, quantity="shared") != means(on_data, quantity="shared")


def test_the_largest_singular_value_takes_the_steps_that_it_needs(monkeypatch: pytest.MonkeyPatch):
    module, found = sys.modules["onr.measurements.linearity"], []

    def recorded(*arguments: Any, **options: Any) -> Any:
        found.append(singular_triplets(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(module, "singular_triplets", recorded)
    architecture = Architecture((600,), (Affine(600), Affine(2)))
    parameters = initial_parameters(architecture, 0)
    sigma = np.linspace(0, 1, 600)
    parameters["0.weight"] = np.diag(sigma)
    network = NumpyBackend().build(architecture, parameters=parameters)
    table = linearity(network, np.zeros((1, 600)), np.zeros(1, int), p=LpNorm(2), eps=[])
    # So close together that the residual is not small after 60 steps.
    assert min(each.iterations for each in found) > 60
    assert all(each.converged.all() for each in found)
    assert means(table, quantity="sigma_1", direction="random") == pytest.approx(1, rel=1e-3)


# Alignment


def test_with_two_opposite_logits_attacks_are_the_singular_vector():
    one = subject(Flatten(), Affine(2), classes=2)
    weight = one.network.module[1].weight
    with torch.no_grad():
        weight[1] = -weight[0]
    found = alignment(one.network, *one.inputs(12), p=LpNorm(2), eps=[0.1, 1.0])
    # A little of the random start is left after ten steps.
    assert (means(found, quantity="cosine", direction="adversarial") > 0.9).all()
    random = means(found, quantity="cosine", direction="random")
    assert ((random > 0) & (random < 0.7)).all()


def test_an_image_without_a_singular_vector_is_left_out():
    one = subject(*LINEAR)
    with torch.no_grad():
        one.network.module[-1].weight.zero_()
    assert all(
        row["images"] == 0
        for row in alignment(one.network, *one.inputs(12), p=LpNorm(2), eps=[0.1])
    )


# Directions and norms


@pytest.mark.parametrize("p", ["1", "2", "inf"])
@pytest.mark.parametrize("q", ["1", "2", "inf"])
def test_on_a_linear_network_attack_and_power_method_are_one(p: str, q: str):
    one = subject(*LINEAR)
    found = directions(one.network, *one.inputs(12), p=norm(p), q=norm(q), eps=0.3)
    assert means(found, quantity="power method") == pytest.approx(1)
    gain = means(found, quantity="gain")
    assert 0.3 < gain <= 1 + 1e-9
    assert means(found, quantity="actual gain") == pytest.approx(gain)
    assert means(found, quantity="bracket") <= 1 + 1e-12


def test_on_a_linear_network_the_attack_finds_the_largest_singular_vector():
    one = subject(*LINEAR)
    found = directions(one.network, *one.inputs(12), p=LpNorm(2), q=LpNorm(2), eps=0.3)
    assert means(found, quantity="gain") > 0.98
    assert means(found, quantity="cosine") > 0.95


def test_norms_are_those_of_the_core():
    one = subject()
    x, _ = one.batch(12)
    for p in ("1", "2", "inf"):
        for q in ("1", "2", "inf"):
            found = norms(one.network, *one.inputs(12), p=norm(p), q=norm(q))
            truth = operator_norm(one.network.linearize(x), p=float(p), q=float(q))
            assert means(found, quantity="lower") == pytest.approx(float(truth.lower.mean()))
            assert truth.upper is not None
            assert means(found, quantity="upper") == pytest.approx(float(truth.upper.mean()))
            assert {row["kind"] for row in found} == {truth.kind}


def test_norms_tell_how_many_passes_are_left(monkeypatch: pytest.MonkeyPatch):
    one, told = subject(Flatten(), Affine(70)), []
    monkeypatch.setattr(sys.modules["onr.measurements.norms"], "ENTRIES", 5 * math.prod(SHAPE))

    def on_progress(done: int, total: int) -> None:
        told.append((done, total))

    found = norms(one.network, *one.inputs(12), p=LpNorm(1), q=LpNorm(3), on_progress=on_progress)
    # The smaller side of the Jacobian is formed: 12 inputs.
    assert told == []
    monkeypatch.setattr(operator_norms, "WHOLE", 2)
    again = norms(one.network, *one.inputs(12), p=LpNorm(1), q=LpNorm(3), on_progress=on_progress)
    assert means(again, quantity="lower") == pytest.approx(means(found, quantity="lower"))
    # Batches of 5, 5 and 2 images, 70 passes each.
    steps = np.diff([0, *(done for done, _ in told)]).tolist()
    assert steps == [5] * 140 + [2] * 70
    assert told[-1] == (12 * 70, 12 * 70)


# Accuracy


def test_accuracy_falls_from_that_of_clean_images():
    one = subject(*LINEAR, images=40)
    with torch.no_grad():
        one.network.module[1].weight.mul_(20)
    guessed = logits(one.network, one.batch(40)[0]).argmax(axis=1)
    one.dataset = replace(one.dataset, test=Split(one.dataset.test.images, guessed))
    found = accuracy(one.network, *one.inputs(40), p=LpNorm(2), eps=[0.05, 0.5, 3.0])
    values = means(found)
    assert [row["eps"] for row in found] == [0.0, 0.05, 0.5, 3.0]
    assert values[0] == 1
    assert (np.diff(values) <= 0).all()
    assert values[-1] < 0.5
    for row in found:
        share = row["mean"]
        assert row["standard_error"] == pytest.approx(math.sqrt(share * (1 - share) / 40))


def test_the_validation_part_is_what_no_run_trains_on():
    one = subject()
    held = one.part("validation", 3)
    np.testing.assert_array_equal(held.images, validation_split(one.dataset.train)[1].images)
    with pytest.raises(OnrError, match=r"validation part .* has 3 images, 4 are asked for"):
        one.inputs(4, "validation")
    with pytest.raises(OnrError, match=r"test part .* has 12 images, 13 are asked for"):
        one.inputs(13)


# Subjects


def test_a_subject_has_the_weights_that_it_is_given():
    fresh = Subject(CONFIG)
    weights = fresh.network.parameters()
    changed = {name: value + 1 for name, value in weights.items()}
    trained = Subject(CONFIG, changed)
    for name, value in trained.network.parameters().items():
        np.testing.assert_array_equal(value, changed[name])
        drawn = trained.untrained.network.parameters()[name]
        np.testing.assert_array_equal(drawn, weights[name])


def test_a_subject_is_measured_in_float32_where_it_was_trained_in_bfloat16():
    assert Subject(replace(CONFIG, dtype="bfloat16")).config.dtype == "float32"
    assert Subject(CONFIG).config.dtype == "float64"
