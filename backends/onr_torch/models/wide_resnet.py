"""The wide residual network of Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from onr.architectures import Normalize
from onr.errors import OnrError
from onr_torch.models.sequential import Standardize

__all__ = ["WideResNet", "wide_resnet"]


def wide_resnet(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    normalize: Normalize,
    depth: int = 28,
    width: int = 10,
) -> WideResNet:
    """A :class:`WideResNet` for images ``(C, H, W)`` with pixels in [0, 1].

    Args:
        input_shape: ``(C, H, W)``, which is ``(3, 32, 32)`` in the paper.
        classes: the number of logits.
        normalize: the normalisation of the images, which is the first layer.
        depth: ``6 k + 4`` for ``k`` blocks in each of the three groups.
        width: the groups have ``16 width``, ``32 width`` and ``64 width`` channels.

    Raises:
        OnrError: the depth is not ``6 k + 4`` with ``k >= 1``, the width is not positive, or the
            inputs are not images.

    Example:
        >>> normalize = Normalize((0.5,) * 3, (0.25,) * 3)
        >>> module = wide_resnet((3, 32, 32), 10, normalize=normalize, depth=10, width=1)
        >>> module.float()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    """
    if depth < 10 or depth % 6 != 4:
        below = max(10, (depth - 4) // 6 * 6 + 4)
        raise OnrError(f"depth = {depth}: expected 6 k + 4, as {below} or {below + 6}")
    if width < 1:
        raise OnrError(f"width = {width}: expected a positive whole number")
    if len(input_shape) != 3:
        raise OnrError(f"a wide residual network takes images (C, H, W), got inputs {input_shape}")
    return WideResNet(input_shape, classes, normalize, blocks=(depth - 4) // 6, width=width)


class WideResNet(nn.Module):
    """Pre-activation blocks of two 3 x 3 convolutions, in three groups, without dropout.

    Convolutions are drawn from He's normal law for the fan-out, by torch's global generator; the
    bias of the logits starts at zero. Parameters have the names of the PyTorch code that most
    published weights are for: ``conv1``, ``block1.layer.0.bn1`` and so on, ``bn1``, ``fc``.

    Example:
        >>> normalize = Normalize((0.5,), (0.25,))
        >>> module = WideResNet((1, 8, 8), 2, normalize, blocks=1, width=1)
        >>> module.fc
        Linear(in_features=64, out_features=2, bias=True)

    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        classes: int,
        normalize: Normalize,
        *,
        blocks: int,
        width: int,
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        channels = (16, 16 * width, 32 * width, 64 * width)
        self.normalize = Standardize(normalize, len(input_shape))
        self.conv1 = _convolution(input_shape[0], channels[0])
        self.block1 = _Group(channels[0], channels[1], blocks, stride=1)
        self.block2 = _Group(channels[1], channels[2], blocks, stride=2)
        self.block3 = _Group(channels[2], channels[3], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(channels[3])
        self.fc = nn.Linear(channels[3], classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits, ``(batch, classes)``, for pixels in [0, 1]."""
        z = self.conv1(self.normalize(x))
        z = self.block3(self.block2(self.block1(z)))
        logits: torch.Tensor = self.fc(functional.relu(self.bn1(z)).mean((2, 3)))
        return logits


class _Group(nn.Module):
    """Blocks in sequence; the first block changes the channels and the resolution."""

    def __init__(self, before: int, after: int, blocks: int, *, stride: int) -> None:
        super().__init__()
        rest = (_Block(after, after, stride=1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(_Block(before, after, stride=stride), *rest)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.layer(z)
        return image


class _Block(nn.Module):
    """``z + F(a)``, ``a = relu(bn(z))``; if the channels change, ``conv1x1(a)`` replaces ``z``."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = _convolution(before, after, stride=stride)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = _convolution(after, after)
        self.convShortcut = (
            None if before == after else _convolution(before, after, kernel=1, stride=stride)
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        active = functional.relu(self.bn1(z))
        if self.convShortcut is not None:
            z = self.convShortcut(active)
        inner = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        image: torch.Tensor = z + inner
        return image


def _convolution(before: int, after: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
