"""The training loop, once for every backend and every method.

The loop knows a method and a backend by their protocols alone. All randomness comes from
``(seed, epoch, step)``, so that a run that was stopped anywhere and resumed takes the same steps.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onr import __version__
from onr.data import AUGMENTATIONS, Dataset, Split
from onr.errors import NotAvailableError, OnrError
from onr.measurements.accuracy import attack_outcome, predict
from onr.protocols import Array, Attack, Backend, Method, Network, Norm
from onr.registry import load, norm_spec, served
from onr.registry import norm as norm_named
from onr.text import call
from onr.training.optimizers import Optimizer
from onr.training.runs import LAST, Checkpoint, Run
from onr.training.sanity import at_chance, class_distance
from onr.training.schedules import schedule

if TYPE_CHECKING:
    from onr.training.events import Events

__all__ = ["TrainConfig", "Training", "validation_split"]

SAVE_SECONDS = 300.0
"""How much work a crash may cost, epochs aside."""
CHECK_STEPS = 50
"""How often the cost is looked at, which waits for the device."""
DTYPES = ("float32", "float64", "bfloat16")
FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (float, int),
    "bool": (bool,),
    "dict[str, str]": (dict,),
}
TYPE_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "texts by name",
    type(None): "nothing",
}


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
    weights: str | None = None
    method: str = "standard"
    method_options: dict[str, str] = field(default_factory=dict)
    epochs: int = 20
    batch_size: int = 128
    optimizer: str = "adam"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    lr: float = 0.003
    schedule: str = "one-cycle"
    seed: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for known in fields(self):
            value, kinds = getattr(self, known.name), FIELD_TYPES[str(known.type)]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                names = " or ".join(TYPE_NAMES[kind] for kind in kinds)
                raise OnrError(f"{known.name} = {value!r}: expected {names}")
            if float in kinds and isinstance(value, int) and abs(value) > sys.float_info.max:
                raise OnrError(f"{known.name} is too large for a number")
        for name in ("model_options", "method_options"):
            options = getattr(self, name)
            if not all(isinstance(value, str) for value in options.values()):
                raise OnrError(f"{name} = {options!r}: expected texts by name")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise OnrError(f"{name} = {getattr(self, name)}: expected at least 1")
        if not 0 < self.lr < math.inf:
            raise OnrError(f"lr = {self.lr}: expected a positive number")
        if self.seed < 0:
            raise OnrError(f"seed = {self.seed}: expected a number >= 0")
        if self.dtype not in DTYPES:
            raise OnrError(f"dtype = {self.dtype!r}: expected one of {', '.join(DTYPES)}")
        self.optimizer_object()
        schedule(self.schedule)
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

    def ball(self, method: Method) -> tuple[Norm, float] | None:
        """The norm and the radius that the method trains for, if it says them."""
        settings = method.settings
        if not {"p", "eps"} <= settings.keys():
            return None
        # As the user wrote it, which may name the plugin too.
        return norm_named(self.method_options.get("p", str(settings["p"]))), float(settings["eps"])

    def optimizer_object(self) -> Optimizer:
        """The optimiser."""
        return Optimizer(self.optimizer, self.momentum, self.nesterov, self.weight_decay)

    def backend_object(self) -> Backend:
        """Load the backend."""
        backend: Backend = load("backend", self.backend)()
        return backend

    def network(
        self, backend: Backend, dataset: Dataset, parameters: dict[str, np.ndarray] | None = None
    ) -> Network:
        """Build the model, with these parameters, with those in ``weights``, or with fresh ones."""
        if parameters is None and self.weights is not None:
            parameters = backend.read_parameters(Path(self.weights))

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
        self.learner = self.backend.learner(
            config.network(self.backend, self.dataset),
            self.method,
            self.fit,
            optimizer=config.optimizer_object(),
            augmentation=config.augment or self.dataset.augmentation,
        )
        self.records: list[dict[str, Any]] = []
        self.steps = math.ceil(len(self.fit) / config.batch_size)
        """Steps in one epoch; the last batch may be smaller."""
        self.step = 0
        """Steps done in all."""
        self._rate = schedule(config.schedule)
        self._order: np.ndarray | None = None  # of this epoch's examples
        self._costs: list[float] = []  # of this epoch's steps
        self._recent: list[Array] = []  # the last of them, perhaps still on the device
        self._seconds = 0.0  # of this epoch before the last resumption
        self._ball = config.ball(self.method)
        self._attack = self._validation_attack()

    def warnings(self) -> list[str]:
        """What is odd about the configuration, in words."""
        if self._ball is None:
            return []
        norm, eps = self._ball
        distance = class_distance(self.fit, norm)
        if eps <= distance / 2:
            return []
        return [
            f"eps = {eps:g} is more than half the {norm.name}-norm distance between images of "
            f"different classes ({distance:.3g}, median): no classifier is that robust; pixels are "
            "in [0, 1], so perhaps divide it by 255"
        ]

    def resume(self, run: Run) -> None:
        """Continue from the run's checkpoint; from the start if it has none."""
        if not (run.path / LAST).exists():
            return
        checkpoint = run.load()
        tensors = dict(checkpoint.tensors)
        try:
            self._costs = tensors.pop("training.costs").tolist()
            self._seconds = float(tensors.pop("training.seconds"))
            self.learner.load_state(tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            raise OnrError(f"{run.path}: the checkpoint does not fit the run: {error}") from error
        self.records, self.step = checkpoint.records, checkpoint.step

    def finish(
        self,
        run: Run,
        on_step: Callable[[int, int], None] = lambda epoch, step: None,
        on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        """Take the steps that are left, saving after each epoch and every five minutes.

        Of the processes that train one network together, only the first saves.

        Args:
            run: where to save.
            on_step: called with the epoch (from 0) and the steps done in it.
            on_epoch: called with each epoch's record, once it is saved.

        Raises:
            OnrError: the cost is no longer finite; the last good checkpoint is kept.

        """
        if self.records and self.backend.rank == 0:
            run.record(self.records)  # perhaps it was killed between the checkpoint and the record
        events = self._events(run)
        started, saved = time.monotonic() - self._seconds, time.monotonic()
        while len(self.records) < self.config.epochs:
            epoch, step = divmod(self.step, self.steps)
            if len(self.records) < epoch:
                self._seconds = time.monotonic() - started
                record = self._record(epoch)
                best = all(_score(record) > _score(other) for other in self.records)
                self.records.append(record)
                started, self._seconds, self._costs = time.monotonic(), 0.0, []
                self._save(run, best=best)
                saved = time.monotonic()
                if events is not None:
                    events.add(record)
                on_epoch(record)
                continue
            self._take_step(epoch, step)
            on_step(epoch, step + 1)
            if self.step % CHECK_STEPS == 0:
                self._check_costs()
            if time.monotonic() - saved > SAVE_SECONDS:
                self._check_costs()
                self._seconds = time.monotonic() - started
                self._save(run)
                saved = time.monotonic()
        if events is not None:
            events.close()

    def _events(self, run: Run) -> Events | None:
        if not self.config.tensorboard or self.backend.rank != 0:
            return None
        from onr.training.events import Events

        return Events(run.path / "tensorboard", self.records)

    def _take_step(self, epoch: int, step: int) -> None:
        config = self.config
        if step == 0 or self._order is None:
            rng = np.random.default_rng([config.seed, epoch])
            self._order = rng.permutation(len(self.fit))
        progress = (self.step + 0.5) / (config.epochs * self.steps)
        cost = self.learner.step(
            self._order[step * config.batch_size : (step + 1) * config.batch_size],
            lr=config.lr * self._rate(progress),
            rng=np.random.default_rng([config.seed, epoch, step]),
        )
        self._recent.append(cost)
        self.step += 1

    def _check_costs(self) -> None:
        self._costs += [float(self.backend.to_numpy(cost)) for cost in self._recent]
        self._recent = []
        if not np.isfinite(self._costs).all():
            raise OnrError(
                f"training diverged in epoch {len(self.records) + 1} (the cost is no longer "
                "finite): try a smaller lr, eps or lam"
            )

    def _record(self, epoch: int) -> dict[str, Any]:
        self._check_costs()
        network = self.backend.frozen(self.learner.network)
        labels = self.validation.labels
        clean = predict(self.backend, network, self.validation.images) == labels
        record: dict[str, Any] = {
            "epoch": epoch,
            "cost": float(np.mean(self._costs)),
            "validation_accuracy": float(np.mean(clean)),
        }
        if self._attack is not None and self._ball is not None:
            part = self.validation.take(min(len(labels), math.ceil(len(self.fit) / 40)))
            outcome = attack_outcome(
                self.backend,
                network,
                self._attack,
                part.images,
                part.labels,
                norm=self._ball[0],
                seed=(self.config.seed, epoch),
            )
            record["validation_robust_accuracy"] = float(np.mean(outcome.predicted == part.labels))
        if 4 * epoch >= self.config.epochs and at_chance(record["validation_accuracy"], labels):
            record["warning"] = (
                "validation accuracy is at chance: try a smaller lr, eps or lam, or more epochs"
            )
        return record | {"seconds": round(self._seconds, 3)}

    def _validation_attack(self) -> Attack | None:
        """Ten steps of projected gradient ascent in the method's own ball, if it has one."""
        if self._ball is None:
            return None
        norm, eps = self._ball
        try:
            norm.sample_ball(np.random.default_rng(0), (1, *self.dataset.input_shape))
        except NotAvailableError:
            return None
        # Whatever else is installed under these names.
        loss = load("loss", "onr_paper:cross-entropy")()
        attack: Attack = load("attack", "onr_paper:pga")(p=norm, loss=loss, eps=eps, steps=10)
        return attack

    def _save(self, run: Run, *, best: bool = False) -> None:
        if self.backend.rank != 0:
            return
        tensors = self.learner.state()
        if not all(np.isfinite(v).all() for k, v in tensors.items() if k.startswith("model.")):
            raise OnrError(
                f"training diverged in epoch {math.ceil(self.step / self.steps)} (a parameter is "
                "no longer finite): try a smaller lr, eps or lam"
            )
        tensors["training.costs"] = np.array(self._costs)
        tensors["training.seconds"] = np.array(self._seconds)
        run.save(Checkpoint(tensors, self.step, self.records), best=best)


def _score(record: dict[str, Any]) -> float:
    """What the best epoch has most of."""
    score: float = record.get("validation_robust_accuracy", record["validation_accuracy"])
    return score
