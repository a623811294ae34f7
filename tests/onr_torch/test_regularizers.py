"""The regularisers in a plain loop: what they pay and leave alone, and under what they work."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import onr_torch
from onr.data import Split
from onr.errors import OnrError
from onr.registry import load
from onr.training.optimizers import Optimizer
from onr_torch.network import TorchNetwork
from onr_torch.training.distributed import RowsOfGenerator
from onr_torch.training.learner import TorchLearner

SHAPE, CLASSES, COUNT = (2, 4, 4), 3, 6
IMAGES = np.random.default_rng(1).integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
X = torch.from_numpy(IMAGES / 255)
Y = torch.arange(COUNT) % CLASSES
LAM = 0.4


def plain(*, normalized: bool = False, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    norms = [nn.BatchNorm2d(3), nn.BatchNorm1d(8)] if normalized else [nn.Identity()] * 2
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        norms[0],
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 8),
        norms[1],
        nn.ReLU(),
        nn.Linear(8, CLASSES),
    ).double()


def regularizer(**options: Any) -> onr_torch.OperatorNormRegularizer:
    return onr_torch.OperatorNormRegularizer(
        **{"p": "inf", "q": 2, "eps": "8/255", "steps": 3} | options
    )


def gradients(loss: torch.Tensor, module: nn.Module) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g
        for g, p in zip(found, module.parameters(), strict=True)
    ]


def loss_of(
    model: nn.Module, reg: onr_torch.OperatorNormRegularizer, x: torch.Tensor = X
) -> torch.Tensor:
    logits = model(x)
    return functional.cross_entropy(logits, Y[: len(x)]) + LAM * reg(model, x, logits)


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


# A step by the term is a step of the learner

METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "dd-snr": ("dd-snr", {"eps": 0.3, "steps": 3}, {"p": 2, "q": 2, "eps": 0.3, "power": 2}),
    "dd-onr": (
        "dd-onr",
        {"p": "inf", "q": "1", "eps": 0.1, "steps": 3, "power": 3.0},
        {"p": "inf", "q": 1, "eps": 0.1, "power": 3},
    ),
    "dd-onr, Eq. 11, J v": (
        "dd-onr",
        {"eps": 0.1, "steps": 3, "alpha": 2.0, "form": "jacobian"},
        {"p": 2, "q": 2, "eps": 0.1, "alpha": 2.0, "form": "jacobian"},
    ),
    "dd-onr-exact": (
        "dd-onr-exact",
        {"p": "inf", "q": "1", "eps": 0.1},
        {"p": "inf", "q": 1, "eps": 0.1, "search": "exact"},
    ),
    "dd-snr-warm": (
        "dd-snr-warm",
        {"p": "inf", "eps": 0.1, "far": 0},
        {"p": "inf", "q": 2, "eps": 0.1, "power": 2, "search": "warm", "examples": COUNT},
    ),
}
BATCHES = [np.array(rows) for rows in ([0, 1, 2, 3], [4, 5, 2, 0], [3, 1, 0, 5])]


def learned(module: nn.Module, method: Any) -> tuple[dict[str, np.ndarray], list[float]]:
    """The state after three steps of the learner, and the costs."""
    learner = TorchLearner(
        TorchNetwork(module, SHAPE),
        method,
        Split(IMAGES, Y.numpy()),
        optimizer=Optimizer("sgd", momentum=0.5),
    )
    costs = [
        float(learner.step(batch, lr=0.1, rng=np.random.default_rng(number)))
        for number, batch in enumerate(BATCHES)
    ]
    return learner.state(), costs


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_by_the_term_is_a_step_of_the_method(name: str, normalized: bool) -> None:
    method, theirs, mine = METHODS[name]
    state, costs = learned(plain(normalized=normalized), load("method", method)(lam=LAM, **theirs))
    module, reg = plain(normalized=normalized).train(), regularizer(**mine)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    for number, batch in enumerate(BATCHES):
        reg.rng, rows = np.random.default_rng(number), torch.from_numpy(batch)
        x = X[rows]
        if normalized:
            logits, term = reg.together(module, x, index=rows, labels=Y[rows])
        else:
            term = reg(module, x, logits := module(x), index=rows, labels=Y[rows])
        loss = functional.cross_entropy(logits, Y[rows]) + LAM * term
        assert abs(loss.item() - costs[number]) < 1e-12
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for key, value in module.state_dict().items():
        close(value, torch.from_numpy(state[f"model.{key}"]))
    assert ("memory" in state) == ("memory" in reg.state_dict())
    if "memory" in state:
        close(reg.state_dict()["memory"], torch.from_numpy(state["memory"]))


def test_a_step_by_the_pair_is_a_step_of_the_warm_start() -> None:
    """Half of the cross-entropy at each input, batch normalisation over both."""
    state, costs = learned(plain(normalized=True), load("method", "dd-snr-warm")(p="inf", lam=LAM))
    module = plain(normalized=True).train()
    reg = regularizer(p="inf", q=2, eps="8/255", power=2, search="warm", examples=COUNT)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    for number, batch in enumerate(BATCHES):
        reg.rng, rows = np.random.default_rng(number), torch.from_numpy(batch)
        y = Y[rows]
        clean, moved, term = reg.pair(module, X[rows], index=rows, labels=y)
        entropy = functional.cross_entropy(clean, y) + functional.cross_entropy(moved, y)
        loss = entropy / 2 + LAM * term
        assert abs(loss.item() - costs[number]) < 1e-12
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for key, value in module.state_dict().items():
        close(value, torch.from_numpy(state[f"model.{key}"]))
    with pytest.raises(OnrError, match="form = jacobian looks at no perturbed inputs"):
        regularizer(form="jacobian").pair(module, X)


@pytest.mark.parametrize("p", [1, 2, "inf"])
def test_rho_of_a_linear_network_is_one_under_noise(p: Any) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(X[0].numel(), 3)).double()
    reg = regularizer(p=p, search="warm", noise=1.5)
    with torch.no_grad():
        reg(module, X)
    close(reg.last.rho, torch.ones(len(X), dtype=torch.float64))


def test_predicted_classes_stand_for_labels() -> None:
    module, found = plain(), []
    for labels in (None, plain()(X).argmax(1), (plain()(X).argmax(1) + 1) % 3):
        reg = regularizer(search="warm", share=1, noise=0, reduction="none")
        with torch.no_grad():
            found.append(reg(module, X, labels=labels))
    close(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


@pytest.mark.parametrize("kernel", ["reshaped", "convolution"])
def test_a_step_by_the_spectral_norms_is_a_step_of_global_snr(kernel: str) -> None:
    method = load("method", "global-snr")(lam=LAM, steps=2, kernel=kernel)
    state, costs = learned(plain(), method)
    module = plain()
    reg = onr_torch.SpectralNormRegularizer(steps=2, kernel=kernel, rng=0)
    reg.rng.integers(2**63)  # the learner draws a seed of dropout before the first vectors
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    for number, batch in enumerate(BATCHES):
        rows = torch.from_numpy(batch)
        loss = functional.cross_entropy(module(X[rows]), Y[rows]) + LAM * reg(module, X[rows])
        assert abs(loss.item() - costs[number]) < 1e-12
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for key, value in module.state_dict().items():
        close(value, torch.from_numpy(state[f"model.{key}"]))


# What a call leaves alone


class Spectral(nn.Sequential):
    """A layer that writes its vectors in place in each pass in training mode."""

    def __init__(self) -> None:
        super().__init__(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)))


PARTS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(6, 6),
    "batch norm": lambda: nn.BatchNorm1d(6),
    "batch norm, of all": lambda: nn.BatchNorm1d(6, momentum=None),
    "layer norm": lambda: nn.LayerNorm(6),
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "dropout": lambda: nn.Dropout(0.4),
    "spectral norm": Spectral,
}


def none_or_list(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else tensor.tolist()


def everything(module: nn.Module) -> list[Any]:
    """All of a module and of the world that a call must leave alone, by value or identity."""
    numbers = np.random.get_state()  # noqa: NPY002 - the global one
    return [
        [part.training for part in module.modules()],
        [(id(p), p.requires_grad, id(p.grad), p._version) for p in module.parameters()],
        [none_or_list(p.grad) for p in module.parameters()],
        [id(b) for b in module.buffers()],
        [b.tolist() for b in module.buffers()],
        torch.get_rng_state().tolist(),
        random.getstate(),
        (numbers[0], numbers[1].tolist(), *numbers[2:]),
    ]


@given(data=st.data())
@settings(max_examples=25)
@pytest.mark.filterwarnings("ignore:.*draws noise")
def test_a_call_leaves_the_module_and_the_generators_as_they_were(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 999), label="seed"))
    names = data.draw(st.lists(st.sampled_from(sorted(PARTS)), max_size=5), label="parts")
    parts = [PARTS[name]() for name in names]
    module = nn.Sequential(nn.Linear(5, 6), *parts, nn.Linear(6, 3)).double()
    assume(has_gradient(module))
    flags = st.booleans()
    for part in module:
        part.train(data.draw(flags, label="training"))
    module.training = data.draw(flags)
    for parameter in module[:-1].parameters():
        parameter.requires_grad_(data.draw(flags, label="requires grad"))
        if data.draw(flags, label="has grad"):
            parameter.grad = torch.rand_like(parameter)
    x = torch.rand(4, 5, dtype=torch.float64)
    search = data.draw(st.sampled_from(["power", "exact", "warm"]))
    form = data.draw(st.sampled_from(["difference", "jacobian"]))
    reg = regularizer(p=2, search=search, form=form, examples=9)
    usage = data.draw(st.sampled_from(["logits", "alone", "weights"]))
    logits = module(x.clone()) if usage == "logits" else None
    before, inputs = everything(module), x.tolist()
    if usage == "weights":
        term = onr_torch.SpectralNormRegularizer()(frozen_as_linear(module), x)
    else:
        term = reg(module, x, logits, index=[1, 0, 5, 8])
    assert everything(module) == before
    assert x.tolist() == inputs
    assert not x.requires_grad
    term.backward()  # type: ignore[no-untyped-call]
    for parameter, grad in zip(module.parameters(), before[2], strict=True):
        assert parameter.requires_grad or grad == none_or_list(parameter.grad)


def has_gradient(module: nn.Module) -> bool:
    """Whether torch differentiates the module: not where a ReLU overwrites what another needs."""
    try:
        copy.deepcopy(module).eval()(torch.rand(4, 5, dtype=torch.float64)).sum().backward()
    except RuntimeError:
        return False
    return True


def frozen_as_linear(module: nn.Sequential) -> nn.Module:
    """The module, without a layer whose weight is made from other parameters."""
    return nn.Sequential(*(part for part in module if not isinstance(part, Spectral)))


# What a call pays


def test_the_term_is_that_of_its_formula() -> None:
    """For the direction that it tells, in each of the modes."""
    options: dict[str, Any] = {"p": "inf", "q": 1, "eps": "8/255", "steps": 3, "power": 2}

    def called(usage: str, **others: Any) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
        """The module, what it is called with, and what the call gives."""
        module, reg = plain(normalized=True), regularizer(**options | others)
        if usage == "logits":
            found = reg(module, X, module(X))
        else:
            found = reg(module, X) if usage == "alone" else reg.together(module, X)[1]
        assert reg.last is not None
        return module, X + 8 / 255 * reg.last.direction, found

    def size(change: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(change, 1, dim=1) ** 2 / 2

    for usage in ("logits", "alone", "together"):
        module, moved, found = called(usage, reduction="none")
        if usage == "logits":
            expected = size(module(moved) - module(X))
        else:
            clean, other = module(torch.cat([X, moved])).tensor_split(2)
            expected = size(other - clean)
        close(found, expected)
        for reduced in (found.mean(), found.sum()):
            reduction = "mean" if reduced < found.sum() else "sum"
            close(called(usage, reduction=reduction)[2], reduced)
        pairs = zip(gradients(found.sum(), module), gradients(expected.sum(), module), strict=True)
        for mine, theirs in pairs:
            close(mine, theirs, 1e-11)
    module = plain(normalized=True)
    found = onr_torch.operator_norm_penalty(module, X, module(X), rng=0, **options)
    close(found, called("logits")[2])
    module.eval()
    close(regularizer()(module, X, module(X)), regularizer()(module, X))


def test_rho_is_one_where_the_network_is_linear() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(32, CLASSES)).double()
    for search in ("power", "exact", "warm"):
        reg = regularizer(search=search, q=1, examples=COUNT)
        reg(module, X, module(X), index=range(COUNT))
        assert reg.last is not None
        assert reg.last.rho is not None
        close(reg.last.rho, torch.ones(COUNT).double(), 1e-9)
        assert reg.last.kind == ("exact" if search == "exact" else "lower")
        exact = regularizer(search="exact", q=1)
        exact(module, X)
        assert exact.last is not None
        assert (reg.last.norm <= exact.last.norm + 1e-12).all()
        close(reg.last.direction.abs().amax((1, 2, 3)), torch.ones(COUNT).double())


def test_inputs_of_all_sorts() -> None:
    module = plain()
    expected = gradients(regularizer()(module, X, module(X)), module)
    laid_out = {
        "channels last": X.contiguous(memory_format=torch.channels_last),
        "transposed": X.transpose(2, 3).contiguous().transpose(2, 3),
        "every second": X.repeat_interleave(2, dim=0)[::2],
        "leaf": X.clone().requires_grad_(True),
    }
    for x in laid_out.values():
        logits = module(x)
        for mine, theirs in zip(
            gradients(regularizer()(module, x, logits), module), expected, strict=True
        ):
            close(mine, theirs)
    leaf = laid_out["leaf"]
    reg = regularizer()
    reg(module, leaf, module(leaf)).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert reg.last is not None
    again = X.clone().requires_grad_(True)
    change = module(again + 8 / 255 * reg.last.direction) - module(again)
    (slope,) = torch.autograd.grad(torch.linalg.vector_norm(change, 2, dim=1).mean(), again)
    close(leaf.grad, slope)


@pytest.mark.parametrize("form", ["difference", "jacobian"])
def test_small_batches_and_no_radius(form: str) -> None:
    module, one = plain(), regularizer(form=form, reduction="none")
    both = torch.cat([one(module, X[:1]), regularizer(form=form, reduction="none")(module, X[:1])])
    close(both[0], both[1])
    for reduction in ("none", "mean", "sum"):
        none = regularizer(form=form, reduction=reduction)
        term = none(module, X[:0], module(X[:0]))
        assert term.sum() == 0
        assert none.last is None
        logits, term = none.together(module, X[:0])
        assert logits.shape == (0, CLASSES)
        assert term.sum() == 0
    flat = regularizer(form=form, eps=0)
    term = flat(module, X, module(X))
    assert term == 0
    assert all((g == 0).all() for g in gradients(term, module))


# Under what it works


def test_autocast_does_not_reach_the_search() -> None:
    module = plain().float()
    x = X.float()
    quiet, loud = regularizer(), regularizer()
    quiet(module, x, module(x))
    with torch.autocast("cpu", torch.bfloat16):
        logits = module(x)
        term = loud(module, x, logits)
    assert logits.dtype == torch.bfloat16
    assert term.dtype == torch.float32
    assert quiet.last is not None
    assert loud.last is not None
    assert torch.equal(quiet.last.direction, loud.last.direction)
    assert torch.equal(quiet.last.norm, loud.last.norm)
    term.backward()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    unscaled = gradients(loss_of(module, regularizer(), x), module)
    scaled = gradients(scaler.scale(loss_of(module, regularizer(), x)), module)
    for mine, theirs in zip(scaled, unscaled, strict=True):
        close(mine / 2**10, theirs, 1e-6)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo's own, where a graph breaks
def test_compiled_modules_and_compiled_steps() -> None:
    compilations = []

    def backend(graph: Any, example: Any) -> Any:
        compilations.append(graph)
        return graph

    module = plain()
    expected = gradients(loss_of(module, regularizer()), module)
    compiled = torch.compile(module, backend=backend)
    for _ in range(3):
        found = gradients(loss_of(compiled, regularizer()), module)
    assert len(compilations) == 1
    for mine, theirs in zip(found, expected, strict=True):
        close(mine, theirs)
    reg = regularizer()

    @torch.compile(backend=backend)
    def step() -> torch.Tensor:
        return loss_of(module, reg)

    for mine, theirs in zip(gradients(step(), module), expected, strict=True):
        close(mine, theirs)


class Checkpointed(nn.Module):
    """A module that computes its middle anew in the backward pass."""

    def __init__(self, module: nn.Sequential, *, reentrant: bool = False) -> None:
        super().__init__()
        self.module, self.reentrant = module, reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = checkpoint(self.module[4:7], self.module[:4](x), use_reentrant=self.reentrant)
        logits: torch.Tensor = self.module[7:](middle)
        return logits


def test_checkpoints_and_accumulated_gradients() -> None:
    module = plain()
    expected = gradients(loss_of(module, regularizer(search="exact", q=1)), module)
    wrapped, reg = Checkpointed(plain()), regularizer(search="exact", q=1)
    for rows in (slice(0, 3), slice(3, 6)):
        logits = wrapped(X[rows])
        term = functional.cross_entropy(logits, Y[rows]) + LAM * reg(wrapped, X[rows], logits)
        (term / 2).backward()
    for parameter, theirs in zip(wrapped.parameters(), expected, strict=True):
        close(parameter.grad, theirs)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_jacobian_of_checkpoints_is_refused(normalized: bool, reentrant: bool) -> None:
    """In the call, not in the backward pass, whatever is between the checkpoints."""
    module = Checkpointed(plain(normalized=normalized), reentrant=reentrant)
    for smooth in (False, True):
        if smooth:
            module.module[6] = nn.Tanh()
        with pytest.raises(OnrError, match=r"Checkpointed \(it computes .* form = difference"):
            regularizer(form="jacobian")(module, X, module(X))
    with torch.autograd.graph.save_on_cpu():
        loss_of(module.module, regularizer(form="jacobian")).backward()  # type: ignore[no-untyped-call]


def test_no_gradient_is_asked_for() -> None:
    module, reg = plain(), regularizer(search="warm", examples=COUNT)
    with torch.inference_mode():
        value = reg(module, X, module(X), index=range(COUNT))
    assert not value.requires_grad
    reg(module, X, module(X), index=range(COUNT)).backward()  # type: ignore[no-untyped-call]


def test_noise_is_told_once() -> None:
    module, reg = nn.Sequential(plain(), nn.Dropout(0.5)), regularizer()
    with pytest.warns(UserWarning, match="Sequential draws noise"):
        reg(module, X, module(X))
    reg(module, X, module(X))
    module.eval()
    regularizer()(module, X, module(X))


# What is remembered


@pytest.mark.parametrize("form", ["difference", "jacobian"])
def test_a_warm_start_without_an_index_is_told_once(form: str) -> None:
    module, told = plain(), "search = 'warm' remembers nothing .* fresh u; give "
    for reg, missing in (
        (regularizer(search="warm", form=form), "examples = N to the regulariser, and index = i"),
        (regularizer(search="warm", form=form, examples=COUNT), "index = i"),
    ):
        with torch.no_grad():
            reg(module, X)  # validation needs no memory
        with pytest.warns(UserWarning, match=told + missing) as caught:
            reg(module, X)
        assert caught[0].filename == __file__
        reg(module, X)
        reg.together(module, X)
    known = regularizer(search="warm", form=form, examples=COUNT)
    known(module, X, index=range(COUNT))
    known(module, X)
    onr_torch.operator_norm_penalty(module, X, p=2, q=2, eps=0.1, search="warm", form=form)


@pytest.mark.parametrize("search", ["power", "warm"])
def test_a_regulariser_goes_on_from_its_state(search: str) -> None:
    module = plain()
    one, other = (regularizer(search=search, examples=9, reduction="none") for _ in range(2))
    one(module, X, index=[1, 2, 3, 4, 5, 6])
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    kept = {name: value.clone() for name, value in one.state_dict().items()}
    first = one(module, X, index=[6, 5, 0, 8, 2, 1])
    assert torch.equal(first, other(module, X, index=[6, 5, 0, 8, 2, 1]))
    other.load_state_dict(kept)
    assert all(torch.equal(kept[name], value) for name, value in other.state_dict().items())


def test_the_spectral_regulariser_goes_on_from_its_state() -> None:
    module = plain()
    one, other = onr_torch.SpectralNormRegularizer(), onr_torch.SpectralNormRegularizer(rng=3)
    one(module, X)
    other.load_state_dict(one.state_dict())
    first = one(module, X)
    assert torch.equal(first, other(module, X))
    (2 * first + one(module, X)).backward()  # type: ignore[no-untyped-call]


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"search": "random"}, "search = 'random': expected power, exact or warm"),
    ({"steps": 1.5}, "steps = 1.5: expected a whole number >= 1"),
    ({"power": "2"}, "power = '2': expected a number"),
    ({"examples": 2.5}, "examples = 2.5: expected a whole number >= 1"),
    ({"form": "sum"}, "form = 'sum'"),
    ({"reduction": "max"}, "reduction = 'max'"),
    ({"eps": "-1/255"}, "eps = -0.0039"),
    ({"eps": None}, "eps is a NoneType"),
    ({"p": "many"}, "unknown norm 'many'"),
    ({"steps": 0}, "steps = 0"),
    ({"power": 0.5}, "power = 0.5"),
    ({"alpha": -1.0}, "alpha = -1"),
    ({"examples": 0}, "examples = 0"),
]


@pytest.mark.parametrize(("options", "told"), BAD_OPTIONS)
def test_options_that_no_regulariser_has(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OnrError, match=told):
        regularizer(**options)


def test_calls_that_are_refused() -> None:
    module = plain()
    logits = module(X)
    warm = regularizer(search="warm", examples=4)
    refused: list[tuple[str, Callable[[], Any]]] = [
        ("images of whole numbers", lambda: regularizer()(module, (255 * X).byte(), logits)),
        ("model torch.float64: give x.to", lambda: regularizer()(module, X.float(), logits)),
        ("expected float32 or float64", lambda: regularizer()(module.half(), X.half(), logits)),
        (r"shape \(6, 2\): expected \(6, 3\)", lambda: regularizer()(module, X, logits[:, 1:])),
        ("give examples = N", lambda: regularizer(search="warm")(module, X, index=range(COUNT))),
        ("the index runs from 0 to 5: expected 0 to 3", lambda: warm(module, X, index=range(6))),
        ("expected one whole number", lambda: warm(module, X, index=[0, 1])),
        ("expected one whole number", lambda: warm(module, X, index=1j * torch.arange(COUNT))),
        ("no array of whole numbers", lambda: warm(module, X, index=["a"] * COUNT)),
        ("the logits have no graph", lambda: regularizer()(module, X, logits.detach())),
        ("expected a torch.nn.Module", lambda: regularizer()(module.forward, X, logits)),
        ("x a ndarray", lambda: regularizer().together(module, X.numpy())),
        ("a memory of shape", lambda: warm.load_state_dict({"memory": "a"})),  # type: ignore[dict-item]
        ("has no exact algorithm", lambda: regularizer(search="exact", p=3)(module, X)),
        ("no gradient in x", lambda: regularizer(form="jacobian")(module, X.requires_grad_(True))),
        ("a memory of shape", lambda: warm.load_state_dict({"memory": torch.ones(3, 2)})),
        ("no state of a regulariser", lambda: warm.load_state_dict({})),
        ("no affine", lambda: onr_torch.SpectralNormRegularizer()(nn.Flatten(), X)),
    ]
    for told, call in refused:
        try:
            with pytest.raises(OnrError, match=told):
                call()
        finally:
            module.double()
            X.requires_grad_(False)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int32, np.uint64])
def test_an_index_is_the_same_in_every_type(kind: type) -> None:
    module, order = plain(), [3, 1, 0, 2, 5, 4]
    found = []
    for index in (order, np.array(order, kind), np.array(order[::-1], kind)[::-1]):
        reg = regularizer(search="warm", examples=8)
        reg(module, X, index=index)
        found.append(reg.state_dict()["memory"])
        assert (found[-1].abs().amax(1) > 0).tolist() == [True] * 6 + [False] * 2
        assert torch.equal(found[-1], found[0])


def test_a_memory_of_other_outputs_is_refused() -> None:
    reg, module = regularizer(search="warm", examples=COUNT), plain()
    reg(module, X, index=range(COUNT))
    fewer = nn.Sequential(module, nn.Linear(3, 2)).double()
    with pytest.raises(OnrError, match=r"3 outputs are remembered .* the model has 2"):
        reg(fewer, X, index=range(COUNT))


def test_the_spectral_regulariser_sees_layers_that_thaw() -> None:
    module = plain()
    reg = onr_torch.SpectralNormRegularizer(steps=100)
    whole = reg(module, X)
    first = next(module.parameters()).requires_grad_(False)
    assert reg(module, X) < whole
    first.requires_grad_(True)
    close(reg(module, X), whole, 1e-6)


def test_a_module_that_mixes_examples_is_refused() -> None:
    class Mixing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3] - x.flatten(1)[:, :3].mean(0)

    with pytest.raises(OnrError, match="mixes the examples"):
        regularizer()(Mixing(), X)


# Two processes

USAGES: dict[str, dict[str, Any]] = {
    "logits": {},
    "together": {"q": 1},
    "warm": {"search": "warm", "examples": COUNT},
    "jacobian": {"form": "jacobian"},
    "weights": {},
}


def found_by(name: str, rank: int | None = None) -> list[torch.Tensor]:
    """The parameters after two steps, in one process or in one of two."""
    module, rows = plain(), np.arange(COUNT)
    model: nn.Module = module
    if rank is not None:
        model, rows = nn.parallel.DistributedDataParallel(module), np.array_split(rows, 2)[rank]
    reg: Any = onr_torch.SpectralNormRegularizer()
    if name != "weights":
        reg = regularizer(**USAGES[name])
        reg.rng = RowsOfGenerator(np.random.default_rng(0), rows, COUNT)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    index = torch.from_numpy(rows)
    for _ in range(2):
        if name == "together":
            logits, term = reg.together(model, X[index])
        elif name == "weights":
            logits, term = model(X[index]), reg(model, X[index])
        else:
            term = reg(model, X[index], logits := model(X[index]), index=index)
        optimizer.zero_grad()
        (functional.cross_entropy(logits, Y[index]) + LAM * term).backward()
        optimizer.step()
    return [parameter.detach() for parameter in module.parameters()]


def test_two_processes_have_the_gradients_of_one(pair: Path) -> None:
    # By docs/recipes/with_ddp.py:
    assert (pair / "printed").read_text().count("||J|| is at least") == 2
    for name in USAGES:
        expected = found_by(name)
        for rank in (0, 1):
            for mine, theirs in zip(torch.load(pair / f"{name}-{rank}.pt"), expected, strict=True):
                close(mine, theirs)
