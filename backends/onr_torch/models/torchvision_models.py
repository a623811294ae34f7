"""Torchvision's classifiers by name, untrained, with the normalisation of the images in front."""

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
"""Options that turn off auxiliary logits: a loss takes one matrix of logits."""


class Normalized(nn.Module):
    """A model of normalised images as a model of pixels in [0, 1]; parameters are ``model.*``.

    Example:
        >>> module = Normalized(nn.Flatten(), (1, 1, 1), Normalize((0.5,), (0.25,))).float()
        >>> module(torch.ones(1, 1, 1, 1))
        tensor([[2.]])

    """

    def __init__(
        self, model: nn.Module, input_shape: tuple[int, ...], normalize: Normalize
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.normalize = Standardize(normalize, len(input_shape))
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of the model at the normalised inputs."""
        logits: torch.Tensor = self.model(self.normalize(x))
        return logits


def torchvision_model(name: str, /) -> Callable[..., nn.Module]:
    """The model builder for the classifier of this name in ``torchvision.models``.

    The classifier has torchvision's own initialisation.

    Args:
        name: a name of ``torchvision.models.list_models``, such as ``resnet18``.

    Returns:
        A target for an entry of the hook ``onr_models``. Its options are the parameters of the
        model's class that are numbers or text and that the name does not fix, such as
        ``image_size=32`` for ``vit_b_16``.

    Raises:
        OnrError: there is no such classifier. The target raises it if the classifier cannot be
            built with the options, or does not take the images.

    Example:
        >>> build = torchvision_model("squeezenet1_1")
        >>> module = build((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3))
        >>> type(module.model).__name__
        'SqueezeNet'

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
