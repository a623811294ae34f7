"""Evaluate a run or a model: accuracy under attack, with a JSON record and a CSV table."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.files import write_atomic
from onr.measurements.accuracy import (
    AttackOutcome,
    attack_outcome,
    largest_singular_values,
    logits,
    require_labels,
    share,
    target_classes,
)
from onr.plots import Curve
from onr.records import columns_as_rows, csv_table
from onr.registry import bare, norm_spec, served
from onr.text import attack_by_name
from onr.text import norm as norm_named
from onr.training.factories import norm_of_method, versions
from onr.training.subject import Subject

__all__ = ["Evaluation", "EvaluationConfig", "UnfinishedError", "evaluate"]

DEFAULT_IMAGES = 1000
USUAL_RADIUS = 0.5
PARTIAL = "evaluation.partial.json"
"""The file with the radii that are finished, as long as the evaluation is not."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure. Each field says what ``None`` stands for.

    Example:
        >>> EvaluationConfig(eps=(0.25, 0.5), steps=5).attack
        'onr_paper:pga'

    """

    eps: tuple[float, ...] | None = None
    """The radii of the attack. ``None`` takes 0.25, 0.5, 1 and 1.5 times the training radius in
    the norm ``p``. Without a training radius, p = 2 uses 0.5 instead; other norms need ``eps``.
    """
    p: str | None = None
    """The norm of the ball. ``None`` takes the norm of the training method, or 2."""
    attack: str = "onr_paper:pga"
    loss: str | None = None
    """What the attack ascends. ``None`` takes cross-entropy, targeted if there is a target."""
    steps: int | None = None
    """Iterations of the attack. ``None`` takes the attack's default, 20 for ``pga``."""
    restarts: int | None = None
    """Random starts of the attack. ``None`` takes the attack's default, 1 for ``pga``."""
    attack_options: Mapping[str, str] = field(default_factory=dict)
    """Further options of the attack, as text."""
    labels: str = "true"
    """Which labels the attack is given: ``true`` or ``predicted``."""
    target: str | None = None
    """The class that a targeted attack leads to: ``next``, ``random``, ``least-likely`` or a
    class number (:func:`onr.measurements.accuracy.target_classes`).
    """
    images: int | None = None
    """How many images, from the first. ``None`` takes all, at most 1,000."""
    part: str = "test"
    spectrum: int = 200
    """At how many images to compute the largest singular value."""
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """The measured values.

    Example:
        >>> record = {"run": None, "model": "mlp", "images": 100}
        >>> record |= {"eps": [0.0, 0.5], "accuracy": [0.9, 0.4]}
        >>> Evaluation(record, np.ones(2), trained_eps=None).curve
        Curve(name='mlp', eps=[0.0, 0.5], accuracy=[0.9, 0.4], count=100)

    """

    record: dict[str, Any]
    """The content of ``evaluation.json``."""
    sigma: np.ndarray
    """The largest singular value of the logits' Jacobian at each of the first images,
    ``(min(spectrum, images),)``.
    """
    trained_eps: float | None
    """The training radius; ``None`` if the run was not trained in the norm of the evaluation."""

    @property
    def name(self) -> str:
        """The name of the training method of a run, or of the model."""
        run = self.record["run"]
        return bare(self.record["model"] if run is None else run["train"]["method"])

    @property
    def curve(self) -> Curve:
        """Accuracy against eps, clean accuracy at eps = 0."""
        record = self.record
        return Curve(self.name, record["eps"], record["accuracy"], record["images"])


class UnfinishedError(OnrError):
    """An evaluation was interrupted, or cannot be written.

    Args:
        message: what happened.
        evaluation: what was measured: the radii that are finished.

    Example:
        >>> found = Evaluation({"eps": [0.0]}, np.ones(2), trained_eps=None)
        >>> UnfinishedError("interrupted", found).evaluation.record
        {'eps': [0.0]}

    """

    def __init__(self, message: str, evaluation: Evaluation) -> None:
        super().__init__(message)
        self.evaluation = evaluation


class _Finished:
    """The outcomes of the radii that are finished, also of an evaluation that was interrupted.

    Args:
        path: the file that keeps them.
        key: what they depend on; outcomes of another key do not count.

    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self._path = path
        self._key = json.loads(json.dumps(key))
        self.outcomes: list[AttackOutcome] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(path.read_text())
            if kept["key"] == self._key:
                self.outcomes = [
                    AttackOutcome(np.array(one["predicted"]), np.array(one["size"]))
                    for one in kept["outcomes"]
                ]

    def add(self, outcome: AttackOutcome) -> None:
        """Keep one more outcome; a folder that cannot be written to is reported at the end."""
        self.outcomes.append(outcome)
        kept = [{k: v.tolist() for k, v in vars(one).items()} for one in self.outcomes]
        with contextlib.suppress(OnrError):
            write_atomic(self._path, json.dumps({"key": self._key, "outcomes": kept}).encode())

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def evaluate(
    subject: Subject,
    config: EvaluationConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    out: Path,
) -> Evaluation:
    """Measure accuracy, clean and under attack, and the largest singular values.

    An example counts as robust at a radius if the network still assigns the true label to the
    perturbed input, whatever labels and targets the attack was given. For a targeted attack the
    record also holds the success rate: among the examples whose target differs from the label that
    the attack was given, the share that the network classifies as the target.

    The function writes ``evaluation.json`` and ``evaluation.csv``, with one row for each example.
    Until then ``evaluation.partial.json`` keeps the radii that are finished, and the same
    evaluation of the same model goes on from there.

    Args:
        subject: a run, or another model.
        config: what to measure.
        on_progress: called with the number of attacked examples so far, and in all. Each radius
            counts every image once.
        out: the folder for evaluation.json and evaluation.csv.

    Raises:
        OnrError: the configuration does not fit the subject.
        ImageError: a logit of an image is NaN.
        UnfinishedError: the evaluation was interrupted during the attacks, or the folder cannot be
            written to; the error holds what was measured.

    Example:
        >>> from onr.training.config import TrainConfig
        >>> from onr.training.subject import Subject
        >>> subject = Subject(TrainConfig(backend="numpy"))
        >>> config = EvaluationConfig(eps=(0.1, 0.2), images=20, steps=2)
        >>> found = evaluate(subject, config, out=tmp_path / "evaluation")
        >>> found.record["eps"], len(found.record["accuracy"]), found.sigma.shape
        ([0.0, 0.1, 0.2], 3, (20,))

    """
    train, settings = subject.config, _settings(subject)
    p = config.p or norm_of_method(train, settings, "p")
    norm = norm_named(p)
    same = settings.get("p") == norm.name and "eps" in settings
    trained = float(settings["eps"]) if same else None
    radii = config.eps
    if radii is None:
        if trained is None and norm.name != "2":
            raise OnrError(f"give --eps: the model was not trained with norm {norm.name}")
        radii = tuple(factor * (trained or USUAL_RADIUS) for factor in (0.25, 0.5, 1.0, 1.5))
    chosen = attack_by_name(
        config.attack,
        loss=config.loss,
        steps=config.steps,
        restarts=config.restarts,
        options=config.attack_options,
        targeted=config.target is not None,
    )
    attacks = [chosen.make(norm, eps, (0.0, 1.0)) for eps in radii]

    images = config.images or min(DEFAULT_IMAGES, len(subject.part(config.part)))
    x, y = subject.inputs(images, config.part)
    true = to_numpy(y)
    clean = logits(subject.network, x)
    require_labels(true, clean.shape[1])
    guessed = clean.argmax(axis=1)
    columns = {"example": np.arange(images), "label": true, "predicted": guessed}
    labels = guessed if config.labels == "predicted" else true
    target = labels
    if config.target is not None:
        rng = np.random.default_rng(np.random.SeedSequence(config.seed).spawn(1)[0])
        target = columns["target"] = target_classes(config.target, labels, clean, rng=rng)
    sigma = largest_singular_values(subject.network, x[: config.spectrum])
    names = {"norm/p": norm_spec(p), "attack": config.attack}
    if chosen.loss_spec is not None:
        names["loss"] = chosen.loss_spec
    record: dict[str, Any] = {
        "run": None if subject.run is None else subject.run.config,
        "model": train.model,
        "model_options": train.model_options,
        "weights": train.weights,
        "model_source": subject.source,
        "dataset": train.dataset,
        "preparation": subject.dataset.preparation,
        "epochs": subject.epochs,
        "best": subject.best,
        "averaged": subject.averaged,
        "dtype": train.dtype,
        "part": config.part,
        "images": images,
        "p": norm.name,
        "attack": config.attack,
        "attack_options": dict(config.attack_options),
        "loss": None if chosen.loss is None else chosen.loss.name,
        "steps": chosen.steps,
        "restarts": chosen.restarts,
        "labels": config.labels,
        "target": config.target,
        "seed": config.seed,
        "eps": [0.0],
        "accuracy": [share(guessed == true)[0]],
        "standard_error": [share(guessed == true)[1]],
        "sigma_1": {"images": len(sigma), "mean": float(sigma.mean()), "max": float(sigma.max())},
        "versions": versions() | getattr(attacks[0], "versions", {}),
        "served": served(names),
    }
    if config.target is not None:
        record["targeted_success"] = [_rate(guessed == target, target != labels)]
    key = {"config": asdict(config), "radii": radii, "norm": norm.name, "target": target.tolist()}
    key |= {name: record[name] for name in ("loss", "versions", "served")}
    # The clean logits tell one model and data set from another.
    key["logits"] = hashlib.sha256(clean.tobytes() + true.tobytes()).hexdigest()
    finished = _Finished(out / PARTIAL, key)
    total = len(radii) * images
    for index, (eps, attack) in enumerate(zip(radii, attacks, strict=True)):

        def on_batch(done: int, before: int = index * images) -> None:
            on_progress(before + done, total)

        if index == len(finished.outcomes):
            try:
                outcome = attack_outcome(
                    subject.network,
                    attack,
                    x,
                    subject.network.asarray(target),
                    norm=norm,
                    seed=(config.seed, index),
                    on_batch=on_batch,
                )
            except KeyboardInterrupt:
                raise UnfinishedError(
                    f"interrupted with {index} of {len(radii)} radii finished: the same command "
                    "goes on from there",
                    Evaluation(record, sigma, trained),
                ) from None
            finished.add(outcome)
        outcome = finished.outcomes[index]
        correct = outcome.predicted == true
        columns[f"correct at {eps!r}"] = correct.astype(int)
        columns[f"perturbation at {eps!r}"] = outcome.size
        record["eps"].append(eps)
        record["accuracy"].append(share(correct)[0])
        record["standard_error"].append(share(correct)[1])
        if config.target is not None:
            columns[f"on target at {eps!r}"] = (outcome.predicted == target).astype(int)
            record["targeted_success"].append(_rate(outcome.predicted == target, target != labels))
    found = Evaluation(record, sigma, trained)
    try:
        write_atomic(out / "evaluation.csv", csv_table(columns_as_rows(columns)))
        write_atomic(out / "evaluation.json", (json.dumps(record, indent=2) + "\n").encode())
    except OnrError as error:
        raise UnfinishedError(str(error), found) from error
    finished.remove()
    return found


def _settings(subject: Subject) -> dict[str, Any]:
    """The settings of the training method of a run; empty for a model that is not a run."""
    return {} if subject.run is None else dict(subject.run.config.get("settings", {}))


def _rate(success: np.ndarray, among: np.ndarray) -> float | None:
    """The mean of ``success`` where ``among`` is true; ``None`` if that is nowhere."""
    return float(np.mean(success[among])) if np.any(among) else None
