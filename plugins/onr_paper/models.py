"""The sequential networks of the paper (section 7.10), as architectures that any backend builds."""

from __future__ import annotations

from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    MaxPool,
    Normalize,
    ReLU,
)
from onr.errors import OnrError

__all__ = ["cnn7", "mlp"]


def _positive(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise OnrError(f"{name} = {value!r}: expected a positive whole number")
    return value


def mlp(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    normalize: Normalize,
    width: int = 64,
    depth: int = 2,
) -> Architecture:
    """A ReLU multilayer perceptron with ``depth`` hidden layers of ``width`` units.

    Raises:
        OnrError: ``width`` or ``depth`` is not a positive whole number.

    Example:
        >>> mlp((1, 8, 8), 10, normalize=Normalize((0.5,), (0.5,)), width=32, depth=1).shapes()
        [(1, 8, 8), (1, 8, 8), (64,), (32,), (32,), (10,)]

    """
    hidden: list[Layer] = []
    for _ in range(_positive("depth", depth)):
        hidden += [Affine(_positive("width", width)), ReLU()]
    return Architecture(input_shape, (normalize, Flatten(), *hidden, Affine(classes)))


def cnn7(
    input_shape: tuple[int, ...], classes: int, *, normalize: Normalize, width: int = 128
) -> Architecture:
    """The 7-layer CNN: convolutions ``w, w, M, 2w, 2w, M, 4w, 4w, M, 8w, M``, then a linear layer.

    Each convolution is 3 x 3 and padded, except the last one, which is unpadded. It is followed by
    batch normalisation without affine parameters and a ReLU. M is 2 x 2 max pooling. The paper's
    width w is 128.

    Raises:
        OnrError: ``width`` is not a positive whole number, or the inputs are not images of at least
            32 x 32 pixels.

    Example:
        >>> normalize = Normalize((0.5,) * 3, (0.5,) * 3)
        >>> cnn7((3, 32, 32), 10, normalize=normalize, width=16).shapes()[-3:]
        [(128, 1, 1), (128,), (10,)]

    """
    w = _positive("width", width)
    if len(input_shape) != 3 or min(input_shape[1:]) < 32:
        raise OnrError(f"cnn7 takes images of 32 x 32 pixels or more, got inputs {input_shape}")
    layers: list[Layer] = [normalize]
    for channels in (w, w, None, 2 * w, 2 * w, None, 4 * w, 4 * w, None):
        layers += [MaxPool()] if channels is None else [Conv(channels), BatchNorm(), ReLU()]
    layers += [Conv(8 * w, padding=0), BatchNorm(), ReLU(), MaxPool(), Flatten(), Affine(classes)]
    return Architecture(input_shape, tuple(layers))
