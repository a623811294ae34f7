"""Atomic writing of files, and whether a folder takes them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from onr.errors import OnrError

__all__ = ["require_writable", "write_atomic"]


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, and make its folder if necessary.

    Raises:
        OnrError: the folder cannot be written to, or the disk is full.

    Example:
        >>> write_atomic(tmp_path / "new" / "a.txt", b"text")
        >>> (tmp_path / "new" / "a.txt").read_bytes()
        b'text'

    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if not isinstance(error, OSError):
            raise
        raise OnrError(f"{path} cannot be written: {error.strerror or error}") from error


def require_writable(folder: Path, *names: str) -> None:
    """Try, before long work, whether files of these names can be written; make the folder.

    Raises:
        OnrError: the folder cannot be made or written to, or a folder has the name of a file.

    Example:
        >>> require_writable(tmp_path / "results", "evaluation.json")
        >>> list((tmp_path / "results").iterdir())
        []

    """
    for name in names:
        if (folder / name).is_dir():
            raise OnrError(f"{folder / name} cannot be written: it is a folder")
    tried = folder / ".onr-tries-to-write"
    write_atomic(tried, b"")
    tried.unlink(missing_ok=True)
