"""More models that hide their gradients, written after the thresholds of the checks were fixed.

Most are put around any classifier. Those that have to be trained in their own way are functions.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from auditing.zoo.fitting import digits_to_train, fit
from torch import nn
from torch.nn import functional

__all__ = [
    "HalfOfPixels",
    "HalfOfUnits",
    "HalfPrecision",
    "JpegRounding",
    "NearestVotes",
    "NoiseBackward",
    "Purifier",
    "RandomResize",
    "Reversed",
    "Vote",
    "Wiggles",
    "ZeroBackward",
    "distilled",
    "k_winners",
    "thermometer",
]


class _Around(nn.Module):
    """A module around a classifier."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside


class JpegRounding(_Around):
    """The cosine coefficients of blocks of 8 x 8 pixels are rounded, as JPEG does (Guo 2018)."""

    step = 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = torch.arange(8, dtype=x.dtype)
        cosines = torch.cos(math.pi / 8 * (k + 0.5) * k[:, None]) / 2
        cosines[0] /= math.sqrt(2)
        blocks = x.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
        rounded = self.step * (cosines @ (blocks - 0.5) @ cosines.T / self.step).round()
        pixels = cosines.T @ rounded @ cosines + 0.5
        return self.inside(pixels.transpose(3, 4).flatten(4, 5).flatten(2, 3))


class Vote(_Around):
    """Five copies with disturbed weights vote, each for its largest logit."""

    members, noise = 5, 0.2

    def __init__(self, inside: nn.Module) -> None:
        super().__init__(inside)
        rng = torch.Generator().manual_seed(0)
        self.voters = nn.ModuleList(copy.deepcopy(inside) for _ in range(self.members))
        with torch.no_grad():
            for weight in self.voters.parameters():
                drawn = torch.randn(weight.shape, generator=rng)
                weight += self.noise * weight.std() * drawn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.stack([voter(x) for voter in self.voters])
        return functional.one_hot(logits.argmax(2), logits.shape[2]).to(x.dtype).mean(0)


class RandomResize(_Around):
    """The image is shrunk by up to a pixel in eight, and padded, at random (Xie et al. 2018)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = x.shape[-1]
        size = int(torch.randint(side - side // 8, side + 1, ()))
        left, top = (int(torch.randint(0, side - size + 1, ())) for _ in range(2))
        small = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        rest = side - size
        return self.inside(functional.pad(small, (left, rest - left, top, rest - top)))


class HalfPrecision(_Around):
    """Probabilities in float16, which round to 0 and 1."""

    scale = 5.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.scale * self.inside(x)).half().softmax(1).to(x.dtype)


class HalfOfPixels(_Around):
    """The right half of the image is read without a gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = x.shape[-1] // 2
        left, right = x[..., :middle], x[..., middle:].detach()
        return self.inside(torch.cat([left, right], dim=-1))


class HalfOfUnits(_Around):
    """Every other unit before the last layer is computed under ``no_grad``."""

    inside: nn.Sequential

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before, last = self.inside[:-1], self.inside[-1]
        features = before(x)
        with torch.no_grad():
            silent = before(x)
        odd = torch.arange(features.shape[1]) % 2 == 1
        return last(torch.where(odd, silent, features))


class _Zero(torch.autograd.Function):
    """The identity, with zero for a gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return torch.zeros_like(gradient)


class _Noise(torch.autograd.Function):
    """The identity, with noise for a gradient, the same at every call."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        rng = torch.Generator().manual_seed(0)
        return gradient.std() * torch.randn(gradient.shape, generator=rng, dtype=gradient.dtype)


class ZeroBackward(_Around):
    """A backward pass of its own gives zeros."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(_Zero.apply(x))


class NoiseBackward(_Around):
    """A backward pass of its own gives noise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(_Noise.apply(x))


class Reversed(_Around):
    """A hook turns the gradient round."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.inside(x)
        if logits.requires_grad:
            logits.register_hook(torch.neg)
        return logits


class Purifier(_Around):
    """The image is moved to where its prediction is surer first (Alfarra et al. 2022)."""

    steps, rate = 3, 0.1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            moved = x.detach()
            label = self.inside(moved).argmax(1)
            for _ in range(self.steps):
                moved = moved.detach().requires_grad_()
                loss = functional.cross_entropy(self.inside(moved), label, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, moved)
                moved = moved - self.rate * gradient.sign()
        return self.inside(x + (moved.detach() - x.detach()))


class Wiggles(_Around):
    """A fast small wave is added to the pixels: the gradient is right, and of no use."""

    height, frequency = 0.02, 500.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x + self.height * torch.sin(self.frequency * x))


class NearestVotes(nn.Module):
    """The nine nearest training images vote."""

    neighbours = 9

    def __init__(self) -> None:
        super().__init__()
        self.images: torch.Tensor
        self.votes: torch.Tensor
        images, labels = digits_to_train()
        self.register_buffer("images", images.flatten(1))
        self.register_buffer("votes", functional.one_hot(labels).to(images.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        distances = torch.cdist(x.flatten(1), self.images)
        nearest = distances.topk(self.neighbours, dim=1, largest=False).indices
        return self.votes[nearest].mean(1)


class _Winners(nn.Module):
    """Only the largest activations are kept (Xiao et al. 2020)."""

    share = 0.08

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = max(1, round(self.share * x.shape[1]))
        return torch.where(x >= x.topk(count, dim=1).values[:, -1:], x, 0.0)


def k_winners() -> nn.Module:
    """A network whose layers keep the 20 largest of 256 activations."""

    def build() -> nn.Module:
        first = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), _Winners())
        return nn.Sequential(*first, nn.Linear(256, 256), _Winners(), nn.Linear(256, 10))

    return fit(build, *digits_to_train())


class _Thermometer(nn.Module):
    """Each pixel becomes eight zeros and ones, one for each level that it exceeds."""

    levels = 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = (torch.arange(self.levels) + 0.5) / self.levels
        return (x.flatten(1)[..., None] > levels).to(x.dtype).flatten(1)


def thermometer() -> nn.Module:
    """A network of pixels as thermometers (Buckman et al. 2018)."""

    def build() -> nn.Module:
        return nn.Sequential(_Thermometer(), nn.Linear(512, 48), nn.ReLU(), nn.Linear(48, 10))

    return fit(build, *digits_to_train())


class _Tempered(_Around):
    """The softmax at temperature 1 of logits that were trained at temperature 100."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (100 * self.inside(x)).softmax(1)


def distilled(teacher: nn.Module) -> nn.Module:
    """Defensive distillation at temperature 100 (Papernot et al. 2016); probabilities are shown.

    The logits are 100 times those of the module inside, so that at temperature 100 it is trained
    as usual, on what the teacher gives at that temperature.
    """
    images, _ = digits_to_train()
    with torch.no_grad():
        soft = teacher(images).softmax(1)

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))

    return _Tempered(fit(build, images, soft, seed=1)).eval()
