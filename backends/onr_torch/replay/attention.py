"""Softmax and attention.

With ``S = scale * Q K^T + mask``, ``P = softmax(S)`` and ``O = P V``, the derivatives are
``dS = scale * (dQ K^T + Q dK^T)``, ``dP = P * (dS - sum(P * dS))`` and ``dO = dP V + P dV``. The
matrix from ``dS`` to ``dP`` is symmetric, so torch's backward kernel computes it.

The forward pass stays torch's fused kernel, which does not form ``P``. The rule keeps ``Q``, ``K``
and ``V``, which autograd keeps too, and forms ``P`` at the first direction. It keeps ``P`` if ``P``
is no larger than ``Q``, ``K``, ``V`` and ``O`` together; otherwise it forms ``P`` for each
direction anew, as many rows at a time as are of that size.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from onr_torch.replay.calls import Call, asks
from onr_torch.replay.local import Recorded

__all__ = ["log_softmax", "scaled_dot_product_attention", "softmax"]


def softmax(call: Call) -> Recorded | None:
    """``P``, the softmax of ``S`` along one axis: ``dP = P * (dS - sum(P * dS))``.

    Example:
        >>> x = torch.zeros(1, 2, requires_grad=True)
        >>> softmax(Call(torch.softmax, (x, 1), {}, asks)).derivative(torch.tensor([[1.0, 0.0]]))
        tensor([[ 0.2500, -0.2500]])

    """
    dim = _axis(call)
    if dim is None:
        return None
    result = call.run()
    P = result.detach()

    def derivative(v: torch.Tensor) -> torch.Tensor:
        return _softmax_derivative(v.to(P.dtype), P, dim)

    return Recorded(result, derivative, [P])


def log_softmax(call: Call) -> Recorded | None:
    """``L``, the logarithm of the softmax of ``S``: ``dL = dS - sum(exp(L) * dS)``.

    Example:
        >>> x = torch.zeros(1, 2, requires_grad=True)
        >>> found = log_softmax(Call(torch.log_softmax, (x, 1), {}, asks))
        >>> found.derivative(torch.tensor([[1.0, 0.0]]))
        tensor([[ 0.5000, -0.5000]])

    """
    dim = _axis(call)
    if dim is None:
        return None
    result = call.run()
    L = result.detach()

    def derivative(v: torch.Tensor) -> torch.Tensor:
        v = v.to(L.dtype)
        return v.sub((L.exp() * v).sum(dim, keepdim=True))

    return Recorded(result, derivative, [L])


def _axis(call: Call) -> int | None:
    """The axis of a softmax; ``None`` if it is not written, or other tensors depend on x too."""
    dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim")
    return dim if call.is_alone and isinstance(dim, int) else None


def _softmax_derivative(v: torch.Tensor, P: torch.Tensor, dim: int) -> torch.Tensor:
    image: torch.Tensor = torch._softmax_backward_data(v, P, dim, P.dtype)
    return image


def scaled_dot_product_attention(call: Call) -> Recorded | None:
    """Attention with masks, causal or not; a row in which all is masked gives zero, as in torch.

    Example:
        >>> q, k = torch.ones(1, 2, 4, requires_grad=True), torch.ones(1, 3, 4)
        >>> attention = torch.nn.functional.scaled_dot_product_attention
        >>> found = scaled_dot_product_attention(Call(attention, (q, k, k), {}, asks))
        >>> bool(found.derivative(torch.ones(1, 2, 4)).any())  # all keys are alike
        False

    """
    given = call.bound("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    if given.get("dropout_p", 0) != 0 or asks(given.get("attn_mask")):
        return None
    result = call.run()
    own = _Attention(given, result)
    return Recorded(result, own, [own.kept[name] for name in own.depends])


class _Attention:
    """The derivative of ``softmax(scale * Q K^T + mask) V``."""

    def __init__(self, given: dict[str, Any], result: torch.Tensor) -> None:
        self.kept = {name: given[name].detach() for name in ("query", "key", "value")}
        self.depends = [name for name, x in given.items() if asks(x)]
        self._mask, self._is_causal = given.get("attn_mask"), given.get("is_causal", False)
        q, k = self.kept["query"], self.kept["key"]
        scale = given.get("scale")
        self._scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        self._copies = q.shape[-3] // k.shape[-3] if given.get("enable_gqa", False) else 1
        self._dtype = result.dtype
        size = result.numel() + sum(x.numel() for x in self.kept.values())
        row = max(1, math.prod(result.shape[:-2]) * k.shape[-2])
        self._rows = max(1, min(size // row, q.shape[-2]))
        self._P: torch.Tensor | None = None

    def __call__(self, *tangents: torch.Tensor) -> torch.Tensor:
        d = dict(zip(self.depends, tangents, strict=True))
        q, k, v = self.kept["query"], self._heads(self.kept["key"]), self._heads(self.kept["value"])
        # dQ K^T + Q dK^T is one product of twice the width.
        factors = [(d["query"], k)] if "query" in d else []
        factors += [(q, self._heads(d["key"]))] if "key" in d else []
        lefts, rights = [left for left, _ in factors], [right for _, right in factors]
        turned = torch.cat(rights, -1).mT if rights else None
        dv = self._heads(d["value"]) if "value" in d else None
        length = q.shape[-2]
        images: list[torch.Tensor] = []
        for start in range(0, length, self._rows):
            rows = slice(start, min(start + self._rows, length))
            P = self._probabilities(q[..., rows, :], k, rows) if self._P is None else self._P
            if self._rows == length:
                self._P = P
            terms = [] if dv is None else [P @ dv]
            if turned is not None:
                left = torch.cat([x[..., rows, :] for x in lefts], -1)
                dS = (left * self._scale) @ turned
                terms.append(_softmax_derivative(dS.to(P.dtype), P, -1) @ v)
            images.append(terms[0] if len(terms) == 1 else terms[0].add_(terms[1]))
        return torch.cat(images, -2).to(self._dtype)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """Keys or values with a copy for each query head that shares them."""
        return x if self._copies == 1 else x.repeat_interleave(self._copies, -3)

    def _probabilities(self, q: torch.Tensor, k: torch.Tensor, rows: slice) -> torch.Tensor:
        """``P`` for some rows."""
        S = (q * self._scale) @ k.mT
        mask = self._mask
        if self._is_causal:
            i, j = (torch.arange(n, device=q.device) for n in (rows.stop, k.shape[-2]))
            mask = (i[:, None] >= j)[rows]
        elif mask is not None and mask.shape[-2] > 1:
            mask = mask[..., rows, :]
        if mask is None:
            return S.softmax(-1).to(S.dtype)
        S = S.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else S + mask
        hidden = S.isneginf().all(-1, keepdim=True)
        return S.softmax(-1).masked_fill(hidden, 0).to(S.dtype)
