"""Other libraries' attacks, held to what an attack of ours keeps."""

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

from onr.arrays import column
from onr.errors import OnrError, missing_extra
from onr.feasible import Bounds, boxed, require_inside, require_radius
from onr.protocols import Network, Norm
from onr_torch.modes import constant_parameters
from onr_torch.network import TorchNetwork

__all__ = ["Classifier", "LibraryAttack", "accepted", "library"]

LEAD = 8.0
"""In float32, cross-entropy's gradient has three digits left where a logit leads by this much."""


class Classifier(nn.Module):
    """A network as a library is shown it: the same decisions, in evaluation mode whatever it asks.

    Logits keep their direction, and the distance by which the best leads the second grows like a
    logarithm from :data:`LEAD` on: libraries let the cross-entropy of a confident network
    underflow, and divide by a norm to which they have added a constant, so that their attacks stand
    still on logits times 30. Gradients come back contiguous, which libraries take views of.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype
        self.training = False

    def train(self, mode: bool = True) -> Classifier:
        """Nothing changes."""
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the float type of ``x``, shape ``(batch, d)``."""
        # The detour by (batch, n) makes the gradient contiguous: a module of another memory format
        # gives one of that format.
        images = x.flatten(1).reshape(x.shape)
        logits: torch.Tensor = self.module(images.to(self.dtype))
        best = logits.detach().topk(2).values
        lead = best[:, :1] - best[:, 1:]
        shorter = (LEAD + torch.log1p((lead - LEAD).clamp(min=0))) / lead
        return (logits * torch.where(lead > LEAD, shorter, 1)).to(x.dtype)


Run = Callable[[Classifier, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Of a classifier, contiguous images, labels and a seed: the perturbed images."""


class LibraryAttack:
    """A library's attack on images, whatever that library does to the network and to the world.

    Parameters and their gradients, each module's mode, buffers and the global random generators are
    as they were; the result is determined by ``rng``, has the float type of the input, and is
    finite: an example for which the library finds no number is returned as it came. The
    perturbation is projected onto the ball and then clipped to the box, which cannot leave the ball
    again. ``eps = 0`` returns the input.

    Args:
        run: the library's attack.
        origin: the name of its distribution, for a run's record.
        p: the norm of the ball.
        eps: the radius, pixels in [0, 1].
        bounds: the box of valid inputs.

    Raises:
        OnrError: ``eps`` is no radius, or the box is another than [0, 1].

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
            OnrError: the network is not torch's, the inputs are no images or outside the box.

        """
        if not isinstance(network, TorchNetwork):
            (origin,) = self.versions
            raise OnrError(f"{origin} attacks networks of the torch backend alone")
        if x.ndim != 4:
            raise OnrError(
                f"inputs of shape {tuple(x.shape)}: expected (batch, channels, height, width)"
            )
        require_inside(x, self.bounds)
        if self.eps == 0 or not len(x):
            return x.clone()
        seed = int(rng.integers(2**31))
        images = x.detach().clone(memory_format=torch.contiguous_format)
        parameter = next(network.module.parameters(), x)
        classifier = Classifier(network.module, parameter.dtype)
        with (
            constant_parameters(network.module),
            _gradients_kept(network.module),
            _generators(seed),
            torch.enable_grad(),
        ):
            found = self._run(classifier, images, y.detach().clone(), seed)
        found = found.detach().to(x.dtype)
        finite = column(found.isfinite().flatten(1).all(dim=1), x)
        delta = self.p.project_ball(torch.where(finite, found - x.detach(), 0), self.eps)
        moved: torch.Tensor = boxed(x.detach(), delta, self.bounds)
        return moved


@contextmanager
def _gradients_kept(module: nn.Module) -> Iterator[None]:
    """Every parameter's gradient is out of reach inside, and the same tensor as before after."""
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
    """The global generators, which libraries draw from, seeded inside and restored after."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch has no type
    devices = range(torch.cuda.device_count()) if started else ()
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - theirs, not ours
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def library(name: str) -> Any:
    """The module of that name.

    Raises:
        OnrError: it is not installed; names the extra that brings it.

    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error


def accepted(
    target: Callable[..., Any], what: str, options: Mapping[str, int | None]
) -> dict[str, Any]:
    """The counts that were given (not ``None``), if ``target`` has parameters of these names.

    Raises:
        OnrError: it has not, or a count is below 1.

    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise OnrError(f"{what}, {name} = {value}: expected at least 1")
    for name in given.keys() - inspect.signature(target).parameters.keys():
        raise OnrError(f"{what} takes no {name}: leave it out")
    return given
