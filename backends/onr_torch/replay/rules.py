"""The derivative of an operation by its name: rules that are our own, or torch's forward mode."""

from __future__ import annotations

from collections.abc import Callable

from torch.nn import functional

from onr_torch.replay.activations import clipped, elementwise, max_pool2d, relu
from onr_torch.replay.attention import log_softmax, scaled_dot_product_attention, softmax
from onr_torch.replay.calls import Call
from onr_torch.replay.local import Recorded, local
from onr_torch.replay.normalisation import (
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    rms_norm,
)
from onr_torch.replay.operations import (
    AFFINE,
    DROPOUT,
    ELEMENTWISE,
    JOINED,
    LINEAR,
    PRODUCTS,
    QUOTIENTS,
    SUMMED_PRODUCTS,
    SUMS,
)
from onr_torch.replay.products import product, quotient, summed_product

__all__ = ["RULES", "recorded"]

RULES: dict[str, Callable[[Call], Recorded | None]] = {
    "group_norm": group_norm,
    "hardtanh": clipped,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "log_softmax": log_softmax,
    "max_pool2d": max_pool2d,
    "normalize": normalize,
    "relu": relu,
    "relu6": clipped,
    "rms_norm": rms_norm,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "softmax": softmax,
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(PRODUCTS, product),
    **dict.fromkeys(QUOTIENTS, quotient),
    **dict.fromkeys(SUMMED_PRODUCTS, summed_product),
}
"""Rules of our own: adjoints of torch's backward pass by construction.

A rule runs the call and returns what it recorded, or returns ``None``, without running the call,
for arguments that the rule does not cover.
"""


def recorded(call: Call) -> Recorded:
    """Run a call, and keep what its derivative needs.

    Example:
        >>> import torch
        >>> from onr_torch.replay.calls import asks
        >>> x = torch.tensor([3.0, -4.0], requires_grad=True)
        >>> found = recorded(Call(torch.relu, (x,), {}, asks))
        >>> found.derivative(torch.ones(2))
        tensor([1., 0.])

    """
    if _is_linear(call):
        return Recorded(call.run())
    rule = RULES.get(call.name)
    if rule is None or call.kwargs.get("out") is not None or any(x.is_nested for x in call.given):
        return local(call)
    return rule(call) or local(call)


def _is_linear(call: Call) -> bool:
    """Whether the operation is linear: its derivative needs nothing from the forward pass."""
    name, args, kwargs = call.name, call.args, call.kwargs
    if name in LINEAR:
        return call.first
    if name in SUMS:
        return len(args) == 2 and not kwargs
    if name in PRODUCTS:
        return sum(call.depends) == 1
    if name in QUOTIENTS:
        return call.is_alone and not kwargs
    if name in SUMMED_PRODUCTS:
        return len(args) == 3 and sum(call.depends[1:]) == 1
    if name == "batch_norm":
        training = kwargs.get("training", args[5] if len(args) > 5 else False)
        is_functional = call.func is functional.batch_norm
        return is_functional and call.is_alone and not training and args[1] is not None
    return name in JOINED or (
        call.is_alone and (name in AFFINE or name in DROPOUT or name == "pad")
    )
