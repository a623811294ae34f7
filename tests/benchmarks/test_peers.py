"""Attacks and training steps beside those of other libraries, in one process, in turns.

``pip install -e '.[test,peers]'`` brings the libraries; one that is missing is skipped. Each test
runs ours and the others in turns and asserts the median ratio; all ratios, with quartiles, are in
the benchmark's ``extra_info`` (``--benchmark-json``). A part of the table of attacks is
``-k "attacks_in_turns and resnet20 and inf"``; ``ONR_TURNS`` is the number of turns (7), and
``ONR_DEVICE=cuda`` measures these two on a GPU.
"""

import copy
import logging
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from networks import ResNet, WideResNet
from torch.nn import functional
from turns import DEVICE, in_turns, ratios

from onr.architectures import Normalize
from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.data import Split, pixels
from onr.losses import CrossEntropy
from onr.norms import LpNorm
from onr.registry import load
from onr.training.config import TrainConfig
from onr.training.loop import Training
from onr.training.optimizers import Optimizer
from onr_paper.models import cnn7
from onr_torch.backend import TorchBackend
from onr_torch.modes import constant_parameters
from onr_torch.network import TorchNetwork

pytestmark = pytest.mark.filterwarnings("ignore")  # what the others warn of is not ours
logging.getLogger("art").setLevel(logging.ERROR)

BATCH, STEPS = 64, 10
TURNS = int(os.environ.get("ONR_TURNS", "7"))
EPS = {math.inf: 8 / 255, 2.0: 0.5}
NETWORK = f"cnn7, width 16, batch {BATCH}"

Attack = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def ours(
    module: torch.nn.Module, p: float, *, bfloat16: bool = False, keep: str = "last"
) -> Attack:
    """Ten steps of ``2 eps / 10`` from a random start, as all others here, on a bare module."""
    attack = ProjectedGradientAscent(
        p=LpNorm(p), loss=CrossEntropy(), eps=EPS[p], steps=STEPS, keep=keep
    )
    network = TorchNetwork(module, (3, 32, 32), bfloat16=bfloat16)
    return lambda x, y: attack(network.frozen(), x, y, rng=np.random.default_rng(0))


def bare_loop(module: torch.nn.Module, p: float) -> Attack:
    """What one would write by hand."""
    eps, alpha = EPS[p], 2 * EPS[p] / STEPS

    def scaled(v: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        return v * size[:, None, None, None]

    def run(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        delta = torch.empty_like(x).uniform_(-eps, eps)
        if p == 2:
            delta = scaled(delta, eps / delta.flatten(1).norm(dim=1))
        with constant_parameters(module):
            for _ in range(STEPS):
                delta.requires_grad_(True)
                loss = functional.cross_entropy(module(x + delta), y)
                (g,) = torch.autograd.grad(loss, delta)
                with torch.no_grad():
                    if p == 2:
                        delta = delta + scaled(g, alpha / g.flatten(1).norm(dim=1))
                        size = delta.flatten(1).norm(dim=1)
                        delta = scaled(delta, (eps / size).clamp(max=1))
                    else:
                        delta = (delta + alpha * g.sign()).clamp(-eps, eps)
                    delta = (x + delta).clamp(0, 1) - x
        return x + delta

    return run


def channels_last_loop(module: torch.nn.Module, p: float) -> Attack:
    """The loop by hand of somebody who knows about layouts; inputs that lie so cost nothing."""
    run = bare_loop(module.to(memory_format=torch.channels_last), p)
    return lambda x, y: run(x.contiguous(memory_format=torch.channels_last), y)


def torchattacks(module: torch.nn.Module, p: float) -> Attack:
    library = pytest.importorskip("torchattacks")
    kind = library.PGD if p == math.inf else library.PGDL2
    run: Attack = kind(module, eps=EPS[p], alpha=2 * EPS[p] / STEPS, steps=STEPS)
    return run


def foolbox(module: torch.nn.Module, p: float) -> Attack:
    library = pytest.importorskip("foolbox")
    kind = library.attacks.LinfPGD if p == math.inf else library.attacks.L2PGD
    attack = kind(rel_stepsize=2 / STEPS, steps=STEPS)
    model = library.PyTorchModel(module, bounds=(0, 1), device=DEVICE)
    return lambda x, y: attack(model, x, y, epsilons=[EPS[p]])[1][0]


def adv_lib(module: torch.nn.Module, p: float) -> Attack:
    library = pytest.importorskip("adv_lib.attacks")
    if p != math.inf:
        pytest.skip("adv-lib has no such attack for p = 2")
    return lambda x, y: library.pgd_linf(
        module, x, y, EPS[p], steps=STEPS, relative_step_size=2 / STEPS
    )


def cleverhans(module: torch.nn.Module, p: float) -> Attack:
    library = pytest.importorskip("cleverhans.torch.attacks.projected_gradient_descent")
    return lambda x, y: library.projected_gradient_descent(
        module, x, EPS[p], 2 * EPS[p] / STEPS, STEPS, p, clip_min=0, clip_max=1, y=y
    )


def art_classifier(module: torch.nn.Module) -> object:
    library = pytest.importorskip("art.estimators.classification")
    return library.PyTorchClassifier(
        module,
        torch.nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(module.parameters(), lr=1e-3),
        input_shape=(3, 32, 32),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="gpu" if DEVICE.type == "cuda" else "cpu",
    )


def art(module: torch.nn.Module, p: float, steps: int = STEPS) -> Attack:
    library = pytest.importorskip("art.attacks.evasion")
    attack = library.ProjectedGradientDescentPyTorch(
        art_classifier(module),
        norm=p,
        eps=EPS[p],
        eps_step=2 * EPS[p] / STEPS,
        max_iter=steps,
        num_random_init=1,
        batch_size=BATCH,
        verbose=False,
    )
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(force=True), y.numpy(force=True)))


def small_cnn7() -> torch.nn.Module:
    model = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=16)
    return plain(TorchBackend().build(model))


def mlp() -> torch.nn.Module:
    layers = (torch.nn.Linear(3072, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512))
    return torch.nn.Sequential(
        torch.nn.Flatten(), *layers, torch.nn.ReLU(), torch.nn.Linear(512, 10)
    )


def vision_transformer() -> torch.nn.Module:
    """Six layers of 192, patches of four pixels."""
    module = torchvision.models.VisionTransformer(32, 4, 6, 4, 192, 768, num_classes=10)
    torch.nn.init.normal_(module.heads.head.weight, std=0.1)
    return module


NETWORKS = {
    "cnn7": small_cnn7,
    "resnet20": partial(ResNet, (3, 3, 3), (16, 32, 64)),
    "wrn16-2": partial(WideResNet, 2, 2),
    "mlp": mlp,
    "resnet18": partial(ResNet, (2, 2, 2, 2), (64, 128, 256, 512)),
    "mobilenetv2": partial(torchvision.models.mobilenet_v2, num_classes=10),
    "vit": vision_transformer,
}
"""Classifiers of ten classes of images of 32 pixels, as people write them."""

PEERS = {
    "bare loop": bare_loop,
    "channels-last loop": channels_last_loop,
    "torchattacks": torchattacks,
    "foolbox": foolbox,
    "adv-lib": adv_lib,
    "cleverhans": cleverhans,
    "art": art,
}


@pytest.fixture(scope="module")
def network() -> TorchNetwork:
    model = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=16)
    return TorchBackend().build(model)


def plain(network: TorchNetwork) -> torch.nn.Module:
    """The same network as the others are given it."""
    return copy.deepcopy(network.module).to(memory_format=torch.contiguous_format).eval()


@pytest.mark.benchmark(group="ten-step attack")
@pytest.mark.parametrize("batch", [64, 250])
@pytest.mark.parametrize("p", EPS)
@pytest.mark.parametrize("name", NETWORKS)
def test_attacks_in_turns(benchmark, name, p, batch):
    """At least as fast as the fastest of all others, at equal work."""
    module = NETWORKS[name]().eval().to(DEVICE)
    attacks = {"onr": ours(module, p), "onr, the best iterate": ours(module, p, keep="best")}
    taken = turns(benchmark, attacks | peers(module, p), batch)
    assert min(taken[name] for name in taken.keys() & PEERS.keys()) >= 1


@pytest.mark.benchmark(group="ten-step attack in bfloat16")
@pytest.mark.parametrize("batch", [64, 250])
@pytest.mark.parametrize("p", EPS)
@pytest.mark.parametrize("name", NETWORKS)
def test_attacks_in_bfloat16(benchmark, name, p, batch):
    """At least 1.8 times as fast as loops in float32, where the processor has bfloat16."""
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if DEVICE.type == "cpu" and not has:
        pytest.skip("this processor has no instructions for bfloat16")
    module = NETWORKS[name]().eval().to(DEVICE)
    loops = {"bare loop": bare_loop, "channels-last loop": channels_last_loop}
    attacks = {"onr": ours(module, p, bfloat16=True)}
    attacks |= {name: make(copy.deepcopy(module), p) for name, make in loops.items()}
    taken = turns(benchmark, attacks, batch)
    assert min(taken[name] for name in loops) >= 1.8


def peers(module: torch.nn.Module, p: float) -> dict[str, Attack]:
    """The attacks of others that are installed, each on a copy of the module."""
    attacks = {}
    for name, make in PEERS.items():
        try:
            attacks[name] = make(copy.deepcopy(module), p)
        except pytest.skip.Exception:
            continue
    return attacks


def turns(benchmark, attacks: dict[str, Attack], batch: int) -> dict[str, float]:
    """Each attack's time over that of onr, the median of the turns."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((batch, 3, 32, 32), dtype=np.float32))
    y = torch.from_numpy(rng.integers(0, 10, batch))
    x, y = x.to(DEVICE), y.to(DEVICE)
    benchmark.pedantic(attacks["onr"], (x, y), rounds=1, warmup_rounds=1)
    works = {name: partial(run, x, y) for name, run in attacks.items()}
    return ratios(benchmark, in_turns(works, rounds=TURNS), "onr")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that is a little robust, and test images."""
    place = os.environ.get("ONR_DATA_DIR")
    if not place:
        pytest.skip("ONR_DATA_DIR is not set: no real images")
    config = TrainConfig(
        dataset=f"npz:{Path(place) / 'cifar10'}",
        train_images=5000,
        model="cnn7",
        model_options={"width": "16"},
        method="at",
        method_options={"eps": "0.25", "steps": "2"},
        epochs=3,
        lr=0.01,
    )
    training = Training(config)
    for step in range(3 * training.steps):
        training._take_step(*divmod(step, training.steps))
    return training.learner.network, training.dataset.test.take(1000)


@pytest.mark.benchmark(group=f"ten-step attack, {NETWORK}")
@pytest.mark.parametrize("p", EPS)
def test_attacks_are_as_strong(benchmark, trained, p):
    """Robust accuracy on 1,000 images within half a point of the same steps by hand.

    And within one of the strongest library's: they start from other laws in the ball.
    """
    network, part = trained
    x, y = torch.from_numpy(pixels(part.images)), torch.from_numpy(part.labels.astype(np.int64))
    attacks = {
        "onr": ours(network.module, p),
        "onr bfloat16": ours(network.module, p, bfloat16=True),
    } | peers(plain(network), p)
    accuracy = {}
    for name, run in attacks.items():
        moved = torch.cat([run(*part) for part in zip(x.split(BATCH), y.split(BATCH), strict=True)])
        accuracy[name] = float((network(moved).argmax(1) == y).float().mean())
    benchmark.extra_info.update(accuracy)
    benchmark.pedantic(network, (x[:BATCH],), rounds=1)
    strongest = min(accuracy.values())
    for name in ("onr", "onr bfloat16"):
        assert abs(accuracy[name] - accuracy["bare loop"]) <= 0.005
        assert accuracy[name] <= strongest + 0.01


@pytest.mark.benchmark(group=f"adversarial training step, 7 attack steps, {NETWORK}")
def test_training_steps_in_turns(benchmark):
    """At least 1.4 times as fast as torchattacks in a loop, 1.9 times as ART's trainer."""
    rng = np.random.default_rng(0)
    split = Split(
        rng.integers(0, 256, (BATCH, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, BATCH)
    )
    x, y = torch.from_numpy(pixels(split.images)), torch.from_numpy(split.labels)
    model = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=16)

    def learner(dtype: str) -> Callable[[], object]:
        method = load("method", "at")(p="inf", steps=7, lam=math.inf)
        network = TorchBackend().build(model, dtype=dtype)
        made = TorchBackend().learner(network, method, split, optimizer=Optimizer())
        every = np.arange(BATCH)
        return lambda: float(made.step(every, lr=1e-3, rng=np.random.default_rng(0)))

    def loop(attack_of: Callable[[torch.nn.Module], Attack]) -> Callable[[], object]:
        module = plain(TorchBackend().build(model))
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
        attack = attack_of(module)

        def step() -> None:
            moved = attack(x, y)
            module.train()
            optimizer.zero_grad()
            functional.cross_entropy(module(moved), y).backward()
            optimizer.step()
            module.eval()

        return step

    def torchattacks_loop(module: torch.nn.Module) -> Attack:
        library = pytest.importorskip("torchattacks")
        eps = EPS[math.inf]
        run: Attack = library.PGD(module, eps=eps, alpha=eps / 4, steps=7)
        return run

    works = {"onr": learner("float32"), "onr bfloat16": learner("bfloat16")}
    works["torchattacks in a loop"] = loop(torchattacks_loop)
    trainers = pytest.importorskip("art.defences.trainer")
    module = plain(TorchBackend().build(model))
    attack = pytest.importorskip("art.attacks.evasion").ProjectedGradientDescentPyTorch(
        (classifier := art_classifier(module)),
        norm=math.inf,
        eps=EPS[math.inf],
        eps_step=EPS[math.inf] / 4,
        max_iter=7,
        num_random_init=1,
        batch_size=BATCH,
        verbose=False,
    )
    trainer = trainers.AdversarialTrainer(classifier, attack, ratio=1.0)
    one_hot = np.eye(10, dtype=np.float32)[split.labels]
    works["art's trainer"] = lambda: trainer.fit(x.numpy(), one_hot, nb_epochs=1, batch_size=BATCH)
    benchmark.pedantic(works["onr"], rounds=3)
    cost = ratios(benchmark, in_turns(works), "onr")
    assert cost["torchattacks in a loop"] >= 1.4
    assert cost["art's trainer"] >= 1.9
    assert cost["torchattacks in a loop"] / cost["onr bfloat16"] >= 2.5
