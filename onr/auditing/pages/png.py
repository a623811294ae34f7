"""Small pictures: arrays as PNG files, without a library for images."""

from __future__ import annotations

import base64
import math
import struct
import zlib

import numpy as np

__all__ = ["as_picture", "data_uri", "png"]

LARGEST = 256
"""A larger picture keeps every second pixel, or every third, until it fits."""


def as_picture(values: np.ndarray, /) -> np.ndarray:
    """One image as ``(height, width, 1 or 3)``, whatever the shape of the network's inputs.

    ``(C, H, W)`` has its channels moved to the end, and their mean taken unless there are 1 or 3.
    A vector becomes a square, row by row, if its length is a square, and one row otherwise.

    Example:
        >>> [as_picture(np.zeros(shape)).shape for shape in [(3, 4, 5), (4, 5), (64,), (5,)]]
        [(4, 5, 3), (4, 5, 1), (8, 8, 1), (1, 5, 1)]

    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim <= 1:
        side = math.isqrt(values.size)
        values = values.reshape((side, side) if side * side == values.size else (1, -1))
    if values.ndim == 2:
        values = values[None]
    values = values.reshape(-1, *values.shape[-2:])
    if len(values) not in (1, 3):
        values = values.mean(axis=0, keepdims=True)
    step = math.ceil(max(values.shape[1:]) / LARGEST)
    return np.moveaxis(values, 0, -1)[::step, ::step]


def png(values: np.ndarray, /) -> bytes:
    """A PNG file with 8 bits a channel, from values in [0, 1] of shape ``(H, W, 1 or 3)``.

    Values outside [0, 1] are clipped, and NaN is black.

    Example:
        >>> png(np.zeros((2, 2, 1)))[1:4]
        b'PNG'

    """
    height, width, channels = values.shape
    levels = np.rint(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), levels.reshape(height, -1)], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def data_uri(values: np.ndarray, /, *, signed: bool = False) -> str:
    """An image as the address of a picture that lies in the page itself.

    Args:
        values: one image, of any shape.
        signed: the values are in [-1, 1] and 0 is grey; else they are in [0, 1].

    Example:
        >>> data_uri(np.zeros((1, 2, 2)))[:22]
        'data:image/png;base64,'

    """
    picture = as_picture(values)
    content = png((picture + 1) / 2 if signed else picture)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
