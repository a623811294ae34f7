"""Operator norm regularisation as a term of one's own loss, in one's own training loop.

It is the term of the methods ``dd-snr``, ``dd-onr``, ``dd-onr-exact`` and ``dd-snr-warm``: the
searches, the value and the gradient are those of :mod:`onr.regularizers`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from onr.arrays import inner, safe
from onr.errors import OnrError
from onr.front_door.arguments import RngLike, generator, radius
from onr.losses import logit_change
from onr.protocols import NormLike
from onr.regularizers.operator_norm_term import OperatorNormTerm
from onr.regularizers.searches import Direction, Exact, Iteration, Search
from onr.regularizers.warm_start import WarmStart, usual_noise
from onr.text import norm
from onr_torch.admission import check_inputs
from onr_torch.attached import attached
from onr_torch.example_memory import ExampleMemory
from onr_torch.generators import rng_state, set_rng_state
from onr_torch.modes import (
    bare,
    fixed_buffers,
    generator_state,
    is_compiled,
    mixed_precision,
    seeded,
    untraced,
)
from onr_torch.network import TorchNetwork
from onr_torch.outputs import logits as logits_of
from onr_torch.outputs import tensor_of
from onr_torch.trainable_jvp import trainable_jvp

__all__ = ["LastCall", "OperatorNormRegularizer", "operator_norm_penalty"]

REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class LastCall:
    """What the last call of a regulariser found, without a graph.

    Example:
        >>> one = torch.ones(1)
        >>> LastCall(one, "lower", one[:, None], one[:, None], None).kind
        'lower'

    """

    norm: torch.Tensor
    """``||J||_{p,q}`` of each example, shape ``(batch,)``, or what the search found of it."""
    kind: str
    """``exact``, or ``lower`` where ``norm`` is a lower bound."""
    direction: torch.Tensor
    """The direction ``v``, shaped as the inputs, with ``||v||_p = 1``."""
    u: torch.Tensor
    """The direction in the space of the logits that belongs to ``v``, shape ``(batch, d)``."""
    rho: torch.Tensor | None
    """``<u, f(x + eps v) - f(x)> / (eps ||J^T u||_{p*})``, shape ``(batch,)``: 1 where the network
    is linear from ``x`` to ``x + eps v``, and nan where the denominator is zero. Where ``warm``
    looks from ``x + noise``, it is ``<u, f(x + noise + eps v) - f(x) - J noise>`` that is divided.
    ``None`` with ``form = jacobian``, which does not compute ``f(x + eps v)``."""


class OperatorNormRegularizer:
    """The term ``(eps^r / r) ||J||_{p,q}^r`` of a loss, for any module in any training loop.

    A call finds a direction ``v`` at each input, on the module in evaluation mode with constant
    parameters, and returns the term, differentiable in the parameters, with ``v`` held constant
    (Eqs. 7, 13). With ``form = "difference"`` the term is ``||f(x + eps v) - f(x)||_q^r / r``,
    which costs one forward pass besides the search; it needs one plain backward pass, and is safe
    under ``DistributedDataParallel``, ``autocast``, ``GradScaler``, ``torch.compile``, accumulated
    gradients and activation checkpoints. With ``form = "jacobian"`` it is
    ``(eps^r / r) ||J v||_q^r`` in evaluation mode.

    A call leaves as they were: the modes of the module, the ``.grad`` and ``requires_grad`` of its
    parameters, its buffers (the statistics of batch normalisation, too), and the generators of
    torch, NumPy and Python. The search works in the dtype of ``x``, whatever ``autocast`` says.

    Which ``f`` is meant, where the module is in training mode:

    - ``reg(model, x, logits)``: ``logits`` are yours; ``f(x + eps v)`` comes from a pass of its own
      in the mode that the model is in. Batch normalisation uses the statistics of that pass.
    - ``reg(model, x)``: clean and perturbed inputs run in one batch, beside your own pass.
    - ``logits, term = reg.together(model, x)``: clean and perturbed inputs run in one batch, which
      is your forward pass. This is what ``onr train`` does. The running statistics move, as in any
      forward pass in training mode.

    Without batch normalisation and noise, all three are equal.

    Args:
        p: the norm of the inputs.
        q: the norm of the logits.
        eps: the distance from ``x`` to ``x + eps v``, in the units of ``x``; a number, or a
            fraction as text.
        search: ``power``, the norm iteration (Eq. 12) from a random start; ``exact``, the
            maximiser from the whole Jacobian, for d vjps; or ``warm``, one vjp, continued from the
            example's last visit (:class:`onr.regularizers.warm_start.WarmStart`).
        steps: the iterations of ``power``.
        alpha: the step size of ``power``; ``inf`` for Eq. 12, finite for Eq. 11.
        noise: for ``warm``, the radius of the noise under the linearisation, in eps; if not given,
            2 for p = inf, and 1 for other norms.
        share: for ``warm``, the share of the examples that the loss leads, and not their memory.
        power: the exponent ``r``; 1 for Eq. 13, 2 for Eq. 7.
        form: ``difference`` or ``jacobian``.
        examples: for ``warm``, the number of training examples; calls then take their ``index``.
            Without both nothing is remembered, and the first such call for a gradient warns.
        reduction: ``mean``, ``sum``, or ``none`` for one value an example. An empty batch has mean
            zero.
        bfloat16: whether convolutions and matrix products of the search work in bfloat16.
        rng: draws the random starts; a NumPy generator, a seed, or nothing for seed 0.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> model, x, y = nn.Linear(3, 2), torch.rand(4, 3), torch.tensor([0, 1, 1, 0])
        >>> reg = OperatorNormRegularizer(p="inf", q=2, eps="8/255")
        >>> loss = nn.functional.cross_entropy(logits := model(x), y) + 0.5 * reg(model, x, logits)
        >>> loss.backward()
        >>> str(reg).startswith("OperatorNormRegularizer(p='inf', q='2', eps=0.03")
        True
        >>> reg.last.kind, torch.allclose(reg.last.rho, torch.ones(4))
        ('lower', True)

    """

    def __init__(
        self,
        *,
        p: NormLike,
        q: NormLike,
        eps: float | str,
        search: str = "power",
        steps: int = 10,
        alpha: float = math.inf,
        noise: float | None = None,
        share: float = 0.5,
        power: float = 1.0,
        form: str = "difference",
        examples: int | None = None,
        reduction: str = "mean",
        bfloat16: bool = False,
        rng: RngLike = None,
    ) -> None:
        if reduction not in REDUCTIONS:
            raise OnrError(f"reduction = {reduction!r}: expected {', '.join(REDUCTIONS)}")
        usual = usual_noise(norm(p)) if noise is None else noise
        found = _search(search, steps, alpha, usual, share)
        self.term = OperatorNormTerm(norm(p), norm(q), radius(eps), power, form, found)
        """The norms, the radius, the exponent, the form and the search."""
        self.rng = generator(rng)
        """The generator of the random starts."""
        self.last: LastCall | None = None
        """What the last call found; ``None`` before the first, and after an empty batch."""
        self._memory = ExampleMemory(examples)
        self._reduction, self._bfloat16 = reduction, bfloat16
        self._network: TorchNetwork | None = None
        self._kind: tuple[Any, ...] = ()
        self._told: set[str] = set()

    def __repr__(self) -> str:
        """The settings."""
        term = self.term
        kept: dict[str, Any] = {
            "p": term.p.name,
            "q": term.q.name,
            "eps": term.eps,
            "power": term.power,
        }
        kept |= {"form": term.form, **term.search.settings, "examples": self._memory.examples}
        told = ", ".join(f"{name}={value!r}" for name, value in kept.items())
        return f"OperatorNormRegularizer({told})"

    @untraced
    def __call__(
        self,
        model: nn.Module,
        x: torch.Tensor,
        logits: torch.Tensor | Any = None,
        *,
        index: Any = None,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The term, a scalar, or ``(batch,)`` with ``reduction = "none"``.

        Args:
            model: the module, in the mode that it is trained in; also one that is wrapped by
                ``DistributedDataParallel`` or compiled.
            x: the inputs, shape ``(batch, *input_shape)``.
            logits: ``model(x)`` with its graph, the logits or an output that holds them. Without
                them the clean inputs run once more, in one batch with the perturbed ones. With
                ``form = "jacobian"`` they are not needed.
            index: for ``warm``, the numbers of these examples in the training set, shape
                ``(batch,)``. Without it each ``u`` is drawn anew.
            labels: for ``warm``, the labels of the examples, ``(batch,)``: the loss that leads a
                ``share`` of them. Without it the predicted classes stand for them.

        Raises:
            OnrError: the module or the inputs are refused (:mod:`onr_torch.admission`), the logits
                have no graph or another shape, the index does not fit, or ``search = "exact"``
                knows no algorithm for these norms.

        """
        _check_call(model, x)
        self._tell_of_memory(index)
        given = None if logits is None else tensor_of(logits, model)
        if self.term.form == "jacobian":
            return self._of_jacobian(model, x, index, labels)
        found = self._direction(model, x, index, labels)
        if found is None:
            return self._reduced(x.new_zeros(0))
        moved = self._moved(found, x)
        inputs = torch.cat([x, moved]) if given is None else moved
        outputs = self._second_pass(model, inputs).to(x.dtype)
        if given is None:
            given, outputs = outputs.tensor_split(2)
        if given.shape != outputs.shape:
            raise OnrError(
                f"the logits have shape {tuple(given.shape)}: expected {tuple(outputs.shape)}, "
                "model(x)"
            )
        if outputs.requires_grad and not given.requires_grad:
            raise OnrError(
                "the logits have no graph, so that half of the gradient would be missing: give "
                "model(x) itself, made with gradients and not detached"
            )
        return self._paid(found, x, logit_change(outputs, given.to(x.dtype)), index)

    @untraced
    def together(
        self,
        model: nn.Module,
        x: torch.Tensor,
        *,
        index: Any = None,
        labels: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits at ``x`` and the term, from one forward pass of ``model`` as it is given.

        Clean and perturbed inputs stand in one batch, as in ``onr train``, so that batch
        normalisation normalises them together. The pass is an ordinary one of the caller: in
        training mode the running statistics move and dropout draws from torch's generator.

        Args:
            model: the module; :meth:`__call__` describes it.
            x: the inputs, shape ``(batch, *input_shape)``.
            index: :meth:`__call__` describes it.
            labels: :meth:`__call__` describes it.

        Raises:
            OnrError: :meth:`__call__` lists the reasons.

        Example:
            >>> reg = OperatorNormRegularizer(p=2, q=2, eps=0.5)
            >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
            >>> logits, term = reg.together(model, torch.rand(5, 3))
            >>> logits.shape, term.shape
            (torch.Size([5, 2]), torch.Size([]))

        """
        _check_call(model, x)
        self._tell_of_memory(index)
        if self.term.form == "jacobian":
            # The term comes first: the pass below moves the running statistics.
            term = self._of_jacobian(model, x, index, labels)
            return tensor_of(model(x), model), term
        clean, _, term = self.pair(model, x, index=index, labels=labels)
        return clean, term

    @untraced
    def pair(
        self,
        model: nn.Module,
        x: torch.Tensor,
        *,
        index: Any = None,
        labels: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The logits at ``x``, those at the perturbed inputs, and the term, as :meth:`together`.

        The method ``dd-snr-warm`` pays half of the cross-entropy at each:
        ``(l(y, logits) + l(y, moved)) / 2 + lam * term``, with ``search = "warm"``.

        Args:
            model: the module; :meth:`__call__` describes it.
            x: the inputs, shape ``(batch, *input_shape)``.
            index: :meth:`__call__` describes it.
            labels: :meth:`__call__` describes it.

        Raises:
            OnrError: with ``form = jacobian`` there are no perturbed inputs; :meth:`__call__` lists
                the other reasons.

        Example:
            >>> reg = OperatorNormRegularizer(p="inf", q=2, eps=0.1, search="warm", examples=5)
            >>> model, x, y = nn.Linear(3, 2), torch.rand(5, 3), torch.zeros(5, dtype=torch.int64)
            >>> logits, moved, term = reg.pair(model, x, index=range(5), labels=y)
            >>> logits.shape == moved.shape, term.shape
            (True, torch.Size([]))

        """
        _check_call(model, x)
        if self.term.form == "jacobian":
            raise OnrError("form = jacobian looks at no perturbed inputs: use form = difference")
        self._tell_of_memory(index)
        found = self._direction(model, x, index, labels)
        if found is None:
            clean = tensor_of(model(x), model)
            return clean, clean, self._reduced(x.new_zeros(0))
        outputs = tensor_of(model(torch.cat([x, self._moved(found, x)])), model)
        clean, moved = outputs.tensor_split(2)
        change = logit_change(moved.to(x.dtype), clean.to(x.dtype))
        return clean, moved, self._paid(found, x, change, index)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Copies of what is remembered between calls: the vectors of ``warm``, and the generator.

        Example:
            >>> sorted(OperatorNormRegularizer(p=2, q=2, eps=0.5).state_dict())
            ['rng']

        """
        state = {"rng": rng_state(self.rng)}
        if self._memory.vectors is not None:
            state["memory"] = self._memory.vectors.clone()
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor], /) -> None:
        """Continue from a state that :meth:`state_dict` returned.

        Raises:
            OnrError: it is the state of another number of examples, or of something else.

        Example:
            >>> reg = OperatorNormRegularizer(p=2, q=2, eps=0.5)
            >>> reg.load_state_dict(reg.state_dict())

        """
        vectors = self._memory.fitting(state.get("memory"))
        set_rng_state(self.rng, state)
        self._memory.vectors = vectors

    def _direction(
        self, model: nn.Module, x: torch.Tensor, index: Any, labels: torch.Tensor | None
    ) -> Direction | None:
        """What the search finds, on the module in evaluation mode; ``None`` for an empty batch."""
        network = self._network_at(bare(model), x)
        rows = self._rows(index, x)
        self.last = None
        if len(x) == 0:
            return None
        memory = None if rows is None else self._memory.of(rows)
        with torch.no_grad(), mixed_precision(x, False):
            return self.term.direction(
                network.frozen(), x.detach(), labels=labels, rng=self.rng, memory=memory
            )

    def _moved(self, found: Direction, x: torch.Tensor) -> torch.Tensor:
        """``x + noise + eps v``, with the gradient of ``x``."""
        moved: torch.Tensor = found.moved(self.term.eps)
        return moved + (x - x.detach()) if x.requires_grad else moved

    def _network_at(self, module: nn.Module, x: torch.Tensor) -> TorchNetwork:
        kind = (tuple(x.shape[1:]), x.dtype, x.device)
        if self._network is None or self._network.module is not module or self._kind != kind:
            check_inputs(module, x.detach())
            self._network = TorchNetwork(module, kind[0], bfloat16=self._bfloat16)
            self._kind = kind
        return self._network

    def _rows(self, index: Any, x: torch.Tensor) -> torch.Tensor | None:
        """The index of these examples as a tensor, where something is remembered."""
        remembers = index is not None and self.term.search.remembers
        return self._memory.rows(index, x) if remembers else None

    def _tell_of_memory(self, index: Any) -> None:
        """Warn the caller of the caller, once, that ``warm`` was never given an index."""
        remembered = index is not None or self._memory.vectors is not None
        needless = remembered or not self.term.search.remembers or not torch.is_grad_enabled()
        if needless or "warm" in self._told:
            return
        self._told.add("warm")
        missing = "" if self._memory.examples else "examples = N to the regulariser, and "
        warnings.warn(
            "search = 'warm' remembers nothing without the index of the examples: each call "
            f"starts from a fresh u; give {missing}index = i, their numbers in the training set, "
            "to each call",
            stacklevel=4,  # between are the caller and torch.compiler.disable
        )

    def _second_pass(self, model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """The logits at the inputs, in the mode that the model is in, without a trace in it."""
        module = _without_wrapper(model)
        seed = int(self.rng.integers(2**63))
        with fixed_buffers(bare(model)), seeded(inputs.device, seed):
            before = generator_state(inputs.device)
            outputs = logits_of(module, inputs)
            drew = not torch.equal(before, generator_state(inputs.device))
        if drew and "noise" not in self._told:
            self._told.add("noise")
            warnings.warn(
                f"{type(bare(model)).__name__} draws noise, as dropout does: the difference "
                "f(x + eps v) - f(x) also pays for the noise; form = 'jacobian', taken in "
                "evaluation mode, does not",
                stacklevel=3,
            )
        return outputs

    def _of_jacobian(
        self, model: nn.Module, x: torch.Tensor, index: Any, labels: torch.Tensor | None
    ) -> torch.Tensor:
        if x.requires_grad:
            raise OnrError("form = jacobian has no gradient in x: give x.detach()")
        found = self._direction(model, x, index, labels)
        if found is None:
            return self._reduced(x.new_zeros(0))
        image = trainable_jvp(bare(model), x, found.v, bfloat16=self._bfloat16)
        return self._paid(found, x, self.term.eps * image, index)

    def _paid(
        self, found: Direction, x: torch.Tensor, change: torch.Tensor, index: Any
    ) -> torch.Tensor:
        """The term of this change of the logits; the example's ``u`` is remembered."""
        constant = change.detach()
        paid = self.term.paid(constant)
        rows = self._rows(index, change)
        if rows is not None:
            self._memory.keep(rows, paid.u)
        rho = None
        if self.term.form == "difference":
            rise = inner(found.u, constant)
            if found.gradient is not None:  # what the noise does to <u, f>
                rise = rise - inner(found.gradient, found.start - x.detach())
            rho = rise / (self.term.eps * found.slope)
        size = found.slope / safe(self.term.q.dual(found.u))
        self.last = LastCall(size, found.kind, found.v, found.u, rho)
        return self._reduced(attached(paid.value, (change * paid.gradient).sum(dim=1)))

    def _reduced(self, values: torch.Tensor) -> torch.Tensor:
        if self._reduction == "none":
            return values
        return values.mean() if self._reduction == "mean" and len(values) > 0 else values.sum()


def operator_norm_penalty(
    model: nn.Module,
    x: torch.Tensor,
    logits: torch.Tensor | Any = None,
    *,
    p: NormLike,
    q: NormLike,
    eps: float | str,
    search: str = "power",
    steps: int = 10,
    alpha: float = math.inf,
    noise: float | None = None,
    share: float = 0.5,
    power: float = 1.0,
    form: str = "difference",
    reduction: str = "mean",
    bfloat16: bool = False,
    rng: RngLike = None,
) -> torch.Tensor:
    """The term of :class:`OperatorNormRegularizer`, which describes it, without an object.

    An object looks once whether the module can be folded, and remembers; this function does
    neither, so that ``warm`` has a fresh ``u`` in each call.

    Args:
        model: the module, in the mode that it is trained in.
        x: the inputs, shape ``(batch, *input_shape)``.
        logits: ``model(x)`` with its graph, if there is one.
        p: the norm of the inputs.
        q: the norm of the logits.
        eps: the distance from ``x`` to ``x + eps v``.
        search: ``power``, ``exact`` or ``warm``.
        steps: the iterations of ``power``.
        alpha: the step size of ``power``.
        noise: for ``warm``, the radius of the noise, in eps.
        share: for ``warm``, the share of the examples that the predicted class leads.
        power: the exponent ``r``.
        form: ``difference`` or ``jacobian``.
        reduction: ``mean``, ``sum`` or ``none``.
        bfloat16: whether the search works in bfloat16.
        rng: draws the random starts: a NumPy generator, or a seed; if not given, the starts of each
            call are others.

    Raises:
        OnrError: an argument is out of range, or the module or the inputs are refused.

    Example:
        >>> model, x = nn.Linear(3, 2, bias=False), torch.rand(4, 3)
        >>> term = operator_norm_penalty(model, x, model(x), p=1, q=2, eps=0.5, search="exact")
        >>> torch.allclose(term, 0.5 * model.weight.norm(dim=0).max())
        True

    """
    reg = OperatorNormRegularizer(
        p=p,
        q=q,
        eps=eps,
        search=search,
        steps=steps,
        alpha=alpha,
        noise=noise,
        share=share,
        power=power,
        form=form,
        reduction=reduction,
        bfloat16=bfloat16,
        rng=np.random.default_rng() if rng is None else rng,
    )
    reg._told.add("warm")
    return reg(model, x, logits)


def _check_call(model: Any, x: Any) -> None:
    if not isinstance(model, nn.Module) or not isinstance(x, torch.Tensor):
        raise OnrError(
            f"model is a {type(model).__name__} and x a {type(x).__name__}: expected a "
            "torch.nn.Module and a torch.Tensor"
        )


def _search(name: str, steps: int, alpha: float, noise: float, share: float) -> Search:
    if name == "power":
        return Iteration(steps, alpha)
    if name == "exact":
        return Exact()
    if name == "warm":
        return WarmStart(noise, share)
    raise OnrError(f"search = {name!r}: expected power, exact or warm")


def _without_wrapper(model: nn.Module) -> nn.Module:
    """The module inside ``DistributedDataParallel``; one that was compiled stays compiled.

    A second pass through the wrapper would prepare its reduction of the gradients once more. The
    gradients of both passes meet at the parameters, where the wrapper takes their sum.
    """
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrappers):
        model = model.module
    inside = model._orig_mod if is_compiled(model) else None
    return bare(model) if isinstance(inside, wrappers) else model
