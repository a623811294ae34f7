"""The training loop, shared by every backend and every method.

The loop knows methods and backends only through their protocols. All randomness is derived from
``(seed, epoch, step)``: a run that was stopped anywhere and resumed takes the same steps.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from onr.arrays import array_namespace, to_numpy
from onr.data import Split, validation_split
from onr.errors import ImageError, NotAvailableError, OnrError
from onr.measurements.accuracy import share
from onr.measurements.attack_outcomes import attack_outcome
from onr.measurements.perturbations import paper_attack
from onr.measurements.predictions import logits
from onr.protocols import Attack, Moment, ScheduledMethod
from onr.registry import bare
from onr.training.averaging import WeightAverage
from onr.training.checkpoints import AVERAGED, MODEL, Checkpoint
from onr.training.collapse import collapse, median_rho
from onr.training.config import TrainConfig
from onr.training.config_hash import config_hash, flat
from onr.training.factories import (
    make_backend,
    make_dataset,
    make_method,
    make_network,
    open_model,
    run_record,
    trained_ball,
)
from onr.training.layered_config import absolute
from onr.training.loaded_images import LoadedImages
from onr.training.runs import LAST, Run
from onr.training.sanity import at_chance, class_distance
from onr.training.schedules import require_no_length, schedule
from onr.typing import Array

if TYPE_CHECKING:
    from onr.training.events import Events

__all__ = ["Training", "lengthened", "open_or_create", "resumed", "run_training"]

SAVE_SECONDS = 300.0
"""The seconds after which a step also writes a checkpoint, besides the end of each epoch."""
DIGESTED = 100
"""How many training images a checkpoint has a hash of."""
CHECK_STEPS = 50
"""How many steps lie between two checks of the cost. A check waits for the device."""


class Training:
    """The state of a run in training: data, network, method and progress.

    Args:
        config: what to train; :meth:`resume` then continues from a checkpoint.

    Raises:
        OnrError: a name or an option of the configuration cannot be resolved, or the data set has
            too few images.

    Example:
        >>> training = Training(TrainConfig(backend="numpy", dataset="digits", epochs=1))
        >>> training.finish(open_or_create(training.config, training, tmp_path / "run"))
        >>> training.step == training.steps, len(training.records)
        (True, 1)

    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        model = open_model(config)
        self.dataset = make_dataset(config, model)
        self.backend = make_backend(config)
        self.method = make_method(config)
        fit, self.validation = validation_split(self.dataset.train)
        if len(fit) == 0:
            name = bare(config.dataset)
            raise OnrError(f"data set {name}: one image is too few to train and validate")
        self.fit = fit.take(config.train_images)
        self.learner = self.backend.learner(
            make_network(config, self.backend, self.dataset, model=model),
            self.method,
            self.fit,
            optimizer=config.optimizer_settings(),
            augmentation=config.augment or self.dataset.augmentation,
        )
        self._data = _digest(self.fit)
        self.records: list[dict[str, Any]] = []
        whole, left = divmod(len(self.fit), config.batch_size)
        self.steps = max(1, whole + (left > 1))
        """The number of steps in one epoch. The last batch takes what is left: it may be smaller
        than the others, or one example larger, since no batch is a single example that is left.
        """
        self.step = 0
        """The number of steps taken so far, over all epochs."""
        self._rate = schedule(config.schedule)
        self._order: np.ndarray | None = None  # the order of the examples in this epoch
        self._costs: list[float] = []  # one for each checked step of this epoch
        self._recent: list[Array] = []  # costs of later steps, perhaps still on the device
        self._seconds = 0.0  # time spent on this epoch before the run was last resumed
        self._average: WeightAverage | None = None
        if config.average is not None:
            self._average = WeightAverage(config.average, self.learner.weights())
        self._ball = trained_ball(config, self.method)
        self._attack = self._validation_attack()
        self._try_method()

    def _try_method(self) -> None:
        """Let the method search at two images, so that one that cannot is refused before a step.

        An attack may need another backend, another kind of images or a norm that can be sampled.
        """
        network, rng = self.learner.network, np.random.default_rng(0)
        x, y = LoadedImages(network, self.fit.images)[:2], network.asarray(self.fit.labels[:2])
        with contextlib.suppress(ImageError):  # the first step finds that training diverged
            self.method.perturb(network.frozen(), x, y, rng=rng, memory=None)

    def warnings(self) -> list[str]:
        """Sentences about settings that are probably mistakes, such as an eps that is too large."""
        if self._ball is None:
            return []
        norm, eps = self._ball
        distance = class_distance(self.fit, norm)
        if eps <= distance / 2:
            return []
        return [
            f"eps = {eps:g} is more than half the distance, for p = {norm.name}, between images of "
            f"different classes ({distance:.3g}, median): no classifier is that robust; pixels are "
            "in [0, 1], so perhaps divide it by 255"
        ]

    def resume(self, run: Run) -> None:
        """Continue from the run's checkpoint; without a checkpoint, start from the beginning.

        Raises:
            OnrError: the checkpoint is damaged, does not fit the configuration or the training
                images, or is further than the configuration's number of epochs.

        """
        if not (run.path / LAST).exists():
            return
        checkpoint = run.load()
        tensors = dict(checkpoint.tensors)
        try:
            data = tensors.pop("training.data", self._data)
            self._costs = tensors.pop("training.costs").tolist()
            self._seconds = float(tensors.pop("training.seconds"))
            if self._average is not None:
                names = self._average.weights.keys()
                self._average.load_state({name: tensors.pop(AVERAGED + name) for name in names})
            self.learner.load_state(tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            raise OnrError(f"{run.path}: the checkpoint does not fit the run: {error}") from error
        if not np.array_equal(data, self._data):
            raise OnrError(
                f"{run.path}: the training images of {bare(self.config.dataset)} or their labels "
                "are not those that the run was trained on: bring these back, or start a new run"
            )
        begun = math.ceil(checkpoint.step / self.steps)
        if begun > self.config.epochs:
            raise OnrError(
                f"epochs = {self.config.epochs}: {run.path} has taken steps of epoch {begun}, so "
                f"give at least {begun}"
            )
        self.records, self.step = checkpoint.records, checkpoint.step

    def finish(
        self,
        run: Run,
        on_step: Callable[[int, int], None] = lambda epoch, step: None,
        on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        """Take the remaining steps; save after each epoch and every five minutes.

        If several processes train one network together, only the process of rank 0 saves.

        Args:
            run: the run to save to.
            on_step: called with the epoch (from 0) and the number of steps taken in that epoch.
            on_epoch: called with the record of each epoch, after it is saved.

        Raises:
            OnrError: the cost or a parameter is no longer finite; the last good checkpoint is kept.

        """
        if self.records and self.backend.rank == 0:
            run.record(self.records)  # a kill between checkpoint and record leaves it out of date
        events = self._events(run)
        started, saved = time.monotonic() - self._seconds, time.monotonic()
        while len(self.records) < self.config.epochs:
            epoch, step = divmod(self.step, self.steps)
            if len(self.records) < epoch:
                self._seconds = time.monotonic() - started
                record = self._record(epoch)
                best = _is_best(record, self.records)
                best_averaged = self._average is not None and _is_best(
                    record, self.records, "averaged_"
                )
                self.records.append(record)
                started, self._seconds, self._costs = time.monotonic(), 0.0, []
                self._save(run, best=best, best_averaged=best_averaged)
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
        steps = config.epochs * self.steps
        progress = (self.step + 0.5) / steps
        given: dict[str, Any] = {}
        if isinstance(self.method, ScheduledMethod):
            given["method"] = self.method.at_moment(Moment(self.step, self.step / steps))
        stop = (step + 1) * config.batch_size if step + 1 < self.steps else len(self._order)
        try:
            cost = self.learner.step(
                self._order[step * config.batch_size : stop],
                lr=config.lr * self._rate(progress),
                rng=np.random.default_rng([config.seed, epoch, step]),
                **given,
            )
        except ImageError as error:  # a loss that finds NaN, before the cost is looked at
            raise self._diverged("a logit is no longer a number") from error
        self._recent.append(cost)
        self.step += 1
        if self._average is not None:
            self._average.update(self.learner.weights(), step=self.step)

    def _check_costs(self) -> None:
        if self._recent:  # in one piece: each look at another device waits for it
            stacked = array_namespace(self._recent[0]).stack(self._recent)
            self._costs += to_numpy(stacked).tolist()
        self._recent = []
        if not np.isfinite(self._costs).all():
            raise self._diverged("the cost is no longer finite")

    def _diverged(self, why: str) -> OnrError:
        return OnrError(
            f"training diverged in epoch {len(self.records) + 1} ({why}): try a smaller lr, eps "
            "or lam"
        )

    def _record(self, epoch: int) -> dict[str, Any]:
        self._check_costs()
        try:
            return self._measured(epoch)
        except ImageError as error:
            raise self._diverged(f"validation {error}") from error

    def _measured(self, epoch: int) -> dict[str, Any]:
        record: dict[str, Any] = {"epoch": epoch, "cost": float(np.mean(self._costs))}
        record |= self._accuracies(epoch)
        if self._average is not None:
            with self.learner.holding(self._average.weights):
                averaged = self._accuracies(epoch)
            record |= {f"averaged_{name}": value for name, value in averaged.items()}
        labels = self.validation.labels
        collapsed = collapse(record, self.records, images=self._attacked)
        if 4 * epoch >= self.config.epochs and at_chance(record["validation_accuracy"], labels):
            record["warning"] = (
                "validation accuracy is at chance: try a smaller lr, eps or lam, or more epochs"
            )
        elif collapsed is not None:
            record["warning"] = collapsed
        return record | {"seconds": round(self._seconds, 3)}

    def _accuracies(self, epoch: int) -> dict[str, float]:
        """The accuracy of the learner's network on the validation images, clean and attacked.

        The record also has :func:`onr.training.collapse.median_rho` of the images that are
        attacked.
        """
        network = self.learner.network.frozen()
        labels = self.validation.labels
        x = LoadedImages(self.learner.network, self.validation.images)
        clean = logits(network, x).argmax(axis=1) == labels
        found = {"validation_accuracy": share(clean)[0]}
        if self._ball is None:
            return found
        (norm, eps), count = self._ball, self._attacked
        some, y = x[:count], self.learner.network.asarray(labels[:count])
        rho = median_rho(network, some, y, p=norm, eps=eps)
        if rho is not None:
            found["validation_rho"] = rho
        if self._attack is not None:
            seed = self.config.seed, epoch
            outcome = attack_outcome(network, self._attack, some, y, norm=norm, seed=seed)
            found["validation_robust_accuracy"] = share(outcome.predicted == labels[:count])[0]
        return found

    @property
    def _attacked(self) -> int:
        """How many validation images are attacked after each epoch, from the first."""
        return min(len(self.validation), math.ceil(len(self.fit) / 40))

    def _validation_attack(self) -> Attack | None:
        """Ten steps of projected gradient ascent in the ball that the method trains for.

        ``None`` if the method has no such ball, or its norm cannot sample a random start.
        """
        if self._ball is None:
            return None
        norm, eps = self._ball
        try:
            norm.sample_ball(np.random.default_rng(0), (1, *self.dataset.input_shape))
        except NotAvailableError:
            return None
        return paper_attack(norm, eps, boxed=True)

    def _save(self, run: Run, *, best: bool = False, best_averaged: bool = False) -> None:
        if self.backend.rank != 0:
            return
        tensors = self.learner.state()
        if not all(np.isfinite(v).all() for k, v in tensors.items() if k.startswith(MODEL)):
            raise OnrError(
                f"training diverged in epoch {math.ceil(self.step / self.steps)} (a parameter is "
                "no longer finite): try a smaller lr, eps or lam"
            )
        if self._average is not None:
            tensors |= {AVERAGED + name: value for name, value in self._average.state().items()}
        tensors["training.data"] = self._data
        tensors["training.costs"] = np.array(self._costs)
        tensors["training.seconds"] = np.array(self._seconds)
        checkpoint = Checkpoint(tensors, self.step, self.records)
        run.save(checkpoint, best=best, best_averaged=best_averaged)


def _digest(part: Split) -> np.ndarray:
    """A hash of the labels and of a few images, evenly spaced, which tells other data."""
    few = np.linspace(0, len(part) - 1, min(len(part), DIGESTED)).astype(int)
    found = hashlib.sha256(part.labels.astype(np.int64).tobytes())
    found.update(np.ascontiguousarray(part.images[few]).tobytes())
    return np.frombuffer(found.digest(), np.uint8)


def open_or_create(config: TrainConfig, training: Training, path: Path) -> Run:
    """Open the run in a folder, or create one if the folder has none.

    Args:
        config: the configuration that an existing run must have.
        training: gives the method, for the record of a new run.
        path: the run's folder.

    Raises:
        OnrError: the folder holds a run of another configuration, or other files.

    Example:
        >>> config = TrainConfig(backend="numpy")
        >>> open_or_create(config, Training(config), tmp_path / "new").config["train"]["backend"]
        'numpy'

    """
    record = run_record(config, training.method)
    if training.backend.rank != 0:
        return Run(path, record)
    if not (path / "config.json").exists():
        return Run.create(path, record)
    run = Run.open(path)
    other = TrainConfig.read(run.config)
    if config_hash(other) != config_hash(config):
        mine, theirs = flat(config), flat(other)
        differ = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        way = ""
        if differ == ["epochs"]:
            resume = f"onr train --resume {quote(str(path))}"
            way = f", or lengthen it with {resume} --epochs {config.epochs}"
        raise OnrError(
            f"{path} holds a run with another {', '.join(differ)}: give another folder{way}"
        )
    return run


def lengthened(config: TrainConfig, epochs: int) -> TrainConfig:
    """The configuration of a run that goes on to another number of epochs.

    The run then ends with the weights of a run that had this number from the start.

    Raises:
        OnrError: the schedule of the learning rate, or the method, depends on the number of epochs.

    Example:
        >>> lengthened(TrainConfig(schedule="constant", epochs=20), 30).epochs
        30

    """
    if epochs != config.epochs:
        try:
            require_no_length(config.schedule)
            if isinstance(make_method(config), ScheduledMethod):
                raise OnrError(f"method {bare(config.method)} changes over all epochs")
        except OnrError as error:
            raise OnrError(
                f"epochs = {epochs}: the run has {config.epochs}, and {error}, so the steps that "
                "it has taken are not those of a run of another length: train a new run from its "
                f"weights, with --weights and --epochs {max(1, epochs - config.epochs)}, or one "
                f"from the start, with --epochs {epochs}"
            ) from None
    return replace(config, epochs=epochs)


@contextlib.contextmanager
def resumed(training: Training, run: Run) -> Iterator[None]:
    """Hold the lock of a run inside, with the training where the run's checkpoint stands.

    If the training has another number of epochs than the run had, the run's configuration is
    changed and keeps what it was (:meth:`onr.training.runs.Run.lengthened`). Of the processes that
    train one network together, only the first locks and writes.

    Raises:
        LockedError: another process trains the run.
        OnrError: the checkpoint is damaged, or the folder cannot be written to.

    """
    with run.locked() if training.backend.rank == 0 else contextlib.nullcontext():
        training.resume(run)
        epochs = training.config.epochs
        if training.backend.rank == 0 and epochs != TrainConfig.read(run.config).epochs:
            run.lengthened(epochs, done=len(training.records))
        yield


def run_training(
    config: TrainConfig,
    path: Path,
    *,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> Run:
    """Train to the end in a folder. A run of the same configuration in the folder is continued.

    Args:
        config: what to train.
        path: the run's folder.
        on_epoch: :meth:`Training.finish` describes it.
        on_warning: called with each thing that is doubtful about the configuration.

    Raises:
        OnrError: the folder holds another run, another process trains it, or training diverges.

    Example:
        >>> run = run_training(TrainConfig(backend="numpy", epochs=1), tmp_path / "trained")
        >>> [record["epoch"] for record in run.records()]
        [1]

    """
    config = absolute(config)
    training = Training(config)
    for warning in training.warnings():
        on_warning(warning)
    run = open_or_create(config, training, path)
    with resumed(training, run):
        training.finish(run, on_epoch=on_epoch)
    return run


def _is_best(record: dict[str, Any], others: list[dict[str, Any]], prefix: str = "") -> bool:
    """Whether the accuracy is above that of all others: under attack if measured, else clean.

    The prefix says of which weights.
    """

    def score(one: dict[str, Any]) -> float:
        clean: float = one[f"{prefix}validation_accuracy"]
        robust: float = one.get(f"{prefix}validation_robust_accuracy", clean)
        return robust

    return all(score(record) > score(other) for other in others)
