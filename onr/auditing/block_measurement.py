"""One block of an audit: what fails at an image, or in a check, does not stop the rest."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from onr.arrays import in_float32, to_numpy
from onr.auditing.block import Block
from onr.auditing.images import Measured, measure_images
from onr.auditing.protocols import Check
from onr.auditing.zeroed_network import out_of_memory
from onr.errors import ImageError, OnrError
from onr.protocols import Norm

__all__ = ["Columns", "measure_block"]

Columns = dict[str, np.ndarray]


def measure_block(
    block: Block,
    norms: Sequence[tuple[Norm, Norm]],
    checks: Mapping[str, Check],
    /,
    *,
    cells: int,
    limit: float,
) -> Columns:
    """All columns of a block, those of the checks included, each ``(len(block),)``.

    An image that cannot be measured has a text in the column ``failure``, and NaN elsewhere. A
    check that raises, or takes longer than the limit, has a text in ``CHECK: error``. If memory
    does not suffice, the block is measured again with half as many images at once.

    Besides the columns there are ``picture: NAME``, of the worst images of the block, and ``cost:
    seconds`` and ``cost: passes``, ``(1,)`` each.

    Args:
        block: the images.
        norms: the pairs (p, q) of operator norms.
        checks: the checks by name.
        cells: for how many images of the audit the cell radius is computed.
        limit: the most seconds of a check.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr.auditing.chunked_network import ChunkedNetwork
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 255.0]]), np.zeros(2, int)
        >>> threat = Threat(LpNorm(2), "0.5")
        >>> block = Block(ChunkedNetwork(network, 2), x, y, np.arange(2), threat)
        >>> found = measure_block(block, [(LpNorm(2), LpNorm(2))], {}, cells=0, limit=60)
        >>> found["failure"].tolist()
        ['', 'a pixel is 255, outside [0, 1]']

    """
    began, before = time.perf_counter(), block.network.passes
    while True:
        try:
            columns = _measured(block, norms, checks, cells=cells, limit=limit)
            break
        except Exception as error:
            if not out_of_memory(error) or block.network.size == 1:
                raise
            block.network.size = max(1, min(block.network.size, len(block)) // 2)
    columns["cost: seconds"] = np.array([time.perf_counter() - began])
    columns["cost: passes"] = np.array([float(block.network.passes - before)])
    return columns


def _measured(
    block: Block,
    norms: Sequence[tuple[Norm, Norm]],
    checks: Mapping[str, Check],
    *,
    cells: int,
    limit: float,
) -> Columns:
    failures = _wrong_inputs(block)
    measured: Measured | None = None
    while measured is None and not all(failures):
        good = np.array([not each for each in failures])
        part = block.take(good)
        try:
            measured = measure_images(part, norms, cells=cells)
        except ImageError as error:
            failures[int(np.flatnonzero(good)[error.index])] = error.what
    columns: Columns = {"failure": np.array(failures)}
    if measured is None:
        return columns
    columns |= {name: _spread(values, good) for name, values in measured.columns.items()}
    columns |= {f"picture: {name}": values for name, values in measured.pictures.items()}
    part = replace(part, values=measured.columns, moved=measured.moved)
    for name, check in checks.items():
        told = ""
        try:
            with _interrupted(limit):
                found = dict(check.measure(part))
            for key, values in found.items():
                columns[f"{name}: {key}"] = _spread(np.asarray(values), good)
        except Exception as caught:  # whatever a check raises
            if out_of_memory(caught):
                raise
            plain = isinstance(caught, OnrError | _TooLongError)
            told = str(caught) if plain else f"{type(caught).__name__}: {caught}"
        columns[f"{name}: error"] = np.full(len(block), " ".join(told.split()))
    return columns


def _wrong_inputs(block: Block) -> list[str]:
    """What is wrong with each image or its logits; empty texts where nothing is."""
    low, high = block.threat.bounds
    x = to_numpy(in_float32(block.x)).reshape(len(block), -1)
    found = [""] * len(block)
    inside = np.isfinite(x).all(axis=1) & (x >= low).all(axis=1) & (x <= high).all(axis=1)
    for index in np.flatnonzero(~inside):
        pixel = x[index][~((x[index] >= low) & (x[index] <= high))][0]
        found[index] = f"a pixel is {pixel:g}, outside [{low:g}, {high:g}]"
    good = np.flatnonzero(inside)
    if not len(good):
        return found
    logits = block.network(block.x[good])
    z = to_numpy(in_float32(logits))
    if z.ndim != 2 or z.shape[1] < 2:
        raise OnrError(
            f"the network gives outputs of shape {tuple(logits.shape)}: expected two logits or "
            "more for each image"
        )
    for index, row in zip(good, z, strict=True):
        if np.isnan(row).any() or np.isposinf(row).any() or np.isneginf(row).all():
            worst = next(value for value in row if not np.isfinite(value))
            found[index] = f"a logit is {worst:g}"
        elif not 0 <= block.y[index] < len(row):
            found[index] = f"label {block.y[index]} is no class, 0 to {len(row) - 1}"
    return found


def _spread(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """A column of the block from that of the images that were measured."""
    if values.dtype.kind in "US":
        texts = np.full(len(good), "", dtype=values.dtype)
        texts[good] = values
        return texts
    found = np.full(len(good), np.nan)
    found[good] = values
    return found


class _TooLongError(Exception):
    """A check did not return within its limit."""


@contextmanager
def _interrupted(limit: float) -> Iterator[None]:
    """Raise an error inside after so many seconds, where the system and the thread allow it."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(*_: Any) -> None:
        raise _TooLongError(f"not finished after {limit:g} seconds at a block of images")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
