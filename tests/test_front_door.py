"""``import onr``: the same verbs for NumPy networks and torch modules, and one clear error each."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import onr
from onr.architectures import Affine, Architecture, Flatten, ReLU
from onr.arrays import to_numpy
from onr.measurements import attack_outcome, logits
from onr.norms import LpNorm
from onr.protocols import BackendNetwork
from onr_numpy.backend import NumpyBackend
from onr_numpy.network import DenseNetwork
from onr_torch.backend import TorchBackend

SHAPE = (1, 4, 4)
ARCHITECTURE = Architecture(SHAPE, (Flatten(), Affine(12), ReLU(), Affine(9), ReLU(), Affine(5)))
RNG = np.random.default_rng(0)
X, Y = RNG.uniform(0.2, 0.8, (6, *SHAPE)), RNG.integers(0, 5, 6)


def dense() -> tuple[Any, Any]:
    """The NumPy network and its inputs."""
    return NumpyBackend().build(ARCHITECTURE, seed=1, dtype="float64"), X


def module() -> tuple[Any, Any]:
    """The same network as a bare module, and its inputs as a tensor."""
    built = TorchBackend().build(ARCHITECTURE, seed=1, dtype="float64")
    return built.module, torch.from_numpy(X)


MODELS = pytest.mark.parametrize("made", [dense, module])


# One meaning for all backends


@pytest.mark.parametrize("p", ["1", 2, math.inf, LpNorm(1.5), "lp:3"])
def test_a_norm_is_text_a_number_or_a_norm(p: Any) -> None:
    (one, x), (other, z) = dense(), module()
    here, there = onr.operator_norm(one, x, p=p, q="inf"), onr.operator_norm(other, z, p=p, q=1)
    assert here.kind == "exact"
    np.testing.assert_allclose(
        to_numpy(there.lower), onr.operator_norm(one, x, p=p, q=LpNorm(1)).lower, rtol=1e-9
    )


class Around(DenseNetwork):
    """A network that takes tensors too, and asks for NumPy to be computed with around it."""

    def __call__(self, x: Any, /) -> Any:
        return super().__call__(to_numpy(x))


def test_a_network_may_compute_in_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    (one, x), (_, z) = dense(), module()
    around = Around(one.architecture, one.weights)
    for place in ("front_door.attack", "front_door.jacobians", "measure"):
        monkeypatch.setattr(f"onr.{place}.network_of", lambda model, x, **options: model)
    for verb, options in (
        (onr.attack, {"p": 1, "eps": "1/10", "attack": "multitargeted"}),
        (onr.attack, {"p": 2, "eps": "1/10"}),
        (onr.operator_norm, {"p": 3, "q": 2}),
        (onr.jacobian, {}),
        (onr.singular_values, {}),
    ):
        labels = [Y] if verb is onr.attack else []
        found, expected = verb(around, z, *labels, **options), verb(one, x, *labels, **options)
        if verb is onr.operator_norm:
            assert found.stationary.dtype == torch.bool
            found, expected = found.v, expected.v
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found, expected)
    assert onr.measure.accuracy(around, z, Y) == onr.measure.accuracy(one, x, Y)
    pairs = [(each, int(y)) for each, y in zip(z, Y, strict=True)]
    assert onr.measure.accuracy(around, pairs) == onr.measure.accuracy(one, x, Y)


def test_both_backends_give_one_answer() -> None:
    (one, x), (other, z) = dense(), module()
    J = onr.jacobian(one, x)
    np.testing.assert_allclose(J, to_numpy(onr.jacobian(other, z)), atol=1e-12)
    S = np.linalg.svd(J, compute_uv=False)
    for model, inputs in ((one, x), (other, z)):
        at = onr.linearize(model, inputs)
        np.testing.assert_allclose(to_numpy(onr.singular_values(model, inputs)), S, atol=1e-12)
        np.testing.assert_allclose(to_numpy(onr.singular_values(at)), S, atol=1e-12)
        triplets = onr.singular_triplets(at, 3)
        np.testing.assert_allclose(to_numpy(triplets.S), S[:, :3], rtol=1e-6, atol=1e-12)
        operator = onr.linear_operator(model, inputs[:1])
        np.testing.assert_allclose(operator @ np.eye(16), J[0], atol=1e-12)
        moved = onr.attack(model, inputs, Y, p=2, eps="1/10", steps=3, rng=4)
        np.testing.assert_allclose(
            to_numpy(moved), onr.attack(one, x, Y, p=2, eps=0.1, steps=3, rng=4), atol=1e-9
        )
        radius = to_numpy(onr.cell_radius(model, inputs, p="inf"))
        np.testing.assert_allclose(radius, one.cell_radius(x, p=LpNorm(math.inf)), rtol=1e-9)


def test_matrices_are_taken_as_they_are() -> None:
    J = RNG.standard_normal((3, 4, 7))
    assert onr.jacobian(J) is J
    S = np.linalg.svd(J, compute_uv=False)
    np.testing.assert_allclose(onr.singular_values(J), S)
    np.testing.assert_allclose(onr.operator_norm(J, p=2, q=2).value, S[:, 0])
    np.testing.assert_allclose(onr.singular_triplets(J, 1).S[:, 0], S[:, 0], rtol=1e-6)
    np.testing.assert_allclose(
        onr.singular_triplets(torch.from_numpy(J)).S[:, 0].numpy(), S[:, 0], rtol=1e-6
    )


@MODELS
def test_measurements_are_tables_of_numbers(made: Callable[[], tuple[Any, Any]]) -> None:
    model, x = made()
    rows = {
        "norms": onr.measure.norms(model, x, p="inf", q=2),
        "spectrum": onr.measure.spectrum(model, x, Y, p=2, eps="1/8", reference=model),
        "alignment": onr.measure.alignment(model, x, Y, p="inf", eps=[0.1, "1/5"]),
        "linearity": onr.measure.linearity(model, x, Y, p=2, eps=0.1),
        "activations": onr.measure.activations(model, x, Y, eps=0.1, direction="random"),
        "directions": onr.measure.directions(model, x, p=2, q=1, eps=0.01),
    }
    for name, table in rows.items():
        assert table, name
        for row in table:
            assert np.isfinite(row["mean"]) == (row["images"] > 0), (name, row)
            assert 0 <= row["images"] <= 6  # a vector of a zero singular value is left out
    by_quantity = {row["quantity"]: row["mean"] for row in rows["norms"]}
    found = onr.operator_norm(model, x, p="inf", q=2)
    assert by_quantity["lower"] == pytest.approx(float(to_numpy(found.lower).mean()))
    spectrum = rows["spectrum"]
    mine = [row["mean"] for row in spectrum if row["of"] == "trained"]
    others = [row["mean"] for row in spectrum if row["of"] == "random"]
    np.testing.assert_equal(mine, others)  # the reference is the same model


@MODELS
def test_robust_accuracy_counts_what_keeps_its_label(made: Callable[[], tuple[Any, Any]]) -> None:
    model, x = made()
    y = onr.linearize(model, x).value.argmax(1)
    assert onr.measure.accuracy(model, x, y) == 1.0
    found = onr.measure.robust_accuracy(model, x, y, p=2, eps=[0, "1/20", 3], rng=7, steps=4)
    assert found.shape == (3,)
    assert found[0] == 1.0
    assert (np.diff(found) <= 0).all()
    one = onr.measure.robust_accuracy(model, x, y, p=2, eps=0.05)
    assert one.shape == ()
    moved = onr.attack(model, x, y, p="inf", eps=0.3, attack="fgm")
    kept = to_numpy(onr.linearize(model, moved).value.argmax(1) == y).mean()
    fast = onr.measure.robust_accuracy(model, x, y, p="inf", eps=0.3, attack="fgm")
    assert float(fast) == pytest.approx(kept)


def test_one_seed_one_result() -> None:
    model, x = module()
    options: dict[str, Any] = {"p": 2, "eps": 0.3, "steps": 2}
    one = onr.attack(model, x, Y, **options)
    assert torch.equal(one, onr.attack(model, x, Y, rng=0, **options))  # nothing is seed 0
    assert torch.equal(one, onr.attack(model, x, Y, rng=np.random.default_rng(0), **options))
    assert not torch.equal(one, onr.attack(model, x, Y, rng=1, **options))
    generator = np.random.default_rng(0)
    onr.attack(model, x, Y, rng=generator, **options)
    assert not torch.equal(one, onr.attack(model, x, Y, rng=generator, **options))


def test_a_targeted_attack_leads_to_its_class() -> None:
    model, x = module()
    target = np.full(6, 3)
    before = onr.linearize(model, x).value.softmax(1)[:, 3]
    moved = onr.attack(model, x, target, p=2, eps=1, targeted=True)
    assert (onr.linearize(model, moved).value.softmax(1)[:, 3] > before).all()


def test_options_of_an_attack_are_objects_or_text() -> None:
    model, x = module()
    one = onr.attack(model, x, Y, p=2, eps=0.1, steps=2, alpha=math.inf, bounds=None)
    assert torch.equal(
        one, onr.attack(model, x, Y, p=2, eps=0.1, steps=2, alpha="inf", bounds=None)
    )
    named = onr.attack(model, x, Y, p=2, eps=0.1, steps=2, loss="margin")
    assert torch.equal(named, onr.attack(model, x, Y, p=2, eps=0.1, steps=2, loss=onr.Margin()))


def test_a_torchvision_model_as_it_comes() -> None:
    model = torchvision.models.resnet18(num_classes=10).eval()
    x = torch.rand(4, 3, 32, 32)
    assert onr.operator_norm(model, x, p="inf", q=1).kind == "exact"
    assert onr.attack(model, x, model(x).argmax(1), p=2, eps="1/2", steps=2).shape == x.shape


def test_a_module_is_left_as_it_was() -> None:
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).double(), torch.from_numpy(X)
    model.train()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    onr.attack(model, x, Y, p=2, eps=1)
    onr.operator_norm(model, x, p=2, q=2)
    assert model.training
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    assert model[1].weight.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# What is refused, in one line each


def refused(work: Callable[[], Any]) -> str:
    with pytest.raises(onr.OnrError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


class Tuple(nn.Module):
    """Gives more than logits."""

    def forward(self, x: torch.Tensor) -> Any:
        return x.flatten(1), x


def test_models_that_are_none() -> None:
    (_, x), (model, z) = dense(), module()
    normalized = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 5)).double()
    assert "training mode" in refused(lambda: onr.linearize(normalized, z))
    assert "call model" not in refused(lambda: onr.linearize(normalized, z))
    assert "is a function" in refused(lambda: onr.linearize(lambda x: x, z))
    assert "expected a network" in refused(lambda: onr.linearize(lambda x: x, x))
    assert "gives a tuple" in refused(lambda: onr.linearize(Tuple(), z))
    assert "expected logits (batch, d)" in refused(lambda: onr.linearize(nn.Identity(), z))
    assert "give x as an array of torch" in refused(lambda: onr.linearize(model, x))
    assert "give x as an array of numpy" in refused(lambda: onr.linearize(dense()[0], z))
    assert "a model and inputs x" in refused(lambda: onr.operator_norm(model, p=2, q=2))
    assert "onr.linearize(model, x), k" in refused(lambda: onr.singular_triplets(model, z))


@MODELS
def test_inputs_that_are_none(made: Callable[[], tuple[Any, Any]]) -> None:
    model, x = made()
    assert "x[None]" in refused(lambda: onr.linearize(model, x[0, 0, 0]))
    integers = (x * 255).astype("uint8") if isinstance(x, np.ndarray) else (x * 255).byte()
    assert "/ 255" in refused(lambda: onr.linearize(model, integers))
    refused(lambda: onr.linearize(model, x[:0]))
    assert "is a list" in refused(lambda: onr.linearize(model, [[0.5] * 16]))
    assert "outside [0, 1]" in refused(lambda: onr.attack(model, x + 1, Y, p=2, eps=1))


def test_an_input_without_a_batch_axis() -> None:
    assert "x[None]" in refused(lambda: onr.linearize(dense()[0], X[0]))
    convolution = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 5)).eval()
    image = torch.rand(3, 4, 4)
    onr.linearize(convolution, image[None])
    assert "x[None]" in refused(lambda: onr.linearize(convolution, image))


def test_a_float_type_that_is_not_the_models() -> None:
    model, z = module()
    assert "model.to(torch.float32)" in refused(lambda: onr.linearize(model, z.float()))
    assert "on meta" in refused(lambda: onr.linearize(model, z.to("meta")))


@MODELS
def test_arguments_that_are_none(made: Callable[[], tuple[Any, Any]]) -> None:
    model, x = made()
    assert "unknown norm 'big'" in refused(lambda: onr.operator_norm(model, x, p="big", q=2))
    assert "p = 0.5" in refused(lambda: onr.operator_norm(model, x, p=0.5, q=2))
    assert "eps = 'wide'" not in refused(lambda: onr.attack(model, x, Y, p=2, eps="wide"))
    assert "eps = -1" in refused(lambda: onr.attack(model, x, Y, p=2, eps=-1))
    assert "eps is a NoneType" in refused(lambda: onr.attack(model, x, Y, p=2, eps=None))  # type: ignore[arg-type]
    assert "rng = 'a'" in refused(lambda: onr.attack(model, x, Y, p=2, eps=1, rng="a"))  # type: ignore[arg-type]
    assert "rng = -3" in refused(lambda: onr.attack(model, x, Y, p=2, eps=1, rng=-3))
    assert "unknown attack 'no'" in refused(
        lambda: onr.attack(model, x, Y, p=2, eps=1, attack="no")
    )
    told = refused(lambda: onr.attack(model, x, Y, p=2, eps=1, attack="fgm", steps=3))
    assert told == "attack fgm takes no steps: leave it out"
    assert "takes no option 'beta'" in refused(lambda: onr.attack(model, x, Y, p=2, eps=1, beta=2))
    assert "one label for each" in refused(lambda: onr.attack(model, x, Y[:3], p=2, eps=1))
    assert "whole numbers" in refused(lambda: onr.attack(model, x, Y + 0.5, p=2, eps=1))


def test_labels_that_are_no_classes() -> None:
    for model, x in (dense(), module()):
        for wrong in ([5] * 6, [-1] * 6):
            assert "expected 0 to 4" in refused(lambda: onr.attack(model, x, wrong, p=2, eps=1))  # noqa: B023
    model, x = module()
    labels = torch.tensor(Y)
    (one, inputs) = dense()
    moved = onr.attack(one, inputs, labels, p=2, eps=0.1, steps=1)
    np.testing.assert_array_equal(moved, onr.attack(one, inputs, Y, p=2, eps=0.1, steps=1))
    assert "one label for each" in refused(lambda: onr.attack(model, x, [[1], [2, 3]], p=2, eps=1))


def test_radii_are_numbers_of_any_kind() -> None:
    model, x = module()
    one = onr.measure.robust_accuracy(model, x, Y, p=2, eps=0.25)
    for eps in (np.float64(0.25), Fraction(1, 4), "1/4"):
        assert onr.measure.robust_accuracy(model, x, Y, p=2, eps=eps) == one
    assert (onr.measure.robust_accuracy(model, x, Y, p=2, eps=[0.25, "1/4"]) == one).all()
    for eps in (-0.25, math.inf, "nan", True, None):
        refused(lambda: onr.measure.linearity(model, x, Y, p=2, eps=eps))  # noqa: B023


def test_a_radius_that_is_given_twice_counts_once() -> None:
    model, x = module()
    for rows in (
        onr.measure.linearity(model, x, Y, p=2, eps=[0, 0.1, "0.1"]),
        onr.measure.alignment(model, x, Y, p=2, eps=[0.1, "1/10"]),
        onr.measure.activations(model, x, Y, eps=[0.1, 0.1]),
    ):
        assert {row["images"] for row in rows} <= {5, 6}
        assert len({(row["quantity"], row["direction"], row["eps"]) for row in rows}) == len(rows)


def test_inputs_and_norms_that_are_not_what_they_seem() -> None:
    model, x = module()
    assert "x.detach()" in refused(lambda: onr.linearize(model, x.clone().requires_grad_()))
    assert "float32 or float64" in refused(lambda: onr.linearize(model.half(), x.half()))
    assert "expected a number" in refused(lambda: onr.norm(True))
    assert "expected a number" in refused(lambda: onr.norm(onr.LpNorm))  # type: ignore[arg-type]
    assert onr.LogitDistance(1).name == "lq:1"


def test_matrices_are_checked_by_every_verb() -> None:
    J = np.ones((1, 2, 3))
    assert (onr.linear_operator(J) @ np.eye(3)).tolist() == J[0].tolist()
    spoiled = np.where(np.eye(2, 3) > 0, np.nan, J)
    for verb in (onr.jacobian, onr.singular_values, onr.singular_triplets, onr.linear_operator):
        assert "nan or infinite" in refused(lambda: verb(spoiled))  # noqa: B023
        assert "expected floats" in refused(lambda: verb(J.astype(int)))  # noqa: B023
        assert "a model and inputs x" in refused(lambda: verb(J[0]))  # noqa: B023


def test_counts_and_bounds_of_an_attack() -> None:
    model, x = module()
    options: dict[str, Any] = {"p": 2, "eps": 0.1}
    assert "steps = '5'" in refused(lambda: onr.attack(model, x, Y, steps="5", **options))  # type: ignore[arg-type]
    assert "restarts = 0" in refused(lambda: onr.attack(model, x, Y, restarts=0, **options))
    for bounds in (3, ("a", "b"), (1, 0), (0, 1, 2)):
        assert "as (0, 1), or None" in refused(
            lambda: onr.attack(model, x, Y, bounds=bounds, **options)  # type: ignore[arg-type]  # noqa: B023
        )


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sharpen'"):
        onr.sharpen  # noqa: B018
    assert set(onr.__all__) <= set(dir(onr))


# Runs


def test_a_run_is_trained_opened_and_measured(tmp_path: Path) -> None:
    config = onr.TrainConfig(backend="numpy", train_images=60, batch_size=30, epochs=2)
    epochs: list[int] = []
    run = onr.train(config, out=tmp_path / "run", on_epoch=lambda r: epochs.append(r["epoch"]))
    assert len(epochs) == 2
    assert isinstance(run.network, BackendNetwork)
    again = onr.train(config, out=tmp_path / "run", on_epoch=lambda r: epochs.append(r["epoch"]))
    assert len(epochs) == 2  # it was finished
    opened = onr.open_run(tmp_path / "run")
    x, y = opened.batch(9)
    for subject in (run, again, opened):
        np.testing.assert_array_equal(subject.network(x), run.network(x))
    assert onr.measure.accuracy(opened.network, x, y) == pytest.approx(
        np.mean(logits(opened.network, x).argmax(1) == y)
    )
    other = onr.TrainConfig(backend="numpy", train_images=60, batch_size=30, epochs=3)
    told = refused(lambda: onr.train(other, out=tmp_path / "run"))
    assert "holds a run with another epochs: give another folder" in told
    assert "holds no run" in refused(lambda: onr.open_run(tmp_path))
    assert "expected the folder" in refused(lambda: onr.open_run(None))  # type: ignore[arg-type]
    assert "onr.TrainConfig" in refused(lambda: onr.train({}, out=tmp_path))  # type: ignore[arg-type]
    same = onr.TrainConfig(
        backend="onr_numpy:numpy", data_dir="elsewhere", train_images=60, batch_size=30, epochs=2
    )
    onr.train(same, out=tmp_path / "run")  # the same run, written in another way


def test_a_doubtful_configuration_is_a_warning(tmp_path: Path) -> None:
    far = {"eps": "8", "p": "inf", "steps": "1"}
    config = onr.TrainConfig(
        backend="numpy", method="at", method_options=far, train_images=40, epochs=1
    )
    with pytest.warns(UserWarning, match="no classifier is that robust"):
        onr.train(config, out=tmp_path / "run")


# What a name loads

LIGHT = """
import json, sys
import onr
print(json.dumps([sorted(sys.modules), sorted(dir(onr))]))
"""


def test_importing_onr_imports_nothing_heavy() -> None:
    found = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, check=True, text=True
    )
    modules, names = json.loads(found.stdout)
    assert {"numpy", "scipy", "torch", "click", "rich"}.isdisjoint(modules)
    assert {"operator_norm", "measure", "attack"} <= set(names)


NUMPY_ALONE = """
import sys
import numpy as np, onr
J = np.ones((1, 2, 3))
assert onr.operator_norm(J, p="inf", q=1).kind == "exact"
assert "torch" not in sys.modules
"""


def test_numpy_arrays_do_not_load_torch() -> None:
    subprocess.run([sys.executable, "-c", NUMPY_ALONE], check=True)


def test_attack_outcomes_are_those_of_the_attack() -> None:
    model, x = module()
    network = TorchBackend().adopt(model, x)
    still = attack_outcome(
        network,
        lambda network, x, y, /, *, rng: x,
        x,
        torch.from_numpy(Y),
        norm=LpNorm(2),
        seed=(0,),
    )
    assert (still.size == 0).all()
    np.testing.assert_array_equal(still.predicted, logits(network, x).argmax(1))


def test_a_radius_in_grey_levels_is_doubted():
    model, x = torch.nn.Linear(3, 2), torch.rand(4, 3)
    y = model(x).argmax(1)
    with pytest.warns(UserWarning, match="write '8/255'"):
        onr.attack(model, x, y, p="inf", eps="8")
    with pytest.warns(UserWarning, match="write '8/255'"):
        onr.measure.robust_accuracy(model, x, y, p="inf", eps=["1/255", 8])
    onr.attack(model, x, y, p=2, eps=8)


# Matrices


def test_the_norm_of_a_weight_has_no_graph() -> None:
    weight = nn.Linear(4, 3).weight[None]
    assert weight.requires_grad
    pairs = [(1, 2), (2, 2), ("inf", 1), ("inf", 2), (3, 3)]
    for found, known in (
        (onr.operator_norm(J, p=p, q=q) for J in (weight, weight.detach())) for p, q in pairs
    ):
        assert torch.equal(found.value, known.value)
        assert not any(each.requires_grad for each in (found.lower, found.upper, found.v, found.u))
    assert not onr.singular_values(weight).requires_grad
    assert onr.linear_operator(weight).matvec(np.ones(4)).shape == (3,)


@pytest.mark.parametrize("p", [1, 2, 3, "inf"])
def test_a_norm_beyond_the_largest_float_is_refused(p: Any) -> None:
    with pytest.raises(
        onr.OnrError, match=r"too large for torch\.float64: scale the matrices down"
    ):
        onr.operator_norm(torch.full((1, 3, 4), 1e308, dtype=torch.float64), p=p, q=1)


@pytest.mark.parametrize("option", ["restarts", "steps"])
@pytest.mark.parametrize("value", [0, 1.5, "3", True])
def test_counts_are_whole_numbers_whatever_the_norm(option: str, value: Any) -> None:
    for q in (2, 3):
        with pytest.raises(onr.OnrError, match=f"{option} = {value!r}: expected a whole number"):
            onr.operator_norm(np.ones((1, 2, 2)), p=2, q=q, **{option: value})


def test_an_operator_takes_real_vectors() -> None:
    operator = onr.linear_operator(np.ones((1, 3, 4)))
    for product, size in ((operator.matvec, 4), (operator.rmatvec, 3)):
        with pytest.raises(onr.OnrError, match="complex128: expected real numbers"):
            product(np.full(size, 1j))
