"""A wrapper that holds the attacks of other libraries to the contract of our own attacks."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from onr.arrays import column, to_numpy
from onr.errors import ImageError, OnrError, missing_extra
from onr.feasible import Bounds, boxed, require_inside, require_radius
from onr.losses import CrossEntropy
from onr.protocols import Network, Norm
from onr_torch.modes import constant_parameters
from onr_torch.network import TorchNetwork

__all__ = ["Classifier", "LibraryAttack", "accepted", "library"]

LEAD = 8.0
"""The lead of the best logit at which cross-entropy's float32 gradient has three digits left."""
MASKED = 200.0
"""How far below all others a masked class is shown; its softmax is 0 in float32."""


class Classifier(nn.Module):
    """The network that a library sees: the same decisions, always in evaluation mode.

    The logits keep their direction, but from :data:`LEAD` on the lead of the best logit over the
    second grows only like a logarithm. Libraries let the cross-entropy of a confident network
    underflow, and divide by a norm to which they have added a constant; without the change their
    attacks would stand still on logits times 30. A class that is masked by ``-inf`` is shown as one
    that is far below all others, because libraries subtract logits. Gradients are contiguous,
    because libraries take views of them.

    Example:
        >>> classifier = Classifier(nn.Identity(), torch.float32)
        >>> classifier(torch.tensor([[0.0, 5.0], [0.0, 100.0]]))
        tensor([[ 0.0000,  5.0000],
                [ 0.0000, 12.5326]])

    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, *, copies: bool = False) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype
        self.copies = copies
        """Whether the module gets copies of the images, since it may write into its inputs."""
        self.training = False
        self.failed: torch.Tensor | None = None
        """An image at which the network gave NaN; NaN if there was none."""

    def train(self, mode: bool = True) -> Classifier:
        """Ignore the mode: the classifier stays in evaluation mode."""
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits, shape ``(batch, d)``, in the dtype of ``x``."""
        # The detour by (batch, n) makes the gradient contiguous; a channels-last module alone would
        # return a channels-last gradient.
        images = x.flatten(1).reshape(x.shape)
        logits: torch.Tensor = self.module(images.to(self.dtype, copy=self.copies))
        self._watch(x.detach(), logits.detach())
        least = logits.detach().where(logits > -torch.inf, torch.inf).amin(1, keepdim=True)
        logits = torch.where(logits == -torch.inf, least - MASKED, logits)
        best = logits.detach().topk(2).values
        lead = best[:, :1] - best[:, 1:]
        shorter = (LEAD + torch.log1p((lead - LEAD).clamp(min=0))) / lead
        return (logits * torch.where(lead > LEAD, shorter, 1)).to(x.dtype)

    def _watch(self, images: torch.Tensor, logits: torch.Tensor) -> None:
        """Keep the first image of numbers whose logits are not; without a look at the values."""
        failed = logits.isnan().any(dim=1) & images.flatten(1).isfinite().all(dim=1)
        image = images.index_select(0, failed.to(torch.uint8).argmax(dim=0, keepdim=True))
        image = image.where(failed.any(), torch.nan)
        self.failed = (
            image if self.failed is None else self.failed.where(~self.failed.isnan(), image)
        )


Run = Callable[[Classifier, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Maps a classifier, contiguous images, labels and a seed to perturbed images."""


class LibraryAttack:
    """A library's attack on images, without that library's side effects.

    Parameters and their gradients, each module's mode, buffers and the global random generators are
    restored. The result is determined by ``rng`` and has the dtype of the input. The result is
    finite: an example for which the library returns NaN or infinity is returned unchanged. The
    perturbation is projected onto the ball and then clipped to the box, which cannot leave the ball
    again. ``eps = 0`` returns the input.

    Args:
        run: the library's attack.
        origin: the distribution (package) of the library; its version enters a run's record.
        p: the norm of the ball.
        eps: the radius, pixels in [0, 1].
        bounds: the box of valid inputs, [0, 1].

    Raises:
        OnrError: ``eps`` is not a radius, or the box is not [0, 1].

    Example:
        >>> from onr.norms import LpNorm
        >>> def run(classifier, x, y, seed):
        ...     return x + 1
        >>> attack = LibraryAttack(run, origin="torch", p=LpNorm(2), eps=0.5, bounds=(0.0, 1.0))
        >>> network, x = TorchNetwork(nn.Flatten(), (1, 1, 2)), torch.zeros(1, 1, 1, 2)
        >>> attack(network, x, torch.tensor([0]), rng=np.random.default_rng(0)).flatten()
        tensor([0.3536, 0.3536])

    """

    def __init__(self, run: Run, *, origin: str, p: Norm, eps: float, bounds: Bounds) -> None:
        if tuple(bounds) != (0.0, 1.0):
            raise OnrError(f"bounds = {bounds}: {origin} attacks pixels in [0, 1]")
        self._run = run
        self.p, self.eps, self.bounds = p, require_radius(eps), bounds
        self.versions = {origin: importlib.metadata.version(origin)}

    def __call__(
        self, network: Network, x: torch.Tensor, y: torch.Tensor, /, *, rng: np.random.Generator
    ) -> torch.Tensor:
        """The perturbed images, shape ``(batch, channels, height, width)`` as ``x``.

        Raises:
            OnrError: the network is not a :class:`TorchNetwork`, or the inputs are not images or
                lie outside the box; a label is no class; or the network gives NaN at an image, or
                wherever the library asks it.

        """
        if not isinstance(network, TorchNetwork):
            (origin,) = self.versions
            raise OnrError(
                f"{origin} attacks networks of the torch backend alone: choose another attack, or "
                "the backend torch"
            )
        if x.ndim != 4:
            raise OnrError(
                f"inputs of shape {tuple(x.shape)}: expected (batch, channels, height, width)"
            )
        require_inside(x, self.bounds)
        if not len(x):
            return x.clone()
        CrossEntropy().value(network(x).cpu(), labels=y.cpu())  # refuses NaN, and labels
        if self.eps == 0:
            return x.clone()
        # One draw for each example: processes that share a batch have seeds of their own.
        seed = int(rng.integers(2**31, size=len(x))[0])
        images = x.detach().clone(memory_format=torch.contiguous_format)
        parameter = next(network.passes.parameters(), x)
        classifier = Classifier(network.passes, parameter.dtype, copies=network.copies_inputs)
        with (
            constant_parameters(network.passes),
            _gradients_kept(network.passes),
            _generators(seed),
            torch.enable_grad(),
        ):
            found = self._run(classifier, images, y.detach().clone(), seed)
        _require_numbers(classifier, x.detach())
        found = found.detach().to(x.dtype)
        finite = column(found.isfinite().flatten(1).all(dim=1), x)
        delta = self.p.project_ball(torch.where(finite, found - x.detach(), 0), self.eps)
        moved: torch.Tensor = boxed(x.detach(), delta, self.bounds, self.p)
        return moved


def _require_numbers(classifier: Classifier, x: torch.Tensor) -> None:
    """Refuse a network that gave NaN at an image that the library asked for.

    Raises:
        ImageError: it did; the error names the closest of the images ``x``.

    """
    if classifier.failed is None or bool(classifier.failed.isnan().any()):
        return
    distance = (x - classifier.failed.to(x.dtype)).flatten(1).norm(dim=1)
    raise ImageError(
        int(to_numpy(distance).argmin()),
        "the network gives logits of nan under attack: expected numbers",
    )


@contextmanager
def _gradients_kept(module: nn.Module) -> Iterator[None]:
    """Set every parameter's gradient to ``None``; afterwards put the same tensors back."""
    kept = [(parameter, parameter.grad) for parameter in module.parameters()]
    for parameter, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


@contextmanager
def _generators(seed: int) -> Iterator[None]:
    """Seed the global random generators, which libraries draw from; restore them afterwards."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch has no type
    devices = range(torch.cuda.device_count()) if started else ()
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - libraries draw from it
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - libraries draw from it
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002 - libraries draw from it


def library(name: str) -> Any:
    """Import the module of that name.

    Raises:
        OnrError: the module is not installed; the error names the extra that brings it.

    Example:
        >>> library("math").sqrt(4.0)
        2.0

    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error


def accepted(
    target: Callable[..., Any], what: str, options: Mapping[str, int | None]
) -> dict[str, Any]:
    """The options other than ``None``, checked against the parameters of ``target``.

    Args:
        target: the function or class that will get the options.
        what: how to name ``target`` in errors.
        options: counts by the name of a parameter.

    Raises:
        OnrError: ``target`` has no parameter of the name of an option, or a count is below 1.

    Example:
        >>> def attack(model, steps=10):
        ...     return model
        >>> accepted(attack, "the attack", {"steps": 5, "restarts": None})
        {'steps': 5}

    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise OnrError(f"{what}, {name} = {value}: expected at least 1")
    for name in given.keys() - inspect.signature(target).parameters.keys():
        raise OnrError(f"{what} takes no {name}: leave it out")
    return given
