"""Torchvision's classifiers by name, untrained, behind the normalisation of the images."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

import torch
from torch import nn

from onr.architectures import Normalize
from onr.errors import OnrError
from onr_torch.models.logits import reason, require_logits
from onr_torch.models.sequential import Standardize
from onr_torch.models.signatures import readable, takes

__all__ = ["Normalized", "torchvision_model"]

PLAIN = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
"""Without the auxiliary logits, which a loss of one matrix of logits has no use for."""


class Normalized(nn.Module):
    """A model of normalised images as one of pixels in [0, 1]; its parameters are ``model.*``."""

    def __init__(
        self, model: nn.Module, input_shape: tuple[int, ...], normalize: Normalize
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.normalize = Standardize(normalize, len(input_shape))
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The model's logits."""
        logits: torch.Tensor = self.model(self.normalize(x))
        return logits


def torchvision_model(name: str, /) -> Callable[..., nn.Module]:
    """The classifier that ``torchvision.models`` has under this name, with its own initialisation.

    Args:
        name: as in ``torchvision.models.list_models``, ``resnet18`` say.

    Returns:
        A target as in ``onr_models``. Its options are the numbers and texts that the model's class
        takes, as far as the name leaves them open: ``image_size=32`` for ``vit_b_16``, say.

    Raises:
        OnrError: there is no such classifier; or, from the target, it does not take such images.

    """
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=4) or names
        raise OnrError(f"torchvision has no classifier {name!r}: expected one as {', '.join(near)}")
    builder = models.get_model_builder(name)
    kind = inspect.signature(builder, eval_str=True).return_annotation
    what = f"model torchvision:{name}"
    plain = PLAIN.get(name, {})
    known = readable(kind, without=("num_classes", *plain))
    settings = ", ".join(parameter.name for parameter in known) or "none"
    advice = f"; try larger images, another model or an option (it takes {settings})"

    def target(
        input_shape: tuple[int, ...],
        classes: int,
        *,
        normalize: Normalize,
        **options: str | float,
    ) -> nn.Module:
        try:
            model = builder(weights=None, num_classes=classes, **plain, **options)
        except Exception as error:
            raise OnrError(f"{what} with {options} cannot be built: {reason(error)}") from error
        module = Normalized(model, input_shape, normalize)
        require_logits(module, input_shape, classes, what=what, advice=advice)
        return module

    return takes(target, known)
