"""A model to measure, with the data set to measure on: from a training run, or by name."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onr.data import Split
from onr.errors import OnrError, UnknownNameError
from onr.registry import bare, registry
from onr.training.config import TrainConfig
from onr.training.factories import (
    make_backend,
    make_dataset,
    make_network,
    model_source,
    open_model,
)
from onr.training.layered_config import absolute
from onr.training.loaded_images import LoadedImages
from onr.training.runs import Run
from onr.typing import Array

__all__ = ["Subject", "open_run", "open_subject", "require_model"]


class Subject:
    """A model to measure, with its data set.

    Args:
        config: names the model, the data set and the backend.
        parameters: the weights by name. If not given, they are read from ``config.weights``; if
            that is ``None`` too, they are drawn from the configuration's seed.
        run: the training run that the model comes from, if any.
        epochs: the number of finished epochs of that run.
        best: whether the weights are those of its best epoch.
        averaged: whether the weights are averages over the steps of training.

    Example:
        >>> subject = Subject(TrainConfig(backend="numpy", dataset="digits"))
        >>> x, y = subject.batch(4)
        >>> x.shape, subject.network(x).shape, subject.drawn
        ((4, 1, 8, 8), (4, 10), True)

    """

    def __init__(
        self,
        config: TrainConfig,
        parameters: Mapping[str, np.ndarray] | None = None,
        *,
        run: Run | None = None,
        epochs: int | None = None,
        best: bool = False,
        averaged: bool = False,
    ) -> None:
        # bfloat16 is for training only: its rounding errors would dominate the measurements.
        dtype = "float32" if config.dtype == "bfloat16" else config.dtype
        self.config = replace(config, dtype=dtype)
        self.run, self.epochs, self.best, self.averaged = run, epochs, best, averaged
        model, own = open_model(config), parameters is None and config.weights is None
        self.dataset = make_dataset(config, model)
        backend = make_backend(config)
        built = make_network(self.config, backend, self.dataset, parameters, model)
        self.network = built.frozen()
        """The network, for :mod:`onr.measure` and every other function that takes a network."""
        self.source = model_source(model, pretrained=own)
        """Where a published model comes from, for records; ``None`` for other models."""
        self.drawn = own and self.source is None
        """True if no weights were read: the model's code made them, or they were drawn."""

    @functools.cached_property
    def untrained(self) -> Subject:
        """The same model with weights that are drawn from the seed of the configuration."""
        return Subject(replace(self.config, weights=None))

    def record(self, part: str = "test") -> dict[str, Any]:
        """The model and the part of the data set, as records of measurements have them."""
        config = self.config
        return {
            "run": None if self.run is None else self.run.config,
            "model": config.model,
            "model_options": config.model_options,
            "weights": config.weights,
            "model_source": self.source,
            "dataset": config.dataset,
            "preparation": self.dataset.preparation,
            "epochs": self.epochs,
            "best": self.best,
            "averaged": self.averaged,
            "dtype": config.dtype,
            "part": part,
        }

    def part(self, part: str = "test", count: int | None = None) -> Split:
        """The first images of a part of the data set, as they are stored.

        Args:
            part: ``test``, or ``validation``, on which no run trains.
            count: how many images; all if not given.

        Raises:
            OnrError: the data set has no such part, or the part has fewer than ``count`` images.

        """
        held = self.dataset.part(part)
        if count is not None and not 1 <= count <= len(held):
            raise OnrError(
                f"the {part} part of {bare(self.config.dataset)} has {len(held)} images, {count} "
                "are asked for"
            )
        return held.take(count)

    def inputs(self, count: int | None = None, part: str = "test") -> tuple[LoadedImages, Array]:
        """Images and labels, as measurements take them. A slice of the images is loaded when used.

        Raises:
            OnrError: the data set has no such part, or the part has fewer than ``count`` images.

        """
        held = self.part(part, count)
        return LoadedImages(self.network, held.images), self.network.asarray(held.labels)

    def batch(self, count: int, part: str = "test") -> tuple[Array, Array]:
        """The first images and their labels as arrays of the network's backend.

        Raises:
            OnrError: the data set has no such part, or the part has fewer than ``count`` images.

        """
        x, y = self.inputs(count, part)
        return x[:count], y


def open_run(
    path: str | Path,
    /,
    *,
    best: bool = False,
    averaged: bool = False,
    device: str | None = None,
    data_dir: str | Path | None = None,
) -> Subject:
    """Open a training run to measure its model.

    Args:
        path: the run's folder.
        best: take the epoch of best validation accuracy instead of the last epoch.
        averaged: take the averages of the weights over the steps of training, which a run with the
            setting ``average`` keeps; with ``best``, those of the epoch in which they were best.
        device: where to compute; the device of training if not given.
        data_dir: the folder of the data set; the folder used in training if not given.

    Returns:
        The model (``.network``), its data set (``.batch(100)``), configuration and run.

    Raises:
        OnrError: the folder holds no run, or the run has no checkpoint, or the checkpoint is
            damaged or holds no averages.

    Example:
        >>> from onr.training.loop import run_training
        >>> run = run_training(TrainConfig(backend="numpy", epochs=1), tmp_path / "run")
        >>> subject = open_run(run.path)
        >>> subject.epochs, subject.config.method
        (1, 'onr_paper:standard')

    """
    if not isinstance(path, str | os.PathLike):
        raise OnrError(f"path = {path!r}: expected the folder of a run")
    run = Run.open(Path(path))
    parameters, epochs = run.model(best=best, averaged=averaged)
    place = None if data_dir is None else str(data_dir)
    moved: dict[str, Any] = {"device": device, "data_dir": place}
    known = {name: value for name, value in moved.items() if value is not None}
    config = replace(TrainConfig.read(run.config), **known)
    return Subject(config, parameters, run=run, epochs=epochs, best=best, averaged=averaged)


def require_model(target: str, /) -> None:
    """Check that a text which is no folder of a run names a model.

    Raises:
        UnknownNameError: it names none.

    """
    try:
        registry().resolve("model", target)
    except UnknownNameError as error:
        raise UnknownNameError(f"{target} is no folder of a run, and {error}") from error


def open_subject(
    target: str,
    /,
    *,
    model_options: Mapping[str, str],
    weights: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    device: str | None = None,
    download: bool = False,
    best: bool = False,
    averaged: bool = False,
) -> Subject:
    """Open a run by its folder, or a model by its name, as ``onr evaluate`` and ``onr measure`` do.

    Args:
        target: the folder of a run, or a model as ``onr train --model`` takes it.
        model_options: options of the model; must be empty for a run.
        weights: a file or run to read weights from; not allowed for a run.
        dataset: the data set of a model, ``digits`` if not given; not allowed for a run.
        data_dir: the folder of data sets.
        device: where to compute.
        download: whether a published model or a data set may be fetched; ignored for a run.
        best: whether to open the best epoch of a run; not allowed for a model.
        averaged: whether to open the averaged weights of a run; not allowed for a model.

    Raises:
        OnrError: an option does not fit the kind of ``target``, or no run or model has that name.

    Example:
        >>> from onr.training.loop import run_training
        >>> run = run_training(TrainConfig(backend="numpy", epochs=1), tmp_path / "opened")
        >>> open_subject(str(run.path), model_options={}).epochs
        1

    """
    given: dict[str, Any] = {"dataset": dataset, "data_dir": data_dir, "device": device}
    given = {name: value for name, value in given.items() if value is not None}
    if not Path(target).is_dir():
        if best:
            raise OnrError(f"--best chooses an epoch of a run, {target} is no run: leave it out")
        if averaged:
            raise OnrError(f"--averaged chooses weights of a run, {target} is no run: leave it out")
        options = dict(model_options)
        given |= {"weights": weights, "download": download}
        config = TrainConfig(model=target, model_options=options, **given)
        require_model(target)
        return Subject(absolute(config))
    own = {"--weights": weights, "--model-option": model_options, "--dataset": dataset}
    named = [flag for flag, value in own.items() if value]
    if named:
        raise OnrError(f"{target} is a run, which has its own: leave out {', '.join(named)}")
    return open_run(target, best=best, averaged=averaged, device=device, data_dir=data_dir)
