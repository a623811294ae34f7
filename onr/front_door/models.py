"""The network of a backend that a user's model stands for."""

from __future__ import annotations

from typing import Any

from onr.errors import OnrError
from onr.front_door.arguments import described
from onr.protocols import BackendNetwork
from onr.registry import registry
from onr.typing import Array

__all__ = ["FIRST", "audited", "network_of"]

FIRST = 32
"""At how many inputs of a data set a model is looked at first."""


def network_of(model: Any, x: Array, /, *, check: bool = True) -> BackendNetwork:
    """The network of a backend that a model stands for at inputs like ``x``.

    Args:
        model: a network, a ``torch.nn.Module``, or what the backend of a plugin takes.
        x: inputs, shape ``(batch, *input_shape)``, floats.
        check: whether a model that is no function of each input is refused.

    Raises:
        OnrError: no backend takes ``x``, the model belongs to another backend, or the backend
            refuses the model or the shape or type of ``x``.

    """
    offers = [(plugin, entry) for plugin, entry in registry().offers("backend") if entry.arrays]
    known = {
        f"{plugin.name}:{entry.name}": (plugin.name, *entry.arrays) for plugin, entry in offers
    }
    names = [name for name, packages in known.items() if _from(x, packages)]
    if not names:
        expected = ", ".join(packages[1] for packages in known.values())
        raise OnrError(f"x is {described(x)}: expected an array of {expected}")
    owners = [name for name, packages in known.items() if _from(model, packages)]
    shared = [name for name in names if name in owners]
    if owners and not shared:
        raise OnrError(
            f"x is {described(x)} and the model {described(model)}: give x as an array of "
            f"{known[owners[0]][1]}"
        )
    chosen = (shared or names)[0]
    backend = registry().resolve("backend", chosen).load()()
    network: BackendNetwork = backend.adopt(model, x, check=check)
    return network


def audited(model: Any, x: Array, /) -> tuple[BackendNetwork, str]:
    """The network of a model for an audit, and why everything else refuses the model.

    The text is empty for a network that is not refused. A refused one is used as it is.

    Raises:
        OnrError: the model does not even give logits at ``x``.

    Example:
        >>> import torch
        >>> audited(torch.nn.Linear(3, 2), torch.rand(4, 3))[1]
        ''

    """
    try:
        network = network_of(model, x).frozen()
        network.linearize(x, jvp=False)
    except OnrError as error:
        try:
            network = network_of(model, x, check=False)
            found = network(x[:1])
            useful = found.ndim == 2 and found.shape[1] >= 2
        except Exception:  # whatever the model raises
            useful = False
        if not useful:
            raise
        return network, str(error)
    return network, ""


def _from(value: Any, packages: tuple[str, ...]) -> bool:
    """Whether the type of a value, or a type that it derives from, is defined in these packages."""
    return any(kind.__module__.partition(".")[0] in packages for kind in type(value).__mro__)
