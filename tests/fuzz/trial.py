"""One case, one kind, one verb: is the outcome right, a refusal, or wrong?"""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

import onr
from fuzz import reference
from fuzz.cases import EITHER, REFUSED, RIGHT, Case
from fuzz.hostile import hostile
from fuzz.kinds import Kind, inputs
from fuzz.layers import layers
from fuzz.reference import UndecidedError
from fuzz.unchanged import changes, snapshot
from onr.data import Split
from onr.losses import CrossEntropy
from onr.norms import LpNorm
from onr.registry import load
from onr.training.optimizers import Optimizer
from onr_torch.backend import TorchBackend
from onr_torch.trainable_jvp import trainable_jvp

CASES = {case.name: case for case in [*layers(), *hostile()]}


class WrongError(Exception):
    """The outcome is wrong; the message says how."""


class RaisedError(Exception):
    """The product raised something else than its own error."""


def require(holds: Any, told: str) -> None:
    if not holds:
        raise WrongError(told)


def cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Floats become ``dtype``, complex numbers its complex type."""

    def convert(x: torch.Tensor) -> torch.Tensor:
        if x.is_complex():
            return x.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
        return x.to(dtype) if x.is_floating_point() else x

    return module._apply(convert)


def evaluating(module: nn.Module) -> nn.Module:
    """In evaluation mode, where the module has one."""
    try:
        return module.eval()
    except NotImplementedError:  # an exported module
        return module


class Trial:
    """A module of the case with inputs of the kind, and the truth about them."""

    def __init__(self, case: Case, kind: Kind, verb: str, seed: int) -> None:
        self.case, self.kind, self.verb = case, kind, verb
        self.rng = np.random.default_rng([seed, zlib.crc32(f"{case.name} {kind} {verb}".encode())])
        self.dtype = getattr(torch, kind.dtype)
        if not self.dtype.is_floating_point:
            self.dtype = torch.float32
        self.module = self.built()
        if kind.training == "train":
            with suppress(NotImplementedError):  # an exported module
                self.module.train()
        self.x = inputs(kind, case.shape, self.rng)
        for parameter in self.module.parameters():
            if not nn.parameter.is_lazy(parameter) and parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        torch.default_generator.manual_seed(seed)
        self.changed: list[str] = []

    def built(self, double: bool = False) -> nn.Module:
        """The module of the case; each call gives a copy that shares nothing."""
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(zlib.crc32(self.case.name.encode()))
            build = self.case.build
            module = (self.case.plain or build)() if double else build()
        if not self.case.own_dtype:
            cast(module, self.dtype)
        if double:
            cast(module, torch.float64)
        return evaluating(module)

    @cached_property
    def twin(self) -> nn.Module:
        """The same module in float64."""
        return self.built(double=True)

    @cached_property
    def x64(self) -> torch.Tensor:
        """The inputs in float64, contiguous."""
        with torch.inference_mode(False):
            return torch.from_numpy(self.x.detach().to(torch.float64).numpy().copy())

    @cached_property
    def value(self) -> torch.Tensor:
        """``f(x)`` of the twin."""
        return reference.value(self.twin, self.x64)

    @cached_property
    def J(self) -> torch.Tensor:  # noqa: N802 - the Jacobian
        """``J`` of the twin, shape ``(batch, d, n)``."""
        return reference.jacobian(self.twin, self.x64)

    @property
    def known(self) -> bool:
        """Whether there is a finite truth."""
        try:
            bad = self.value.isnan().any() or (self.value == math.inf).any()
            return bool(self.J.isfinite().all() and self.x.isfinite().all()) and not bool(bad)
        except Exception:
            return False

    @contextmanager
    def acting(self, watched: bool = True) -> Iterator[None]:
        """Around every call of the product: torch's modes are those of the kind.

        Args:
            watched: whether the module must be the same afterwards.

        """
        with self.kind.active():
            before = snapshot(self.module, self.x, self.case.writes)
            try:
                yield
            except onr.OnrError:
                raise
            except Exception as error:
                line = (str(error).splitlines() or [""])[0]
                raise RaisedError(f"raised {type(error).__name__}: {line[:160]}") from error
            finally:
                after = snapshot(self.module, self.x, self.case.writes)
                if watched:
                    self.changed += changes(before, after, draws=self.case.draws)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        with torch.inference_mode(False):
            return torch.from_numpy(self.rng.standard_normal(shape)).to(dtype or self.x.dtype)

    def close(self, found: Any, wanted: torch.Tensor, scale: Any, what: str) -> None:
        """An ordinary tensor of the input's type, equal to the truth up to rounding."""
        kind = type(found)
        require(kind is torch.Tensor, f"{what} is a {kind.__module__}.{kind.__name__}")
        require(
            found.shape == wanted.shape,
            f"{what}: shape {tuple(found.shape)} for {tuple(wanted.shape)}",
        )
        require(found.dtype == self.x.dtype, f"{what}: {found.dtype} for {self.x.dtype}")
        require(not found.requires_grad, f"{what} has a graph")
        if what != "the value" or self.case.draws:
            require(found.isfinite().all(), f"{what} is not finite")
        if self.case.draws:
            return
        found = found.double()
        same = (found == wanted) | (found.isnan() & wanted.isnan())
        limit = self.tolerance * torch.as_tensor(scale).double()
        error = torch.where(same, 0, (found - wanted).abs())
        if not (error <= limit).all():
            bad = error.nan_to_num(nan=math.inf).argmax()
            share = float(error.max() / torch.as_tensor(scale))
            raise WrongError(
                f"{what}: {float(found.flatten()[bad]):.8g} for "
                f"{float(wanted.flatten()[bad]):.8g}, largest error {share:.1e} of the scale"
            )

    @property
    def tolerance(self) -> float:
        """The largest error, relative to the scale of the result."""
        return max(self.kind.tolerance, self.case.precision)

    @property
    def floor(self) -> float:
        """Rounding that no algorithm avoids where terms cancel: of the size of the logits."""
        size = self.value.abs()
        size = size[size.isfinite()]
        return 1e-3 * float(size.max()) if size.numel() else 0.0


def linearization(trial: Trial) -> Any:
    with trial.acting():
        return onr.linearize(trial.module, trial.x)


def check_value(trial: Trial) -> None:
    at = linearization(trial)
    size = trial.value.abs()
    scale = torch.where(size.isfinite(), size, 0).max() if size.numel() else 0.0
    trial.close(at.value, trial.value, scale, "the value")
    require(trial.case.draws or not at.value.isnan().any(), "the value is nan")


def check_jvp(trial: Trial) -> None:
    at = linearization(trial)
    v, u = trial.normal(*trial.x.shape), trial.normal(*at.value.shape)
    with trial.acting():
        image, back = at.jvp(v), at.vjp(u)
    scale = times(trial.J.abs(), v.abs()).max() + trial.floor if trial.J.numel() else 0.0
    trial.close(image, times(trial.J, v), scale, "J v")
    left, right = (u * image).double(), (v * back).double()
    gap, size = (left.sum() - right.sum()).abs(), left.abs().sum() + right.abs().sum()
    if trial.case.draws or trial.known:
        require(
            gap <= 10 * trial.tolerance * size,
            f"<u, J v> is off <J^T u, v> by {float(gap / size):.1e}",
        )
    ordinary_attributes(trial)


times = reference.times


def check_vjp(trial: Trial) -> None:
    at = linearization(trial)
    u = trial.normal(*at.value.shape)
    with trial.acting():
        back = at.vjp(u)
    wanted = (u.double()[:, None] @ trial.J)[:, 0].reshape(trial.x.shape)
    scale = (
        (u.double().abs()[:, None] @ trial.J.abs()).max() + trial.floor if trial.J.numel() else 0.0
    )
    trial.close(back, wanted, scale, "J^T u")


def check_jacobian(trial: Trial) -> None:
    with trial.acting():
        found = onr.jacobian(trial.module, trial.x)
    trial.close(found, trial.J, trial.J.abs().max() + trial.floor, "J")


def size_of(x: torch.Tensor, p: float) -> torch.Tensor:
    return torch.linalg.vector_norm(x.flatten(1).double(), p, dim=1)


def exact_norm(J: torch.Tensor, p: float, q: float) -> torch.Tensor | None:
    """``||J||_{p,q}`` where a closed form or a small enumeration gives it."""
    if p == 1:
        return torch.linalg.vector_norm(J, q, dim=1).amax(1)
    if q == math.inf:
        return torch.linalg.vector_norm(J, p / (p - 1) if p < math.inf else 1.0, dim=2).amax(1)
    if (p, q) == (2, 2):
        return torch.linalg.svdvals(J)[:, 0]
    if q == 1:
        d = J.shape[1]
        signs = torch.tensor(np.indices((2,) * d).reshape(d, -1).T * 2 - 1).to(J)
        dual = p / (p - 1) if p < math.inf else 1.0
        return torch.linalg.vector_norm(signs @ J, dual, dim=2).amax(1)
    return None


PAIRS = [
    (1, 2),
    (2, 2),
    (math.inf, 1),
    (2, math.inf),
    (math.inf, math.inf),
    (math.inf, 2),
    (3, 1.5),
    (2, 1),
]


def check_norm(trial: Trial) -> None:
    p, q = PAIRS[int(trial.rng.integers(len(PAIRS)))]
    with trial.acting():
        found = onr.operator_norm(trial.module, trial.x, p=p, q=q)
    told = f"||J||_({p}, {q})"
    scale = trial.J.abs().sum((1, 2)).max() + trial.floor
    require(found.lower.isfinite().all(), f"{told} is not finite")
    if trial.case.draws:
        return
    exact = exact_norm(trial.J, p, q)
    if exact is not None:
        trial.close(found.lower, exact, scale, told)
    trial.close(
        size_of(times(trial.J, found.v), q).to(trial.x.dtype),
        found.lower.double(),
        scale,
        f"||J v||_{q} of the maximiser",
    )
    require((size_of(found.v, p) <= 1 + 1e-4).all(), "the maximiser is outside the ball")
    v = trial.normal(len(trial.x), 200, trial.J.shape[2], dtype=torch.float64)
    best = (
        torch.linalg.vector_norm(v @ trial.J.mT, q, dim=2) / torch.linalg.vector_norm(v, p, dim=2)
    ).amax(1)
    if found.upper is not None:
        require(
            (best <= found.upper.double() + trial.tolerance * scale).all(),
            f"{told} is larger than its upper bound",
        )


def check_singular_values(trial: Trial) -> None:
    with trial.acting():
        found = onr.singular_values(trial.module, trial.x)
    wanted = torch.linalg.svdvals(trial.J)
    # A Gram matrix knows small singular values to the root of the rounding.
    scale = (wanted.max() + trial.floor) / math.sqrt(trial.tolerance)
    trial.close(found, wanted, scale, "singular values")


def loss_of(trial: Trial, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    z = reference.value(trial.twin, x.double())
    return z.logsumexp(1) - z.gather(1, y[:, None])[:, 0]


def attacker(name: str, p: float) -> Callable[[Trial], None]:
    def check(trial: Trial) -> None:
        eps, options = {1: 0.5, 2: 0.2, math.inf: 0.05}[p], {} if name == "fgm" else {"steps": 2}
        ranked = (
            trial.value.argmax(1) if trial.known else torch.zeros(len(trial.x), dtype=torch.int64)
        )
        with trial.acting():
            found = onr.attack(
                trial.module, trial.x, ranked, p=p, eps=eps, attack=f"onr_paper:{name}", **options
            )
        require(type(found) is torch.Tensor, "not an ordinary tensor")
        require(
            found.shape == trial.x.shape and found.dtype == trial.x.dtype,
            "of another shape or type",
        )
        require(not found.requires_grad, "has a graph")
        require(found.isfinite().all(), "not finite")
        require(((found >= 0) & (found <= 1)).all(), "outside the box")
        delta = size_of(found.double() - trial.x64, p)
        require((delta <= eps * (1 + 1e-5) + 1e-6).all(), "outside the ball")
        if trial.case.draws:
            return
        require(trial.known, "an answer where there is none: the network is not finite")
        make = load("attack", f"onr_paper:{name}")
        twin = reference.DenseNetwork(trial.twin, trial.case.shape)
        rng = np.random.default_rng(0)
        wanted = make(p=LpNorm(p), eps=eps, loss=CrossEntropy(), **options)(
            twin, trial.x64, ranked, rng=rng
        )
        got, due = loss_of(trial, found, ranked), loss_of(trial, wanted, ranked)
        limit = math.sqrt(trial.tolerance) * (1 + due.abs())
        require(
            (got >= due - limit).all(),
            f"loss {got.tolist()}, and {due.tolist()} by the dense Jacobian",
        )

    return check


def check_accuracy(trial: Trial) -> None:
    classes = trial.value.shape[1] if trial.known else 3
    y = torch.from_numpy(trial.rng.integers(0, max(classes, 1), len(trial.x)))
    with trial.acting():
        found = onr.measure.accuracy(trial.module, trial.x, y)
    if trial.case.draws:
        return
    require(not trial.value.isnan().any(), f"accuracy {found} of logits that are nan")
    top = trial.value.topk(min(2, classes), 1).values
    limit = trial.tolerance * top.abs().max()
    sure = (top[:, 0] - top[:, -1] > limit) | (classes == 1)
    right = trial.value.argmax(1) == y
    low, high = float((right & sure).double().mean()), float((right | ~sure).double().mean())
    require(low - 1e-9 <= found <= high + 1e-9, f"accuracy {found}, right is {low} to {high}")


def check_trainable(trial: Trial) -> None:
    v = trial.normal(*trial.x.shape)
    v = v / max(float(v.double().norm()), 1e-9)
    w = trial.normal(*trial.value.shape) if trial.known else None
    with trial.acting():
        image = trainable_jvp(trial.module, trial.x, v)
    require(w is not None, "an answer where there is none: the network is not finite")
    scale = times(trial.J.abs(), v.abs()).max() + trial.floor if trial.J.numel() else 0.0
    trial.close(image.detach(), times(trial.J, v), scale, "J v")
    # Equal activations tie: differences are of another branch than autograd's.
    if trial.case.draws or not len(trial.x) or trial.kind.fill in ("zeros", "subnormal"):
        return
    with trial.acting():
        found = reference.weight_gradient(trial.module, lambda: (image * w).sum())
    if not len(found):
        return
    limit = max({"float64": 1e-6, "float32": 1e-3}.get(trial.kind.dtype, 0.1), trial.case.precision)
    truth = reference.trained_gradient if trial.case.smooth else reference.convention
    wanted = truth(trial.twin, trial.x64, v.double(), w.double())
    near(
        found,
        wanted,
        limit,
        float((w.abs().double() * trial.value.nan_to_num(neginf=0).abs()).max()),
        "the gradient of J v in the weights",
    )


def near(found: torch.Tensor, wanted: torch.Tensor, limit: float, floor: float, what: str) -> None:
    require(found.isfinite().all(), f"{what} is not finite")
    scale = float(wanted.abs().max())
    error = float((found - wanted).abs().max())
    require(
        error <= limit * scale + 1e-9 * floor,
        f"{what} is off by {error / (scale or 1):.1e} of {scale:.3g}",
    )


def trainer(name: str, **options: Any) -> Callable[[Trial], None]:
    class Images(nn.Module):
        """The module for inputs that training takes: images."""

        def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
            super().__init__()
            self.module, self.shape = module, shape
            self.input_shape = shape if len(shape) == 3 else (1, 1, math.prod(shape))

        def forward(self, x: torch.Tensor) -> Any:
            return self.module(x.reshape(len(x), *self.shape))

        def train(self, mode: bool = True) -> nn.Module:
            self.training = mode
            with suppress(NotImplementedError):  # an exported module
                self.module.train(mode)
            return self

    def check(trial: Trial) -> None:
        case = trial.case
        module = Images(trial.module, case.shape)
        x = trial.x64.reshape(len(trial.x64), *module.input_shape).numpy()
        y = trial.rng.integers(0, 3, len(x)) if len(x) else np.zeros(0, np.int64)
        if trial.known and len(trial.value) == len(x) and trial.value.shape[1] >= 3:
            masked = trial.value.numpy()[np.arange(len(x)), y] == -math.inf
            y[masked] = trial.value.argmax(1).numpy()[
                masked
            ]  # the loss is infinite at a masked class
        dtype = "float64" if trial.dtype == torch.float64 else "float32"
        lazy = any(nn.parameter.is_lazy(p) for p in module.parameters())
        start = [] if lazy else [p.detach().clone() for p in reference.floats(module)]
        method = load("method", name)
        with trial.acting(watched=False):
            network = TorchBackend().build(module, dtype=dtype)
            learner = TorchBackend().learner(
                network, method(**options), Split(x, y), optimizer=Optimizer("sgd", momentum=0.0)
            )
            cost = learner.step(np.arange(len(x)), lr=1.0, rng=np.random.default_rng(5))
        if not trial.known and not cost.isfinite():
            return  # the loop of a run stops here
        if case.draws or not start:
            require(cost.isfinite(), f"the cost is {float(cost)}")
            return
        moved = [a - b for a, b in zip(start, reference.floats(module), strict=True)]
        require(trial.known, "trained where the network is not finite")
        # A pass in training mode may draw, as dropout does, and moves statistics.
        trained, constant = (Images(trial.built(double=True), case.shape) for _ in range(2))
        wanted, paid = reference.step_gradient(
            trained,
            constant,
            method(**options),
            torch.from_numpy(x),
            torch.from_numpy(y),
            np.random.default_rng(5),
            smooth=case.smooth,
        )
        if not cost.isfinite() and paid > torch.finfo(getattr(torch, dtype)).max:
            return
        limit = max({"float64": 1e-6, "float32": 1e-3}[dtype], case.precision)
        near(torch.atleast_1d(cost.double()), torch.atleast_1d(paid), limit, 1.0, "the cost")
        near(
            reference.flat(moved),
            wanted,
            limit,
            float(max(p.abs().max() for p in start)) * (1 if dtype == "float64" else 1e6),
            "the step",
        )
        for (told, mine), theirs in zip(trained.named_buffers(), module.buffers(), strict=True):
            if told.split(".")[-1] not in case.writes and mine.is_floating_point():
                near(theirs.double(), mine.double(), limit, 1.0, f"buffer {told}")

    return check


VERBS: dict[str, Callable[[Trial], None]] = {
    "value": check_value,
    "jvp": check_jvp,
    "vjp": check_vjp,
    "jacobian": check_jacobian,
    "operator_norm": check_norm,
    "singular_values": check_singular_values,
    "accuracy": check_accuracy,
    "attack-pga-inf": attacker("pga", math.inf),
    "attack-pga-2": attacker("pga", 2),
    "attack-pga-1": attacker("pga", 1),
    "attack-fgm-2": attacker("fgm", 2),
    "trainable_jvp": check_trainable,
    "train-standard": trainer("standard"),
    "train-at": trainer("at", p=2, eps=0.2, steps=2),
    "train-dd-snr": trainer("dd-snr", eps=0.2, lam=1.0, steps=3),
    "train-dd-snr-jacobian": trainer("dd-snr", eps=0.2, lam=1.0, steps=3, form="jacobian"),
    "train-dd-onr": trainer("dd-onr", p="inf", q=2, eps=0.05, lam=1.0, steps=3),
    "train-dd-onr-jacobian": trainer(
        "dd-onr", p="inf", q=2, eps=0.05, lam=1.0, steps=3, form="jacobian"
    ),
    "train-dd-onr-exact-jacobian": trainer(
        "dd-onr-exact", eps=0.2, lam=1.0, power=2.0, form="jacobian"
    ),
    "train-input-gradient": trainer("input-gradient", eps=0.2, lam=1.0),
    "train-frobenius": trainer("frobenius", eps=0.2, lam=1.0),
}
TANGENT = {verb for verb in VERBS if verb.endswith(("-jacobian", "-gradient", "-frobenius"))}
"""Training steps that pay for ``J v``."""
FREE = {"train-standard", "value", "accuracy"}
"""Verbs without derivatives in the inputs: they may be right where ``J`` means nothing."""


def ordinary_attributes(trial: Trial) -> None:
    """What the module or its hooks kept are ordinary tensors with the values of a plain pass."""
    if not trial.case.writes:
        return
    twin = trial.built()
    with torch.no_grad():
        twin(trial.x.detach().clone())
    for name in trial.case.writes & set(vars(trial.module)):
        mine, theirs = tensors(getattr(trial.module, name)), tensors(getattr(twin, name))
        for tensor in mine:
            require(
                type(tensor) in (torch.Tensor, nn.Parameter),
                f"{name} holds a {type(tensor).__name__}",
            )
            special = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
            require(not special and tensor.isfinite().all(), f"{name} holds no ordinary tensor")
        whole = [tensor for tensor in mine if len(tensor) == len(trial.x)]
        for position, tensor in enumerate(whole):
            wanted = theirs[position % len(theirs)]
            # The batch goes through the module in reverse order, too, when it is admitted.
            require(
                tensor.shape == wanted.shape
                and any(
                    torch.allclose(tensor.detach(), values, 1e-3, 1e-5)
                    for values in (wanted, wanted.flip(0))
                ),
                f"{name} holds other values than a plain pass gives",
            )


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return (
        [item for item in value if isinstance(item, torch.Tensor)]
        if isinstance(value, list)
        else []
    )


def outcome(case: Case, kind: Kind, verb: str, seed: int = 0) -> str:
    """``right``, ``refused: ...``, ``undecided: ...`` or ``WRONG: ...``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case.finite_only and kind.fill in ("nan", "inf"):
            kind = kind._replace(fill="random")
        trial = Trial(case, kind, verb, seed)
        try:
            VERBS[verb](trial)
            told = "right"
        except onr.OnrError as error:
            told = f"refused: {error}"
        except RaisedError as error:
            told = f"WRONG: {error}"
        except WrongError as error:
            # There is no truth about a module that is to be refused, where that cannot be seen.
            unseen = case.expected == REFUSED and refusable(case, kind, verb) == EITHER
            told = f"{'undecided' if unseen else 'WRONG'}: {error}"
        except UndecidedError as error:
            told = f"undecided: {error}"
        except Exception as error:
            line = (str(error).splitlines() or [""])[0]
            told = f"WRONG: an answer, and a truth that fails: {type(error).__name__}: {line[:160]}"
        if trial.changed and not told.startswith("WRONG"):
            told = f"WRONG: changed {', '.join(dict.fromkeys(trial.changed))}"
        if told == "right" and refusable(case, kind, verb) == REFUSED:
            told = "WRONG: an answer that means nothing: an error was expected"
        if told.startswith("refused") and refusable(case, kind, verb) == RIGHT and trial.known:
            told = f"WRONG: {told}"
    return told


def refusable(case: Case, kind: Kind, verb: str) -> str:
    """What is expected of this combination."""
    if case.expected == REFUSED:
        # At inputs of zero a factor drawn at random, and a mean of equal rows, cannot be seen.
        flat = kind.fill in ("zeros", "subnormal")
        alike = kind.batch < 2 or kind.layout == "expanded" or flat
        unseen = (case.mixes and alike) or (case.draws and flat)
        return EITHER if verb in FREE or kind.batch == 0 or unseen else REFUSED
    if verb.startswith("train-") and (len(case.shape) > 3 or not case.trains):
        return EITHER  # training takes images, and networks with parameters
    if not (case.twice and case.smooth) and (verb == "trainable_jvp" or verb in TANGENT):
        return EITHER  # the product compares the gradient with differences
    return case.expected if kind.is_plain else EITHER
