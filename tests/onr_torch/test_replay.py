"""``J v`` by replay: equal to forward mode, the adjoint of vjp, the dense reference; refusals."""

import gc
import re
import weakref

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, parametrizations, vector_to_parameters
from torch.utils.checkpoint import checkpoint

from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Flatten,
    MaxPool,
    Normalize,
    ReLU,
    initial_parameters,
)
from onr.errors import OnrError
from onr_numpy.backend import NumpyBackend
from onr_torch.backend import TorchBackend
from onr_torch.linearization import TorchLinearization, jvp, linearize
from onr_torch.modes import constant_parameters
from onr_torch.network import TorchNetwork
from onr_torch.replay import operations as rules
from onr_torch.replay.recorder import NotReplayableError, Recorder
from onr_torch.replay.replay import replay
from onr_torch.trainable_jvp import trainable_jvp

IMAGE, ROW, WORDS = (2, 6, 6), (12,), (5, 4)
F64 = torch.float64


class Calls(nn.Module):
    """A function of the input and of parts, which are given to it."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x, *self.parts)


def flat(value):
    """One matrix of whatever an operation gives, no two of its tensors alike in it."""
    if isinstance(value, torch.Tensor):
        return value.flatten(1) if value.ndim > 1 else value[None]
    parts = [part for part in value if part.is_floating_point()]
    return torch.cat([(k + 1) * flat(part) for k, part in enumerate(parts)], dim=1)


def of(function, *parts):
    """An operation between a layer and the output."""
    return Calls(lambda x, first, *rest: flat(function(first(x), *rest)), nn.Linear(12, 12), *parts)


def of_image(function, *parts):
    first = nn.Conv2d(2, 4, 3, padding=1)
    return Calls(lambda x, first, *rest: flat(function(first(x), *rest)), first, *parts)


def of_words(function, *parts):
    return Calls(lambda x, first, *rest: flat(function(first(x), *rest)), nn.Linear(4, 4), *parts)


def drawn(*shape, seed=0, dtype=F64):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def prepared(module, dtype=F64):
    """In evaluation mode, with statistics and scales that are not those of an identity."""
    torch.manual_seed(1)
    for part in module.modules():
        if getattr(part, "running_mean", None) is not None:
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.3, 3)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module.to(dtype).eval()


def recorded(module, x):
    recorder = Recorder()
    with torch.enable_grad(), constant_parameters(module), recorder:
        module(x.detach().requires_grad_(True).clone())
    return recorder


def built(build, shape=IMAGE, dtype=F64):
    torch.manual_seed(0)
    module = build()
    module(torch.randn(2, *shape))  # for what finds its shape by itself
    return prepared(module, dtype)


def close(found, wanted, tolerance=1e-12):
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * scale)


def adjoint(at, v, image, tolerance=1e-12):
    u = drawn(*image.shape, seed=9).to(image)
    left, right = (u * image).sum(), (at.vjp(u) * v).sum()
    assert abs(left - right) <= tolerance * (u.abs() * image.abs()).sum()


def check(module, x, v, *, replayed, tolerance=1e-12):
    """``jvp`` is that of forward mode and the adjoint of ``vjp``."""
    at = TorchLinearization(module, x)
    before = v.clone()
    image = at.jvp(v)
    assert (at.way == "replay") == replayed
    with torch.no_grad():
        close(image, jvp(module, x, v), tolerance)
    adjoint(at, v, image, tolerance)
    assert torch.equal(at.jvp(v), image)
    assert torch.equal(v, before)
    assert type(image) is torch.Tensor
    assert not image.requires_grad


# Every rule


MASK = torch.tensor([True, False, True, True])
CONSTANT = drawn(3, 4, 6, 6, seed=5)
SQUARE = drawn(12, 12, seed=6)

KERNEL, MOVED = drawn(12, 4, 3, 3, seed=7), drawn(4, 12, 3, 3, seed=7)
BIAS = drawn(12, seed=8)

OPERATIONS = {
    "T": lambda z: z[0, 0].T,
    "__getitem__": lambda z: (z[:, 1:3, ::2], z[:, [2, 0]], z[:, MASK], z[..., None]),
    "adaptive_avg_pool1d": lambda z: functional.adaptive_avg_pool1d(z.flatten(2), 5),
    "adaptive_avg_pool2d": lambda z: functional.adaptive_avg_pool2d(z, (2, 4)),
    "avg_pool1d": lambda z: functional.avg_pool1d(z.flatten(2), 3, 2),
    "avg_pool2d": lambda z: functional.avg_pool2d(z, 3, 2, 1, True, False),
    "broadcast_to": lambda z: z[:, :1].broadcast_to(3, 4, 6, 6),
    "chunk": lambda z: z.chunk(3, 1),
    "clone": lambda z: z.clone(),
    "contiguous": lambda z: z.contiguous(memory_format=torch.channels_last).mT.contiguous(),
    "diagonal": lambda z: z.diagonal(1, 2, 3),
    "double": lambda z: z.double(),
    "expand": lambda z: z[:, :1].expand(-1, 4, -1, -1),
    "expand_as": lambda z: (z[:, :1].expand_as(z), z[:, :1].expand_as(CONSTANT)),
    "flatten": lambda z: z.flatten(1, 2),
    "flip": lambda z: z.flip(1, 3),
    "float": lambda z: z.float().double(),
    "index_select": lambda z: z.index_select(1, torch.tensor([2, 0, 2])),
    "interpolate": lambda z: tuple(
        flat(functional.interpolate(z, scale_factor=1.5, mode=mode, align_corners=corners))
        for mode, corners in (("nearest", None), ("bilinear", True), ("bicubic", False))
    ),
    "mT": lambda z: z.mT,
    "mean": lambda z: (z.mean((2, 3)), torch.mean(z, 1, True)),
    "moveaxis": lambda z: z.moveaxis(1, 3),
    "movedim": lambda z: z.movedim(1, 3),
    "narrow": lambda z: z.narrow(1, 1, 2),
    "neg": lambda z: -z,
    "permute": lambda z: z.permute(0, 3, 1, 2),
    "pixel_shuffle": nn.PixelShuffle(2),
    "pixel_unshuffle": nn.PixelUnshuffle(3),
    "ravel": lambda z: z.ravel(),
    "repeat": lambda z: z.repeat(1, 2, 1, 1),
    "reshape": lambda z: z.mT.reshape(3, 8, -1),
    "reshape_as": lambda z: z.mT.reshape_as(torch.zeros(3, 8, 18)),
    "roll": lambda z: z.roll((1, 2), (2, 3)),
    "select": lambda z: z.select(1, 2),
    "split": lambda z: z.split([1, 3], 1),
    "squeeze": lambda z: z[:, :1].squeeze(1),
    "sum": lambda z: (z.sum(1), sum(z.unbind(1)), z.sum((2, 3), keepdim=True)),
    "swapaxes": lambda z: z.swapaxes(1, 2),
    "swapdims": lambda z: z.swapdims(1, 2),
    "t": lambda z: z[0, 0].t(),
    "tile": lambda z: z.tile(1, 2, 1, 1),
    "to": lambda z: (z.to("cpu", F64), z.to(CONSTANT)),
    "transpose": lambda z: z.transpose(1, 2),
    "type_as": lambda z: z.type_as(CONSTANT),
    "unbind": lambda z: z.unbind(1),
    "unflatten": lambda z: z.unflatten(1, (2, 2)),
    "unfold": lambda z: (z.unfold(2, 3, 2), functional.unfold(z, 3)),
    "unsqueeze": lambda z: z.unsqueeze(1),
    "view": lambda z: z.view(3, 8, 18),
    "view_as": lambda z: z.view_as(torch.zeros(3, 8, 18)),
    "cat": lambda z: torch.cat([CONSTANT, z, torch.ones(3, 1, 6, 6, dtype=torch.int64)], 1),
    "concat": lambda z: torch.concat([z, CONSTANT], dim=1),
    "concatenate": lambda z: torch.concatenate((z, CONSTANT, -z), 1),
    "stack": lambda z: torch.stack([z, CONSTANT, CONSTANT.long()], 1),
    "add": lambda z: (z + CONSTANT, 2 + z, z + 0.3, z.add(CONSTANT), z.add_(1.5), z + MASK[0]),
    "sub": lambda z: (z - CONSTANT, 2 - z, CONSTANT - z, z.sub(0.5), torch.sub(z, CONSTANT)),
    "subtract": lambda z: torch.subtract(CONSTANT, z),
    "bmm": lambda z: torch.bmm(z[:, 0], CONSTANT[:, 0]),
    "einsum": lambda z: torch.einsum("bchw,cd,hw->bdw", z, SQUARE[:4], SQUARE[:6, :6]),
    "matmul": lambda z: (z @ SQUARE[:6], SQUARE[:, :6] @ z, CONSTANT.matmul(z)),
    "mm": lambda z: (torch.mm(z.flatten(1), drawn(144, 3)), drawn(3, 3).mm(z.flatten(1))),
    "mul": lambda z: (z * CONSTANT, 3 * z, z.mul_(2), CONSTANT * z, z * MASK[:, None, None]),
    "multiply": lambda z: torch.multiply(CONSTANT, z),
    "div": lambda z: (z / CONSTANT, z / 3, z.div_(2)),
    "divide": lambda z: torch.divide(z, CONSTANT),
    "true_divide": lambda z: torch.true_divide(z, CONSTANT.long() + 7),
    "addcmul": lambda z: (
        torch.addcmul(z, z, SQUARE[:6, :6], value=3),
        torch.addcmul(CONSTANT, SQUARE[:6, :6], z),
    ),
    "addmm": lambda z: (
        torch.addmm(BIAS, z.flatten(1), drawn(144, 12), alpha=2),
        torch.addmm(z[:, 0, 0], drawn(3, 144), z.flatten(1)[0, :, None].expand(144, 6), beta=3),
        torch.addmm(CONSTANT[:, 0, 0], z[:, 0, 1], SQUARE[:6, :6], beta=0),
    ),
    "baddbmm": lambda z: z[:, 0].baddbmm(z[:, 1], CONSTANT[:, 0], beta=-1),
    "conv1d": lambda z: functional.conv1d(z.flatten(2), KERNEL[..., 0], BIAS, 2, 1),
    "conv2d": lambda z: (
        functional.conv2d(z, KERNEL, BIAS, 2, (1, 0), 1),
        functional.conv2d(z, KERNEL[:, :2], bias=BIAS, padding="same", groups=2),
        functional.conv2d(z, KERNEL, BIAS, dilation=2),
    ),
    "conv3d": lambda z: functional.conv3d(z[:, None], KERNEL[:, :1, None], BIAS),
    "conv_transpose1d": lambda z: functional.conv_transpose1d(z.flatten(2), MOVED[..., 0], BIAS),
    "conv_transpose2d": lambda z: functional.conv_transpose2d(z, MOVED, BIAS, 2, 1, 1),
    "conv_transpose3d": lambda z: functional.conv_transpose3d(z[:, :, None], MOVED[:, :, None]),
    "linear": lambda z: (functional.linear(z, SQUARE[:5, :6], BIAS[:5]),),
    "dropout": lambda z: functional.dropout(z, 0.5, False),
    "alpha_dropout": lambda z: functional.alpha_dropout(z, 0.5, False),
    "feature_alpha_dropout": lambda z: functional.feature_alpha_dropout(z, 0.5, False),
    "dropout1d": lambda z: functional.dropout1d(z.flatten(2), 0.5, False),
    "dropout2d": lambda z: functional.dropout2d(z, 0.5, False),
    "dropout3d": lambda z: functional.dropout3d(z[:, None], 0.5, False, True),
    "pad": lambda z: (
        functional.pad(z, (1, 2, -1, 0), value=3.0),
        functional.pad(z, (1, 2), "constant", 3.0),
        *(functional.pad(z, (1, 2, 2, 1), mode) for mode in ("reflect", "replicate", "circular")),
    ),
    "batch_norm": lambda z: (
        functional.batch_norm(z, BIAS[:4], BIAS[:4].abs(), BIAS[:4], BIAS[:4], False, 0.1, 0.3),
        functional.batch_norm(z, BIAS[:4], running_var=BIAS[:4].abs(), bias=BIAS[:4]),
    ),
}
"""An operation of each name, as written in the rules, on ``(3, 4, 6, 6)``."""
OPERATORS = {name for name in rules.SUMS | rules.PRODUCTS | rules.QUOTIENTS if name[0] == "_"}
"""Other names for the same, which depend on torch's version."""


def test_every_rule_is_tested():
    linear = rules.LINEAR | rules.JOINED | rules.SUMS | rules.PRODUCTS | rules.QUOTIENTS
    linear |= rules.AFFINE | rules.DROPOUT | rules.SUMMED_PRODUCTS | {"pad", "batch_norm"}
    assert linear - OPERATORS == set(OPERATIONS) | {"__getitem__", "__neg__"} - {"neg"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_linear_operations(name):
    module = prepared(of_image(OPERATIONS[name]))
    x, v = drawn(3, *IMAGE), drawn(3, *IMAGE, seed=1)
    check(module, x, v, replayed=True, tolerance=1e-6 if name == "float" else 1e-12)
    recorder = recorded(module, x)
    assert recorder.is_piecewise_linear
    own = [step for step in recorder.tape if step.name == name]
    assert own
    assert all(step.derivative is None for step in own)


KINKS = torch.tensor([0, -0.0, 1, -1, 3, -3, 6, -6, 20, -20, 0.5, -0.5], dtype=F64)
SLOPES = (0, 0.1, -0.3, 1.7)


def elementwise(name):
    """The function as such and in place, as often as torch has it, with and without its flag."""
    slopes = torch.tensor([0.3], dtype=F64)
    special = {"log_sigmoid": functional.logsigmoid, "prelu": lambda z: functional.prelu(z, slopes)}
    function = special[name] if name in special else getattr(functional, name)
    yield function
    if name not in ("gelu", "log_sigmoid", "prelu", "sigmoid", "softplus", "softsign", "tanh"):
        yield lambda z: function(z, inplace=True)
    for place in (torch, torch.Tensor, functional):
        if hasattr(place, name + "_"):
            yield getattr(place, name + "_")
    if name == "leaky_relu":
        for slope in SLOPES:
            yield lambda z, slope=slope: function(z, slope)
            if slope >= 0:  # torch differentiates no other in place
                yield lambda z, slope=slope: function(z, slope, True)


def twice(function):
    """Sees whether the function overwrites what it is given."""

    def both(x):
        z = 1 * x
        return function(z) + 2 * z

    return Calls(both)


@pytest.mark.parametrize("name", sorted(rules.ELEMENTWISE | {"hardtanh", "relu", "relu6"}))
def test_elementwise(name):
    x, v = torch.stack([KINKS, drawn(12), 3 * drawn(12, seed=2)]), drawn(3, 12, seed=1)
    if name == "prelu":
        x += 1e-3  # at 0 torch's forward mode is not the adjoint of its backward pass
    for function in elementwise(name):
        for module in (twice(function), prepared(of(function))):
            check(module, x, v, replayed=True)
            recorder = recorded(module, x)
            (step,) = (step for step in recorder.tape if step.derivative)
            assert step.name == name
            assert not recorder.unproven
            assert recorder.is_piecewise_linear == (name in rules.PIECEWISE_LINEAR)


POOLS = [
    {"kernel_size": 2},
    {"kernel_size": (2, 3), "stride": 2},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "ceil_mode": True, "stride": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "dilation": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 1},
]


def windows(options):
    defaults = {"kernel_size": 0, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
    size, stride, *rest = (defaults | options).values()
    yield nn.MaxPool2d(**options)
    yield lambda z: functional.max_pool2d(z, size, stride, *rest)
    yield lambda z: functional.max_pool2d(z[:, 0], size, stride, *rest)  # one image of 3 channels
    yield lambda z: functional.max_pool2d(z.mT, size, stride, *rest)
    yield lambda z: torch.max_pool2d(z, size, stride or size, *rest)
    yield lambda z: torch.max_pool2d(z, kernel_size=size, stride=stride or size)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("options", POOLS, ids=str)
def test_windows(options, form):
    x, v = drawn(3, 2, 7, 6), drawn(3, 2, 7, 6, seed=1)
    x[0] = x[0].round()  # ties
    for function in windows(options):
        module = Calls(lambda z, f=function: flat(f(1 * z)))
        check(module, x.contiguous(memory_format=form), v, replayed=True)
        recorder = recorded(module, x)
        assert recorder.is_piecewise_linear
        assert [step.name for step in recorder.tape if step.derivative] == ["max_pool2d"]


# Modules


class Block(nn.Module):
    """Two convolutions and a skip, added in place or not."""

    def __init__(self, width, act, *, inplace):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            act,
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width, affine=False),
        )
        self.act, self.inplace = act, inplace  # called twice

    def forward(self, x):
        out = self.layers(x)
        if self.inplace:
            out += x
        else:
            out = out + x
        return self.act(out)


class Excited(nn.Module):
    """Squeeze and excitation: a product of two tensors that depend on the input."""

    def __init__(self, width, *, inplace):
        super().__init__()
        self.down, self.up = nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1)
        self.inplace = inplace

    def forward(self, x):
        scale = functional.adaptive_avg_pool2d(x, 1)
        scale = torch.sigmoid(self.up(functional.relu(self.down(scale))))
        if not self.inplace:
            return x * scale.expand_as(x)
        x *= scale
        return x


def convolutional(*layers, outputs=5):
    """Layers of 4 channels between a standardisation and a head."""
    mean = drawn(2, 1, 1, seed=3)
    return nn.Sequential(
        Calls(lambda x: (x - mean.to(x)) / (0.3 + mean.to(x).abs())),
        nn.Conv2d(2, 4, 3, padding=1),
        *layers,
        nn.Flatten(),
        nn.LazyLinear(outputs),
    )


def pooled():
    act = nn.ReLU(inplace=True)
    yield from (nn.BatchNorm2d(4), act, nn.MaxPool2d(3, 2, 1), nn.Dropout2d(0.5))
    yield from (nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4, affine=False), act, nn.MaxPool2d(2))


def lenet():
    """Views what it has pooled."""
    parts = nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Linear(16, 5)
    return Calls(
        lambda x, conv, pool, last: last(pool(functional.relu(conv(x))).view(-1, 16)), *parts
    )


def dense():
    def forward(x, *layers):
        features = [x]
        for layer in layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)

    def layer(width):
        return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2, 3, padding=1))

    return Calls(forward, layer(4), layer(6), layer(8))


def aliased(x):
    y, z = x, x + 1
    functional.relu_(y)
    functional.leaky_relu_(z.flatten(1)[:, ::2], 0.5)
    return x * 2 + y - 3 * z


def no_gradient(module):
    return module.requires_grad_(False)


PIECEWISE_LINEAR = {
    "sequential": lambda: convolutional(*pooled()),
    "residual": lambda: convolutional(Block(4, nn.ReLU(), inplace=False), nn.AvgPool2d(2)),
    "in place": lambda: convolutional(Block(4, nn.ReLU(inplace=True), inplace=True)),
    "leaky": lambda: convolutional(Block(4, nn.LeakyReLU(0.2), inplace=True), nn.MaxPool2d(2)),
    "clipped": lambda: convolutional(Block(4, nn.ReLU6(inplace=True), inplace=True), nn.Hardtanh()),
    "lenet": lenet,
    "dense": lambda: convolutional(dense()),
    "aliased": lambda: convolutional(Calls(aliased)),
    "methods": lambda: convolutional(Calls(lambda x: x.clone().relu_() - 2 * x.relu())),
    "gate": lambda: convolutional(Calls(lambda x: x * (x > 0.1) * 2)),
    "frozen": lambda: convolutional(no_gradient(nn.Conv2d(4, 4, 1)), nn.ReLU()),
    "weight norm": lambda: convolutional(
        parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
    ),
    "of parameters": lambda: convolutional(
        Calls(
            lambda x, a: (
                functional.softplus(a.weight[..., 0]) * x.relu()
                + a.bias[:, None, None].expand_as(x)
            ),
            nn.Conv2d(4, 4, 1, groups=4),
        )
    ),
}
SMOOTH = {
    "excited": lambda: convolutional(Excited(4, inplace=False), nn.ReLU()),
    "excited in place": lambda: convolutional(Excited(4, inplace=True), nn.ReLU()),
    "silu": lambda: convolutional(Block(4, nn.SiLU(), inplace=False)),
    "hardswish in place": lambda: convolutional(Block(4, nn.Hardswish(inplace=True), inplace=True)),
    "silu in place": lambda: convolutional(Block(4, nn.SiLU(inplace=True), inplace=True)),
}


FAST = PIECEWISE_LINEAR | SMOOTH
fast = pytest.mark.parametrize("name", FAST)


@fast
def test_fast_modules_are_replayed(name):
    module = built(FAST[name])
    x, v = drawn(3, *IMAGE), drawn(3, *IMAGE, seed=1)
    x[0] = x[0].round()
    assert recorded(module, x).is_piecewise_linear == (name in PIECEWISE_LINEAR)
    last = [t.contiguous(memory_format=torch.channels_last) for t in (x, v)]
    check(module, x, v, replayed=True)
    check(module, x, last[1], replayed=True)
    check(module, x, v[:1].expand(3, -1, -1, -1), replayed=True)
    check(module, x, torch.cat([v, v])[::2], replayed=True)
    check(module, x[:1], v[:1], replayed=True)
    if name != "lenet":  # which cannot view what is stored this way
        check(module, *last, replayed=True)
        check(module, last[0], v, replayed=True)


@fast
def test_float32(name):
    module = built(FAST[name], dtype=torch.float32)
    x, v = (drawn(3, *IMAGE, seed=seed, dtype=torch.float32) for seed in (0, 1))
    check(module, x, v, replayed=True, tolerance=1e-5)


@fast
@given(seed=st.integers(0, 2**31))
@settings(max_examples=3, deadline=None)
def test_linear_in_the_direction(name, seed):
    module, x = built(FAST[name]), drawn(2, *IMAGE, seed=[seed, 0])
    v, w = drawn(2, *IMAGE, seed=[seed, 1]), drawn(2, *IMAGE, seed=[seed, 2])
    at = TorchLinearization(module, x)
    close(at.jvp(2 * v - 3 * w), 2 * at.jvp(v) - 3 * at.jvp(w))
    assert not at.jvp(torch.zeros_like(v)).any()
    whole = at.jvp(v)
    for k in range(2):
        close(TorchLinearization(module, x[k : k + 1]).jvp(v[k : k + 1])[0], whole[k])


@fast
def test_no_examples(name):
    x = torch.zeros(0, *IMAGE, dtype=F64)
    at = TorchLinearization(built(FAST[name]), x)
    assert at.jvp(x).shape == (0, at.value.shape[1])


@fast
def test_interleaved(name):
    module = built(FAST[name])
    x, y, v, w = (drawn(2, *IMAGE, seed=seed) for seed in range(4))
    first, second = TorchLinearization(module, x), TorchLinearization(module, y)
    u = torch.ones_like(first.value)
    wanted = [
        TorchLinearization(module, x).jvp(v),
        TorchLinearization(module, y).jvp(w),
        TorchLinearization(module, x).vjp(u),
    ]
    for _ in range(2):
        found = [first.jvp(v), second.jvp(w), first.vjp(u)]
        assert all(map(torch.equal, found, wanted))
        first.jvp(w)
        second.vjp(u)
        module(y)


@fast
def test_everything_is_left_alone(name):
    module = built(FAST[name]).train()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    next(module.parameters()).requires_grad_(False)
    modes = [part.training for part in module.modules()]
    wanted = [parameter.requires_grad for parameter in module.parameters()]
    state = {key: value.clone() for key, value in module.state_dict().items()}
    x, v = drawn(2, *IMAGE), drawn(2, *IMAGE, seed=1)
    before = x.clone()
    at = TorchNetwork(module, IMAGE).linearize(x)
    value = at.value.clone()
    image = at.jvp(v)
    image.zero_()
    assert at.jvp(v).any()
    at.vjp(torch.ones_like(value))
    assert torch.equal(at.value, value)
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert x.grad is None
    assert [part.training for part in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == wanted
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@fast
def test_meta(name):
    module = built(FAST[name]).to("meta")
    x = torch.zeros(2, *IMAGE, device="meta", dtype=F64)
    at = TorchLinearization(module, x)
    image = at.jvp(x)
    assert image.is_meta
    assert image.shape == at.value.shape
    assert at.way == "replay"


MODELS = {
    "resnet18": torchvision.models.resnet18,
    "densenet": lambda **head: torchvision.models.DenseNet(4, (2, 2), 8, **head),
    "mobilenet v2": lambda **head: torchvision.models.mobilenet_v2(width_mult=0.25, **head),
    "mobilenet v3": torchvision.models.mobilenet_v3_small,
    "efficientnet": torchvision.models.efficientnet_b0,
    "shufflenet": torchvision.models.shufflenet_v2_x0_5,
    "squeezenet": torchvision.models.squeezenet1_1,
    "regnet": torchvision.models.regnet_y_400mf,
}


@pytest.mark.parametrize("name", MODELS)
def test_torchvision(name):
    torch.manual_seed(0)
    module = prepared(MODELS[name](num_classes=5))
    x, v = drawn(1, 3, 32, 32), drawn(1, 3, 32, 32, seed=1)
    check(module, x, v, replayed=True, tolerance=1e-10)


# What is differentiated operation by operation, and what a module asks


def indices(z):
    best = z.argmax(1)
    return z[torch.arange(len(z)), best], z.gather(1, best[:, None])[:, 0], z[:, z.sum(0).argmin()]


def branches(z):
    if z.sum() > 0 and z.size(0) == z.shape[0] and z.is_contiguous():
        return z * len(z)
    return z**2


def attention(z):
    return (z @ z.mT / z.shape[-1] ** 0.5).softmax(-1) @ z


def overwritten_view(z):
    y = z + 0
    y.T[3:5].mul_(2)
    y[:, ::2].sigmoid_()
    return y * z


def unpacked(z):
    a, b, c = z
    return torch.stack([a * b, c])


def partly_zeroed_constant(z):
    scale = BIAS.clone()
    scale[2:4].zero_()
    return z * scale


def overwritten_constant(z):
    ones = torch.ones_like(z)
    twos = ones * 2
    ones.add_(1)
    return z * twos


OTHERS = {
    "softmax": of(lambda z: (z.softmax(1), z.log_softmax(1), functional.softmin(z, 1))),
    "layer norm": of(lambda z, norm: norm(z), nn.LayerNorm(12)),
    "group norm": of_image(lambda z, norm: norm(z), nn.GroupNorm(2, 4)),
    "instance norm": of_image(lambda z, norm: norm(z), nn.InstanceNorm2d(4, affine=True)),
    "local response": of_image(lambda z, norm: norm(z), nn.LocalResponseNorm(3)),
    "normalize": of(lambda z: (functional.normalize(z), z / z.norm(dim=1, keepdim=True))),
    "attention": of_words(attention),
    "recurrent": of_words(
        lambda z, *own: tuple(part(z)[0] for part in own),
        nn.LSTM(4, 3, 2, batch_first=True),
        nn.GRU(4, 3, batch_first=True),
    ),
    "pairwise": of(lambda z: (z @ (z + 1).T, torch.einsum("bi,bj->bij", z, z), z * z)),
    "where": of(lambda z: (torch.where(z > 0, z, 0.1 * z), z.where(z > 0.2, torch.zeros_like(z)))),
    "masks": of(
        lambda z: (z[:, z.sum(0) > 0], z.masked_fill(z > 0, 3.0), z * z.ge(0), z * z.sign())
    ),
    "clamp": of(lambda z: (z.clamp(-0.3, 0.5), z.clamp(min=0.1), abs(z), torch.relu(z) + z.abs())),
    "extremes": of(
        lambda z: (
            *z.max(1)[:1],
            z.min(1).values,
            z.amax(1, True)[:, 0],
            z.median(1).values,
            z.logsumexp(1, True)[:, 0],
            z.max(1, True)[0][:, 0],
        )
    ),
    "subtracted extremes": of(
        lambda z: (z - z.amax(1, True), z - z.logsumexp(1, True), torch.max(z, -z), z.minimum(BIAS))
    ),
    "sorted": of(lambda z: (z.sort(1)[0], z.topk(3).values, z.sort(1, True).values)),
    "indices": of(indices),
    "chosen": of(lambda z: (z[:, z.sum(0).topk(3)[1]], z.index_select(1, z.sum(0).argsort()))),
    "powers": of(lambda z: (z**2, z.square(), 2**z, abs(z) ** 1.5, z.pow(3))),
    "transcendental": of(lambda z: (z.exp(), z.abs().log1p(), z.sin(), torch.special.expit(z))),
    "quotients": of(lambda z: (1 / z, z / (1 + z**2), torch.div(z, z.exp()), z.reciprocal())),
    "rounded": of(lambda z: (z + z.round(), z + torch.div(z, 0.1, rounding_mode="floor"))),
    "moments": of(
        lambda z: (z / z.var(1, True)[:, None], z - torch.std(z, 1, keepdim=True), z.prod(1, True))
    ),
    "accumulated": of(lambda z: (z.cumsum(1), z.cumprod(1), z.logcumsumexp(1))),
    "scaled sums": of(lambda z: (z.add(z, alpha=2), torch.sub(z, SQUARE[:3], alpha=-0.5))),
    "in place": of(lambda z: z.mul_(2).pow_(2).add_(1).clamp_(max=3).exp_()),
    "products in place": of(lambda z, a: z.mul_(a(z)).div_(1 + a(z) ** 2), nn.Linear(12, 12)),
    "views in place": of(overwritten_view),
    "detached": of(lambda z: (z + z.detach(), z * z.detach().exp(), z * z.sum().item())),
    "numbers": of(lambda z: z * z.sum().item() + z * int(z.argmax()) + z * bool(z.sum() > 9)),
    "the same": of(lambda z: (z * (2 + (z.contiguous() is z)), z * (z.relu_() is z))),
    "branches": of(branches),
    "like": of(
        lambda z: (
            torch.ones_like(z) * z,
            z - torch.zeros_like(z),
            torch.cat([z, z.new_ones(3, 1)], 1),
            z * BIAS.expand_as(z),
            z + torch.arange(12).type_as(z),
            z + BIAS.to(z) * BIAS.view_as(z[0]),
        )
    ),
    "prelu": of(lambda z, own: own(z), nn.PReLU(init=-0.4)),
    "other activations": of(
        lambda z: (
            functional.threshold(z, 0.1, -2),
            functional.threshold(1 * z, 0.1, -2, True),
            functional.rrelu(z),
            functional.glu(z),
            functional.hardshrink(z),
            functional.tanhshrink(z),
        )
    ),
    "other pools": of_image(
        lambda z: (
            flat(functional.max_pool1d(z.flatten(2), 3)),
            flat(functional.max_pool3d(z, 2)),
            flat(functional.lp_pool2d(z, 2, 2)),
            flat(functional.adaptive_max_pool2d(z, 2)),
        )
    ),
    "unpooled": of_image(
        lambda z: functional.max_unpool2d(*functional.max_pool2d(z, 2, return_indices=True), 2)
    ),
    "fold": of_image(lambda z: functional.fold(functional.unfold(z, 3), (6, 6), 3)),
    "overloads": of(
        lambda z: (
            torch.ops.aten.relu(z),
            torch.ops.aten.mul.Tensor(z, z),
            torch.ops.aten.add(z, 2),
        )
    ),
    "unpacked": of(unpacked),
    "identity": Calls(lambda x: x),
    "an overwritten constant": of(overwritten_constant),
    "a partly zeroed constant": of(partly_zeroed_constant),
    "not the input": of(lambda z: torch.relu_(z + torch.cat([torch.relu(BIAS)] * 1))),
}


def shape_of(module):
    first = module.parts[0] if len(module.parts) else None
    if isinstance(first, nn.Conv2d):
        return IMAGE
    return WORDS if first is not None and first.in_features == 4 else ROW


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_replayed(name):
    module = prepared(OTHERS[name])
    x, v = (drawn(3, *shape_of(module), seed=seed) for seed in (0, 1))
    check(module, x, v, replayed=True, tolerance=1e-11)


# What cannot be replayed: forward mode for the whole, as before


def sum_of_constant(z, a):
    total = torch.zeros_like(z)
    total.add_(a(z))
    return z + total


def product_of_constant(z, a):
    total = torch.ones(3, 12, dtype=z.dtype)
    total.mul_(a(z))
    return z + total


def copied(z, a):
    total = torch.zeros(3, 12, dtype=z.dtype)
    total.copy_(a(z))
    return z + total


def placed(z):
    total = torch.zeros(3, 14, dtype=z.dtype)
    total[:, 2:] = z
    return total


def zeroed(z):
    y = z + 0
    y[:, 2] = 0
    return y * z


def overwritten_data(z):
    z.data.clamp_(-0.1, 0.1)
    return z.sigmoid()


def hidden_view(function):
    """An operation in place on a view that is none of the linear rules."""

    def forward(z):
        y = z + 0
        function(y).relu_()
        return y * BIAS

    return forward


CLOSED = torch.ones(12, dtype=F64, requires_grad=True)
FALLS_BACK = {
    "sum of a constant": of(sum_of_constant, nn.Linear(12, 12)),
    "product of a constant": of(product_of_constant, nn.Linear(12, 12)),
    "copied into a constant": of(copied, nn.Linear(12, 12)),
    "placed": of(placed),
    "zeroed": of(zeroed),
    "data": of(overwritten_data),
    "positive": of(hidden_view(lambda y: +y)),
    "adjoint": of(hidden_view(lambda y: y.adjoint())),
    "tensor split": of(hidden_view(lambda y: y.tensor_split(2, 1)[0])),
    "another leaf": of(lambda z: z.relu() * CLOSED.relu() + CLOSED),
    "a parameter": of(lambda z: nn.Parameter(z) + z),
    "an overload in place": of(lambda z: torch.ops.aten.exp_.default(z + 0)),
    "fourier": of(lambda z: torch.view_as_real(torch.fft.fft(z) + (1 + 2j) * torch.ones(12))),
    "vmap": of(lambda z: torch.vmap(lambda row: row.relu() * row.sum())(z) + z),
    "grad": of(lambda z: torch.func.grad(lambda y: y.relu().pow(2).sum())(z) + z),
}


@pytest.mark.parametrize("name", FALLS_BACK)
def test_fallback(name):
    module = prepared(FALLS_BACK[name])
    check(module, drawn(3, 12), drawn(3, 12, seed=1), replayed=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("last", [False, True])
def test_what_python_does_not_see(last):
    def rectified(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) * 3

    hidden = torch.jit.script(rectified)
    module = prepared(of(lambda z: hidden(z) if last else hidden(z) + z))
    check(module, drawn(3, 12), drawn(3, 12, seed=1), replayed=False)


def test_overwritten_after_the_mask():
    """Torch refuses the vjp, and ``jvp`` has nothing to be the adjoint of."""

    def forward(z):
        y = z.relu()
        y += 1
        return y

    module, x, v = prepared(of(forward)), drawn(3, 12), drawn(3, 12, seed=1)
    at = TorchLinearization(module, x)
    for product in (lambda: at.jvp(v), lambda: at.vjp(x)):
        with pytest.raises(OnrError, match="inplace"):
            product()


class Own(torch.autograd.Function):
    """A gradient of its own, which forward mode does not know."""

    @staticmethod
    def forward(ctx, x, change):
        return change(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient, None


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x.view_as(x), torch.round, torch.neg])
def test_functions_with_their_own_derivative_are_not_guessed(change):
    module, x = prepared(of(lambda z: 2 * Own.apply(z, change) + z)), drawn(3, 12)
    at = TorchLinearization(module, x)
    v = drawn(3, 12, seed=1)
    adjoint(at, v, at.jvp(v))
    assert at.way != "replay"


def under_no_grad(function):
    def forward(z, a):
        with torch.no_grad():
            y = function(z, a)
        return z if y is None else z + y

    return forward


REFUSALS = {
    "training mode": lambda z, a: functional.dropout(z),
    "memory": lambda z, a: z.as_strided((2, 3), (1, 1)),
    "overwrites what autograd": lambda z, a: torch.zeros_like(z).add_(z),
    "overwrites what it is given": lambda z, a: torch.ops.aten.exp_.default(z),
    "derivative": lambda z, a: Own.apply(z, torch.neg) * 2,
    "given once more": lambda z, a: z.retain_grad() or z,
    "clone_ .* given once more|detach .* given once more": lambda z, a: z.detach_() * a(z),
    "cuts off": under_no_grad(lambda z, a: z[:, :1]),
    "for a constant": under_no_grad(lambda z, a: z.clamp_(0)),
    "gives a view": lambda z, a: +z,
    "sparse|strid": lambda z, a: z.to_sparse().to_dense(),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_refusals(reason):
    recorder = recorded(prepared(of(REFUSALS[reason], nn.Linear(12, 12))), drawn(3, 12))
    assert re.search(reason, recorder.refusal)
    assert not recorder.is_piecewise_linear
    assert not recorder.tape
    with pytest.raises(NotReplayableError, match=re.escape(recorder.refusal)):
        replay(nn.Identity(), recorder, drawn(3, 12))


def test_names_are_those_of_torch():
    """A function of someone else's is not what it is called, nor is an operator."""

    def mean(x):
        if torch.overrides.has_torch_function_unary(x):
            return torch.overrides.handle_torch_function(mean, (x,), x)
        return x.exp().cumsum(1)

    x, v = drawn(3, 12), drawn(3, 12, seed=1)
    check(prepared(of(mean)), x, v, replayed=True)
    library = torch.library.Library("onr_tests", "DEF")
    library.define("neg(Tensor x) -> Tensor")
    library.impl("neg", lambda x: x * x, "CompositeImplicitAutograd")
    for operator in (torch.ops.onr_tests.neg, torch.ops.onr_tests.neg.default):
        check(prepared(of(operator)), x, v, replayed=True)


def test_the_image_does_not_depend_on_the_recorded_input():
    module, x = built(PIECEWISE_LINEAR["sequential"]), drawn(2, *IMAGE).requires_grad_(True)
    recorder = Recorder()
    with constant_parameters(module), recorder:
        module(x.clone())
    (gradient,) = torch.autograd.grad(
        replay(module, recorder, drawn(2, *IMAGE)).sum(), x, allow_unused=True
    )
    assert gradient is None


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformers(norm_first):
    block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=norm_first)
    module = prepared(nn.Sequential(block, nn.Flatten()))
    check(module, drawn(3, *WORDS), drawn(3, *WORDS, seed=1), replayed=True, tolerance=1e-10)


def test_attention_that_gives_its_weights():
    own = nn.MultiheadAttention(4, 2, batch_first=True)
    module = prepared(of_words(lambda z, own: torch.cat([flat(y) for y in own(z, z, z)], 1), own))
    check(module, drawn(3, *WORDS), drawn(3, *WORDS, seed=1), replayed=True, tolerance=1e-10)


def without_gradient(z):
    with torch.no_grad():
        size = z.abs().mean() + z.relu().amax()
    return z / size


def test_no_grad_gives_a_constant():
    """As it does for the vjp; torch.func.jvp looks through it."""
    module, x, v = prepared(of(without_gradient)), drawn(3, 12), drawn(3, 12, seed=1)
    at = TorchLinearization(module, x)
    adjoint(at, v, at.jvp(v))
    assert at.way == "replay"


class Scaled(nn.Module):
    """By a number that depends on the input and on a parameter, without a graph."""

    def __init__(self, activation):
        super().__init__()
        self.layer, self.activation = nn.Linear(12, 5), activation

    def forward(self, x):
        with torch.no_grad():
            size = (x * self.layer.weight[:1]).abs().sum(1, keepdim=True)
        return self.activation(self.layer(x / size))


def test_a_gradient_that_no_grad_hides_is_refused_where_differences_show_it():
    module, x, v = prepared(Scaled(functional.gelu)), drawn(3, 12), drawn(3, 12, seed=1)
    at = TorchLinearization(module, x)
    adjoint(at, v, at.jvp(v))
    with pytest.raises(OnrError, match="no right gradient of J v"):
        trainable_jvp(module, x, v)


def test_no_grad_on_a_parameter_gives_a_constant_too():
    """For ``trainable_jvp`` as for ``jvp``: what is regularised is what is measured."""
    module = prepared(Scaled(torch.relu))
    x, v = drawn(3, 12), drawn(3, 12, seed=1)
    at = TorchLinearization(module, x)
    image = at.jvp(v)
    adjoint(at, v, image)
    assert at.way == "replay"
    trained = trainable_jvp(module, x, v)
    close(trained.detach(), image)
    bias = module.layer.bias
    (gradient,) = torch.autograd.grad((trained**2).sum(), bias, allow_unused=True)

    def paid(shift):
        with torch.no_grad():
            bias[0] += shift
            found = float((TorchLinearization(module, x).jvp(v) ** 2).sum())
            bias[0] -= shift
        return found

    slope = (paid(1e-6) - paid(-1e-6)) / 2e-6
    assert (0.0 if gradient is None else float(gradient[0])) == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize(
    "draw",
    [
        lambda z: z * torch.rand(z.shape, dtype=z.dtype),
        lambda z: z * (torch.rand(z.shape) < 0.5),
        lambda z: functional.rrelu(z, training=True),
        lambda z: functional.dropout(z.tanh()),
    ],
)
def test_noise_is_drawn_once(draw):
    """``J v`` and ``J^T u`` are those of the pass that gave the value."""
    module, x, v = prepared(of(draw)), drawn(3, 12), drawn(3, 12, seed=1)
    at = TorchLinearization(module, x)
    image = at.jvp(v)
    adjoint(at, v, image)
    assert torch.equal(at.jvp(v), image)


def test_checkpointed_modules():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(12, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4)
            )

        def forward(self, x):
            return checkpoint(self.layers, x, use_reentrant=False)

    module = prepared(Checkpointed())
    x, v = drawn(3, 12), drawn(3, 12, seed=1)
    buffers = [buffer.clone() for buffer in module.buffers()]
    at = TorchNetwork(module.train(), (12,)).linearize(x)
    adjoint(at, v, at.jvp(v))
    close(at.jvp(v), TorchLinearization(module.layers.eval(), x).jvp(v))
    assert all(map(torch.equal, module.buffers(), buffers))


def test_batches_that_normalise_themselves_are_refused():
    layer = prepared(nn.BatchNorm1d(12, track_running_stats=False))
    with pytest.raises(OnrError, match="normalises by the batch itself"):
        linearize(layer, drawn(3, 12))


def test_a_direction_of_another_kind_leaves_the_recording():
    at = TorchLinearization(prepared(nn.Sequential(nn.Linear(12, 3), nn.ReLU())), drawn(3, 12))
    for v in (drawn(3, 12).float(), drawn(2, 12)):
        with pytest.raises(OnrError, match="a direction of shape"):
            at.jvp(v)
    at.jvp(drawn(3, 12))
    assert at.way == "replay"


def test_an_expanded_input():
    block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    module = prepared(nn.Sequential(block, nn.Flatten()))
    x, v = drawn(1, *WORDS).expand(3, *WORDS), drawn(3, *WORDS, seed=1)
    at = TorchLinearization(module, x)
    close(at.jvp(v), TorchLinearization(module, x.contiguous()).jvp(v), 1e-10)


# After the forward pass


def test_the_callers_input_may_change():
    for name in FAST:
        module, x, v = built(FAST[name]), drawn(2, *IMAGE), drawn(2, *IMAGE, seed=1)
        at = TorchLinearization(module, x)
        wanted = TorchLinearization(module, x.clone()).jvp(v)
        x.mul_(-3)
        assert torch.equal(at.jvp(v), wanted)
        adjoint(at, v, wanted)


@fast
def test_parameters_that_change_are_not_mixed(name):
    module, x, v = built(FAST[name]), drawn(2, *IMAGE), drawn(2, *IMAGE, seed=1)
    for tensor in [*module.parameters(), *module.buffers()]:
        if not tensor.is_floating_point():
            continue
        at = TorchLinearization(module, x)
        at.jvp(v)
        with torch.no_grad():
            tensor.mul_(1.5)
        with pytest.raises(OnrError, match="parameters have changed"):
            at.jvp(v)


EXCHANGES = {
    "vector": lambda m, new: vector_to_parameters(
        parameters_to_vector(new.parameters()), m.parameters()
    ),
    "data": lambda m, new: setattr(m[2].weight, "data", new[2].weight.data),
    "parameter": lambda m, new: setattr(m[2], "weight", new[2].weight),
    "assigned": lambda m, new: m.load_state_dict(new.state_dict(), assign=True),
    "layer": lambda m, new: m.__setitem__(2, new[2]),
    "copied": lambda m, new: m.load_state_dict(new.state_dict()),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_parameters_that_are_exchanged_are_not_mixed(name):
    def made():
        return nn.Sequential(
            nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)
        )

    module, new = prepared(made()), prepared(made())
    x, v = drawn(3, 12), drawn(3, 12, seed=1)
    at = TorchLinearization(module, x)
    at.jvp(v)
    with torch.no_grad():
        EXCHANGES[name](module, new)
    with pytest.raises(OnrError, match="parameters have changed"):
        at.jvp(v)


def test_a_module_that_takes_another_way():
    class Alternating(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return self.ways[self.calls % 2](x)

    x = drawn(2, 12)
    for ways in (
        (torch.relu, torch.tanh),
        (torch.relu, lambda x: x),
        (lambda x: x, torch.relu),
        (lambda x: x + x, lambda x: x + 1),
        (lambda x: x - x.relu(), lambda x: x.relu() + x),
        (lambda x: x[:, 0] - x[:, 1], lambda x: x[0] - x[1]),
        (lambda x: x[:, :3].sum(1), lambda x: x[:, :4].sum(1)),
    ):
        module = Alternating()
        module.ways = ways
        recorder = recorded(module, x)
        with torch.no_grad(), pytest.raises(NotReplayableError):
            replay(module, recorder, x)


def test_recordings_that_are_none():
    module, x = nn.ReLU(), drawn(2, 12)
    with pytest.raises(NotReplayableError, match="nothing"):
        replay(module, Recorder(), x)
    recorder = recorded(module, x)
    for v in (x[:1], x[:, :1], x.float()):
        with pytest.raises(NotReplayableError):
            replay(module, recorder, v)
    with recorder:
        module(x.clone().requires_grad_(True).clone())
    with pytest.raises(NotReplayableError, match="another way"):
        replay(module, recorder, x)


# Gradients in the parameters


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_gradients_in_the_parameters(name):
    module, x, v = built(PIECEWISE_LINEAR[name]), drawn(3, *IMAGE), drawn(3, *IMAGE, seed=1)
    recorder = recorded(module, x)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert recorder.is_piecewise_linear
    found = []
    for image in (replay(module, recorder, v), trainable_jvp(module, x, v), jvp(module, x, v)):
        cost = (drawn(*image.shape, seed=4) * image.square()).sum()
        found.append(torch.autograd.grad(cost, parameters, allow_unused=True))
    *ours, wanted = found
    for own in ours:
        for mine, other in zip(own, wanted, strict=True):
            # forward mode knows that the shift has no influence, or that it has none by zeros
            zero = torch.zeros(())
            close(*(zero if g is None or not g.any() else g for g in (mine, other)))
    assert any(g is not None and g.any() for g in wanted)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_of_smooth_modules_are_those_of_forward_mode(name):
    module, x, v = built(SMOOTH[name]), drawn(3, *IMAGE), drawn(3, *IMAGE, seed=1)
    assert not recorded(module, x).is_piecewise_linear
    found = [
        torch.autograd.grad(image.square().sum(), list(module.parameters()), allow_unused=True)
        for image in (trainable_jvp(module, x, v), jvp(module, x, v))
    ]
    for mine, other in zip(*found, strict=True):
        if mine is None or other is None:
            assert mine is None or not mine.any()
        else:
            close(mine, other)


# The dense reference


ARCHITECTURES = {
    "mlp": Architecture((6,), (Affine(9), ReLU(), Affine(7), ReLU(), Affine(3))),
    "relu first and last": Architecture((6,), (ReLU(), Affine(4), Affine(5), ReLU())),
    "images": Architecture(
        (3, 6, 7),
        (
            Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)),
            Conv(4),
            BatchNorm(),
            ReLU(),
            MaxPool(2),
            Conv(5),
            BatchNorm(),
            ReLU(),
            MaxPool(3),
            Flatten(),
            Affine(3),
        ),
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_dense_reference(name):
    model, rng = ARCHITECTURES[name], np.random.default_rng(0)
    parameters = initial_parameters(model, 0)
    for key, value in parameters.items():
        if key.endswith("running_mean"):
            parameters[key] = rng.standard_normal(value.shape)
        elif key.endswith("running_var"):
            parameters[key] = rng.uniform(0.3, 3, value.shape)
    reference = NumpyBackend().build(model, parameters=parameters, dtype="float64")
    network = TorchBackend().build(model, parameters=parameters, dtype="float64")
    x, v = rng.standard_normal((2, 3, *model.input_shape))
    x[0] = x[0].round()
    at = network.linearize(torch.from_numpy(x))
    wanted = np.einsum("bij,bj->bi", reference.jacobian(x), v.reshape(3, -1))
    close(at.jvp(torch.from_numpy(v)), torch.from_numpy(wanted))
    assert at.way == "replay"


# Memory


def test_nothing_outlives_its_linearization():
    """Without the collector, so that no cycle holds a graph."""
    modules = {name: (built(build), IMAGE) for name, build in FAST.items()}
    for name, module in (OTHERS | FALLS_BACK).items():
        modules[name + " alone"] = prepared(module), shape_of(module)
    gc.disable()
    try:
        for name, (module, shape) in modules.items():
            at = TorchLinearization(module, drawn(3, *shape))
            recorder = at._recorder
            at.vjp(at.jvp(drawn(3, *shape, seed=1)))
            dead = [weakref.ref(it) for it in (at, at._value, at._x, recorder, *recorder.tape)]
            del at, recorder
            assert not any(ref() for ref in dead), name
    finally:
        gc.enable()
