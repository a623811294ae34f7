"""A backend of onr for JAX: any function of an array is a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onr.hookspecs import Entry, hookimpl

if TYPE_CHECKING:
    from onr_jax.model import adapt as adapt

__all__ = ["adapt"]

PACKAGES = ("jax", "jaxlib", "flax", "equinox", "numpy")
"""Whose arrays and models the backend takes: those of NumPy with a model of one of the others."""


@hookimpl
def onr_backends() -> list[Entry]:
    """Offer the backend ``jax``, for arrays of JAX and models that are functions of them."""
    target, summary = "onr_jax.backend:JaxBackend", "functions of JAX arrays; Flax and Equinox"
    return [Entry("jax", target, summary, arrays=PACKAGES)]


def __getattr__(name: str) -> Any:
    """Import JAX when :func:`onr_jax.adapt` is first used, not when onr looks for plugins."""
    if name != "adapt":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from onr_jax.model import adapt

    return adapt
