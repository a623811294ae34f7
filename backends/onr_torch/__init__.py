"""The PyTorch backend: any ``torch.nn.Module``, on CPU or CUDA.

Regularisers for one's own training loop, each imported when it is first used:

===========================  ==========================================================
``OperatorNormRegularizer``  the operator norm of the Jacobian as a term of a loss
``operator_norm_penalty``    the same as a function, without a memory
``SpectralNormRegularizer``  the spectral norms of the weights as a term of a loss
===========================  ==========================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onr.hookspecs import Entry, hookimpl

if TYPE_CHECKING:
    from onr_torch.operator_norm_regularizer import OperatorNormRegularizer, operator_norm_penalty
    from onr_torch.spectral_norm_regularizer import SpectralNormRegularizer

__all__ = ["OperatorNormRegularizer", "SpectralNormRegularizer", "operator_norm_penalty"]

_HOMES = {
    "OperatorNormRegularizer": "onr_torch.operator_norm_regularizer",
    "SpectralNormRegularizer": "onr_torch.spectral_norm_regularizer",
    "operator_norm_penalty": "onr_torch.operator_norm_regularizer",
}


def __getattr__(name: str) -> Any:
    """Import a public name, and with it torch, when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'onr_torch' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


@hookimpl
def onr_backends() -> list[Entry]:
    """Offer the backend ``torch``."""
    target, summary = "onr_torch.backend:TorchBackend", "any nn.Module, on CPU or CUDA"
    return [Entry("torch", target, summary, arrays=("torch",))]


@hookimpl
def onr_models() -> list[Entry]:
    """Offer models that are not plain sequences of layers, and models from the user's own code."""
    return [
        Entry("wrn-28-10", "onr_torch.models.wide_resnet:wide_resnet", "wide residual network"),
        Entry(
            "torchvision",
            "onr_torch.models.torchvision_models:torchvision_model",
            "torchvision:NAME or NAME@WEIGHTS, any classifier of torchvision",
        ),
        Entry(
            "timm",
            "onr_torch.models.timm_models:timm_model",
            "timm:NAME, a classifier of timm with its weights; or a folder",
        ),
        Entry(
            "hf",
            "onr_torch.models.transformers_models:transformers_model",
            "hf:ID@REVISION, an image classifier of transformers; or a folder",
        ),
        Entry(
            "python",
            "onr_torch.models.user_models:imported",
            "MODULE:ATTRIBUTE or FILE.py:ATTRIBUTE, your own code",
        ),
    ]


@hookimpl
def onr_attacks() -> list[Entry]:
    """Offer the attacks of other libraries, held to the contract of our own attacks."""
    return [
        Entry(
            "autoattack",
            "onr_torch.library_attacks.autoattack_adapter:autoattack",
            "AutoAttack's standard version",
        ),
        Entry(
            "square",
            "onr_torch.library_attacks.square_adapter:square",
            "AutoAttack's Square alone, which needs no gradient; steps are queries",
        ),
        Entry(
            "torchattacks",
            "onr_torch.library_attacks.torchattacks_adapter:torchattacks_attack",
            "torchattacks:NAME, as torchattacks:PGDL2",
        ),
        Entry(
            "foolbox",
            "onr_torch.library_attacks.foolbox_adapter:foolbox_attack",
            "foolbox:NAME, as foolbox:L2PGD",
        ),
    ]
