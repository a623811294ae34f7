"""Forward-mode differentiation by torch; a missing derivative is reported as an OnrError."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from onr.errors import OnrError

__all__ = ["forward_mode", "plain_attention"]


@cache
def _load() -> None:
    """Load torch's forward-mode rules, without warnings of interfaces that torch itself uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.neg, (torch.zeros(1),), (torch.zeros(1),))


@contextmanager
def plain_attention() -> Iterator[None]:
    """Use torch's plain attention kernels: the fused kernels have no derivative of a derivative.

    Example:
        >>> q = torch.ones(1, 1, 2, 4)
        >>> with plain_attention():
        ...     image = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        >>> image.shape
        torch.Size([1, 1, 2, 4])

    """
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
    """The derivative of ``function`` at ``inputs`` along ``tangents``, structured as its value.

    Raises:
        OnrError: torch has no forward-mode derivative for an operation of the function.

    Example:
        >>> forward_mode(torch.square, (torch.tensor([3.0]),), (torch.tensor([1.0]),))
        tensor([6.])

    """
    _load()
    try:
        with plain_attention():
            return torch.func.jvp(function, inputs, tangents)[1]
    except RuntimeError as error:  # includes NotImplementedError
        reason = str(error).splitlines()[0]
        raise OnrError(f"the module has no forward-mode derivative in torch: {reason}") from error
