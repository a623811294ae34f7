"""Residual networks for images of 32 pixels, as they are commonly written, to time attacks on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["ResNet", "WideResNet"]


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two convolutions, each before its normalisation (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = convolution(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return functional.relu(out)


class ResNet(nn.Module):
    """Stages of basic blocks, each stage half as large as the one before and wider."""

    def __init__(self, blocks: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(3, widths[0], 3), nn.BatchNorm2d(widths[0])
        layers, inputs = [], widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for block in range(count):
                layers.append(BasicBlock(inputs, width, 2 if stage > 0 and block == 0 else 1))
                inputs = width
        self.layers, self.linear = nn.Sequential(*layers), nn.Linear(inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layers(functional.relu(self.bn1(self.conv1(x))))
        out = functional.adaptive_avg_pool2d(out, 1)
        logits: torch.Tensor = self.linear(out.view(out.size(0), -1))
        return logits


class PreActivation(nn.Module):
    """Two convolutions, each after its normalisation (Zagoruyko and Komodakis, 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), convolution(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), convolution(outputs, outputs, 3)
        self.shortcut = None if inputs == outputs else convolution(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(out)
        out = self.conv2(functional.relu(self.bn2(self.conv1(out))))
        return skip + out


class WideResNet(nn.Module):
    """A wide residual network of three stages."""

    def __init__(self, blocks: int, factor: int) -> None:
        super().__init__()
        self.conv1 = convolution(3, 16, 3)
        layers, inputs = [], 16
        for stage, width in enumerate((16 * factor, 32 * factor, 64 * factor)):
            for block in range(blocks):
                layers.append(PreActivation(inputs, width, 2 if stage > 0 and block == 0 else 1))
                inputs = width
        self.layers, self.bn = nn.Sequential(*layers), nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn(self.layers(self.conv1(x))))
        out = functional.avg_pool2d(out, 8)
        logits: torch.Tensor = self.fc(out.view(out.size(0), -1))
        return logits
