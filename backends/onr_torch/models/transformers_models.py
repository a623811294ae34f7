"""Image classifiers of transformers: from the Hugging Face Hub, or from a folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

from onr.architectures import Normalize
from onr.data import Preparation
from onr.errors import OnrError
from onr_torch.models.hub import Place, settings_in
from onr_torch.models.imagenet import with_wordnet_ids
from onr_torch.models.logits import reason
from onr_torch.models.published import Published, PublishedModel, Source

__all__ = ["transformers_model"]

STEPS = {"do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize"}
"""What an image processor may do to an image."""
WAYS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""The interpolations by their numbers in Pillow."""


def transformers_model(spec: str, /) -> PublishedModel:
    """The model builder for an image classifier of transformers.

    The rescaling, the mean and the standard deviation of the image processor are part of the model,
    which takes pixels in [0, 1] and gives ``.logits``. Weights are read from safetensors alone, and
    no code of the repository runs.

    Args:
        spec: a repository of the Hub, ``owner/name`` or ``owner/name@REVISION``; or a folder, which
            starts with ``/``, ``./`` or ``~``, with ``config.json``, ``preprocessor_config.json``
            and ``model.safetensors``.

    Returns:
        A target for an entry of the hook ``onr_models``. When it is opened or called it raises
        :class:`OnrError` if the files are not there, the model is no image classifier, or images
        are prepared in a way that is not understood.

    Example:
        >>> transformers_model("google/vit-base-patch16-224")  # doctest: +ELLIPSIS
        <onr_torch.models.published.PublishedModel object at ...>

    """
    return PublishedModel(lambda download: _opened(spec, download))


def _opened(spec: str, download: bool) -> Published:
    import transformers
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification
    from transformers.utils import logging

    what = f"model hf:{spec}"
    place = Place(spec, what=what, download=download)
    folder = place.folder()
    if "pretrained_cfg" in settings_in(folder / "config.json", what):
        raise OnrError(f"{what} is a model of timm: write timm:{spec}")
    if not (folder / "preprocessor_config.json").exists():
        raise OnrError(
            f"{what}: {folder} has no preprocessor_config.json, which says how images are "
            "prepared: save the image processor beside the model"
        )
    if "auto_map" in settings_in(folder / "preprocessor_config.json", what):
        raise OnrError(f"{what} prepares images by code of its own (auto_map), which is not run")
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **safe)
        processor = AutoImageProcessor.from_pretrained(folder, **safe)
    except Exception as error:
        raise OnrError(f"{what} cannot be read: {reason(error)}") from error

    def make(classes: int, source: Source | None) -> nn.Module:
        if source is None:
            config.num_labels = classes
            blank: nn.Module = AutoModelForImageClassification.from_config(
                config, trust_remote_code=False, dtype=torch.float32
            )
            return blank
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            model, info = AutoModelForImageClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **safe
            )
        finally:
            if shown:
                logging.enable_progress_bar()
        lacking = sorted(info["missing_keys"])
        if lacking:
            raise OnrError(
                f"{what} has no weights for {', '.join(lacking[:3])}: it is no image classifier"
            )
        found: nn.Module = model
        return found

    preparation, normalize = _preparation(processor, what), _normalize(processor)
    channels = int(getattr(config, "num_channels", 3))
    if channels == 3:
        _require_same(processor, preparation, normalize, what)
    return Published(
        what,
        (channels, *preparation.crop),
        preparation,
        normalize,
        _classes(config, what),
        {"transformers": transformers.__version__},
        place.source,
        make,
    )


def _preparation(processor: Any, what: str) -> Preparation:
    """How the image processor resizes and crops."""
    steps = {name for name, on in vars(processor).items() if name.startswith("do_") and on}
    unknown = sorted(steps - STEPS) + ["rescale_offset"] * bool(
        getattr(processor, "rescale_offset", False)
    )
    if unknown:
        raise OnrError(f"{what} prepares images by {', '.join(unknown)}, which is not understood")
    if "do_resize" not in steps:
        raise OnrError(f"{what} takes images as they are (do_resize is false): it needs one size")
    size, crop = _sides(processor.size), _sides(getattr(processor, "crop_size", None))
    way = WAYS.get(processor.resample)
    if way is None:
        raise OnrError(f"{what} resizes by filter {processor.resample}, which is not understood")
    if isinstance(size, int) and getattr(processor, "crop_pct", None) is not None:
        # ConvNeXT: small images are cropped, large ones squeezed.
        square = (size, size)
        side: int | tuple[int, int] = int(size / processor.crop_pct) if size < 384 else square
        return Preparation(side, square, way)
    if "do_center_crop" in steps and size is not None and crop is not None:
        return Preparation(size, (crop, crop) if isinstance(crop, int) else crop, way)
    if "do_center_crop" not in steps and isinstance(size, tuple):
        return Preparation(size, size, way)
    raise OnrError(
        f"{what} resizes images to {processor.size}, and the size of its inputs is not known"
    )


def _require_same(
    processor: Any, preparation: Preparation, normalize: Normalize, what: str
) -> None:
    """Compare what the processor makes of an image with what is understood of it.

    Some processors do more than their settings say: that of LeViT enlarges, that of EfficientNet
    normalises twice. The image is a slope in each channel, so that roundings, and a crop that is
    off by one pixel, change it by a few grey levels.
    """
    side = min(preparation.crop)
    down, right = np.meshgrid(np.linspace(0, 255, 2 * side), np.linspace(0, 255, 3 * side))
    slopes = np.stack([right, down, (down + right) / 2], axis=2).transpose(1, 0, 2)
    image = Image.fromarray(slopes.astype(np.uint8))
    try:
        found = torch.as_tensor(processor(image, return_tensors="pt")["pixel_values"])[0].double()
    except Exception as error:
        raise OnrError(f"{what}: its image processor fails: {reason(error)}") from error
    size = preparation.resize
    mode = InterpolationMode(preparation.interpolation)
    resized = resize(image, size if isinstance(size, int) else list(size), mode)
    mine = torch.from_numpy(np.array(center_crop(resized, list(preparation.crop))))
    mean, std = (torch.tensor(part).reshape(-1, 1, 1) for part in (normalize.mean, normalize.std))
    mine, levels = mine.permute(2, 0, 1), 255 * (found * std + mean)
    one_pixel = 255 / side
    if levels.shape != mine.shape or (levels - mine).abs().mean() > 1 + one_pixel:
        raise OnrError(
            f"{what}: its image processor does more than resize, crop, rescale and normalise by "
            "its settings, and what it does is not understood"
        )


def _sides(size: Any) -> int | tuple[int, int] | None:
    """The length of the shorter side, or height and width."""
    known = {} if size is None else dict(size)
    if known.get("height") and known.get("width"):
        return int(known["height"]), int(known["width"])
    return int(known["shortest_edge"]) if known.get("shortest_edge") else None


def _normalize(processor: Any) -> Normalize:
    """The processor's affine map of bytes, as one of pixels in [0, 1]."""
    white = 255 * processor.rescale_factor if processor.do_rescale else 255.0
    mean, std = [0.0], [1.0]
    if processor.do_normalize:
        mean = np.atleast_1d(processor.image_mean).tolist()
        std = np.atleast_1d(processor.image_std).tolist()
    return Normalize(tuple(m / white for m in mean), tuple(s / white for s in std))


def _classes(config: Any, what: str) -> tuple[str, ...]:
    """The names of the classes; their numbers where transformers made up names."""
    if set(config.id2label) != set(range(config.num_labels)):
        raise OnrError(
            f"{what}: id2label names the outputs {sorted(config.id2label)[:4]}: expected 0 to "
            f"{config.num_labels - 1}"
        )
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    if names == [f"LABEL_{index}" for index in range(len(names))]:
        return tuple(str(index) for index in range(len(names)))
    return with_wordnet_ids(names)
