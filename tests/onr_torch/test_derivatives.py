"""``J v`` is the adjoint of ``J^T u`` and its gradient that of differences, or both are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import onr
from onr.errors import OnrError
from onr_torch.linearization import MANY, linearize
from onr_torch.network import TorchNetwork
from onr_torch.trainable_jvp import trainable_jvp

F64 = torch.float64
SHAPE, CLASSES = (3, 4, 4), 3


class Of(nn.Module):
    """A function of the input and of parts."""

    def __init__(self, function: Callable[..., torch.Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.parts)


def between(function: Callable[..., torch.Tensor], *parts: nn.Module) -> Callable[[], nn.Module]:
    """An operation on 12 numbers, between two layers."""
    return lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(48, 12), Of(function, *parts), nn.LazyLinear(CLASSES)
    )


def on_image(function: Callable[..., torch.Tensor], *parts: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), Of(function, *parts), nn.Flatten(), nn.LazyLinear(CLASSES)
    )


def on_words(*parts: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Flatten(2), nn.Linear(16, 4), *parts, nn.Flatten(), nn.LazyLinear(CLASSES)
    )


class Sine(torch.autograd.Function):
    """Without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.sin(3 * x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return 3 * g * torch.cos(3 * ctx.saved_tensors[0])


class Square(torch.autograd.Function):
    """With a forward rule that is wrong."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x**2

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return 2 * g * ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(v)


def boxes(x: torch.Tensor) -> list[torch.Tensor]:
    return [torch.tensor([[0.0, 0.0, 3.0, 3.0]], dtype=x.dtype)] * len(x)


def distances(x: torch.Tensor, prototypes: nn.Module) -> torch.Tensor:
    p = prototypes.weight
    squares = (x**2).sum(1, keepdim=True) - 2 * x @ p.T + (p**2).sum(1)
    return squares.clamp(min=0).sqrt()


def solved(x: torch.Tensor) -> torch.Tensor:
    matrix = 4 * torch.eye(3, dtype=x.dtype) + x[:, :9].view(-1, 3, 3)
    return torch.linalg.solve(matrix, x[:, 9:, None])[:, :, 0]


class Zeroed(nn.Linear):
    """Its bias is zero."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.bias)


def attention(z: torch.Tensor, own: nn.Module) -> torch.Tensor:
    return own(z, z, z, need_weights=False)[0]


HALF_KNOWN = {
    "roi align": on_image(lambda z: torchvision.ops.roi_align(z, boxes(z), 3)),
    "roi pool": on_image(lambda z: torchvision.ops.roi_pool(z, boxes(z), 3)),
    "ps roi align": on_image(lambda z: torchvision.ops.ps_roi_align(z, boxes(z), 2)),
    "deformed convolution": on_image(
        lambda z, c: torchvision.ops.deform_conv2d(
            z, z.repeat(1, 3, 1, 1)[:, :8, :3, :3], c.weight
        ),
        nn.Conv2d(4, 4, 2),
    ),
    "once differentiable": between(lambda z: z + Sine.apply(z)),
    "once differentiable alone": between(Sine.apply),
    "wrong forward rule": between(lambda z: z + Square.apply(z)),
}
"""Torch has no derivative of the derivative, or a wrong one, and does not say so."""
FINITE = {
    "sqrt of relu": between(lambda z: z.relu().sqrt()),
    "power of relu": between(lambda z: z.relu() ** 0.5),
    "sqrt of clamp": between(lambda z: z.clamp(min=0).sqrt()),
    "chosen logarithm": between(lambda z: torch.where(z > 0, z.relu().log(), z).nan_to_num()),
    "distances": between(distances, nn.Linear(12, 5)),
}
"""``J^T u`` is finite where an operation has an infinite slope that is multiplied by zero."""
CHECKED = {
    "layer norm": between(lambda z, n: n(z).tanh(), nn.LayerNorm(12)),
    "rms norm": between(lambda z, n: n(z).tanh(), nn.RMSNorm(12)),
    "group norm": on_image(lambda z, n: n(z).tanh(), nn.GroupNorm(2, 4)),
    "instance norm": on_image(lambda z, n: n(z).tanh(), nn.InstanceNorm2d(4, affine=True)),
    "local response": on_image(lambda z, n: n(z), nn.LocalResponseNorm(2)),
    "attention": on_words(Of(attention, nn.MultiheadAttention(4, 2, batch_first=True))),
    "encoder": on_words(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)),
    "decoder": on_words(
        Of(lambda z, d: d(z, z), nn.TransformerDecoderLayer(4, 2, 8, 0.0, batch_first=True))
    ),
    "lstm": on_words(Of(lambda z, r: r(z)[0], nn.LSTM(4, 4, batch_first=True))),
    "gru": on_words(Of(lambda z, r: r(z)[0], nn.GRU(4, 4, batch_first=True))),
    "solve": between(solved),
    "determinant": between(lambda z: torch.linalg.slogdet(z[:, :9].view(-1, 3, 3))[1][:, None]),
    "singular values": between(lambda z: torch.linalg.svdvals(z.view(-1, 3, 4))),
    "gated": between(nn.functional.glu),
    "hard sigmoid": between(lambda z: functional.hardsigmoid(input=z, inplace=False) * z),
    "cdist": between(lambda z, p: torch.cdist(z[:, None], p.weight)[:, 0], nn.Linear(12, 5)),
    "grid sample": on_image(
        lambda z: functional.grid_sample(
            z, z.permute(0, 2, 3, 1)[..., :2].tanh(), align_corners=False
        ).tanh()
    ),
    "fourier": between(lambda z: torch.fft.rfft(z).abs()),
    "cosine": between(
        lambda z, p: functional.normalize(z) @ functional.normalize(p.weight).T, nn.Linear(12, 5)
    ),
    "weight norm": lambda: nn.Sequential(
        nn.Flatten(),
        nn.utils.parametrizations.weight_norm(nn.Linear(48, 8)),
        nn.GELU(),
        nn.Linear(8, CLASSES),
    ),
    "a kink at zero": between(
        lambda z, own: functional.gelu(z) * own(torch.zeros_like(z)).relu().add(1),
        Zeroed(12, 12),
    ),
    "normalised zeros": between(lambda z: functional.normalize(z * 0) + z.tanh()),
    "shared": lambda: nn.Sequential(
        nn.Flatten(),
        layer := nn.Linear(48, 48),
        nn.LayerNorm(48),
        nn.GELU(),
        layer,
        nn.Linear(48, CLASSES),
    ),
}
"""Torch's derivative of a derivative is right in one order of passes at least."""


def made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = copy.deepcopy(build())  # the parts are shared by all that is built
    module(torch.rand(2, *SHAPE))
    return module.to(F64).eval()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def rows(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``J`` by a backward pass for each output."""
    found = []
    for output in range(CLASSES):
        z = x.detach().clone().requires_grad_(True)
        module.train().eval()  # a module may keep what it made of its weights
        module(z)[:, output].sum().backward()
        assert z.grad is not None
        found.append(z.grad)
    module.zero_grad()
    return torch.stack(found, 1).flatten(2)


def check_products(module: nn.Module, x: torch.Tensor, tolerance: float = 1e-10) -> str:
    v, u = drawn(*x.shape, seed=1).to(x), drawn(len(x), CLASSES, seed=2).to(x)
    J = rows(module, x)
    at = linearize(module, x)
    scale = float(J.abs().max())
    torch.testing.assert_close(
        at.jvp(v), (J @ v.flatten(1)[..., None])[..., 0], rtol=tolerance, atol=tolerance * scale
    )
    torch.testing.assert_close(
        at.vjp(u).flatten(1), (u[:, None] @ J)[:, 0], rtol=tolerance, atol=tolerance * scale
    )
    return at.way


def gradient(scalar: torch.Tensor, module: nn.Module) -> torch.Tensor:
    parameters = list(module.parameters())
    found = torch.autograd.grad(scalar, parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def check_trained(module: nn.Module, x: torch.Tensor) -> None:
    """The gradient of ``<w, J v>`` is that of central differences of the logits."""
    v, w = drawn(*x.shape, seed=1), drawn(len(x), CLASSES, seed=2)
    errors = []
    found = gradient((trainable_jvp(module, x, v) * w).sum(), module)
    for h in (1e-4, 1e-5, 1e-6):
        module.train().eval()
        slope = (module(x + h * v) - module(x - h * v)) / (2 * h)
        expected = gradient((slope * w).sum(), module)
        errors.append(float((found - expected).norm() / expected.norm()))
    assert min(errors) < 1e-6


@pytest.mark.parametrize("name", HALF_KNOWN | FINITE | CHECKED)
def test_products_are_those_of_the_rows(name: str) -> None:
    build = (HALF_KNOWN | FINITE | CHECKED)[name]
    check_products(made(build), torch.rand(2, *SHAPE, dtype=F64))


@pytest.mark.parametrize("name", CHECKED)
def test_the_trained_gradient_is_that_of_differences(name: str) -> None:
    module = made(CHECKED[name])
    before = {key: value.clone() for key, value in module.state_dict().items()}
    wanted = [p.requires_grad for p in module.parameters()]
    check_trained(module, torch.rand(2, *SHAPE, dtype=F64))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert [p.requires_grad for p in module.parameters()] == wanted


@pytest.mark.parametrize("name", HALF_KNOWN)
def test_a_trained_gradient_that_torch_does_not_have_is_refused(name: str) -> None:
    x = torch.rand(2, *SHAPE, dtype=F64)
    with pytest.raises(OnrError, match="no right gradient of J v in the parameters"):
        trainable_jvp(made(HALF_KNOWN[name]), x, x)


def test_a_gradient_is_checked_once_more_for_another_part() -> None:
    module, x = made(CHECKED["layer norm"]), torch.rand(2, *SHAPE, dtype=F64)
    assert isinstance(module, nn.Sequential)
    trainable_jvp(module, x, x)
    module[2] = Of(lambda z: z + Sine.apply(z))
    with pytest.raises(OnrError, match="no right gradient of J v in the parameters"):
        trainable_jvp(module, x, x)


@pytest.mark.parametrize("outputs", [MANY, MANY + 1])
def test_rows_are_computed_for_few_outputs_only(outputs: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(Of(Sine.apply), nn.Linear(4, outputs)).to(F64).eval()
    at = linearize(module, torch.rand(2, 4, dtype=F64))
    if outputs > MANY:
        with pytest.raises(OnrError, match=r"forward mode: .*; rows: more than 100 outputs"):
            at.jvp(torch.rand(2, 4, dtype=F64))
    else:
        at.jvp(torch.rand(2, 4, dtype=F64))
        assert at.way == "rows"


class Between(nn.Module):
    """Smooth, but torch's two rules differ where entries are equal."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.quantile(0.5, dim=1, keepdim=True)


def test_a_way_is_checked_at_each_input() -> None:
    torch.manual_seed(0)
    prelu = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.PReLU(), nn.Flatten())
    modules = [
        nn.Sequential(*prelu, nn.Linear(64, CLASSES)),
        nn.Sequential(nn.Flatten(), Between()),
    ]
    for module in modules:
        module.to(F64).eval()
        x = torch.rand(2, *SHAPE, dtype=F64)
        ties = torch.zeros_like(x)
        ties[..., 0] = 0.5
        for at in (x, ties, x):
            v = drawn(*SHAPE, seed=3).expand_as(x)
            z = at.clone().requires_grad_(True)
            u = drawn(*module(z).shape, seed=4)
            (back,) = torch.autograd.grad(module(z), z, u)
            torch.testing.assert_close((linearize(module, at).jvp(v) * u).sum(), (back * v).sum())


def test_where_there_is_no_derivative_nothing_is_returned() -> None:
    module = made(between(lambda z: (z - z).abs().sqrt() + z))
    x = torch.rand(2, *SHAPE, dtype=F64)
    with pytest.raises(OnrError, match=r"image 0: J\^T u is nan or infinite"):
        linearize(module, x).jvp(x)


# What a module does with its tensors


class Keeping(nn.Sequential):
    """Keeps its logits, in an attribute and in a list."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = super().forward(x)
        self.log = [*getattr(self, "log", []), self.last][-3:]
        return self.last


def small(kind: type[nn.Sequential] = nn.Sequential) -> nn.Sequential:
    return kind(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, CLASSES))


@pytest.mark.parametrize("keeps", ["attributes", "a hook", "a hook before", "a hook for all"])
def test_nobody_is_given_a_direction_for_an_activation(keeps: str) -> None:
    module = made(lambda: small(Keeping if keeps == "attributes" else nn.Sequential))
    seen: list[torch.Tensor] = []
    x = torch.rand(2, *SHAPE, dtype=F64)
    handle = None
    if keeps == "a hook":
        module[1].register_forward_hook(lambda part, given, result: seen.append(result))
    elif keeps == "a hook before":
        module[2].register_forward_pre_hook(lambda part, given: seen.append(given[0]))
    elif keeps == "a hook for all":
        handle = nn.modules.module.register_module_forward_hook(
            lambda part, given, result: seen.append(result)
        )
    try:
        assert check_products(module, x) == "double backward"
        trainable_jvp(module, x, x)
    finally:
        if handle is not None:
            handle.remove()
    if isinstance(module, Keeping):
        seen += [module.last, *module.log]
    assert seen
    for kept in seen:
        assert type(kept) is torch.Tensor
        kept.detach().numpy()


class Cached(nn.Module):
    """Keeps a tensor made from its weights in evaluation mode, and drops it in ``train``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.scale = nn.Linear(48, CLASSES), nn.Parameter(torch.rand(CLASSES))
        self.kept: dict[str, torch.Tensor] = {}

    def train(self, mode: bool = True) -> nn.Module:
        if mode:
            self.kept = {}
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.scale.exp()
        if not self.training:
            scale = self.kept.setdefault("scale", scale)
        return functional.gelu(self.layer(x.flatten(1))) * scale


@pytest.mark.parametrize("seen", [False, True])
def test_what_a_module_keeps_of_its_weights_is_dropped(seen: bool) -> None:
    module, x = Cached().to(F64).eval(), torch.rand(2, *SHAPE, dtype=F64)
    if seen:
        module(x)
    check_trained(module, x)
    with torch.no_grad():
        module.scale.mul_(2)
    assert check_products(module, x) == "replay"
    fresh = Cached().to(F64).eval()
    fresh.load_state_dict(module.state_dict())
    torch.testing.assert_close(linearize(module, x).value, fresh(x))
    assert module.kept == {}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's, of values
def test_checkpoints(reentrant: bool) -> None:
    block = nn.Sequential(nn.Linear(12, 12), nn.Tanh())
    module = made(between(lambda z, b: checkpoint(b, z, use_reentrant=reentrant), block))
    check_products(module, torch.rand(2, *SHAPE, dtype=F64))
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("inside", ["inputs", "calls"])
def test_inference_mode(inside: str) -> None:
    module = made(CHECKED["layer norm"])
    x = torch.rand(2, *SHAPE, dtype=F64)
    wanted = linearize(module, x).jvp(x)
    with torch.inference_mode():
        kept = x.clone()
        at = linearize(module, kept)
        found = at.jvp(kept)
        back = at.vjp(found)
    if inside == "inputs":
        at = linearize(module, kept)
        found, back = at.jvp(kept), at.vjp(found)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(back, linearize(module, x).vjp(wanted))


def test_autocast_of_the_caller_does_not_change_the_products() -> None:
    module = made(CHECKED["encoder"]).float()
    x = torch.rand(2, *SHAPE)
    wanted = linearize(module, x).jvp(x)
    with torch.autocast("cpu", torch.bfloat16):
        at = linearize(module, x)
        found, back = at.jvp(x), at.vjp(wanted)
        paid = trainable_jvp(module, x, x)
        trained = gradient((paid * wanted).sum(), module)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    torch.testing.assert_close(back, linearize(module, x).vjp(wanted), rtol=0, atol=0)
    expected = gradient((trainable_jvp(module, x, x) * wanted).sum(), module)
    torch.testing.assert_close(trained, expected)


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, CLASSES)
    )


WRAPPED: dict[str, Callable[[nn.Module, torch.Tensor], nn.Module]] = {
    "trace": lambda m, x: torch.jit.trace(m, x),
    "data parallel": lambda m, x: nn.DataParallel(m),
    "compiled": lambda m, x: torch.compile(m, backend="eager"),
    "compiled part": lambda m, x: nn.Sequential(torch.compile(m[:4], backend="eager"), m[4]),
    "vmap": lambda m, x: Of(lambda z, m: torch.func.vmap(lambda one: m(one[None])[0])(z), m),
    "gradient inside": lambda m, x: Of(
        lambda z, m: m(z) + torch.func.grad(lambda t: t.sin().sum())(z).sum((1, 2, 3))[:, None], m
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.filterwarnings("ignore")  # torch.jit and torch.compile are announced to go, or to come
def test_modules_of_another_making(name: str) -> None:
    x = torch.rand(2, *SHAPE, dtype=F64)
    module = WRAPPED[name](made(plain), x).eval()
    before = list(module.state_dict())
    check_products(module, x)
    y = torch.zeros(2, dtype=torch.int64)
    assert onr.attack(module, x, y, p=2, eps=0.5).shape == x.shape
    onr.measure.accuracy(module, x, y)
    assert list(module.state_dict()) == before


def test_without_jvp_nothing_is_recorded() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).double()
    network, x = TorchNetwork(module, (4,)), torch.rand(5, 4, dtype=F64)
    whole, alone = network.linearize(x), network.linearize(x, jvp=False)
    u = torch.rand(5, 3, dtype=F64)
    assert torch.equal(alone.value, whole.value)
    assert torch.equal(alone.vjp(u), whole.vjp(u))
    assert alone.recorder is None
    with pytest.raises(OnrError, match="asked for without jvp"):
        alone.jvp(x)
