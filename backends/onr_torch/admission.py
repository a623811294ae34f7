"""Checks of a module, made once, when it is first evaluated or linearised at inputs of a kind.

The norms, attacks and methods of this project are about one function ``f`` that maps each example
to logits by itself and has a derivative. A module may be something else: it may draw noise, keep
state between calls, mix the examples of a batch, give NaN, or compute something else where no
gradient is asked for. Each of these would give numbers that look right. The checks run the module
a few times on two examples and refuse it in words; what passed is remembered as long as the module
lives. :func:`trust` leaves the checks out.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from onr.errors import ImageError, OnrError
from onr_torch.modes import (
    TORCHS,
    constant_parameters,
    generator_state,
    mixed_precision,
    rounding,
    seeded,
)
from onr_torch.outputs import logits

__all__ = [
    "Record",
    "admit",
    "check_inputs",
    "check_parameters",
    "record_of",
    "share_record",
    "trust",
]


@dataclass
class Record:
    """What is known of a module.

    Example:
        >>> record_of(nn.ReLU()).trusted
        False

    """

    parts: tuple[int, ...] = ()
    """The identities of the module's parts when it was last admitted."""
    trusted: bool = False
    """Whether the checks are left out."""
    keeps_tensors: bool = False
    """Whether a call leaves new tensors in the attributes of the module."""
    writes_inputs: bool = False
    """Whether a call was seen to write into its inputs."""
    admitted: set[tuple[Any, ...]] = field(default_factory=set)
    """The kinds of inputs at which the checks passed."""
    proven: set[Any] = field(default_factory=set)
    """The kinds of inputs at which the gradient of ``J v`` in the parameters passed its check."""


MOST = 32
"""The most examples that a check of a whole batch takes."""
_RECORDS = WeakIdKeyDictionary()


def record_of(module: nn.Module) -> Record:
    """The record of a module, which lives as long as the module.

    Example:
        >>> module = nn.ReLU()
        >>> record_of(module) is record_of(module)
        True

    """
    found: Record = _RECORDS.setdefault(module, Record())  # type: ignore[no-untyped-call]  # torch's
    return found


def share_record(module: nn.Module, derived: nn.Module) -> None:
    """Let ``derived``, a module of the same function, have the record of ``module``.

    Example:
        >>> module, derived = nn.ReLU(), nn.ReLU(inplace=True)
        >>> share_record(module, derived)
        >>> record_of(derived) is record_of(module)
        True

    """
    _RECORDS[derived] = record_of(module)


def trust(module: nn.Module) -> nn.Module:
    """Leave out the checks of a module, and return the module.

    Whoever trusts a module vouches that it maps each example to its logits by itself, without
    state, and without noise that is not torch's. Results of another module are wrong without a
    word.

    Example:
        >>> model = trust(nn.Flatten())
        >>> record_of(model).trusted
        True

    """
    record_of(module).trusted = True
    return module


def admit(
    module: nn.Module, x: torch.Tensor, *, gradients: bool = False, bfloat16: bool = False
) -> Record:
    """Check a module in evaluation mode at inputs of this shape, dtype and device, once.

    The module runs about ten times: on the first example of ``x`` beside a random one, and twice on
    the first examples of ``x``, at most 32. A module that takes batches of one size only gets
    batches of that of ``x``. Torch's generators, those of Python and NumPy, and the module's
    buffers are as before. An empty batch is not checked. A part of the module that is exchanged
    makes another module.

    Args:
        module: the module.
        x: inputs, shape ``(batch, *input_shape)``.
        gradients: whether the gradient in ``x`` is wanted too.
        bfloat16: whether convolutions and matrix products work in bfloat16.

    Returns:
        The record of the module.

    Raises:
        OnrError: the module fails, gives something other than logits ``(batch, d)`` or gives NaN,
            gives two answers for one input or changes its own state, mixes examples, or, if
            gradients are wanted, computes other values where a gradient is asked for, or has none,
            or one that is not linear in what it is given.

    Example:
        >>> admit(nn.Flatten(), torch.rand(5, 2, 2)).keeps_tensors
        False

    """
    record = record_of(module)
    parts = tuple(map(id, module.modules()))
    if parts != record.parts:
        record.parts, record.keeps_tensors, record.writes_inputs = parts, False, False
        record.admitted.clear()
        record.proven.clear()
    kind = (tuple(x.shape[1:]), x.dtype, x.device, bfloat16)
    if record.trusted or (gradients, *kind) in record.admitted:
        return record
    check_parameters(module)
    _check_floats(x)
    if gradients:
        _check_inference(module)
    if len(x) == 0:
        return record
    if not x.is_meta:
        with _restored_generators() as drawn:
            trial = _Trial(module, x, bfloat16)
            if (False, *kind) not in record.admitted:
                record.keeps_tensors |= trial.check_values(drawn(), x[:MOST])
            if gradients:
                trial.check_gradients()
            record.writes_inputs |= trial.writes_inputs
    record.admitted |= {(False, *kind), (gradients, *kind)}
    return record


def check_inputs(module: nn.Module, x: torch.Tensor) -> None:
    """Check the inputs that a caller gives for a module.

    Raises:
        OnrError: ``x`` holds whole numbers or numbers that are not finite, requires a gradient, has
            no batch axis, or differs from the module's parameters in dtype or device.

    Example:
        >>> check_inputs(nn.Linear(2, 3), torch.ones(5, 2))

    """
    _check_dtype(x)
    if x.requires_grad:
        raise OnrError("x requires a gradient, which would be lost: give x.detach()")
    if x.ndim < 2:
        raise OnrError(
            f"x has shape {tuple(x.shape)}: expected (batch, *input_shape); one input is x[None]"
        )
    finite = x.isfinite().flatten(1).all(dim=1)
    if not x.is_meta and not finite.all():
        raise OnrError(f"x[{int(finite.int().argmin())}] has an entry that is NaN or infinite")
    parameter = next((p for p in module.parameters() if p.is_floating_point()), None)
    if parameter is None or nn.parameter.is_lazy(parameter):
        return
    if parameter.device != x.device:
        raise OnrError(
            f"x is on {x.device} and the model on {parameter.device}: give x.to(model's device)"
        )
    if parameter.dtype != x.dtype:
        raise OnrError(
            f"x holds {x.dtype} and the model {parameter.dtype}: give x.to({parameter.dtype}), or "
            f"model.to({x.dtype})"
        )


def _check_floats(x: torch.Tensor) -> None:
    if not x.is_floating_point():
        raise OnrError(
            f"x holds {x.dtype}: expected floats; images of whole numbers are x.float() / 255"
        )


def _check_dtype(x: torch.Tensor) -> None:
    _check_floats(x)
    if torch.finfo(x.dtype).bits < 32:
        raise OnrError(f"x holds {x.dtype}: expected float32 or float64 for the model and for x")


def check_parameters(module: nn.Module) -> None:
    """Check that the parameters of a module have their shapes.

    Raises:
        OnrError: a lazy layer has not run yet.

    Example:
        >>> check_parameters(nn.Linear(2, 3))

    """
    for name, parameter in module.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise OnrError(
                f"parameter {name!r} has no shape yet: run the model once on an input, so that its "
                "lazy layers are made"
            )


def _check_inference(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.is_inference():
            raise OnrError(
                f"parameter {name!r} was made inside torch.inference_mode(), where torch keeps no "
                "gradients: make or load the model outside of it"
            )


class _Trial:
    """Runs of a module on the first example of a batch and random ones beside it."""

    def __init__(self, module: nn.Module, x: torch.Tensor, bfloat16: bool) -> None:
        self._module, self._name, self._bfloat16 = module, type(module).__name__, bfloat16
        self._tolerance = rounding(x, bfloat16) ** 0.5
        self._draws = self.writes_inputs = False
        self._rng = torch.Generator().manual_seed(0)
        with torch.inference_mode(False):
            self._first = x[:1].detach().clone()
        self._batch = self._beside(1)
        try:
            self._value = self._run(self._batch)
        except OnrError:
            if len(x) == 2:
                raise
            self._batch = self._beside(len(x) - 1)
            self._value = self._run(self._batch)

    def _beside(self, count: int, *, widened: float = 0.0) -> torch.Tensor:
        """The first example and random ones in its range, which is widened by a share of it."""
        with torch.inference_mode(False):
            first = self._first
            low, high = first.min(), first.max()
            spread = torch.where(high > low, high - low, first.abs().max() + 1)
            low, spread = low - widened * spread, (1 + 2 * widened) * spread
            shape = (count, *first.shape[1:])
            others = torch.rand(shape, generator=self._rng, dtype=first.dtype).to(first.device)
            return torch.cat([first, low + spread * others])

    def check_values(self, private: str, x: torch.Tensor) -> bool:
        """Check calls without gradients; return whether the module keeps tensors of a call."""
        before, state = self._value, _State(self._module)
        gap = self._gap(before, self._run(self._batch))
        changed, keeps = state.changes()
        if gap is not None or changed:
            raise OnrError(
                f"{self._name} {self._two_answers(gap, private, changed)}: a norm or an attack "
                "needs one function; fix the noise or the state, or draw the noise by torch's "
                "own generator"
            )
        for wrong in (math.nan, math.inf):
            if (before[0].isnan() if math.isnan(wrong) else before[0] == wrong).any():
                raise ImageError(0, f"{self._name} gives {wrong}: expected logits")
        if not self._draws:
            self._check_independence(before)
            if len(x) > 2:
                self._check_order(x)
        return keeps

    def _check_order(self, x: torch.Tensor) -> None:
        """Check that examples have the same logits in reverse order, as with room for a few."""
        with torch.inference_mode(False):
            x = x.detach().clone()
            backwards = x.flip(0)
        gap = self._gap(self._run(x), self._run(backwards).flip(0))
        if gap is not None:
            raise self._mixing(gap)

    def _mixing(self, gap: str) -> OnrError:
        return OnrError(
            f"{self._name} mixes the examples of a batch: the logits of an example change by {gap} "
            "with what stands beside it, so that no example has a Jacobian of its own; normalise "
            "by running statistics, or by the example"
        )

    def _check_independence(self, value: torch.Tensor) -> None:
        """Check that the first example has the same logits beside others, and alone."""
        found = []
        if len(value) > 1:
            # The other inputs have a wider range, so that a maximum over the batch is theirs.
            others = self._beside(len(value) - 1, widened=2.0)[1:]
            with torch.inference_mode(False):
                moved = torch.cat([others, self._first])
            found.append(self._run(moved)[-1:])
        with suppress(OnrError):  # some modules take batches of one size only
            found.append(self._run(self._first))
        for other in found:
            gap = self._gap(value[:1], other[:1])
            if gap is not None:
                raise self._mixing(gap)

    def check_gradients(self) -> None:
        """Check that a call with gradients has the values of one without, and a gradient."""
        graph = self._run(self._batch, gradients=True)
        gap = self._gap(self._value, graph.detach())
        if gap is not None:
            raise OnrError(
                f"the logits of {self._name} change by {gap} where a gradient is asked for: it "
                "uses another algorithm there; torch.backends.mha.set_fastpath_enabled(False) "
                "turns off the fused one of torch's transformer layers"
            )
        if not graph.requires_grad:
            raise OnrError(
                f"the outputs of {self._name} have no gradient in x: something on the way is cut "
                "off by detach, no_grad, rounding or argmax, or the weights are quantised"
            )
        self._check_linearity()

    def _check_linearity(self) -> None:
        """Check that ``J^T u`` is linear in ``u``, which hooks that change gradients may end."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = self._batch.clone().requires_grad_(True)
            draws = torch.randn(self._value.shape, generator=self._rng, dtype=leaf.dtype)
            u = draws.to(leaf.device).masked_fill(~self._value.isfinite(), 0)
            found = []
            for direction in (u, -2 * u):
                self._run(leaf, gradients=True, pulled=direction)
                assert leaf.grad is not None  # noqa: S101 - the values depend on the leaf
                found.append(leaf.grad)
                leaf.grad = None
        gap = self._gap(-2 * found[0], found[1])
        if gap is not None:
            raise OnrError(
                f"the gradient of {self._name} is not linear in what it is given (a difference of "
                f"{gap}): a hook or a function of its own changes gradients; remove it"
            )

    def _run(
        self, x: torch.Tensor, *, gradients: bool = False, pulled: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The logits; with ``pulled``, their gradient along it goes into that of the leaf ``x``."""
        module = self._module
        with (
            seeded(x.device, 0),
            constant_parameters(module),
            torch.set_grad_enabled(gradients),
            mixed_precision(x, self._bfloat16),
        ):
            start = generator_state(x.device)
            try:
                leaf = x if x.requires_grad else x.clone().requires_grad_(gradients)
                given = leaf.clone()
                found = logits(module, given)
                # The version also tells of a write that changes nothing here, as of a ReLU.
                written = given.is_inference() or given._version > 0
                self.writes_inputs |= written or not torch.equal(given, leaf)
                if pulled is not None:
                    found.backward(pulled)  # type: ignore[no-untyped-call]  # torch's
            except (OnrError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # whatever the module raises
                reason = (str(error).splitlines() or [""])[0]
                raise OnrError(
                    f"{self._name} fails on inputs of shape {tuple(x.shape)} "
                    f"({type(error).__name__}: {reason}); expected (batch, *input_shape): one "
                    "input is x[None]"
                ) from error
            self._draws |= not torch.equal(start, generator_state(x.device))
        return found

    def _gap(self, one: torch.Tensor, other: torch.Tensor) -> str | None:
        """By how much two results differ, if that is more than rounding."""
        finite = one.isfinite()
        if one.shape != other.shape or not torch.equal(finite, other.isfinite()):
            return "more than any number"
        masked = ~(finite | one.isnan())
        if not torch.equal(one[masked], other[masked]):
            return "more than any number"
        if not finite.any():
            return None
        gap, scale = (one - other)[finite].abs().max(), one[finite].abs().max()
        return None if gap <= self._tolerance * scale else f"{float(gap):.2g}"

    def _two_answers(self, gap: str | None, private: str, changed: str) -> str:
        if changed:
            return f"keeps state between calls: {changed}"
        if private:
            return f"draws noise from {private}: two calls on one input differ by {gap}"
        return (
            f"gives two answers for one input, which differ by {gap}: it draws noise from a "
            "generator that is not torch's, or keeps state between calls"
        )


@contextmanager
def _restored_generators() -> Iterator[Callable[[], str]]:
    """Restore the generators of Python and NumPy; the value says which have been used."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the module's choice

    def used() -> str:
        if random.getstate() != python:
            return "Python's random module"
        now: Any = np.random.get_state()  # noqa: NPY002 - the module's choice
        before: Any = numpy
        same = np.array_equal(now[1], before[1]) and now[2:] == before[2:]
        return "" if same else "NumPy's global generator"

    try:
        yield used
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - the module's choice


class _State:
    """The buffers and attributes of a module's parts, to see what a call changes."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._buffers = {name: x.clone() for name, x in module.named_buffers()}
        self._attributes = {name: dict(_attributes(part)) for name, part in module.named_modules()}

    def changes(self) -> tuple[str, bool]:
        """Restore and name state that has changed; say whether other attributes have changed."""
        changed, keeps = [], False
        for name, buffer in self._module.named_buffers():
            before = self._buffers.get(name)
            if before is not None and not _same(buffer, before):
                changed.append(f"buffer {name!r} changes")
                with torch.no_grad():
                    buffer.copy_(before)
        for name, part in self._module.named_modules():
            old = self._attributes.get(name, {})
            for key, value in _attributes(part):
                before, now = old.get(key), value
                if key not in old or now != before:
                    if key not in old or not _is_state(before, now):
                        keeps = True
                        continue
                    path = f"{name}.{key}".removeprefix(".")
                    told = f"attribute {path!r} changes"
                    if isinstance(before, _PLAIN):
                        told += f" from {before} to {now}"
                        setattr(part, key, before)
                    changed.append(told)
        return ", ".join(changed[:3]), keeps


_PLAIN = (bool, int, float, str, type(None))


def _attributes(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a module that its author made, described so that changes are seen."""
    for key, value in vars(part).items():
        if key not in TORCHS:
            yield key, _described(value)


def _described(value: Any, depth: int = 3) -> Any:
    """Numbers and texts as they are, and what is in containers and objects; others by identity."""
    if isinstance(value, _PLAIN):
        return value if value == value else "nan"
    if isinstance(value, torch.Tensor):
        return ("tensor", id(value), -1 if value.is_inference() else value._version)
    if isinstance(value, nn.Module) or depth == 0:
        return ("object", id(value))
    if isinstance(value, dict):
        return tuple((str(key), _described(item, depth - 1)) for key, item in value.items())
    if isinstance(value, list | tuple | deque):
        return tuple(_described(item, depth - 1) for item in value)
    own = getattr(value, "__dict__", None)
    inside = _described(own, depth - 1) if isinstance(own, dict) else None
    return ("object", id(value), inside)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal, where NaN equals NaN."""
    if torch.equal(one, other):
        return True
    numbers = one.shape == other.shape and (one.is_floating_point() or one.is_complex())
    return numbers and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _is_state(before: Any, now: Any) -> bool:
    """Whether a number has changed, or a tensor has been overwritten; not whether one is new."""
    if isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
        if before[:1] == ("tensor",) == now[:1]:
            return bool(before[1] == now[1] and before[2] != now[2])
        return any(map(_is_state, before, now))
    return isinstance(before, _PLAIN) and isinstance(now, _PLAIN) and before != now
