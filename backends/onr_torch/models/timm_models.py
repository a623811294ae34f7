"""Classifiers of timm with their published weights: by name, from the Hub, or from a folder."""

from __future__ import annotations

import copy
import difflib
import math
from pathlib import Path
from typing import Any

from torch import nn

from onr.architectures import Normalize
from onr.data import Preparation
from onr.errors import OnrError
from onr_torch.models.hub import Place, is_folder, settings_in
from onr_torch.models.published import Published, PublishedModel, Source

__all__ = ["timm_model"]


def timm_model(spec: str, /) -> PublishedModel:
    """The model builder for a classifier of timm with published weights.

    Mean and standard deviation, the size of the images and how they are resized and cropped are
    those of timm's data configuration. Weights are read from safetensors alone.

    Args:
        spec: a name of ``timm.list_pretrained()``, such as ``resnet18.a1_in1k``; a repository of
            the Hub, ``owner/name``; each also with ``@REVISION``; or a folder with ``config.json``
            and ``model.safetensors``, as timm saves it, which starts with ``/``, ``./`` or ``~``.

    Returns:
        A target for an entry of the hook ``onr_models``. When it is opened or called it raises
        :class:`OnrError` if there is no such model, its files are not there, or images are prepared
        in a way that is not understood.

    Example:
        >>> timm_model("resnet18.a1_in1k")  # doctest: +ELLIPSIS
        <onr_torch.models.published.PublishedModel object at ...>

    """
    return PublishedModel(lambda download: _opened(spec, download))


def _opened(spec: str, download: bool) -> Published:
    import timm
    from timm.data import resolve_data_config

    what = f"model timm:{spec}"
    name, _, revision = spec.partition("@")
    options: dict[str, Any] = {}
    if is_folder(spec) or "/" in name:
        place = Place(spec, what=what, download=download)
        found = settings_in(place.folder() / "config.json", what)
        if not isinstance(found.get("pretrained_cfg"), dict) or "architecture" not in found:
            raise OnrError(
                f"{what}: its config.json is not timm's, which has architecture and "
                f"pretrained_cfg; if it is that of transformers, write hf:{spec}"
            )
        architecture, options = found["architecture"], dict(found.get("model_args") or {})
        config = found["pretrained_cfg"]
        for key in ("num_classes", "label_names", "label_descriptions"):
            config[key] = found.get(key, config.get(key))
        imagenet = "in1k" in str(config.get("tag", ""))
    else:
        known = _registered(name, what)
        architecture, config, imagenet = name, known.to_dict(), True
        hub = known.hf_hub_id
        if not hub:
            raise OnrError(
                f"{what} has no weights on the Hub, and others are not safetensors: "
                "timm.list_pretrained() has names that do"
            )
        place = Place(f"{hub}@{revision}" if revision else hub, what=what, download=download)

    data = resolve_data_config(pretrained_cfg=config)
    shape = tuple(data["input_size"])

    def make(classes: int, source: Source | None) -> nn.Module:
        # timm changes what it is given.
        settings = copy.deepcopy(config) | {"custom_load": False}
        if source is not None:
            settings["file"] = str(_whole(source, what))
        model: nn.Module = timm.create_model(
            architecture,
            pretrained=source is not None,
            pretrained_cfg=settings,
            **options | {"num_classes": classes},
        )
        return model

    return Published(
        what,
        shape,
        _preparation(data, what),
        Normalize(tuple(data["mean"]), tuple(data["std"])),
        _classes(config, imagenet=imagenet),
        {"timm": timm.__version__},
        place.source,
        make,
    )


def _registered(name: str, what: str) -> Any:
    import timm

    try:
        known = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise OnrError(f"{what}: {error}") from error
    if known is None or not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(pretrained=True), n=4)
        raise OnrError(
            f"timm has no pretrained model {name!r}: expected one as "
            f"{', '.join(near) or 'resnet18.a1_in1k'}"
        )
    return known


def _whole(source: Source, what: str) -> Path:
    """The file of the weights, which timm does not split."""
    if source.files[0].name != "model.safetensors":
        raise OnrError(
            f"{what}: the weights are split over several files, which timm does not read"
        )
    return source.files[0]


def _preparation(data: dict[str, Any], what: str) -> Preparation:
    """How ``transforms_imagenet_eval`` of timm resizes and crops."""
    height, width = data["input_size"][1:]
    sides = tuple(math.floor(side / data["crop_pct"]) for side in (height, width))
    mode, way = data["crop_mode"], data["interpolation"]
    if mode == "squash":
        return Preparation((sides[0], sides[1]), (height, width), way)
    if mode == "center" and height == width:
        return Preparation(sides[0], (height, width), way)
    raise OnrError(
        f"{what} crops images of {height} x {width} in the way {mode!r}: expected squash, or "
        "center and as high as wide"
    )


def _classes(config: dict[str, Any], *, imagenet: bool) -> tuple[str, ...]:
    """The names of the classes; their numbers where they are not known."""
    from timm.data import ImageNetInfo
    from timm.data.imagenet_info import infer_imagenet_subset

    names = config.get("label_names")
    told = config.get("label_descriptions") or {}
    if not names:
        subset = infer_imagenet_subset(config) if imagenet else None
        if subset is None:
            return tuple(str(index) for index in range(config["num_classes"]))
        known = ImageNetInfo(subset)
        names = known.label_names()
        told = known.label_descriptions(as_dict=True)
    return tuple(
        f"{name}, {told[name]}" if told.get(name, name) != name else name for name in names
    )
