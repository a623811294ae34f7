"""What each attack does that is its own."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onr.architectures import Normalize, initial_parameters
from onr.attacks.fast_gradient import FastGradient
from onr.attacks.noise import Noise
from onr.errors import OnrError
from onr.jacobians.iterations import projected_gradient_ascent
from onr.registry import load
from onr.text import norm
from onr_numpy.network import DenseNetwork
from onr_paper.models import mlp
from onr_torch.library_attacks.library_attack import Classifier, LibraryAttack
from onr_torch.network import TorchNetwork

CROSS_ENTROPY = load("loss", "cross-entropy")()


def dense(classes: int = 4) -> DenseNetwork:
    architecture = mlp((1, 3, 3), classes, normalize=Normalize((0.5,), (0.5,)), width=12)
    parameters = initial_parameters(architecture, 0)
    return DenseNetwork(architecture, {k: v.astype(np.float64) for k, v in parameters.items()})


def examples(count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((count, 1, 3, 3)), rng.integers(0, 4, count)


class Counting:
    """A network that counts how often it is asked."""

    def __init__(self, network: Any) -> None:
        self.network, self.asked = network, 0

    def __call__(self, x: Any, /) -> Any:
        self.asked += 1
        return self.network(x)

    def linearize(self, x: Any, /, *, jvp: bool = True) -> Any:
        self.asked += 1
        return self.network.linearize(x, jvp=jvp)


# The fast gradient method


@pytest.mark.parametrize("p", ["1", "2", "inf"])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "targeted-cross-entropy"])
def test_fgm_is_one_step_of_ascent_from_the_input(p: str, loss: str) -> None:
    (x, y), network = examples(), Counting(dense())
    ascended = load("loss", loss)()
    attack = FastGradient(p=norm(p), loss=ascended, eps=0.2)
    found = attack(network, x, y, rng=np.random.default_rng(0))
    assert network.asked == 1
    step = projected_gradient_ascent(
        dense(), x, 0 * x, loss=ascended, labels=y, p=norm(p), eps=0.2, steps=1, bounds=(0, 1)
    )
    np.testing.assert_allclose(found, x + step.delta, atol=1e-15)


def test_fgm_returns_the_input_where_the_gradient_is_zero() -> None:
    x, y = examples()
    network = dense()
    network.weights = {name: 0 * value for name, value in network.weights.items()}
    for p in ("1", "1.5", "2", "inf"):
        attack = FastGradient(p=norm(p), loss=CROSS_ENTROPY, eps=0.2)
        assert np.array_equal(attack(network, x, y, rng=np.random.default_rng(0)), x)


def test_fgm_has_the_full_radius_in_the_middle_of_the_box() -> None:
    x, y = examples()
    x = 0.4 + 0.2 * x
    for p in ("1", "2", "inf"):
        attack = FastGradient(p=norm(p), loss=CROSS_ENTROPY, eps=0.3)
        found = attack(dense(), x, y, rng=np.random.default_rng(0))
        np.testing.assert_allclose(norm(p)(found - x), 0.3)


def test_fgm_needs_a_loss_with_a_direction() -> None:
    with pytest.raises(OnrError, match=r"loss lq:2 .* no direction at the input itself"):
        FastGradient(p=norm("2"), loss=load("loss", "lq:2")(), eps=0.1)


@pytest.mark.parametrize("attack", [FastGradient, Noise, load("attack", "pga")])
@pytest.mark.parametrize("eps", [-0.1, float("inf"), float("nan")])
def test_a_radius_that_is_none(attack: Any, eps: float) -> None:
    with pytest.raises(OnrError, match="expected a finite number >= 0"):
        attack(p=norm("2"), loss=CROSS_ENTROPY, eps=eps)


@pytest.mark.parametrize("attack", [FastGradient, Noise, load("attack", "pga")])
def test_an_input_that_is_no_number(attack: Any) -> None:
    x, y = examples()
    x[0, 0, 0, 0] = np.nan
    made = attack(p=norm("2"), loss=CROSS_ENTROPY, eps=0.1)
    with pytest.raises(OnrError, match="outside"):
        made(dense(), x, y, rng=np.random.default_rng(0))


# Noise


@pytest.mark.parametrize("p", ["1", "1.5", "2", "inf"])
def test_noise_lies_on_the_sphere_before_the_box(p: str) -> None:
    x, y = examples()
    free = Noise(p=norm(p), loss=CROSS_ENTROPY, eps=3.0, bounds=None)
    found = free(dense(), x, y, rng=np.random.default_rng(1))
    np.testing.assert_allclose(norm(p)(found - x), 3.0)
    boxed = Noise(p=norm(p), loss=CROSS_ENTROPY, eps=3.0)(
        dense(), x, y, rng=np.random.default_rng(1)
    )
    assert np.array_equal(boxed, found.clip(0, 1))


def test_one_draw_of_noise_asks_nothing_of_the_network() -> None:
    (x, y), network = examples(), Counting(dense())
    Noise(p=norm("2"), loss=CROSS_ENTROPY, eps=1.0)(network, x, y, rng=np.random.default_rng(0))
    assert network.asked == 0


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "lq:inf"])
def test_noise_keeps_each_examples_worst_draw(loss: str) -> None:
    x, y = examples(40)
    ascended, network = load("loss", loss)(), dense()

    def value(found: np.ndarray) -> np.ndarray:
        return ascended.value(network(found), labels=y, clean=network(x))

    rng = np.random.default_rng(2)
    one = Noise(p=norm("2"), loss=ascended, eps=1.0)
    draws = np.stack([one(network, x, y, rng=rng) for _ in range(6)])
    several = Noise(p=norm("2"), loss=ascended, eps=1.0, restarts=6)
    found = several(network, x, y, rng=np.random.default_rng(2))
    values = np.stack([value(draw) for draw in draws])
    assert np.array_equal(found, draws[values.argmax(axis=0), np.arange(len(x))])
    assert len(set(values.argmax(axis=0))) > 1


def test_noise_is_drawn_at_least_once() -> None:
    with pytest.raises(OnrError, match="restarts = 0"):
        Noise(p=norm("2"), loss=CROSS_ENTROPY, eps=1.0, restarts=0)


# Other libraries, of which the tests below need none


def module() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
        )


def images(count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 2, 6, 6, generator=generator)


def guarded(run: Any, p: str = "2", eps: float = 0.5) -> LibraryAttack:
    return LibraryAttack(run, origin="numpy", p=norm(p), eps=eps, bounds=(0.0, 1.0))


def attacked(run: Any, x: torch.Tensor | None = None, **more: Any) -> torch.Tensor:
    x = images() if x is None else x
    labels = torch.zeros(len(x), dtype=torch.int64)
    found = guarded(run, **more)(
        TorchNetwork(module(), (2, 6, 6)), x, labels, rng=np.random.default_rng(0)
    )
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("p", ["1", "2", "inf"])
def test_what_a_library_returns_is_projected_and_boxed(p: str) -> None:
    found = attacked(lambda model, x, y, seed: x + 10, p=p)
    assert bool(((found >= 0) & (found <= 1)).all())
    assert bool((norm(p)(found - images()) <= 0.5 + 1e-6).all())
    assert bool((norm(p)(found - images()) > 0).all())


def test_what_is_inside_stays() -> None:
    found = attacked(lambda model, x, y, seed: (x + 0.01).clamp(0, 1))
    torch.testing.assert_close(found, (images() + 0.01).clamp(0, 1))


def test_a_library_is_not_asked_for_nothing() -> None:
    def run(*arguments: Any) -> torch.Tensor:
        raise ZeroDivisionError

    assert torch.equal(attacked(run, eps=0.0), images())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_example_without_numbers_is_returned_as_it_came(number: float) -> None:
    def run(model: Any, x: torch.Tensor, y: Any, seed: int) -> torch.Tensor:
        found = (x + 0.01).clamp(0, 1)
        found[2, 1, 3, 3] = number
        return found

    moved = (attacked(run) != images()).flatten(1).any(dim=1)
    assert moved.tolist() == [True, True, False, True, True, True]


def test_a_library_sees_contiguous_images_of_its_own_and_contiguous_gradients() -> None:
    x = images().contiguous(memory_format=torch.channels_last)

    def run(model: Classifier, given: torch.Tensor, y: Any, seed: int) -> torch.Tensor:
        assert given.is_contiguous()
        assert given.data_ptr() != x.data_ptr()
        model.to(memory_format=torch.channels_last)
        leaf = given.requires_grad_()
        (gradient,) = torch.autograd.grad(model(leaf).sum(), leaf)
        assert gradient.is_contiguous()
        return given.mul_(0.9) if not given.requires_grad else given * 0.9

    assert attacked(run, x).shape == x.shape
    assert torch.equal(x, images())


def test_a_library_cannot_put_the_classifier_in_training_mode() -> None:
    def run(model: Classifier, x: torch.Tensor, y: Any, seed: int) -> torch.Tensor:
        assert not model.train().training
        assert not any(part.training for part in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert all(parameter.grad is None for parameter in model.parameters())
        return x

    attacked(run)


def test_a_library_cannot_reach_gradients() -> None:
    network = module()
    kept = [torch.ones_like(parameter) for parameter in network.parameters()]
    for parameter, gradient in zip(network.parameters(), kept, strict=True):
        parameter.grad = gradient

    def run(model: Classifier, x: torch.Tensor, y: Any, seed: int) -> torch.Tensor:
        model.zero_grad(set_to_none=False)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return x

    labels = torch.zeros(6, dtype=torch.int64)
    guarded(run)(TorchNetwork(network, (2, 6, 6)), images(), labels, rng=np.random.default_rng())
    for parameter, gradient in zip(network.parameters(), kept, strict=True):
        assert parameter.grad is gradient
        assert bool((gradient == 1).all())


def test_the_generators_are_seeded_from_rng_and_restored() -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    drawn: list[tuple[float, ...]] = []

    def run(model: Classifier, x: torch.Tensor, y: Any, seed: int) -> torch.Tensor:
        drawn.append((float(torch.rand(1)), random.random(), np.random.rand()))  # noqa: NPY002, S311
        if len(drawn) == 3:
            raise KeyError
        return x

    before = state()
    attacked(run)
    attacked(run)
    with pytest.raises(KeyError):
        attacked(run)
    assert state() == before
    assert drawn[0] == drawn[1] == drawn[2]


def test_the_classifier_decides_as_the_network_and_its_lead_grows_slowly() -> None:
    network, x = module().eval(), images(50)
    leads = []
    for factor in (1.0, 30.0, 1000.0):
        with torch.no_grad():
            network[-1].weight.mul_(factor)
            network[-1].bias.mul_(factor)
            shown, logits = Classifier(network, torch.float32)(x), network(x)
            network[-1].weight.div_(factor)
            network[-1].bias.div_(factor)
        assert torch.equal(shown.argsort(dim=1), logits.argsort(dim=1))
        best = shown.topk(2).values
        leads.append(best[:, 0] - best[:, 1])
        same = (logits.topk(2).values.diff(dim=1) >= -8.0).flatten()
        assert torch.equal(shown[same], logits[same])
    assert bool((leads[0] < leads[1]).all())
    assert bool((leads[1] < leads[2]).all())
    assert float(leads[2].max()) < 18
    order = leads[0].argsort()
    assert bool((leads[2][order].diff() >= 0).all())


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.rand(3, 72), "expected \\(batch, channels, height, width\\)"),
        (images() + 0.5, "outside"),
    ],
)
def test_inputs_that_a_library_does_not_take(x: torch.Tensor, reason: str) -> None:
    with pytest.raises(OnrError, match=reason):
        attacked(lambda model, x, y, seed: x, x)


def test_a_library_attacks_torch_networks_in_the_usual_box() -> None:
    x, y = examples()
    with pytest.raises(OnrError, match="networks of the torch backend alone"):
        guarded(lambda *_: x)(dense(), x, y, rng=np.random.default_rng(0))
    with pytest.raises(OnrError, match="pixels in \\[0, 1\\]"):
        LibraryAttack(
            lambda *_: torch.zeros(1), origin="numpy", p=norm("2"), eps=0.1, bounds=(-1.0, 1.0)
        )


@pytest.mark.parametrize(
    ("spec", "name", "extra"),
    [
        ("autoattack", "pyautoattack", "attacks"),
        ("torchattacks:PGD", "torchattacks", "peers"),
        ("foolbox:PGD", "foolbox", "peers"),
    ],
)
def test_a_missing_library_names_the_extra(
    spec: str, name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OnrError, match=rf"needs {name}, .*pip install 'onr\[{extra}\]'"):
        load("attack", spec)(p=norm("inf"), eps=0.1)


# Each library, where it is installed


@pytest.mark.parametrize("p", ["1.5", "3"])
def test_autoattack_knows_three_norms(p: str) -> None:
    pytest.importorskip("pyautoattack")
    with pytest.raises(OnrError, match=f"no norm {p}: expected one of 1, 2, inf"):
        load("attack", "autoattack")(p=norm(p), eps=0.1)


def test_a_network_without_parameters() -> None:
    class Sums(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    network, x = TorchNetwork(Sums(), (2, 6, 6)), images()
    assert torch.equal(network.frozen()(x), network(x))

    def run(classifier: Classifier, x: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
        return x + 0.01

    attack = LibraryAttack(run, origin="torch", p=norm("inf"), eps=0.1, bounds=(0.0, 1.0))
    found = attack(network, x, torch.zeros(len(x)), rng=np.random.default_rng())
    assert found.shape == x.shape


def test_autoattack_needs_four_classes() -> None:
    pytest.importorskip("pyautoattack")
    three = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    attack = load("attack", "autoattack")(p=norm("2"), eps=0.1)
    with pytest.raises(OnrError, match="four classes or more for its losses, got 3"):
        attack(
            TorchNetwork(three, (2, 6, 6)), images(), torch.zeros(6), rng=np.random.default_rng()
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autoattack_on_five_classes_leaves_tracing_alone(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    autoattack = pytest.importorskip("pyautoattack").AutoAttack
    usual = autoattack._set_version

    def fewer(self: Any, version: str) -> None:
        usual(self, version)
        self.fab.n_iter = self.apgd.n_iter = self.apgd_targeted.n_iter = self.square.n_queries = 3

    def trace(*arguments: Any) -> None:
        return None

    monkeypatch.setattr(autoattack, "_set_version", fewer)
    network, x = TorchNetwork(module().to(dtype), (2, 6, 6)), images().to(dtype)
    y = network(x).argmax(dim=1)
    attack = load("attack", "autoattack")(p=norm("2"), eps=0.5)
    assert attack(network, x[:0], y[:0], rng=np.random.default_rng(0)).shape == (0, 2, 6, 6)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = attack(network, x, y, rng=np.random.default_rng(0))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    broken = network(found).argmax(dim=1) != y
    assert bool(broken.any())
    assert torch.equal(found[~broken], x[~broken])


@pytest.mark.parametrize(
    ("name", "p", "options", "reason"),
    [
        ("PGDL2", "inf", {}, "knows no norm inf: expected 2"),
        ("PGD", "2", {}, "knows no norm 2: expected inf"),
        ("APGD", "1", {}, "knows no norm 1: expected 2 or inf"),
        ("FGSM", "inf", {"steps": 3}, "takes no steps"),
        ("PGD", "inf", {"restarts": 3}, "takes no n_restarts"),
        ("PGD", "inf", {"steps": -1}, "steps = -1: expected at least 1"),
        ("APGD", "inf", {"restarts": 0}, "n_restarts = 0: expected at least 1"),
        ("CW", "2", {}, "no attack torchattacks:CW with a radius"),
        ("Attack", "2", {}, "no attack torchattacks:Attack with a radius"),
        ("Nothing", "2", {}, "no attack torchattacks:Nothing"),
        ("attacks", "2", {}, "no attack torchattacks:attacks"),
    ],
)
def test_what_torchattacks_refuses(name: str, p: str, options: Any, reason: str) -> None:
    pytest.importorskip("torchattacks")
    with pytest.raises(OnrError, match=reason):
        load("attack", f"torchattacks:{name}")(p=norm(p), eps=0.1, **options)


@pytest.mark.parametrize(("steps", "alpha"), [(None, 0.25), (5, 0.5), (40, 0.0625)])
def test_step_sizes_of_torchattacks_scale(
    steps: int | None, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    seen: list[Any] = []
    real = torchattacks.PGD.forward

    def forward(self: Any, *arguments: Any) -> Any:
        seen.append((self.alpha, self.steps, self.eps))
        return real(self, *arguments)

    monkeypatch.setattr(torchattacks.PGD, "forward", forward)
    attack = load("attack", "torchattacks:PGD")(p=norm("inf"), eps=0.2, steps=steps)
    network = TorchNetwork(module(), (2, 6, 6))
    attack(network, images(), torch.zeros(6, dtype=torch.int64), rng=np.random.default_rng())
    assert seen == [(pytest.approx(alpha * 0.2), steps or 10, 0.2)]


def test_torchattacks_follows_rng_where_it_has_a_seed_of_its_own() -> None:
    pytest.importorskip("torchattacks")
    network, x = TorchNetwork(module(), (2, 6, 6)), images()
    y = network(x).argmax(dim=1)
    attack = load("attack", "torchattacks:APGD")(p=norm("2"), eps=1.0)
    found = [attack(network, x, y, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize(("steps", "step"), [(None, 0.025), (10, 0.125)])
def test_foolbox_takes_fewer_and_longer_steps_and_restarts(
    steps: int | None, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pytest.importorskip("foolbox").attacks.L2PGD
    seen: list[Any] = []
    real = made.run

    def run(self: Any, *arguments: Any, **more: Any) -> Any:
        seen.append((self.rel_stepsize, self.steps, more["epsilon"]))
        return real(self, *arguments, **more)

    monkeypatch.setattr(made, "run", run)
    attack = load("attack", "foolbox:L2PGD")(p=norm("2"), eps=0.2, steps=steps, restarts=3)
    network = TorchNetwork(module(), (2, 6, 6))
    attack(network, images(), torch.zeros(6, dtype=torch.int64), rng=np.random.default_rng())
    assert seen == [(pytest.approx(step), steps or 50, 0.2)] * 3


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "p", "options", "reason"),
    [
        ("L2PGD", "inf", {}, "knows no norm inf: it measures L2 distance"),
        ("LinfPGD", "1.5", {}, "knows no norm 1.5"),
        ("L2PGD", "2", {"restarts": 0}, "restarts = 0"),
        ("L2PGD", "2", {"steps": 0}, "steps = 0: expected at least 1"),
        ("SpatialAttack", "2", {}, "knows no norm 2: it measures None"),
        ("FGM", "2", {"steps": 3}, "takes no steps"),
        ("DatasetAttack", "2.5", {}, "knows no norm 2.5: expected one of 1, 2, inf"),
        ("Nothing", "2", {}, "no attack foolbox:Nothing"),
        ("base", "2", {}, "no attack foolbox:base"),
    ],
)
def test_what_foolbox_refuses(name: str, p: str, options: Any, reason: str) -> None:
    pytest.importorskip("foolbox", exc_type=ImportError)
    with pytest.raises(OnrError, match=reason):
        load("attack", f"foolbox:{name}")(p=norm(p), eps=0.1, **options)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_what_foolbox_refuses_when_called() -> None:
    pytest.importorskip("foolbox", exc_type=ImportError)
    attack = load("attack", "foolbox:DatasetAttack")(p=norm("2"), eps=0.1)
    network, x = TorchNetwork(module(), (2, 6, 6)), images()
    with pytest.raises(OnrError, match="foolbox:DatasetAttack cannot attack this"):
        attack(network, x, network(x).argmax(dim=1), rng=np.random.default_rng())


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize(
    ("spec", "p"),
    [
        ("foolbox:L2DeepFoolAttack", "2"),
        ("foolbox:SaltAndPepperNoiseAttack", "2"),
        ("foolbox:FGSM", "inf"),
        ("torchattacks:FGSM", "inf"),
    ],
)
def test_some_others_change_predictions(spec: str, p: str) -> None:
    pytest.importorskip(spec.partition(":")[0])
    network = TorchNetwork(module(), (2, 6, 6))
    x = images(60)
    y = network(x).argmax(dim=1)
    found = load("attack", spec)(p=norm(p), eps=0.5)(network, x, y, rng=np.random.default_rng(0))
    assert float((network(found).argmax(dim=1) == y).double().mean()) < 0.9
