"""A model and the data around which it is measured: a training run, or a model by its name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onr.data import Split
from onr.errors import OnrError
from onr.training.config import TrainConfig
from onr.training.factories import make_backend, make_dataset, make_network
from onr.training.images import LoadedImages
from onr.training.layers import absolute
from onr.training.runs import Run
from onr.typing import Array

__all__ = ["Subject", "open_model", "open_run", "open_subject"]


class Subject:
    """A model to measure, with its data set.

    Args:
        config: names the model, the data set and the backend.
        parameters: its weights by name; if not given those of ``config.weights``, else fresh ones
            that are drawn from the configuration's seed.
        run: the training run that the model comes from, if it comes from one.
        epochs: the whole epochs that it was trained for, if it comes from a run.

    """

    def __init__(
        self,
        config: TrainConfig,
        parameters: Mapping[str, np.ndarray] | None = None,
        *,
        run: Run | None = None,
        epochs: int | None = None,
    ) -> None:
        # bfloat16 is for training: its rounding would blunt what is measured.
        dtype = "float32" if config.dtype == "bfloat16" else config.dtype
        self.config = replace(config, dtype=dtype)
        self.run, self.epochs = run, epochs
        self.drawn = parameters is None and config.weights is None
        """Whether no weights were read: they are those that the model's code made or drew."""
        self.backend = make_backend(config)
        self.dataset = make_dataset(config)
        built = make_network(self.config, self.backend, self.dataset, parameters)
        self._built = built
        self.network = built.frozen()
        """The model, ready for :mod:`onr.measure` and all other functions that take a network."""

    @property
    def origin(self) -> str:
        """Where the weights come from: a run, a file, or the model's own code."""
        if self.run is not None:
            return f"{self.run.path}, {self.epochs} epochs"
        return str(self.config.weights) if self.config.weights is not None else "the model's code"

    @functools.cached_property
    def untrained(self) -> Subject:
        """The same model as it is drawn from the configuration's seed."""
        return Subject(self.config)

    def part(self, part: str = "test", count: int | None = None) -> Split:
        """The first images of the ``test`` or ``validation`` part of the data set, as stored.

        Args:
            part: ``test``, or ``validation``, on which no run trains.
            count: how many; all if not given.

        Raises:
            OnrError: there is no such part, or it has fewer images.

        """
        held = self.dataset.part(part)
        if count is not None and not 1 <= count <= len(held):
            raise OnrError(
                f"the {part} part of {self.config.dataset} has {len(held)} images, {count} are "
                "asked for"
            )
        return held.take(count)

    def inputs(self, count: int | None = None, part: str = "test") -> tuple[LoadedImages, Array]:
        """Images, loaded as they are needed, and their labels: what every measurement takes.

        Raises:
            OnrError: as :meth:`part`.

        """
        held = self.part(part, count)
        return LoadedImages(self._built, held.images), self._built.asarray(held.labels)

    def batch(self, count: int, part: str = "test") -> tuple[Array, Array]:
        """The first images and their labels as arrays of the network's backend.

        Raises:
            OnrError: as :meth:`part`.

        """
        x, y = self.inputs(count, part)
        return x[:count], y


def open_run(
    path: str | Path,
    /,
    *,
    best: bool = False,
    device: str | None = None,
    data_dir: str | Path | None = None,
) -> Subject:
    """Open a training run to measure its model.

    Args:
        path: the run's folder.
        best: take the epoch of best validation accuracy, not the last one.
        device: where to compute; where it was trained if not given.
        data_dir: where the data set is; where it was in training if not given.

    Returns:
        The model (``.network``), its data set (``.batch(100)``), configuration and run.

    Raises:
        OnrError: the folder holds no run, no checkpoint, or a damaged one.

    """
    run = Run.open(Path(path))
    parameters, epochs = run.model(best=best)
    place = None if data_dir is None else str(data_dir)
    moved: dict[str, Any] = {"device": device, "data_dir": place}
    known = {name: value for name, value in moved.items() if value is not None}
    config = replace(TrainConfig.read(run.config), **known)
    return Subject(config, parameters, run=run, epochs=epochs)


def open_model(config: TrainConfig, /) -> Subject:
    """A model by its name, around the images of a data set, both as a configuration names them."""
    return Subject(absolute(config))


def open_subject(
    target: str,
    /,
    *,
    model_options: Mapping[str, str],
    weights: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    device: str | None = None,
    best: bool = False,
) -> Subject:
    """The run in a folder, or a model by its name: what ``onr evaluate`` and ``onr measure`` take.

    Args:
        target: the folder of a run, or a model as for ``onr train --model``.
        model_options: options of the model; none for a run.
        weights: a file or run to read weights from; none for a run.
        dataset: the data set; a run's own if not given, else ``digits``.
        data_dir: where data sets are.
        device: where to compute.
        best: a run's best epoch; not for a model.

    Raises:
        OnrError: an option does not fit what ``target`` is, or nothing of that name is there.

    """
    given: dict[str, Any] = {"dataset": dataset, "data_dir": data_dir, "device": device}
    given = {name: value for name, value in given.items() if value is not None}
    if not Path(target).is_dir():
        if best:
            raise OnrError(f"--best chooses an epoch of a run, {target} is no run: leave it out")
        options = dict(model_options)
        return open_model(
            TrainConfig(model=target, model_options=options, weights=weights, **given)
        )
    own = {"--weights": weights, "--model-option": model_options, "--dataset": dataset}
    named = [flag for flag, value in own.items() if value]
    if named:
        raise OnrError(f"{target} is a run, which has its own: leave out {', '.join(named)}")
    return open_run(target, best=best, device=device, data_dir=data_dir)
