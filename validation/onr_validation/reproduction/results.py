"""A reproduction: models trained once, measurements made once, and the results of experiments.

The folder of a reproduction holds

``models/HASH``             the run of each model, by the hash of the model's configuration
``measurements/KEY.json``   the rows of one measurement, by the hash that :func:`key` describes
``data.json``               digests of the data sets with which models and measurements were made
``NAME/``                   an experiment's table, picture and verdicts

These files alone say what is done. The same command therefore continues where it was stopped, and
computes nothing again that has not changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from onr.data import Dataset
from onr.errors import OnrError
from onr.experiments import Claim, Experiment, Measurement
from onr.files import write_atomic
from onr.plots import png, svg
from onr.records import csv_table
from onr.sweeps.sweep import Sweep
from onr.training.config import TrainConfig
from onr.training.config_hash import config_hash, flat
from onr.training.factories import make_dataset
from onr.version import __version__
from onr_validation.reproduction.fingerprint import key
from onr_validation.reproduction.worker import Group, finite_or_none, rows_digest

__all__ = ["Reproduction", "united"]

DIGITS = 6
"""Significant digits of a table. Measurements are made in float32; more digits would be noise."""


class Reproduction:
    """Experiments at one scale: their measurements and models, and which of these exist already.

    Args:
        experiments: the experiments by name.
        scale: the name of a scale that all experiments know.
        out: the folder of the reproduction.
        settings: settings of every training that replace those of the scale, such as the device
            and the folder of the data sets.

    Raises:
        OnrError: an experiment does not know the scale.

    Example:
        >>> from onr_validation.experiments.fig9 import Figure9
        >>> found = Reproduction({"fig9": Figure9()}, "tiny", tmp_path, {})
        >>> len(found.models), len(found.missing())
        (4, 4)

    """

    def __init__(
        self,
        experiments: Mapping[str, Experiment],
        scale: str,
        out: Path,
        settings: Mapping[str, Any],
    ) -> None:
        self.experiments, self.scale, self.out = dict(experiments), scale, out.absolute()
        self.measurements: dict[str, list[Measurement]] = {}
        """The measurements of each experiment, by its name."""
        self.models: dict[str, TrainConfig] = {}
        """All models that the experiments need trained, by the hash of their configuration."""
        for name, experiment in self.experiments.items():
            self.measurements[name] = [
                replace(m, model=m.model and replace(m.model, **settings))
                for m in experiment.measurements(scale)
            ]
            self.models |= self.models_of(name)

    def models_of(self, name: str) -> dict[str, TrainConfig]:
        """The models that one experiment needs trained, by the hash of their configuration."""
        return {
            config_hash(m.model): m.model
            for m in self.measurements[name]
            if m.model is not None and m.trained
        }

    def sweep(self) -> Sweep:
        """A sweep that trains all models."""
        return Sweep(self.models, self.out / "models")

    def needed(self) -> Sweep:
        """A sweep that trains only the models with a missing measurement."""
        models = {
            config_hash(m.model): m.model
            for m in self.missing().values()
            if m.model is not None and m.trained
        }
        return Sweep(models, self.out / "models")

    def missing(self, name: str | None = None) -> dict[str, Measurement]:
        """The measurements not made yet, by key, of one experiment or (without a name) of all."""
        chosen = self.measurements.values() if name is None else [self.measurements[name]]
        keyed = {key(m): m for measurements in chosen for m in measurements}
        return {name: m for name, m in keyed.items() if not self._file(name).exists()}

    def groups(self) -> list[Group]:
        """The missing measurements, grouped by model and weights."""
        found: dict[tuple[str, bool, bool], Group] = {}
        for name, measurement in self.missing().items():
            model = "" if measurement.model is None else config_hash(measurement.model)
            kind = model, measurement.trained, measurement.averaged
            found.setdefault(kind, []).append((name, measurement))
        return list(found.values())

    def check_data(self) -> None:
        """Check that the data sets still needed are those with which the folder was begun.

        Raises:
            OnrError: a data set is missing, damaged or changed, the folder cannot be written to, or
                the folder has lost its ``data.json``.

        """
        needed = [m.model for m in self.missing().values() if m.model is not None]
        with contextlib.ExitStack() as stack:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                stack.enter_context(filelock.FileLock(self.out / "lock"))
            except OSError as error:
                raise OnrError(
                    f"{self.out} cannot be written to ({error.strerror or error}): give another "
                    "--out"
                ) from error
            known = {}
            if any(self.out.glob("m*/*")):  # models or measurements
                try:
                    known = dict(_read(self.out / "data.json"))
                except OnrError:
                    raise OnrError(
                        f"{self.out / 'data.json'} is damaged or missing, and nothing else says "
                        f"which data sets {self.out} was begun with: give another --out"
                    ) from None
            for config in {config.dataset: config for config in needed}.values():
                digest = _digest(make_dataset(config))
                if known.setdefault(config.dataset, digest) != digest:
                    raise OnrError(
                        f"data set {config.dataset} is not the one that {self.out} was begun with: "
                        "give another --out, or the --data-dir of before"
                    )
            write_atomic(self.out / "data.json", (json.dumps(known, indent=2) + "\n").encode())

    def _data(self) -> dict[str, str]:
        file = self.out / "data.json"
        return dict(_read(file)) if file.exists() else {}

    def write(self, name: str) -> list[Claim]:
        """Write an experiment's table, picture and verdicts.

        Raises:
            OnrError: a measurement is missing or damaged, or the folder cannot be written to.

        """
        experiment, folder = self.experiments[name], self.out / name
        made = [(m.labels, self._stored(m)) for m in self.measurements[name]]
        rows = [{**labels, **row} for labels, found in made for row in found["rows"]]
        claims = list(experiment.claims(rows, self.scale))
        figure = experiment.figure(rows, self.scale)
        write_atomic(folder / "figure.svg", svg(figure))
        write_atomic(folder / "figure.png", png(figure))
        write_atomic(folder / "table.csv", csv_table(rows, digits=DIGITS))
        record = self._record(name, claims, [found for _, found in made])
        write_atomic(folder / "result.json", (json.dumps(record, indent=2) + "\n").encode())
        return claims

    def _record(self, name: str, claims: list[Claim], made: list[dict[str, Any]]) -> dict[str, Any]:
        models = self.models_of(name)
        trained = self.sweep()
        seconds = [r["seconds"] for model in models for r in trained.records(model)]
        datasets = {m.model.dataset for m in self.measurements[name] if m.model is not None}
        return {
            "experiment": name,
            "title": self.experiments[name].title,
            "scale": self.scale,
            "command": f"onr reproduce {name} --scale {self.scale}",
            "onr": __version__,
            "versions": united(found["versions"] for found in made),
            "hardware": sorted({found["hardware"] for found in made}),
            "seconds": {
                "training": round(sum(seconds), 1),
                "measuring": round(sum(found["seconds"] for found in made), 1),
            },
            "claims": [
                {
                    **asdict(claim),
                    "value": finite_or_none(claim.value),
                    "asked": claim.asked,
                    "held": claim.held,
                }
                for claim in claims
            ],
            "models": {
                model: {k: v for k, v in flat(config).items() if v is not None}
                for model, config in models.items()
            },
            "data": {k: v for k, v in self._data().items() if k in datasets},
        }

    def _stored(self, measurement: Measurement) -> dict[str, Any]:
        file = self._file(key(measurement))
        if not file.exists():
            raise OnrError(f"measurement {file.stem} ({measurement.name}) has not been made")
        found = _read(file)
        if found.get("digest") != rows_digest(found.get("rows")):
            raise OnrError(f"{file} is damaged: delete it, and the same command measures again")
        return found

    def _file(self, name: str) -> Path:
        return self.out / "measurements" / f"{name}.json"


def _digest(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.test):
        for array in map(np.asarray, (part.images, part.labels)):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise OnrError(f"{file} is damaged ({error}): delete it and run the same command") from None
    return found


def united(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """All values that occur under each name, joined by commas.

    Example:
        >>> united([{"numpy": "2.0", "torch": "2.5"}, {"numpy": "2.1"}])
        {'numpy': '2.0, 2.1', 'torch': '2.5'}

    """
    values: dict[str, list[str]] = {}
    for known in found:
        for name, value in known.items():
            if value not in values.setdefault(name, []):
                values[name].append(value)
    return {name: ", ".join(each) for name, each in values.items()}
