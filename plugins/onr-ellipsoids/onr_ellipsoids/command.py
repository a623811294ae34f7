"""The command ``onr ellipsoid-of``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from onr.errors import OnrError
from onr.registry import load
from onr_ellipsoids.files import write_ellipsoid
from onr_ellipsoids.fitting import components, deviations

__all__ = ["ellipsoid_of"]


@click.command(name="ellipsoid-of")
@click.argument("dataset")
@click.option("--data-dir", type=click.Path(path_type=Path), default="data", show_default=True)
@click.option(
    "--components",
    "count",
    type=click.IntRange(1),
    help="Along so many principal components, instead of along pixels.",
)
@click.option(
    "--images",
    type=click.IntRange(2),
    default=10000,
    show_default=True,
    help="How many training images to measure, at most: the first.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file, .npz.")
def ellipsoid_of(dataset: str, data_dir: Path, count: int | None, images: int, out: Path) -> None:
    """Measure in which directions the images of DATASET vary: the axes of --p ellipsoid:FILE.

    The semi-axes are the standard deviations of the pixels; or, with --components K, those along
    the K principal components, and their root mean square along all other directions. They are
    divided by the largest, so that the ball lies in the l2 ball of the same radius, and raised to
    0.001 of it where they are smaller.
    """
    if out.suffix != ".npz":
        raise OnrError(f"{out}: expected a file NAME.npz")
    train = load("dataset", dataset)(data_dir=data_dir, download=False).train
    some = train.take(min(images, len(train)))
    found = deviations(some) if count is None else components(some, count)
    source = np.array(f"{dataset}, the first {len(some)} training images")
    write_ellipsoid(out, **found, source=source)
    click.echo(f"{out}: {_said(found)}; {source}")
    click.echo(f"use it as --p ellipsoid:{out}")


def _said(found: dict[str, Any]) -> str:
    if "axes" in found:
        axes = found["axes"]
        return f"axes of {axes.size} pixels, from {axes.min():.3g} to 1"
    lengths = found["lengths"]
    return f"{len(lengths)} axes from 1 to {lengths[-1]:.3g}, the others {found['rest']:.3g}"
