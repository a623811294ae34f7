"""The audit: every block of images is measured on its own, and the checks decide at the end."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onr.arrays import array_namespace, in_float32, to_numpy
from onr.auditing.block import Block
from onr.auditing.block_measurement import Columns, measure_block
from onr.auditing.chunked_network import ChunkedNetwork
from onr.auditing.images import worst_pictures
from onr.auditing.protocols import Check, Evidence, Flag
from onr.auditing.record import RECORD, Audit
from onr.auditing.threat import Threat
from onr.auditing.zeroed_network import ZeroedNetwork
from onr.errors import OnrError
from onr.measurements.batches import Inputs
from onr.measurements.fingerprint import fingerprint
from onr.parts import StoredParts
from onr.protocols import BackendNetwork, Norm
from onr.registry import load, registry
from onr.typing import Array
from onr.version import __version__

__all__ = ["AuditSettings", "checks_named", "run_audit"]

IMAGES = 1000
FAST_IMAGES, FAST_SHARE = 100, 0.2
BLOCK, ENTRIES = 50, 2**20
"""A block has at most ``BLOCK`` images, and ``ENTRIES`` numbers: 6 images of 3 x 224 x 224."""
CELLS, CELL_ENTRIES = 3, 2**13
"""For how many images the cell radius is computed, and up to how many numbers an image has."""
LIMIT = 600.0
COSTS = ("seconds", "passes")
POLL = 0.2
DIGITS = 12
OnBlock = Callable[[int, int, bool], None]
"""Called with the number of images that are done, of all, and whether they were found."""


@dataclass(frozen=True)
class AuditSettings:
    """What to audit.

    Example:
        >>> from onr.norms import LpNorm
        >>> AuditSettings(Threat(LpNorm(2), "0.5"), norms=((LpNorm(2), LpNorm(2)),)).share
        1.0

    """

    threat: Threat
    norms: tuple[tuple[Norm, Norm], ...]
    """The pairs (p, q) of operator norms; the first gives the maximiser of pictures."""
    images: int | None = None
    """How many images; ``None`` takes 1,000, or 100 if fast, or all if there are fewer."""
    seed: int | None = None
    """``None`` takes the first images; a number draws them at random, and all else from it."""
    fast: bool = False
    """A look that takes a minute on a small network: fewer images, a fifth of them for checks."""
    cells: int | None = None
    """For how many images to compute the cell radius, n passes each; ``None``: three, if small."""
    checks: tuple[str, ...] | None = None
    """The names of the checks; ``None`` for all that are installed."""
    check_limit: float = LIMIT
    """The most seconds of a check at a block of images; after that it does not decide."""
    batch_size: int | None = None
    """How many images pass the network at once; ``None`` for a block, or what memory allows."""

    @property
    def share(self) -> float:
        """The share of the usual number of images that a check looks at."""
        return FAST_SHARE if self.fast else 1.0

    def count(self, available: int, /) -> int:
        """How many of the available images are audited.

        Raises:
            OnrError: there are none, or fewer than are asked for.

        """
        if not available:
            raise OnrError("there are no images: expected at least one")
        if self.images is not None and not 1 <= self.images <= available:
            raise OnrError(
                f"images = {self.images}: expected 1 to {available}, as many as there are"
            )
        return self.images or min(FAST_IMAGES if self.fast else IMAGES, available)

    def cell_images(self, input_shape: tuple[int, ...], /) -> int:
        """For how many images the cell radius is computed."""
        if self.cells is not None:
            return self.cells
        return 0 if self.fast or math.prod(input_shape) > CELL_ENTRIES else CELLS


def run_audit(
    network: BackendNetwork,
    x: Inputs,
    y: np.ndarray,
    settings: AuditSettings,
    /,
    *,
    refused: str = "",
    files: Sequence[str] | None = None,
    subject: Mapping[str, Any] | None = None,
    out: Path | None = None,
    shard: tuple[int, int] = (1, 1),
    process: tuple[int, int] = (0, 1),
    merge: Sequence[Path] = (),
    on_block: OnBlock = lambda done, total, found: None,
) -> Audit | None:
    """Measure a model around images, attack it, and check whether the result can be believed.

    The images are cut into blocks, each of which is measured on its own. The table therefore does
    not depend on the order, on shards or on the number of processes, and depends on the batch size
    by rounding alone. With ``out`` every finished block is kept in a file, and the same audit goes
    on with the blocks that are missing.

    Args:
        network: the network, in evaluation mode.
        x: images, pixels in [0, 1].
        y: their labels.
        settings: what to audit.
        refused: why the other commands refuse the model, which raises the flag ``refused``.
        files: the file of each image, if each has its own.
        subject: what is audited, for the record.
        out: the folder in whose files finished blocks are kept; ``None`` keeps them in memory.
        shard: measure the blocks of shard I of N, with I from 1.
        process: measure, within the shard, the share of this process, ``(rank, world size)``. The
            process of rank 0 waits for the blocks of the others.
        merge: further folders in which other machines have kept blocks of this audit.
        on_block: called after each block.

    Returns:
        The audit; ``None`` if this process or shard leaves blocks for others.

    Raises:
        OnrError: there are no images, none of them can be measured, or a setting does not fit.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr.norms import LpNorm
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> two = LpNorm(2)
        >>> settings = AuditSettings(Threat(two, "0.5"), norms=((two, two),), checks=())
        >>> found = run_audit(network, x, y, settings)
        >>> [row["images"] for row in found.curve]
        [4, 4, 4, 4, 4]

    """
    plan = _Plan(network.input_shape, len(y), settings)
    checks = checks_named(settings.checks)
    key = plan.key | {
        "checks": sorted(checks),
        "version": __version__,
        "model": fingerprint(ChunkedNetwork(network, 1), x, y, values=not refused),
    }
    stored = [
        StoredParts(None if folder is None else folder / RECORD, key) for folder in (out, *merge)
    ]
    chunked = ChunkedNetwork(ZeroedNetwork(network), settings.batch_size or plan.block)
    whole = shard == (1, 1) and process[0] == 0
    mine = [
        number % shard[1] == shard[0] - 1 and number // shard[1] % process[1] == process[0]
        for number in range(len(plan.blocks))
    ]
    total = sum(len(rows) for rows, own in zip(plan.blocks, mine, strict=True) if own or whole)
    found: list[Columns] = []
    pictures: dict[str, np.ndarray] = {}
    missing: dict[int, tuple[int, int, str]] = {}
    done = 0
    for number, rows in enumerate(plan.blocks):
        if not mine[number] and not whole:
            continue
        images = _images(x, rows)
        place = number * plan.block, len(rows), _digest(images)
        kept = _kept(stored, place)
        done += len(rows) if kept or mine[number] else 0
        if kept:
            on_block(done, total, True)
        elif mine[number]:
            numbers = np.arange(len(rows)) + place[0]
            block = Block(
                chunked,
                images,
                y[rows],
                numbers,
                settings.threat,
                seed=settings.seed or 0,
                share=settings.share,
            )
            kept = measure_block(
                block, settings.norms, checks, cells=plan.cells, limit=settings.check_limit
            )
            kept["image"] = rows.astype(np.float64)
            kept["digest"] = np.array([_digest(images[k : k + 1]) for k in range(len(rows))])
            stored[0].put(*place, kept)
            on_block(done, total, False)
        else:
            missing[len(found)] = place
        pictures = worst_pictures(pictures, _pictures(kept))
        found.append(kept)
    if not whole:
        return None
    for index, place in missing.items():
        while not found[index]:
            time.sleep(POLL)
            found[index] = _kept(stored, place)
        pictures = worst_pictures(pictures, _pictures(found[index]))
        done += place[1]
        on_block(done, total, True)
    record = dict(subject or {}) | plan.record | {"fingerprint": key["model"]}
    classes = int(network(_images(x, plan.blocks[0][:1])).shape[1])
    table, flags = _table(found, settings, checks, record, classes, refused, files)
    shown = {
        name: values / np.float32({"uint8": 255, "int8": 127}[values.dtype.name])
        for name, values in pictures.items()
        if values.dtype.kind in "ui" and values.itemsize == 1
    }
    places = {name: pictures[name] for name in ("place",) if name in pictures}
    return Audit(record, table, flags, places | shown, tuple(stored))


class _Plan:
    """Which images are measured, and in which blocks."""

    def __init__(self, input_shape: tuple[int, ...], of: int, settings: AuditSettings) -> None:
        self.images = settings.count(of)
        chosen = np.arange(self.images)
        if settings.seed is not None:
            rng = np.random.default_rng(settings.seed)
            chosen = np.sort(rng.choice(of, self.images, replace=False))
        entries = math.prod(input_shape)
        self.cells = min(settings.cell_images(input_shape), self.images)
        self.block = max(1, min(BLOCK, ENTRIES // entries))
        self.blocks = [
            chosen[first : first + self.block] for first in range(0, self.images, self.block)
        ]
        threat = settings.threat
        self.record: dict[str, Any] = {
            "p": threat.p.name,
            "eps": threat.eps,
            "radii": dict(threat.radii),
            "bounds": list(threat.bounds),
            "norms": [f"{p.name}:{q.name}" for p, q in settings.norms],
            "images": self.images,
            "of": of,
            "seed": settings.seed,
            "fast": settings.fast,
            "cells": self.cells,
        }
        self.key = self.record | {"block": self.block}


def checks_named(names: Sequence[str] | None) -> dict[str, Check]:
    """The checks by name, of all plugins if no names are given.

    Raises:
        UnknownNameError: no plugin offers a check of a name, or several do.

    Example:
        >>> list(checks_named(["chance", "onr.auditing:rho"]))
        ['chance', 'rho']

    """
    if names is None:
        names = [f"{plugin.name}:{entry.name}" for plugin, entry in registry().offers("check")]
    found: dict[str, Check] = {}
    for name in names:
        check: Check = load("check", name)()
        found[check.name] = check
    return found


def _images(x: Inputs, rows: np.ndarray) -> Array:
    """The images of these rows, which are read as slices."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        return x[first : last + 1]
    parts = [x[int(row) : int(row) + 1] for row in rows]
    return array_namespace(parts[0]).concat(parts)


def _digest(images: Array) -> str:
    content = np.ascontiguousarray(to_numpy(in_float32(images)))
    return hashlib.sha256(content.tobytes()).hexdigest()[:DIGITS]


def _kept(stored: Sequence[StoredParts], place: tuple[int, int, str]) -> Columns:
    """The columns of a block that some folder has; nothing if none has."""
    return next(filter(None, (parts.get(*place) for parts in stored)), {})


def _pictures(block: Columns) -> dict[str, np.ndarray]:
    """Take the pictures out of the columns of a block."""
    start = "picture: "
    names = [name for name in block if name.startswith(start)]
    return {name.removeprefix(start): block.pop(name) for name in names}


def _table(
    found: Sequence[Columns],
    settings: AuditSettings,
    checks: Mapping[str, Check],
    record: dict[str, Any],
    classes: int,
    refused: str,
    files: Sequence[str] | None,
) -> tuple[Columns, tuple[Flag, ...]]:
    """Put the blocks together, let the checks decide, and complete the record."""
    costs = {name: sum(float(block.pop(f"cost: {name}")[0]) for block in found) for name in COSTS}
    sizes = [len(block["image"]) for block in found]
    columns: Columns = {}
    for name in dict.fromkeys(name for block in found for name in block):
        text = next(block[name] for block in found if name in block).dtype.kind in "US"
        columns[name] = np.concatenate(
            [
                block.get(name, np.full(size, "" if text else np.nan))
                for block, size in zip(found, sizes, strict=True)
            ]
        )
    if "label" not in columns:
        place = int(np.flatnonzero(columns["failure"] != "")[0])
        raise OnrError(
            f"no image could be measured; image {int(columns['image'][place])}: "
            f"{columns['failure'][place]}"
        )
    record |= {"classes": classes} | costs
    evidence = Evidence(columns, settings.threat, classes, refused)
    flags = tuple(_verdict(check, evidence) for check in checks.values())
    first = {"image": columns.pop("image")}
    if files is not None:
        first["file"] = np.array([files[int(row)] for row in first["image"]])
    table = first | {name: each for name, each in columns.items() if not name.endswith(": error")}
    return table, flags


def _verdict(check: Check, evidence: Evidence) -> Flag:
    """The flag of a check; not decided where it failed."""
    errors = evidence.of(check.name).get("error", np.array([""]))
    if (errors != "").any():
        why = str(errors[errors != ""][0])
    else:
        try:
            return check.verdict(evidence)
        except Exception as error:  # whatever a check raises
            why = f"{type(error).__name__}: {error}"
    return Flag(check.name, None, None, check.threshold, check.source, f"the check failed: {why}")
