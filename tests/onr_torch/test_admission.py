"""A module is one function of each example, or it is refused in words; the check is made once."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import onr
from onr.errors import OnrError
from onr_torch.admission import record_of, trust
from onr_torch.linearization import linearize
from onr_torch.network import TorchNetwork

SIZE, CLASSES = 6, 3


class Of(nn.Module):
    """A function of a module with one layer, and of ``x``."""

    def __init__(self, function: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(SIZE, CLASSES)
        self.function, self.calls, self.seen = function, 0, 0
        self.register_buffer("total", torch.zeros(()))
        self.own = torch.Generator().manual_seed(0)
        self.count, self.counts = torch.zeros(()), {"calls": [0]}

    def forward(self, x: torch.Tensor) -> Any:
        self.seen_inputs = x
        return self.function(self, x)


class Mixing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


def inputs(count: int = 4) -> torch.Tensor:
    return torch.rand(count, SIZE, generator=torch.Generator().manual_seed(1))


def counted(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.calls += 1
    return m.layer(x) * (1 + (m.calls > 3))


def accumulated(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.total += 1
    return m.layer(x)


def fused(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.layer(x) * (1 if torch.is_grad_enabled() else 1.01)


def scattered(m: Any, x: torch.Tensor) -> torch.Tensor:
    values = torch.zeros_like(x).masked_scatter(x > 0.5, x)
    return m.layer(values)


def overwritten(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.count += 1
    return m.layer(x) * (1 + (m.count > 6))


def in_a_list(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.counts["calls"][0] += 1
    return m.layer(x) * (1 + (m.counts["calls"][0] > 6))


def with_room_for_one(m: Any, x: torch.Tensor) -> torch.Tensor:
    chosen = m.layer(x).argmax(1)
    kept = torch.zeros(len(x), 1)
    for expert in range(CLASSES):
        kept[(chosen == expert).nonzero()[:1]] = 1
    return m.layer(x) * kept


NO_FUNCTION = {
    "a tensor that counts": (overwritten, "attribute 'count' changes"),
    "a number in a list": (in_a_list, "attribute 'counts' changes"),
    "experts with little room": (with_room_for_one, "mixes the examples"),
    "python's generator": (lambda m, x: m.layer(x + random.gauss(0, 1)), "Python's random module"),
    "numpy's generator": (lambda m, x: m.layer(x * np.random.rand()), "NumPy's global generator"),  # noqa: NPY002
    "a generator of its own": (
        lambda m, x: m.layer(x + torch.rand(1, generator=m.own)),
        "generator that is not torch's",
    ),
    "a counter": (counted, "attribute 'calls' changes from 1 to 2"),
    "a running total": (accumulated, "buffer 'total' changes"),
    "the batch's mean": (lambda m, x: m.layer(x - x.mean(0)), "mixes the examples"),
    "the batch's sum": (lambda m, x: m.layer(x) + x.sum() / len(x), "mixes the examples"),
    "the batch's size": (lambda m, x: m.layer(x) * len(x), "mixes the examples"),
    "the batch's maximum": (lambda m, x: m.layer(x / x.abs().max()), "mixes the examples"),
    "the batch's order": (lambda m, x: m.layer(x).cumsum(0), "mixes the examples"),
    "masked entries": (scattered, "mixes the examples"),
    "softmax over the batch": (lambda m, x: m.layer(x).softmax(0), "mixes the examples"),
    "batch statistics": (
        lambda m, x: m.layer(functional.batch_norm(x, None, None, training=True)),
        "mixes the examples",
    ),
}
OUTPUTS = {
    "a tuple": (lambda m, x: (m.layer(x), x), "gives a tuple"),
    "nothing": (lambda m, x: None, "gives a NoneType"),
    "no logits": (lambda m, x: {"scores": m.layer(x)}, "gives a dict"),
    "one axis": (lambda m, x: m.layer(x)[:, 0], r"\(4, 6\)|\(2, 6\) to \(2,\)"),
    "three axes": (lambda m, x: m.layer(x)[:, None], r"to \(4, 1, 3\)"),
    "no outputs": (lambda m, x: m.layer(x)[:, :0], r"to \(4, 0\)"),
    "another batch": (lambda m, x: m.layer(x)[:1], r"to \(1, 3\)"),
    "labels": (lambda m, x: m.layer(x).long(), "outputs of torch.int64"),
    "booleans": (lambda m, x: m.layer(x) > 0, "outputs of torch.bool"),
    "complex": (lambda m, x: m.layer(x).to(torch.complex64), "outputs of torch.complex64"),
    "nan": (lambda m, x: m.layer(x) * math.nan, "gives nan"),
    "infinity": (lambda m, x: m.layer(x) / 0.0 * m.layer(x), "gives inf"),
    "an error": (lambda m, x: m.layer(x[:, :2]), "fails on inputs of shape"),
}
NO_GRADIENT = {
    "detached": lambda m, x: m.layer(x.detach()),
    "no_grad": torch.no_grad()(lambda m, x: m.layer(x)),
    "argmax": lambda m, x: functional.one_hot(m.layer(x).argmax(1), CLASSES).float(),
    "data": lambda m, x: m.layer(x.data),
}


@pytest.mark.parametrize("name", NO_FUNCTION | OUTPUTS)
def test_what_is_no_function_is_refused_everywhere(name: str) -> None:
    function, message = (NO_FUNCTION | OUTPUTS)[name]
    x, y = inputs(), torch.zeros(4, dtype=torch.int64)
    uses: list[Callable[[nn.Module], Any]] = [
        lambda m: linearize(m, x),
        lambda m: TorchNetwork(m, (SIZE,))(x),
        lambda m: TorchNetwork(m, (SIZE,)).linearize(x),
        lambda m: onr.measure.accuracy(m, x, y),
    ]
    for use in uses:
        with pytest.raises(OnrError, match=message) as caught:
            use(Of(function).eval())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_no_derivative_is_zero_because_the_graph_is_cut(name: str) -> None:
    module, x = Of(NO_GRADIENT[name]).eval(), inputs()
    with pytest.raises(OnrError, match="have no gradient in x"):
        linearize(module, x)
    with pytest.raises(OnrError, match="have no gradient in x"):
        onr.operator_norm(module, x, p=2, q=2)
    assert TorchNetwork(module, (SIZE,))(x).shape == (4, CLASSES)


def clipped(part: nn.Module, given: Any, result: Any) -> Any:
    return (given[0].clamp(min=0),)


def test_gradients_that_a_hook_changes_are_refused() -> None:
    module = nn.Sequential(nn.Linear(SIZE, 8), nn.ReLU(), nn.Linear(8, CLASSES)).eval()
    module[1].register_full_backward_hook(clipped)
    with pytest.raises(OnrError, match="not linear in what it is given"):
        linearize(module, inputs())

    def clamped(m: Any, x: torch.Tensor) -> torch.Tensor:
        hidden = m.layer(x)
        if hidden.requires_grad:
            hidden.register_hook(lambda g: g.clamp(-0.1, 0.1))
        return hidden

    with pytest.raises(OnrError, match="not linear in what it is given"):
        linearize(Of(clamped).eval(), inputs())


def test_a_module_with_another_part_is_checked_once_more() -> None:
    module = nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU(), nn.Linear(SIZE, CLASSES)).eval()
    linearize(module, inputs())
    module[1] = Mixing()
    with pytest.raises(OnrError, match="mixes the examples"):
        linearize(module, inputs())


def test_values_must_not_depend_on_whether_a_gradient_is_asked_for() -> None:
    with pytest.raises(OnrError, match=r"change by .* where a gradient is asked for"):
        linearize(Of(fused).eval(), inputs())


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    features: torch.Tensor


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: {"logits": m.layer(x).relu(), "x": x},
        lambda m, x: Answer(m.layer(x).relu(), x),
        lambda m, x: m.layer(x).relu() * torch.ones(CLASSES).masked_fill(m.layer.bias < 9, 1.0),
    ],
)
def test_logits_by_name_are_taken(function: Any) -> None:
    x, v = inputs(), inputs().flip(0)
    wanted = linearize(Of(lambda m, x: m.layer(x).relu()).eval(), x)
    found = linearize(Of(function).eval(), x)
    torch.testing.assert_close(found.value, wanted.value)
    torch.testing.assert_close(found.jvp(v), wanted.jvp(v))


def test_masked_logits_are_taken() -> None:
    mask = torch.tensor([0.0, 0.0, -math.inf])
    at = linearize(Of(lambda m, x: m.layer(x) + mask).eval(), inputs())
    assert at.value[:, 2].isneginf().all()
    assert at.jvp(inputs()).isfinite().all()


def test_the_check_is_made_once_for_inputs_of_a_kind() -> None:
    calls = []

    def watched(m: Any, x: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return m.layer(x)

    module = Of(watched).eval()
    linearize(module, inputs())
    assert 1 < len(calls) <= 12
    calls.clear()
    linearize(module, inputs(2))
    TorchNetwork(module, (SIZE,)).frozen()(inputs())
    assert calls == [(2, SIZE), (4, SIZE)]


def test_nan_that_stays_is_no_change() -> None:
    module = Of(lambda m, x: m.layer(x)).eval()
    module.register_buffer("unused", torch.full((2,), math.nan))
    module.best = math.nan
    assert linearize(module, inputs()).value.shape == (4, CLASSES)


def test_a_trusted_module_is_not_checked() -> None:
    module = trust(Of(lambda m, x: m.layer(x - x.mean(0))).eval())
    assert linearize(module, inputs()).value.shape == (4, CLASSES)


def test_a_record_lives_as_long_as_its_module() -> None:
    from onr_torch import admission

    module = Of(lambda m, x: m.layer(x)).eval()
    linearize(module, inputs())
    before = len(admission._RECORDS)
    assert record_of(module).admitted
    del module
    assert len(admission._RECORDS) == before - 1


def test_generators_and_buffers_are_as_before() -> None:
    def draws(m: Any, x: torch.Tensor) -> torch.Tensor:
        random.gauss(0, 1), np.random.rand(), torch.rand(1)  # noqa: NPY002
        m.total += 1
        return m.layer(x)

    module = Of(draws).eval()
    states = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()  # noqa: NPY002
    with pytest.raises(OnrError):
        linearize(module, inputs())
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tobytes() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert module.total <= 1  # the first call, which may initialise, is not undone


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_module_for_one_batch_size_is_taken(count: int) -> None:
    module = Of(lambda m, x: m.layer(x.view(count, SIZE))).eval()
    x = inputs(count)
    assert linearize(module, x).jvp(x).shape == (count, CLASSES)


def test_an_empty_batch_has_empty_products() -> None:
    at = linearize(Of(lambda m, x: m.layer(x)).eval(), inputs(0))
    assert at.jvp(inputs(0)).shape == (0, CLASSES)
    assert at.vjp(torch.zeros(0, CLASSES)).shape == (0, SIZE)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (inputs().double(), "x holds torch.float64 and the model torch.float32"),
        (inputs().half(), "expected float32 or float64"),
        (inputs().to(torch.int8), "expected floats"),
        (inputs().to(torch.complex64), "expected floats"),
        (inputs().requires_grad_(True), "give x.detach()"),
        (inputs()[0], "one input is x"),
        (inputs().index_fill(0, torch.tensor([2]), math.nan), r"x\[2\] has an entry that is NaN"),
    ],
)
def test_inputs_that_are_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(OnrError, match=message):
        linearize(Of(lambda m, x: m.layer(x)).eval(), x)


def test_layers_without_a_shape_and_weights_without_gradients_are_refused() -> None:
    with pytest.raises(OnrError, match="'weight' has no shape yet"):
        linearize(nn.LazyLinear(3).eval(), inputs())
    with torch.inference_mode():
        module = nn.Linear(SIZE, 3).eval()
    with pytest.raises(OnrError, match=r"'weight' was made inside torch.inference_mode\(\)"):
        linearize(module, inputs())


@pytest.mark.parametrize("write", [lambda x: x.sub_(0.5), lambda x: functional.relu_(x - 0.5)])
@pytest.mark.parametrize("trusted", [False, True])
def test_a_module_that_writes_into_its_inputs_is_measured_as_one_that_does_not(
    write: Callable[[torch.Tensor], torch.Tensor], trusted: bool
) -> None:
    pure = Of(lambda m, x: m.layer(write(x.clone())))
    writing = Of(lambda m, x: m.layer(write(x.mul_(1))))  # the view of a batch is written, too
    if trusted:
        trust(writing)
    x, y = inputs(), torch.tensor([0, 1, 2, 0])
    before = x.clone()
    verbs: list[Callable[[nn.Module], Any]] = [
        lambda module: onr.measure.accuracy(module, x, y),
        lambda module: onr.measure.robust_accuracy(module, x, y, p=2, eps=[0.1, 0.5]).tolist(),
        lambda module: onr.measure.alignment(module, x, y, p=2, eps=0.1),
        lambda module: onr.attack(module, x, y, p="inf", eps=0.1).tolist(),
        lambda module: TorchNetwork(module, (SIZE,))(x).tolist(),
    ]
    for verb in verbs:
        assert verb(writing) == verb(pure)
        assert torch.equal(x, before)


def test_an_in_place_activation_leaves_inputs_of_any_sign_alone() -> None:
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(SIZE, CLASSES))
    network = TorchNetwork(module, (SIZE,))
    network(inputs())  # is checked where the activation changes nothing
    x = -inputs()
    network(x)
    assert (x <= 0).all()
    assert (x < 0).any()
