"""The finished parts of a long computation, one file each, so that it can go on after a kill."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onr.errors import OnrError
from onr.files import write_atomic

__all__ = ["StoredParts"]

OnPart = Callable[[int, dict[str, np.ndarray], bool], None]


class StoredParts:
    """The values of finished batches, in a folder beside the result; see ``measurements.Parts``.

    Each batch is a file of its own, written beside and renamed: a process that is killed loses the
    batch that it works on, and the cost of a batch does not grow. A file that cannot be read counts
    as none. A folder that cannot be written to is no error: the values are in memory too.

    Args:
        result: the file that the computation will write. The parts lie beside it, in a folder
            ``NAME.partial-HASH``, so that computations of other settings do not mix. ``None`` keeps
            nothing.
        key: everything that the values depend on besides the inputs, as JSON has it.
        on_part: called with each part: the number of inputs that are done, the values, and whether
            they were found rather than computed.

    Example:
        >>> parts = StoredParts(tmp_path / "evaluation", {"seed": 0})
        >>> parts.put(0, 2, "f00d", {"norm": np.array([1.0, 2.0])})
        >>> StoredParts(tmp_path / "evaluation", {"seed": 0}).get(0, 2, "f00d")
        {'norm': array([1., 2.])}
        >>> StoredParts(tmp_path / "evaluation", {"seed": 1}).get(0, 2, "f00d") is None
        True

    """

    def __init__(
        self,
        result: Path | None,
        key: dict[str, Any],
        on_part: OnPart = lambda done, values, found: None,
    ) -> None:
        self._result, self._folder = result, None
        if result is not None:
            digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
            self._folder = result.with_name(f"{result.name}.partial-{digest[:12]}")
        self._on_part = on_part

    def get(self, first: int, count: int, digest: str) -> dict[str, np.ndarray] | None:
        """The values of a batch; ``None`` if there is no whole file of them."""
        if self._folder is None:
            return None
        try:
            content = io.BytesIO(self._path(first, count, digest).read_bytes())
            with np.load(content, allow_pickle=False) as file:
                names = file["names"].tolist()
                found = {name: file[str(index)] for index, name in enumerate(names)}
        except Exception:  # a damaged file raises whatever numpy and zipfile meet
            return None
        self._on_part(first + count, found, True)
        return found

    def put(self, first: int, count: int, digest: str, values: dict[str, np.ndarray]) -> None:
        """Keep the values of a batch."""
        if self._folder is not None:
            content = io.BytesIO()
            numbered: dict[str, Any] = dict(
                zip(map(str, range(len(values))), values.values(), strict=True)
            )
            np.savez(content, names=np.array(list(values)), **numbered)
            with contextlib.suppress(OnrError):
                write_atomic(self._path(first, count, digest), content.getvalue())
        self._on_part(first + count, values, False)

    def remove(self) -> None:
        """Remove the files; the result is written."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def others(self) -> str | None:
        """Where parts of other settings lie beside the result, in words; ``None`` if nowhere.

        They are not removed: another computation may work on them, or go on from them.

        Example:
            >>> other, mine = (StoredParts(tmp_path / "e", {"seed": seed}) for seed in (0, 1))
            >>> other.put(0, 2, "f00d", {"norm": np.array([1.0, 2.0])})
            >>> other.others(), mine.others()  # doctest: +ELLIPSIS
            (None, 'finished batches of other settings are kept in ...e.partial-... (1 kB): ...')

        """
        if self._result is None:
            return None
        places, size = [], 0
        with contextlib.suppress(OSError):  # a folder may be removed meanwhile
            for place in self._result.parent.glob(f"{glob.escape(self._result.name)}.partial-*"):
                if place != self._folder:
                    places.append(str(place))
                    size += sum(file.stat().st_size for file in place.iterdir())
        if not places:
            return None
        named = places[0] if len(places) == 1 else f"{len(places)} folders {self._result}.partial-*"
        return (
            f"finished batches of other settings are kept in {named} ({math.ceil(size / 1000):,} "
            "kB): the command that began them goes on from there; delete them if it will not"
        )

    def _path(self, first: int, count: int, digest: str) -> Path:
        assert self._folder is not None  # noqa: S101 - for the type checker; the callers look
        return self._folder / f"{first:08d}-{count}-{digest[:12]}.npz"
