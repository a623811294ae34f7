"""The work of one worker process: it makes measurements and stores each as soon as it is made."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from onr.errors import OnrError
from onr.experiments import Measurement
from onr.files import write_atomic
from onr.registry import load
from onr.sweeps.cluster import outcome, usable_cores
from onr.text import norm
from onr.training.config import TrainConfig
from onr.training.config_hash import config_hash, flat
from onr.training.factories import versions
from onr.training.runs import Run
from onr.training.subject import Subject
from onr.typing import Row
from onr.version import __version__

__all__ = ["Group", "finite_or_none", "measure", "rows_digest"]

Group: TypeAlias = list[tuple[str, Measurement]]
"""Pairs of key and measurement, all of one model."""


def measure(group: Group, out: str) -> dict[str, str]:
    """Make the measurements of one model, and store each as soon as it is made.

    Args:
        group: the measurements with their keys, all of one model.
        out: the folder of the reproduction.

    Returns:
        The reason for each measurement that could not be made, by key. A failure does not stop the
        other measurements.

    Example:
        >>> measurement = Measurement("onr_validation:table1", settings={"trials": 2})
        >>> measure([("some-key", measurement)], str(tmp_path))
        {}
        >>> (tmp_path / "measurements" / "some-key.json").exists()
        True

    """
    made = _Maker(Path(out))
    found = {name: outcome(functools.partial(made, name, m)) for name, m in group}
    return {name: each["message"] for name, each in found.items() if "message" in each}


class _Maker:
    """Makes the measurements of one model; the first measurement builds the model."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._subject: Subject | None = None

    def __call__(self, name: str, measurement: Measurement) -> str:
        file = self._out / "measurements" / f"{name}.json"
        if file.exists():
            return "finished"
        start = time.perf_counter()
        self._subject = self._subject or _subject(measurement, self._out)
        rows = [
            {column: finite_or_none(value) for column, value in row.items()}
            for row in _rows(measurement, self._subject)
        ]
        record = {
            "measurement": measurement.name,
            "settings": dict(measurement.settings),
            "model": measurement.model and flat(measurement.model),
            "trained": measurement.trained,
            "onr": __version__,
            "versions": versions(),
            "hardware": _hardware(measurement.model),
            "seconds": round(time.perf_counter() - start, 3),
            "digest": rows_digest(rows),
            "rows": rows,
        }
        write_atomic(file, (json.dumps(record, indent=1) + "\n").encode())
        return "finished"


def _subject(measurement: Measurement, out: Path) -> Subject | None:
    if measurement.model is None:
        return None
    if not measurement.trained:
        return Subject(replace(measurement.model, weights=None))
    path = out / "models" / config_hash(measurement.model)
    try:
        parameters, _ = Run.open(path).model(averaged=measurement.averaged)
    except OnrError as error:
        raise OnrError(f"{error}; remove {path} and run the same command again") from error
    return Subject(measurement.model, parameters)


def _rows(measurement: Measurement, subject: Subject | None) -> list[Row]:
    """The rows of a measurement. Names of norms in its settings become norms here."""
    function, settings = load("measurement", measurement.name), dict(measurement.settings)
    if subject is not None:
        x, y = subject.inputs(settings.pop("images"), settings.pop("part", "test"))
        for name in ("p", "q"):
            if name in settings:
                settings[name] = norm(settings[name])
        if measurement.reference:
            settings["reference"] = subject.untrained.network
        if "seed" in inspect.signature(function).parameters:
            settings["seed"] = subject.config.seed
        function = functools.partial(function, subject.network, x, y)
    rows: list[Row] = function(**settings)
    return rows


def rows_digest(rows: Any) -> str:
    """A hash of the rows of a table, by which a damaged file is found.

    Example:
        >>> rows_digest([{"mean": 0.5}])[:8] == rows_digest([{"mean": 0.6}])[:8]
        False

    """
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def finite_or_none(value: Any) -> Any:
    """Convert NumPy scalars to Python, and NaN and infinity, which JSON and CSV lack, to ``None``.

    Example:
        >>> finite_or_none(np.float32(0.5)), finite_or_none(math.nan), finite_or_none("at")
        (0.5, None, 'at')

    """
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {usable_cores()} cores"


def _hardware(config: TrainConfig | None) -> str:
    if config is None or not config.device.startswith("cuda"):
        return _processor()
    import torch

    return f"{torch.cuda.get_device_name(config.device)}, {_processor()}"
