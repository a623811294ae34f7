"""Modules made by hand to mislead: of each, what is to be expected."""

from __future__ import annotations

import math
import random
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fuzz.cases import CLASSES, EITHER, REFUSED, RIGHT, Case, Of, between

ROW, IMAGE = (6,), (4, 6, 6)


def of(name: str, function: Callable, shape=ROW, expected: str = RIGHT, **more) -> Case:
    """An operation on hidden activations, between two affine maps."""

    def build() -> nn.Module:
        return between(Of(lambda self, x: function(x)), shape)

    return Case(name, build, shape, expected, **more)


def whole(
    name: str, function: Callable, shape=ROW, expected: str = RIGHT, parts=dict, **more
) -> Case:
    """A function of the module and the input that returns the logits."""

    def build() -> nn.Module:
        return Of(function, l=nn.Linear(math.prod(shape), CLASSES), **parts())

    return Case(name, build, shape, expected, **more)


# Functions of autograd with rules of their own.


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class ZeroForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g

    @staticmethod
    def jvp(ctx, v):
        return torch.zeros_like(v)


class WrongForward(ZeroForward):
    @staticmethod
    def jvp(ctx, v):
        return 2 * v


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class NumpyInside(torch.autograd.Function):
    """The backward pass leaves torch, so that its own derivative is missing."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sin(x.detach().numpy()))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(np.cos(x.detach().numpy()) * g.detach().numpy())


class InPlaceFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(3)

    @staticmethod
    def backward(ctx, g):
        return 3 * g


def functions() -> Iterator[Case]:
    yield of("once_differentiable", OnceDifferentiable.apply, expected=EITHER)
    yield of(
        "once_differentiable-residual", lambda x: x + OnceDifferentiable.apply(x), expected=EITHER
    )
    yield of("jvp-of-zeros", ZeroForward.apply, expected=EITHER)
    yield of("jvp-of-zeros-residual", lambda x: x + ZeroForward.apply(x), expected=EITHER)
    yield of("jvp-wrong", WrongForward.apply, expected=EITHER)
    yield of(
        "straight-through", lambda x: StraightThrough.apply(4 * x), expected=EITHER, smooth=False
    )
    yield of("straight-through-detach", lambda x: x + (x.round() - x).detach(), smooth=False)
    yield of("numpy-in-a-function", NumpyInside.apply, expected=EITHER)
    yield of("in-place-function", lambda x: InPlaceFunction.apply(x.clone()), expected=EITHER)
    yield of(
        "fake_quantize",
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127),
        expected=EITHER,
        smooth=False,
    )


# Noise and state.


def noise() -> Iterator[Case]:
    def python_padding(self, x):
        a, b = random.randint(0, 2), random.randint(0, 2)  # noqa: S311 - as users do
        return self.l2(functional.pad(x, (a, 2 - a, b, 2 - b)).flatten(1))

    parts = {
        "shape": IMAGE,
        "expected": REFUSED,
        "parts": lambda: {"l2": nn.Linear(4 * 64, CLASSES)},
    }
    yield whole("padding-by-python-random", python_padding, draws=True, **parts)

    def numpy_padding(self, x):
        a, b = np.random.randint(0, 3, 2).tolist()  # noqa: NPY002 - as users do
        return self.l2(functional.pad(x, (a, 2 - a, b, 2 - b)).flatten(1))

    yield whole("padding-by-numpy", numpy_padding, draws=True, **parts)

    def own_numpy(self, x):
        return self.l(x * self.rng.uniform(0.5, 1.5))

    yield whole(
        "private-numpy-generator",
        own_numpy,
        expected=REFUSED,
        draws=True,
        parts=lambda: {"rng": np.random.default_rng(0)},
        writes=frozenset({"rng"}),
    )

    def own_torch(self, x):
        return self.l(x + torch.randn(x.shape, generator=self.rng, dtype=x.dtype))

    yield whole(
        "private-torch-generator",
        own_torch,
        expected=REFUSED,
        draws=True,
        parts=lambda: {"rng": torch.Generator().manual_seed(0)},
        writes=frozenset({"rng"}),
    )
    yield whole(
        "private-torch-generator-scale",
        lambda s, x: s.l(x * torch.rand(6, generator=s.rng, dtype=x.dtype)),
        expected=REFUSED,
        draws=True,
        parts=lambda: {"rng": torch.Generator().manual_seed(0)},
        writes=frozenset({"rng"}),
    )
    yield of(
        "dropout-always", lambda x: functional.dropout(x, 0.3, True), expected=EITHER, draws=True
    )
    yield of("gaussian-always", lambda x: x + torch.randn_like(x), expected=EITHER, draws=True)
    yield of(
        "rrelu-always", lambda x: functional.rrelu(x, training=True), expected=EITHER, draws=True
    )
    yield of(
        "gumbel_softmax", lambda x: functional.gumbel_softmax(x, 0.7), expected=EITHER, draws=True
    )


def state() -> Iterator[Case]:
    def counted(self, x):
        self.calls += 1
        return self.l(x) * self.calls

    yield whole(
        "counter-attribute",
        counted,
        expected=REFUSED,
        parts=lambda: {"calls": 0},
        writes=frozenset({"calls"}),
    )

    def alternating(self, x):
        self.calls += 1
        return self.l(x) * (1 if self.calls % 2 else -1)

    yield whole(
        "counter-of-two",
        alternating,
        expected=REFUSED,
        parts=lambda: {"calls": 0},
        writes=frozenset({"calls"}),
    )

    def harmless(self, x):
        self.calls += 1
        return self.l(x)

    yield whole(
        "counter-unused",
        harmless,
        expected=EITHER,
        parts=lambda: {"calls": 0},
        writes=frozenset({"calls"}),
    )

    class Buffered(nn.Module):
        def __init__(self, used):
            super().__init__()
            self.l, self.used = nn.Linear(6, CLASSES), used
            self.register_buffer("mean", torch.zeros(6))

        def forward(self, x):
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
            return self.l(x - self.mean) if self.used else self.l(x)

    yield Case("buffer-updated", lambda: Buffered(True), ROW, REFUSED, writes=frozenset({"mean"}))
    yield Case(
        "buffer-updated-unused", lambda: Buffered(False), ROW, EITHER, writes=frozenset({"mean"})
    )

    def appending(self, x):
        self.seen.append(float(x.sum()))
        return self.l(x) + len(self.seen)

    yield whole(
        "list-appended",
        appending,
        expected=REFUSED,
        parts=lambda: {"seen": []},
        writes=frozenset({"seen"}),
    )

    def closing():
        seen = []

        def forward(self, x):
            seen.append(1)
            return self.l(x) * len(seen)

        return Of(forward, l=nn.Linear(6, CLASSES))

    yield Case("state-in-a-closure", closing, ROW, REFUSED)

    def cached(self, x):
        if self.cache is None:
            self.cache = self.l(x).detach()
        return self.l(x) + self.cache.mean(0)

    yield whole(
        "cache-of-the-first-call",
        cached,
        expected=EITHER,
        parts=lambda: {"cache": None},
        writes=frozenset({"cache"}),
        smooth=False,
        draws=True,
    )

    class CachedWeights(nn.Module):
        """Keeps a function of its weights in evaluation mode, until it is trained again."""

        def __init__(self, caches: bool) -> None:
            super().__init__()
            self.scale, self.l = nn.Parameter(torch.rand(6)), nn.Linear(6, CLASSES)
            self.caches, self.cache = caches, {}

        def train(self, mode=True):
            if mode:
                self.cache = {}
            return super().train(mode)

        def forward(self, x):
            if self.training or not self.caches:
                return self.l((x * self.scale.exp()).tanh())
            if "scale" not in self.cache:
                self.cache["scale"] = self.scale.exp()
            return self.l((x * self.cache["scale"]).tanh())

    yield Case(
        "cached-weights",
        lambda: CachedWeights(True),
        ROW,
        EITHER,
        plain=lambda: CachedWeights(False),
        writes=frozenset({"cache"}),
    )

    def last(self, x):
        self.last = self.h(x).tanh()
        return self.l(self.last)

    def keeps():
        return {"h": nn.Linear(6, 6)}

    yield whole("last-activation", last, parts=keeps, writes=frozenset({"last"}))

    def in_dict(self, x):
        self.kept["h"] = self.h(x).relu()
        return self.l(self.kept["h"])

    yield whole(
        "activations-in-a-dict",
        in_dict,
        parts=lambda: {**keeps(), "kept": {}},
        writes=frozenset({"kept"}),
    )


def mixing() -> Iterator[Case]:
    more = {"expected": REFUSED, "mixes": True}
    yield of("mean-over-the-batch", lambda x: x.tanh() - x.tanh().mean(0), **more)
    yield of(
        "batch-statistics", lambda x: functional.batch_norm(x, None, None, training=True), **more
    )
    yield of("softmax-over-the-batch", lambda x: x.softmax(0), **more)
    yield of("largest-of-the-batch", lambda x: x / x.abs().max(), **more)
    yield of("attention-over-the-batch", lambda x: (x @ x.T).softmax(1) @ x, **more)
    yield of("neighbours", lambda x: x + x.roll(1, 0), **more)
    yield of("mean-over-the-batch-constant", lambda x: x - x.detach().mean(0), smooth=False, **more)
    # The source is read from its start, whatever row the mask has reached.
    mask = torch.tensor([True, False] * 3)
    yield of("masked_scatter", lambda x: x.masked_scatter(mask, x.square()), **more)
    yield of("sorted-batch", lambda x: x.sort(0).values, **more)


# Operations.


def shared(x):
    """A symmetric positive definite matrix for each input."""
    a = x.unflatten(1, (2, 3))
    return a @ a.mT + torch.eye(2, dtype=x.dtype)


def spread(x):
    return x.unflatten(1, (2, 3)) + 2 * torch.eye(2, 3, dtype=x.dtype)


def operations() -> Iterator[Case]:
    columns = torch.tensor([2, 0, 5, 1])
    rows = {
        "in-place": lambda x: x.mul_(2).tanh_(),
        "sqrt-relu": lambda x: x.relu().sqrt(),
        "abs-sqrt": lambda x: x.abs().sqrt(),
        "clamp-sqrt": lambda x: x.clamp(0).sqrt(),
        "where-log": lambda x: torch.where(x > 0, x, torch.zeros_like(x)).add(1).log(),
        "where-masked": lambda x: torch.where(x > 0, x, 0 * x),
        "norm": lambda x: x / x.norm(dim=1, keepdim=True),
        "norm-of-zeros": lambda x: torch.cat([x, (0 * x).norm(dim=1, keepdim=True)], 1),
        "xlogy": lambda x: torch.special.xlogy(x.relu(), x.relu()),
        "entropy": lambda x: torch.special.entr(x.softmax(1)),
        "logsumexp": lambda x: x.logsumexp(1, keepdim=True),
        "solve": lambda x: torch.linalg.solve(shared(x), x.unflatten(1, (2, 3))),
        "inv": lambda x: torch.linalg.inv(shared(x)),
        "eigh": lambda x: torch.linalg.eigh(shared(x))[0],
        "eigh-vectors": lambda x: torch.linalg.eigh(shared(x))[1].square(),
        "svdvals": lambda x: torch.linalg.svdvals(spread(x)),
        "svd-lowrank": lambda x: (lambda u, s, v: (u * s[:, None]) @ v)(
            *torch.linalg.svd(spread(x), full_matrices=False)
        ),
        "qr": lambda x: torch.linalg.qr(spread(x).mT)[1],
        "cholesky": lambda x: torch.linalg.cholesky(shared(x)),
        "slogdet": lambda x: torch.linalg.slogdet(shared(x))[1][:, None],
        "matrix_exp": lambda x: torch.linalg.matrix_exp(shared(x)),
        "pinv": lambda x: torch.linalg.pinv(spread(x)),
        "lstsq": lambda x: torch.linalg.lstsq(spread(x).mT, x[:, :3, None]).solution,
        "triangular": lambda x: torch.linalg.solve_triangular(
            torch.linalg.cholesky(shared(x)), x.unflatten(1, (2, 3)), upper=False
        ),
        "fft": lambda x: torch.fft.rfft(x).abs(),
        "fft-real": lambda x: torch.view_as_real(torch.fft.fft(x)),
        "irfft": lambda x: torch.fft.irfft(torch.fft.rfft(x) ** 2, n=6),
        "polar": lambda x: torch.polar(x[:, :3].exp(), x[:, 3:]).real,
        "complex-product": lambda x: (torch.complex(x[:, :3], x[:, 3:]) ** 2).imag,
        "angle": lambda x: torch.complex(x[:, :3], x[:, 3:]).angle(),
        "sort": lambda x: x.sort(1).values,
        "sort-stable-descending": lambda x: x.sort(dim=1, descending=True, stable=True)[0],
        "topk": lambda x: x.topk(3, 1).values,
        "argmax-gather": lambda x: x.gather(1, x.argmax(1, keepdim=True)) * x,
        "one_hot": lambda x: functional.one_hot(x.argmax(1), 6) * x,
        "cumsum": lambda x: x.cumsum(1),
        "cumprod": lambda x: x.cumprod(1),
        "cummax": lambda x: x.cummax(1).values,
        "logcumsumexp": lambda x: x.logcumsumexp(1),
        "median": lambda x: x.median(1, keepdim=True).values * x,
        "nanmedian": lambda x: x.nanmedian(1, keepdim=True).values,
        "quantile": lambda x: x.quantile(0.3, dim=1, keepdim=True),
        "kthvalue": lambda x: x.kthvalue(2, 1, keepdim=True).values,
        "amax": lambda x: x.amax(1, keepdim=True),
        "max-pairs": lambda x: torch.maximum(x[:, :3], x[:, 3:]),
        "std": lambda x: x.std(1, keepdim=True),
        "var_mean": lambda x: torch.cat(torch.var_mean(x, 1, keepdim=True), 1),
        "prod": lambda x: x.prod(1, keepdim=True),
        "scatter": lambda x: torch.zeros(len(x), 8, dtype=x.dtype).scatter(
            1, torch.arange(6).expand(len(x), 6), x
        ),
        "scatter_add": lambda x: torch.zeros(len(x), 3, dtype=x.dtype).scatter_add(
            1, torch.tensor([0, 1, 2, 0, 1, 2]).expand(len(x), 6), x * x
        ),
        "scatter_reduce": lambda x: x.new_zeros(len(x), 3).scatter_reduce(
            1, torch.tensor([0, 1, 2, 0, 1, 2]).expand(len(x), 6), x, "amax"
        ),
        "gather": lambda x: x.gather(1, columns.expand(len(x), 4)),
        "index_add": lambda x: torch.zeros_like(x).index_add(
            1, torch.tensor([1, 1, 2, 0, 3, 5]), x.sin()
        ),
        "index_put": lambda x: x.clone().index_put_(
            (slice(None) and torch.arange(len(x)), x.argmin(1)), x.sum(1)
        ),
        "masked_fill": lambda x: x.masked_fill(x > 0.3, 2.0),
        "slice-assignment": lambda x: _assigned(x),
        "einsum": lambda x: torch.einsum("bi,bj->bij", x, x.tanh()),
        "tensordot": lambda x: torch.tensordot(x, torch.ones(6, 2, dtype=x.dtype), 1),
        "cross": lambda x: torch.linalg.cross(x[:, :3], x[:, 3:]),
        "cosine-head": lambda x: functional.normalize(x, dim=1),
        "renorm": lambda x: x.renorm(2, 0, 0.5),
        "erf": lambda x: x.erf(),
        "lgamma": lambda x: x.exp().lgamma(),
        "atan2": lambda x: torch.atan2(x[:, :3], x[:, 3:]),
        "sinc": lambda x: x.sinc(),
        "bessel": lambda x: torch.special.i0(x),
        "hypot": lambda x: torch.hypot(x[:, :3], x[:, 3:]),
        "pow-tensor": lambda x: x.exp() ** x,
        "remainder": lambda x: x.remainder(0.7),
        "frac": lambda x: x.frac() * x,
        "lerp": lambda x: torch.lerp(x, x.tanh(), x.sigmoid()),
        "addcmul": lambda x: torch.addcmul(x, x.sin(), x.cos(), value=0.5),
        "nan_to_num": lambda x: torch.nan_to_num(x / x.relu()),
        "huber": lambda x: functional.huber_loss(x, x.flip(1), reduction="none", delta=0.3),
        "cross_entropy": lambda x: functional.cross_entropy(x, x.argmin(1), reduction="none")[
            :, None
        ],
        "kl_div": lambda x: functional.kl_div(
            x.log_softmax(1), x.flip(1).softmax(1), reduction="none"
        ),
        "tolist": lambda x: torch.stack([sum(row.unbind()) * row for row in x]) if len(x) else x,
        "item-branch": lambda x: (
            torch.stack([r if float(r[0]) > 0 else r.square() for r in x]) if len(x) else x
        ),
        "as_strided": lambda x: x.contiguous().as_strided((len(x), 4), (6, 1), 1),
        "unique-consecutive": lambda x: x[:, torch.tensor([0, 0, 1])].square(),
        "nested-list": lambda x: (
            torch.nested.nested_tensor(list(x)).to_padded_tensor(0.0) if False else x.sin()
        ),
        "sparse": lambda x: torch.sparse.mm(torch.eye(6, dtype=x.dtype).to_sparse(), x.T).T,
        "bucketize": lambda x: (
            x * torch.bucketize(x.detach(), torch.tensor([0.0, 0.5], dtype=x.dtype))
        ),
    }
    either = {
        "renorm",
        "cummax",
        "sparse",
        "eigh-vectors",
        "lstsq",
        "norm-of-zeros",
        "nan_to_num",
        "bessel",
    }
    # Where a factor is 0, another is infinite: the derivative of the backward pass is NaN.
    once = {"sqrt-relu", "clamp-sqrt", "xlogy"}
    for name, function in rows.items():
        expected = EITHER if name in either else RIGHT
        yield of(name, function, expected=expected, twice=name not in once)
    yield of(
        "float32-inside",
        lambda x: x.float().tanh().to(x.dtype),
        expected=EITHER,
        smooth=False,
        precision=1e-5,
    )


def _assigned(x):
    y = torch.zeros(len(x), 8, dtype=x.dtype)
    y[:, 1:7] = x
    y[:, 0] = x[:, 3] * x[:, 2]
    y[:, 7] += x.sum(1)
    return y


# What stands between the module and autograd.


def autograd() -> Iterator[Case]:
    yield of("detached-branch", lambda x: x * x.detach().sigmoid(), smooth=False)
    yield of("data-branch", lambda x: x * x.data.sigmoid(), smooth=False)

    def constant(x):
        with torch.no_grad():
            scale = x.abs().sum(1, keepdim=True)
        return x / scale

    yield of("no_grad-inside", constant, smooth=False)

    def gradient(self, x):
        with torch.enable_grad():
            z = x if x.requires_grad else x.detach().requires_grad_(True)
            energy = self.h(z).tanh().square().sum()
            (slope,) = torch.autograd.grad(energy, z, create_graph=True)
        return self.l(slope)

    yield whole(
        "autograd.grad-inside", gradient, expected=EITHER, parts=lambda: {"h": nn.Linear(6, 6)}
    )

    def detached_gradient(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.h(z).tanh().sum(), z)
        return self.l(x * slope)

    yield whole(
        "autograd.grad-detached",
        detached_gradient,
        expected=EITHER,
        smooth=False,
        parts=lambda: {"h": nn.Linear(6, 6)},
    )
    # torch.func inside the module.
    yield of("vmap", torch.func.vmap(lambda row: row.sin() * row.sum()), expected=EITHER)
    yield of("func.jvp", lambda x: torch.func.jvp(torch.sin, (x,), (x.cos(),))[1], expected=EITHER)
    yield of("func.grad", lambda x: torch.func.grad(lambda z: z.sin().sum())(x), expected=EITHER)
    yield of(
        "func.jacrev",
        lambda x: torch.func.vmap(torch.func.jacrev(lambda row: row.square()[:2]))(x),
        expected=EITHER,
    )

    def forward_ad(x):
        from torch.autograd import forward_ad

        with forward_ad.dual_level():
            return forward_ad.unpack_dual(forward_ad.make_dual(x, x.cos()).sin()).tangent

    yield of("forward_ad", forward_ad, expected=EITHER)

    def functional_call(self, x):
        weights = {name: 2 * value for name, value in self.h.named_parameters()}
        return self.l(torch.func.functional_call(self.h, weights, (x,)).tanh())

    yield whole(
        "functional_call", functional_call, expected=EITHER, parts=lambda: {"h": nn.Linear(6, 6)}
    )
    for reentrant in (False, True):

        def again(self, x, reentrant=reentrant):
            return self.l(checkpoint(lambda z: self.h(z).tanh(), x, use_reentrant=reentrant))

        yield whole(
            "checkpoint" + "-reentrant" * reentrant,
            again,
            expected=EITHER,
            parts=lambda: {"h": nn.Linear(6, 6)},
        )


def net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, CLASSES)
    )


def image_net() -> nn.Module:
    part = nn.Sequential(
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24, CLASSES),
    )
    nn.init.uniform_(part[1].running_mean)
    nn.init.uniform_(part[1].running_var, 0.5, 2)
    return part


class Looped(nn.Module):
    def __init__(self):
        super().__init__()
        self.h, self.l = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = self.h(x).relu() + x
        return self.l(x)


def compiled() -> Iterator[Case]:
    for backend in ("eager", "aot_eager"):
        yield Case(
            f"compile-{backend}",
            lambda b=backend: torch.compile(net(), backend=b),
            ROW,
            EITHER,
            plain=net,
        )
    yield Case("jit.script", lambda: torch.jit.script(Looped()), ROW, EITHER)
    yield Case(
        "jit.trace",
        lambda: torch.jit.trace(image_net().eval(), torch.rand(2, *IMAGE)),
        IMAGE,
        EITHER,
    )
    yield Case(
        "jit.freeze",
        lambda: torch.jit.freeze(torch.jit.script(image_net().eval())),
        IMAGE,
        EITHER,
        own_dtype=True,
        writes=frozenset({"forward"}),
    )

    def exported():
        rows = torch.export.Dim("rows", min=1, max=1024)
        return torch.export.export(net(), (torch.rand(2, 6),), dynamic_shapes=({0: rows},)).module()

    yield Case("export", exported, ROW, EITHER)
    yield Case("fx", lambda: torch.fx.symbolic_trace(image_net()), IMAGE)
    yield Case("DataParallel", lambda: nn.DataParallel(image_net()), IMAGE, EITHER)
    yield Case(
        "shared-layer",
        lambda: (lambda one: nn.Sequential(one, nn.Tanh(), one, nn.ReLU(), nn.Linear(6, 3)))(
            nn.Linear(6, 6)
        ),
        ROW,
    )
    yield Case("cnn", image_net, IMAGE)
    yield Case("mlp", net, ROW)


# Hooks.


def hooks() -> Iterator[Case]:
    def keeping(register):
        def build():
            module = image_net()
            module.kept = []
            register(module)
            return module

        return build

    kept = {"writes": frozenset({"kept"})}

    def forward_hook(module):
        for part in list(module):
            part.register_forward_hook(lambda m, a, out: module.kept.append(out))

    def detached_hook(module):
        for part in list(module):
            part.register_forward_hook(lambda m, a, out: module.kept.append(out.detach().clone()))

    def numpy_hook(module):
        module[0].register_forward_hook(
            lambda m, a, out: module.kept.append(torch.from_numpy(out.detach().numpy().copy()))
        )

    def input_hook(module):
        module[3].register_forward_pre_hook(lambda m, a: module.kept.append(a[0]))

    yield Case("hook-keeps-outputs", keeping(forward_hook), IMAGE, **kept)
    yield Case("hook-keeps-copies", keeping(detached_hook), IMAGE, **kept)
    yield Case("hook-asks-for-numpy", keeping(numpy_hook), IMAGE, EITHER, **kept)
    yield Case("pre-hook-keeps-inputs", keeping(input_hook), IMAGE, **kept)

    def hooked(register):
        def build():
            module = image_net()
            register(module)
            return module

        return build

    yield Case(
        "pre-hook-modifies",
        hooked(lambda m: m[2].register_forward_pre_hook(lambda s, a: (a[0] * 2 + 0.1,))),
        IMAGE,
    )
    yield Case(
        "hook-modifies",
        hooked(lambda m: m[2].register_forward_hook(lambda s, a, o: o.square())),
        IMAGE,
    )
    yield Case(
        "hook-scales-gradients",
        hooked(lambda m: m[2].register_full_backward_hook(lambda s, g, o: (2 * g[0],))),
        IMAGE,
        EITHER,
        smooth=False,
    )

    def tensor_hook(self, x):
        h = self.h(x).tanh()
        if h.requires_grad:
            h.register_hook(lambda g: g * 3)
        return self.l(h)

    yield whole(
        "tensor-hook-scales",
        tensor_hook,
        expected=EITHER,
        smooth=False,
        parts=lambda: {"h": nn.Linear(6, 6)},
    )


# Outputs.


@dataclass
class Output:
    logits: torch.Tensor


Pair = namedtuple("Pair", ["logits", "features"])


def outputs() -> Iterator[Case]:
    made = {
        "tuple": lambda z: (z, z.mean()),
        "named-tuple": lambda z: Pair(z, z),
        "list": lambda z: [z],
        "dict": lambda z: {"logits": z},
        "dataclass": lambda z: Output(z),
    }
    for name, wrap in made.items():
        yield whole(f"output-{name}", lambda s, x, w=wrap: w(s.l(x)), expected=EITHER)
    refused = {
        "none": lambda z: None,
        "number": lambda z: 3.0,
        "scalar": lambda z: z.sum(),
        "vector": lambda z: z[:, 0],
        "cube": lambda z: z[:, None],
        "transposed": lambda z: z.T,
        "rows-missing": lambda z: z[:-1],
        "one-row": lambda z: z.sum(0, keepdim=True),
        "no-classes": lambda z: z[:, :0],
        "int": lambda z: (z * 10).long(),
        "bool": lambda z: z > 0,
        "complex": lambda z: z + 1j * z,
        "nan": lambda z: z * math.nan,
        "nan-in-one": lambda z: torch.cat([z, z[:, :1] * math.nan], 1),
        "plus-inf": lambda z: z + torch.tensor([math.inf, 0, 0]).to(z),
        "meta": lambda z: z.to("meta"),
        "dict-of-nothing": lambda z: {"features": z},
    }
    for name, wrap in refused.items():
        yield whole(
            f"output-{name}",
            lambda s, x, w=wrap: w(s.l(x)),
            expected=REFUSED,
            mixes=name in ("rows-missing", "one-row", "transposed"),
        )
    masked = torch.tensor([0, -math.inf, 0])
    yield whole("output-masked", lambda s, x: s.l(x) + masked.to(x), smooth=False)
    yield whole(
        "output-masked-fill", lambda s, x: s.l(x).masked_fill(masked < 0, -math.inf), smooth=False
    )
    yield whole("output-one", lambda s, x: s.l(x)[:, :1], expected=EITHER)
    yield whole("output-huge", lambda s, x: s.l(x) * 1e30)
    yield whole("output-tiny", lambda s, x: s.l(x) * 1e-30)
    yield whole("output-flat", lambda s, x: s.l(x) * 1e-7)
    yield whole("output-equal", lambda s, x: s.l(x)[:, :1].expand(-1, 3))
    yield whole("output-constant", lambda s, x: s.l(torch.ones_like(x)), expected=EITHER)
    yield whole("output-detached", lambda s, x: s.l(x.detach()), expected=EITHER, smooth=False)
    yield whole(
        "output-zeros",
        lambda s, x: torch.zeros(len(x), 3, dtype=x.dtype),
        expected=EITHER,
        trains=False,
    )
    yield whole("output-parameter", lambda s, x: s.l.bias.expand(len(x), 3), expected=EITHER)
    yield whole("output-is-the-input", lambda s, x: x, expected=RIGHT, trains=False)
    yield whole("output-view-of-the-input", lambda s, x: x[:, 1:4], trains=False)
    yield whole(
        "output-bfloat16",
        lambda s, x: s.l(x).bfloat16(),
        expected=EITHER,
        smooth=False,
        precision=0.02,
    )
    yield whole("output-float64", lambda s, x: s.l(x).double())
    yield whole("raises", lambda s, x: s.nothing(x), expected=REFUSED)
    yield whole(
        "raises-after-one",
        lambda s, x: s.l(x) if len(x) == 1 else 1 / 0,
        expected=REFUSED,
        mixes=True,
    )


# Weights.


def weights() -> Iterator[Case]:
    def frozen():
        module = net()
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        return module

    def half_frozen():
        module = net()
        module[0].requires_grad_(False)
        return module

    yield Case("weights-frozen", frozen, ROW, trains=False)
    yield Case("weights-half-frozen", half_frozen, ROW)
    for name in ("half", "bfloat16"):
        yield Case(
            f"weights-{name}",
            lambda n=name: getattr(net(), n)(),
            ROW,
            EITHER,
            own_dtype=True,
            precision=0.05,
        )

    class Quantized(nn.Module):
        def __init__(self):
            super().__init__()
            weight = nn.Linear(6, CLASSES).weight.detach()
            self.register_buffer("weight", (weight * 200).to(torch.int8))
            self.scale = nn.Parameter(torch.tensor(1 / 200))

        def forward(self, x):
            return x.tanh() @ (self.weight.to(x.dtype) * self.scale).T

    yield Case("weights-int8", Quantized, ROW)

    class Complex(nn.Module):
        def __init__(self, real_bias=False):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 4, dtype=torch.complex64))
            self.l = nn.Linear(4, CLASSES)

        def forward(self, x):
            return self.l((x.to(self.weight.dtype) @ self.weight).abs())

    yield Case("weights-complex", Complex, ROW, EITHER)
    yield Case(
        "weights-complex-alone",
        lambda: Of(
            lambda s, x: (x.to(s.weight.dtype) @ s.weight).real,
            weight=nn.Parameter(torch.randn(6, 3, dtype=torch.complex64)),
        ),
        ROW,
        EITHER,
    )
    yield Case(
        "no-parameters", lambda: Of(lambda s, x: x[:, :3] * x[:, 3:].tanh()), ROW, trains=False
    )
    yield Case("empty-sequential", nn.Sequential, ROW, trains=False)
    yield Case(
        "weights-meta", lambda: nn.Linear(6, CLASSES, device="meta"), ROW, REFUSED, own_dtype=True
    )

    def mixed():
        return nn.Sequential(
            nn.Linear(6, 6),
            Of(lambda s, x: x.to(s.l.weight.dtype), l=nn.Linear(6, 6).half()),
            nn.Linear(6, 3).half(),
        )

    yield Case("weights-of-two-types", mixed, ROW, EITHER, own_dtype=True)

    def tied():
        module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        module[2].weight = module[0].weight
        return module

    yield Case("weights-tied", tied, ROW)
    yield Case(
        "weights-as-attribute",
        lambda: Of(
            lambda s, x: s.l(x @ s.plain[0].to(x.dtype)),
            plain=(torch.randn(6, 6),),
            l=nn.Linear(6, 3),
        ),
        ROW,
    )
    yield Case(
        "weights-as-attribute-with-gradient",
        lambda: Of(
            lambda s, x: s.l((x @ s.plain[0].to(x.dtype)).tanh()),
            plain=(torch.randn(6, 6, requires_grad=True),),
            l=nn.Linear(6, 3),
        ),
        ROW,
    )
    yield Case("weights-nan", _with_nan, ROW, REFUSED)


def _with_nan():
    module = net()
    with torch.no_grad():
        module[2].weight[0, 0] = math.nan
    return module


PARTS = (
    functions,
    noise,
    state,
    mixing,
    operations,
    autograd,
    compiled,
    hooks,
    outputs,
    weights,
)


def hostile() -> list[Case]:
    """Every case of this file."""
    return [case for part in PARTS for case in part()]
