"""Honest models: nothing about them hides a gradient, and an audit must raise no flag.

Each is trained in a second or a few, and comes with images that it was not trained on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from auditing.zoo.digits import digits
from auditing.zoo.fitting import digits_to_train, fit
from torch import nn
from torch.nn import functional

import onr

__all__ = ["Audited", "NoDataError", "by_the_project", "cifar", "larger", "transformer"]

Audited = tuple[Any, torch.Tensor, torch.Tensor]
"""A model, images and labels."""


class NoDataError(Exception):
    """The images of a model are not on this machine."""


def by_the_project(
    out: Path,
    method: str = "standard",
    options: dict[str, str] | None = None,
    model: dict[str, str] | None = None,
) -> Audited:
    """A perceptron that the project trains on the digits for ten epochs; seed 0."""
    config = onr.TrainConfig(
        method=method, method_options=options or {}, model_options=model or {}, epochs=10
    )
    run = onr.train(config, out=out)
    return (run.network, *run.batch(200))


class _Transformer(nn.Module):
    """Sixteen tokens of 2 x 2 pixels, two blocks of attention, the mean of the tokens."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.tokens = nn.Conv2d(1, width, 2, 2)
        self.places = nn.Parameter(0.1 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True,
                    norm_first=True,
                )
                for _ in range(2)
            )
        )  # fmt: skip
        self.last = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.tokens(x).flatten(2).transpose(1, 2) + self.places
        return self.last(self.blocks(tokens).mean(1))


def transformer() -> Audited:
    """A small vision transformer of digits."""
    model = fit(_Transformer, *digits_to_train(), rate=0.003, epochs=15)
    return (model, *digits()[1:])


def _cnn(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 8 * 8, 10),
    )


def larger() -> Audited:
    """A convolutional network of digits that are enlarged to 32 x 32 pixels."""

    def enlarged(x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, scale_factor=4, mode="bilinear")

    images, labels = digits_to_train()
    model = fit(lambda: _cnn(1), enlarged(images), labels, rate=0.003, epochs=6)
    _, x, y = digits()
    return model, enlarged(x), y


def cifar() -> Audited:
    """A convolutional network of 4,000 images of CIFAR-10, from the files of ``ONR_DATA_DIR``."""
    place = os.environ.get("ONR_DATA_DIR")
    if place is None:
        raise NoDataError("ONR_DATA_DIR is not set: no images of CIFAR-10")
    from onr_paper.array_files import stored

    data = stored("cifar10", data_dir=Path(place))

    def read(part: Any, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = np.asarray(part.images[:count], dtype=np.float32) / 255
        return torch.tensor(images), torch.tensor(part.labels[:count].astype(np.int64))

    model = fit(lambda: _cnn(3), *read(data.train, 4000), rate=0.003, epochs=6)
    return (model, *read(data.test, 200))
