"""Files of axes, ``.npz``; nothing in them is unpickled."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np

from onr.errors import OnrError
from onr.files import write_atomic
from onr_ellipsoids.coordinates import Components, Coordinates, Pixels

__all__ = ["read_ellipsoid", "write_ellipsoid"]

EXPECTED = "'axes', or 'directions', 'lengths' and 'rest'"


def read_ellipsoid(path: Path) -> Coordinates:
    """Read the axes of a file.

    The file has an array ``axes``, which broadcasts to the shape of an example: the semi-axis of
    each pixel. Or it has orthonormal ``directions`` ``(k, *shape)``, their semi-axes ``lengths``
    ``(k,)``, and ``rest``, the semi-axis of all that is orthogonal to them.

    Raises:
        OnrError: the file is missing or damaged, an array is missing, or axes are no axes.

    Example:
        >>> write_ellipsoid(tmp_path / "mine.npz", axes=np.array([1.0, 0.5]))
        >>> read_ellipsoid(tmp_path / "mine.npz").semi_axes((2,))
        array([1. , 0.5])

    """
    try:
        stamp = path.stat()
    except OSError as error:
        raise OnrError(f"no file {path}: {error.strerror}") from error
    return _read(path, stamp.st_ino, stamp.st_size, stamp.st_mtime_ns)


@cache
def _read(path: Path, *stamp: int) -> Coordinates:
    """Read a file once, as long as it is the same file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # a damaged archive may raise anything
        raise OnrError(f"{path} is no file of axes ({error}): expected an npz file") from error
    if "axes" in found:
        return Pixels(found["axes"], str(path))
    if {"directions", "lengths", "rest"} <= set(found) and found["rest"].shape == ():
        rest = float(found["rest"])
        return Components(found["directions"], found["lengths"], rest, str(path))
    names = ", ".join(sorted(found)) or "nothing"
    raise OnrError(f"{path} has {names}: expected {EXPECTED}")


def write_ellipsoid(path: Path, **arrays: np.ndarray) -> None:
    """Write a file of axes, completely or not at all.

    Raises:
        OnrError: the folder cannot be written to.

    Example:
        >>> write_ellipsoid(tmp_path / "mine.npz", axes=np.ones((1, 8, 8)))

    """
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # arrays by name
    write_atomic(path, content.getvalue())
