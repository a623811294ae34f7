"""Forward-mode differentiation by torch, with the one error that a user can do something about."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from onr.errors import OnrError

__all__ = ["forward_mode"]


@cache
def _load() -> None:
    """Let torch load its forward-mode rules, which warns about an interface that it uses itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.func.jvp(torch.neg, (torch.zeros(1),), (torch.zeros(1),))


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Of torch's kernels for attention only the plain ones have a forward-mode rule."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def forward_mode(
    function: Callable[..., Any],
    inputs: tuple[torch.Tensor, ...],
    tangents: tuple[torch.Tensor, ...],
    /,
) -> Any:
    """The derivative of ``function`` along the tangents; its result has the function's structure.

    Raises:
        OnrError: torch has no forward-mode derivative for an operation of the function.

    """
    _load()
    try:
        with _plain_attention():
            return torch.func.jvp(function, inputs, tangents)[1]
    except RuntimeError as error:  # NotImplementedError is one
        reason = str(error).splitlines()[0]
        raise OnrError(f"the module has no forward-mode derivative in torch: {reason}") from error
