"""The training loop, once for every backend and every method.

The loop knows a method and a backend by their protocols alone. All randomness comes from
``(seed, epoch, step)``, so that a run that was stopped and resumed takes the same steps.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onr import __version__
from onr.data import AUGMENTATIONS, Dataset, Split, augment, pixels
from onr.errors import OnrError
from onr.evaluation import predict
from onr.options import call
from onr.protocols import Backend, Method, Network
from onr.registry import load, norm_spec, served
from onr.runs import Run

__all__ = ["TrainConfig", "Training", "one_cycle", "validation_split"]


@dataclass(frozen=True)
class TrainConfig:
    """All that determines a run; options of models and methods as the user wrote them."""

    backend: str = "torch"
    device: str = "cpu"
    dtype: str = "float32"
    dataset: str = "digits"
    data_dir: str = "data"
    download: bool = False
    train_images: int | None = None
    augment: str | None = None
    model: str = "mlp"
    model_options: dict[str, str] = field(default_factory=dict)
    method: str = "standard"
    method_options: dict[str, str] = field(default_factory=dict)
    epochs: int = 20
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float = 0.003
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("backend", "device", "dataset", "data_dir", "model", "method", "optimizer"):
            if not isinstance(getattr(self, name), str):
                raise OnrError(f"{name} = {getattr(self, name)!r}: expected text")
        for name in ("model_options", "method_options"):
            options = getattr(self, name)
            if not isinstance(options, dict) or not all(
                isinstance(v, str) for v in options.values()
            ):
                raise OnrError(f"{name} = {options!r}: expected texts by name")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise OnrError(f"{name} = {getattr(self, name)}: expected at least 1")
        if not 0 < self.lr < math.inf:
            raise OnrError(f"lr = {self.lr}: expected a positive number")
        if self.seed < 0:
            raise OnrError(f"seed = {self.seed}: expected a number >= 0")
        if self.dtype not in ("float32", "float64"):
            raise OnrError(f"dtype = {self.dtype!r}: expected float32 or float64")
        if self.augment not in (None, *AUGMENTATIONS):
            raise OnrError(
                f"augment = {self.augment!r}: expected one of {', '.join(AUGMENTATIONS)}"
            )

    @staticmethod
    def read(stored: dict[str, Any]) -> TrainConfig:
        """The configuration in a run's ``config.json``.

        Raises:
            OnrError: it is none.

        """
        try:
            return TrainConfig(**stored["train"])
        except (KeyError, TypeError) as error:
            raise OnrError(f"config.json is damaged or of another version: {error}") from error

    def dataset_object(self) -> Dataset:
        """Load the data set."""
        dataset: Dataset = load("dataset", self.dataset)(
            data_dir=Path(self.data_dir), download=self.download
        )
        return dataset

    def method_object(self) -> Method:
        """Build the method."""
        what = f"method {self.method}"
        method: Method = call(load("method", self.method), self.method_options, what=what)
        return method

    def backend_object(self) -> Backend:
        """Load the backend."""
        backend: Backend = load("backend", self.backend)()
        return backend

    def network(
        self, backend: Backend, dataset: Dataset, parameters: dict[str, np.ndarray] | None = None
    ) -> Network:
        """Build the model, with fresh parameters or with these."""

        def make() -> Any:
            return call(
                load("model", self.model),
                self.model_options,
                dataset.input_shape,
                len(dataset.classes),
                what=f"model {self.model}",
                normalize=dataset.normalization(),
            )

        return backend.build(
            make, seed=self.seed, parameters=parameters, dtype=self.dtype, device=self.device
        )

    def record(self, method: Method) -> dict[str, Any]:
        """What ``config.json`` holds: this, resolved; the versions; who served each name."""
        names = {
            "backend": self.backend,
            "dataset": self.dataset,
            "model": self.model,
            "method": self.method,
        }
        # Infinity is no JSON: it is written as users write it.
        settings = {k: "inf" if v == math.inf else v for k, v in method.settings.items()}
        for option in ("p", "q"):
            if option in settings:
                names[f"norm/{option}"] = norm_spec(
                    self.method_options.get(option, str(settings[option]))
                )
        if "loss" in settings:
            names["loss"] = self.method_options.get("loss", str(settings["loss"]))
        return {
            "onr": __version__,
            "versions": versions(),
            "served": served(names),
            "settings": settings,
            "train": asdict(self),
        }


def versions() -> dict[str, str]:
    """Of what the numbers of a run depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("numpy", "torch", "torchvision", "scikit-learn"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def validation_split(train: Split) -> tuple[Split, Split]:
    """The training part without its last tenth (at most 1,000 images), and that tenth."""
    count = min(1000, max(1, len(train) // 10))
    return (
        Split(train.images[:-count], train.labels[:-count]),
        Split(train.images[-count:], train.labels[-count:]),
    )


def one_cycle(progress: float, peak: float) -> float:
    """A learning rate that rises linearly for the first 30 % of training and falls to zero."""
    return peak * (progress / 0.3 if progress < 0.3 else (1 - progress) / 0.7)


class Training:
    """A run in progress: made from a configuration, or from a run's folder to continue it."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.dataset = config.dataset_object()
        self.backend = config.backend_object()
        self.method = config.method_object()
        fit, self.validation = validation_split(self.dataset.train)
        if len(fit) == 0:
            raise OnrError(f"data set {config.dataset}: one image is too few to train and validate")
        self.fit = fit.take(config.train_images)
        self.augmentation = config.augment or self.dataset.augmentation
        network = config.network(self.backend, self.dataset)
        self.learner = self.backend.learner(network, self.method, optimizer=config.optimizer)
        self.records: list[dict[str, Any]] = []

    @property
    def steps(self) -> int:
        """Steps in one epoch; the last batch may be smaller."""
        return math.ceil(len(self.fit) / self.config.batch_size)

    def resume(self, run: Run) -> None:
        """Continue from the run's checkpoint; from the start if it has none."""
        if not (run.path / "checkpoint.safetensors").exists():
            return
        tensors, epoch = run.load()
        try:
            self.learner.load_state(tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            raise OnrError(f"{run.path}: the checkpoint does not fit the run: {error}") from error
        self.records = run.records()[:epoch]
        if len(self.records) < epoch:
            # Stopped between the checkpoint and its record: the epoch is done, its numbers lost.
            self.records += [{"epoch": k} for k in range(len(self.records) + 1, epoch + 1)]

    def finish(
        self,
        run: Run,
        on_step: Callable[[int, int], None] = lambda epoch, step: None,
        on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        """Run the epochs that are left, saving after each.

        Args:
            run: where to save.
            on_step: called with the epoch (from 0) and the steps done in it.
            on_epoch: called with each epoch's record, once it is saved.

        Raises:
            OnrError: the cost is no longer finite; the last good checkpoint is kept.

        """
        for epoch in range(len(self.records), self.config.epochs):
            self.records.append(self._epoch(epoch, on_step))
            run.save(self.learner.state(), self.records)
            on_epoch(self.records[-1])

    def _epoch(self, epoch: int, on_step: Callable[[int, int], None]) -> dict[str, Any]:
        config, start = self.config, time.perf_counter()
        order = np.random.default_rng([config.seed, epoch]).permutation(len(self.fit))
        costs = []
        for step in range(self.steps):
            rng = np.random.default_rng([config.seed, epoch, step])
            batch = order[step * config.batch_size : (step + 1) * config.batch_size]
            images = augment(self.fit.images[batch], self.augmentation, rng)
            progress = (epoch * self.steps + step + 1) / (config.epochs * self.steps)
            cost = self.learner.step(
                pixels(images, config.dtype),
                self.fit.labels[batch],
                lr=one_cycle(progress, config.lr),
                rng=rng,
            )
            costs.append(cost)
            on_step(epoch, step + 1)
        parameters = self.backend.parameters(self.learner.network)
        cost = float(np.mean([float(self.backend.to_numpy(c)) for c in costs]))
        if not math.isfinite(cost) or not all(np.isfinite(v).all() for v in parameters.values()):
            raise OnrError(
                f"training diverged in epoch {epoch + 1} (cost {cost}): "
                "try a smaller lr, eps or lam"
            )
        guessed = predict(self.backend, self.learner.network, self.validation.images)
        return {
            "epoch": epoch + 1,
            "cost": cost,
            "validation_accuracy": float(np.mean(guessed == self.validation.labels)),
            "seconds": round(time.perf_counter() - start, 3),
        }
