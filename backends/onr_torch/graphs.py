"""What the graph of a value depends on."""

from __future__ import annotations

import torch

__all__ = ["leaves_of"]


def leaves_of(value: torch.Tensor, /) -> list[torch.Tensor]:
    """The leaves of the graph of a value, such as the parameters that it depends on, each once.

    Example:
        >>> used, unused = (torch.ones(1, requires_grad=True) for _ in range(2))
        >>> [leaf is used for leaf in leaves_of(2 * used + used)]
        [True]

    """
    found: dict[int, torch.Tensor] = {}
    seen, nodes = set(), [value.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, torch.Tensor):
            found[id(leaf)] = leaf
        nodes += [after for after, _ in node.next_functions]
    return list(found.values())
