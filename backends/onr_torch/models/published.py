"""Models with the weights that others published: what is known of them, and how they are built."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from onr.architectures import Normalize
from onr.data import Preparation
from onr.errors import OnrError
from onr_torch.models.logits import reason, require_logits
from onr_torch.models.normalized import Normalized

__all__ = ["Published", "PublishedModel", "Source"]


@dataclass(frozen=True)
class Source:
    """Files with published weights.

    Example:
        >>> _ = (tmp_path / "weights.bin").write_bytes(b"")
        >>> Source((tmp_path / "weights.bin",), {"folder": "mine"}).record()["files"]
        {'weights.bin': 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}

    """

    files: tuple[Path, ...]
    """The files that the model is made of: its weights, and where it has them its settings."""
    origin: Mapping[str, str]
    """Where they come from, such as the repository and the hash of its commit."""

    def record(self) -> dict[str, Any]:
        """The origin, and the SHA-256 of each file."""
        return {**self.origin, "files": {file.name: _sha256(file) for file in self.files}}


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@dataclass(frozen=True)
class Published:
    """A published model: what is known before its weights are read, and how it is built.

    It is a target for an entry of the hook ``onr_models``, without options. The normalisation is
    part of the model, which takes pixels in [0, 1].

    Example:
        >>> model = Published("mine", (1, 2, 2), Preparation(2, (2, 2)), Normalize((0.5,), (0.25,)),
        ...     ("cat", "dog"), {}, lambda: Source((), {}), lambda classes, source: nn.Sequential(
        ...     nn.Flatten(), nn.Linear(4, classes)))
        >>> model((1, 2, 2), 2, pretrained=False).model[1]
        Linear(in_features=4, out_features=2, bias=True)

    """

    what: str
    """How errors name the model."""
    input_shape: tuple[int, ...]
    """The shape of the images that the weights were made for, ``(C, H, W)``."""
    preparation: Preparation
    """How a photograph becomes such an image."""
    normalize: Normalize
    """The normalisation that the weights were made for, for pixels in [0, 1]."""
    classes: tuple[str, ...]
    """The class of each output: a name with its synonyms, or its number."""
    settings: Mapping[str, str]
    """What else a record needs, such as the version of the library that builds the model."""
    source: Callable[[], Source]
    """Finds the weights, or downloads them if that is allowed."""
    make: Callable[[int, Source | None], nn.Module]
    """Builds the model for so many classes, with weights or untrained."""

    def __call__(
        self, input_shape: tuple[int, ...], classes: int, *, pretrained: bool = True
    ) -> nn.Module:
        """Build the model.

        Args:
            input_shape: the shape of the images.
            classes: the number of outputs.
            pretrained: whether to read the published weights; if not, the images and the number of
                outputs may be others.

        Raises:
            OnrError: the weights are not there or do not fit, or the images are not those that they
                were made for.

        """
        if pretrained and input_shape != self.input_shape:
            asked, given = (" x ".join(map(str, it)) for it in (self.input_shape, input_shape))
            raise OnrError(
                f"{self.what} takes images of {asked}, the data set has {given}: folder:PATH, "
                "without @RESIZE,CROP, makes photographs what the model takes; other images need "
                "to have that size"
            )
        if pretrained and classes != len(self.classes):
            raise OnrError(
                f"{self.what} has {len(self.classes)} outputs, the data set {classes} classes"
            )
        source = self.source() if pretrained else None
        try:
            model = self.make(classes, source)
        except OnrError:
            raise
        except Exception as error:
            raise OnrError(f"{self.what} cannot be built: {reason(error)}") from error
        module = Normalized(model, input_shape, self.normalize)
        require_logits(module, input_shape, classes, what=self.what)
        return module

    def record(self, *, pretrained: bool) -> dict[str, Any]:
        """Where the model comes from and what it does to images, for ``config.json``.

        Args:
            pretrained: whether the published weights are used, whose files are then hashed.

        """
        return {
            **(self.source().record() if pretrained else {}),
            **self.settings,
            "mean": list(self.normalize.mean),
            "std": list(self.normalize.std),
            "preparation": str(self.preparation),
        }


class PublishedModel:
    """A target for an entry of the hook ``onr_models`` that looks up what is known at first use.

    Args:
        open: gives the published model; its argument says whether it may download.

    Example:
        >>> model = PublishedModel(lambda download: f"may download: {download}")
        >>> model.opened(download=False)
        'may download: False'

    """

    def __init__(self, open: Callable[[bool], Published], /) -> None:
        self._open = open

    def opened(self, *, download: bool) -> Published:
        """What is known of the model.

        Raises:
            OnrError: its settings cannot be found.

        """
        return self._open(download)

    def __call__(
        self, input_shape: tuple[int, ...], classes: int, *, pretrained: bool = True
    ) -> nn.Module:
        """Build the model from what is on this machine."""
        return self.opened(download=False)(input_shape, classes, pretrained=pretrained)
