"""Torchvision's classifiers by name, untrained or with the weights that torchvision publishes."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onr.architectures import Normalize
from onr.data import Preparation
from onr.errors import OnrError
from onr_torch.models.imagenet import with_wordnet_ids
from onr_torch.models.logits import reason, require_logits
from onr_torch.models.normalized import Normalized
from onr_torch.models.published import Published, PublishedModel, Source
from onr_torch.models.signatures import readable, takes

__all__ = ["torchvision_model"]

PLAIN = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
"""Options that turn off auxiliary logits: a loss takes one matrix of logits."""
PRETRAINED = {
    "googlenet": {"transform_input": True},
    "inception_v3": {"transform_input": True},
}
"""Options that torchvision sets where it loads the weights that it publishes."""
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""The parameters of auxiliary logits, which are left out."""
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
"""Names in the published weights of DenseNets that have a dot more than torchvision's modules."""


def torchvision_model(spec: str, /) -> Callable[..., nn.Module]:
    """The model builder for the classifier of this name in ``torchvision.models``.

    Args:
        spec: a name of ``torchvision.models.list_models``, such as ``resnet18``; or with the name
            of published weights, ``resnet18@IMAGENET1K_V1`` or ``resnet18@DEFAULT``.

    Returns:
        A target for an entry of the hook ``onr_models``. Without weights the classifier has
        torchvision's own initialisation and the normalisation of the data set. The options are then
        the parameters of the model's class that are numbers or text and that the name does not
        fix, such as ``image_size=32`` for ``vit_b_16``. With weights the normalisation, the
        size of the images and the classes are those of the weights.

    Raises:
        OnrError: there is no such classifier, or it has no such weights. The target raises it if
            the classifier cannot be built with the options, or does not take the images.

    Example:
        >>> build = torchvision_model("squeezenet1_1")
        >>> module = build((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3))
        >>> type(module.model).__name__
        'SqueezeNet'
        >>> known = torchvision_model("squeezenet1_1@DEFAULT").opened(download=False)
        >>> known.input_shape, str(known.preparation), known.classes[0]
        ((3, 224, 224), 'shorter side resized to 256 (bilinear), centre crop of 224 x 224', \
'n01440764, tench')

    """
    from torchvision import models

    name, at, weights = spec.partition("@")
    names = models.list_models(module=models)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=4) or names
        raise OnrError(f"torchvision has no classifier {name!r}: expected one as {', '.join(near)}")
    if at:
        return _with_weights(name, weights)
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


def _with_weights(name: str, chosen: str) -> PublishedModel:
    from torchvision import models

    known = models.get_model_weights(name).__members__
    if chosen not in known:
        raise OnrError(
            f"torchvision has no weights {chosen!r} of {name}: expected {', '.join(known)}"
        )
    weights: Any = known[chosen]
    transforms = weights.transforms()
    side, crop = int(transforms.resize_size[0]), int(transforms.crop_size[0])
    categories = tuple(weights.meta["categories"])

    def make(classes: int, source: Source | None) -> nn.Module:
        options: dict[str, Any] = PLAIN.get(name, {}) | PRETRAINED.get(name, {})
        if name.startswith("vit_"):
            options["image_size"] = crop
        builder = models.get_model_builder(name)
        model: nn.Module = builder(weights=None, num_classes=classes, **options)
        if source is not None:
            state = torch.load(source.files[0], map_location="cpu", weights_only=True)
            model.load_state_dict(
                {
                    OLD_DENSENET.sub(r"\1\2", key): value
                    for key, value in state.items()
                    if not key.startswith(AUXILIARY)
                }
            )
        return model

    def opened(download: bool) -> Published:
        return Published(
            f"model torchvision:{name}@{chosen}",
            (3, crop, crop),
            Preparation(side, (crop, crop), transforms.interpolation.value),
            Normalize(tuple(transforms.mean), tuple(transforms.std)),
            with_wordnet_ids(categories),
            {"weights": str(weights)},
            lambda: _downloaded(weights.url, download),
            make,
        )

    return PublishedModel(opened)


def _downloaded(url: str, allowed: bool) -> Source:
    """The file of published weights in torch's cache, whose checksum is part of its name."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    checksum = file.stem.rpartition("-")[2]
    if not file.exists():
        if not allowed:
            raise OnrError(
                f"no file {file}: give --download to fetch it from {url}, or put it there"
            )
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=checksum, progress=False)
        except (OSError, RuntimeError) as error:
            raise OnrError(f"{url} could not be downloaded: {error}") from error
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(checksum):
        raise OnrError(f"{file} is damaged (checksum): delete it and download it again")
    return Source((file,), {"url": url})
