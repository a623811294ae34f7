"""Evaluate a run or a model: accuracy under attack, with a record and a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.files import write_atomic
from onr.measurements.accuracy import (
    attack_outcome,
    largest_singular_values,
    logits,
    share,
    target_classes,
)
from onr.plots import Curve
from onr.records import columns_as_rows, csv_table
from onr.registry import bare, norm_spec, served
from onr.text import attack_by_name
from onr.text import norm as norm_named
from onr.training.factories import versions
from onr.training.subject import Subject

__all__ = ["Evaluation", "EvaluationConfig", "evaluate"]

DEFAULT_IMAGES = 1000
USUAL_RADIUS = 0.5


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure; ``None`` stands for what suits the run."""

    eps: tuple[float, ...] | None = None
    """Radii; by default fractions and a multiple of the radius of training."""
    p: str | None = None
    """The norm of the ball; by default that of training, or 2."""
    attack: str = "onr_paper:pga"
    loss: str | None = None
    """By default cross-entropy, targeted if there is a target."""
    steps: int | None = None
    """By default the attack's own, 20 for ``pga``."""
    restarts: int | None = None
    """By default the attack's own, 1 for ``pga``."""
    attack_options: Mapping[str, str] = field(default_factory=dict)
    """Further options of the attack, as text."""
    labels: str = "true"
    """Which labels the attack knows: ``true`` or ``predicted``."""
    target: str | None = None
    """For a targeted loss, where to lead: ``next``, ``random``, ``least-likely`` or a class."""
    images: int | None = None
    """The first so many; by default 1,000 at most."""
    part: str = "test"
    best: bool = False
    """Whether the subject was opened at the epoch of best validation accuracy, for the record."""
    spectrum: int = 200
    """How many images to find the largest singular value at."""
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    record: dict[str, Any]
    """All of it, as ``evaluation.json`` holds it."""
    sigma: np.ndarray
    """The largest singular value of the logits' Jacobian at each image, ``(spectrum,)``."""
    trained_eps: float | None
    """The radius of training, if it was in the same norm."""

    @property
    def name(self) -> str:
        """What was evaluated: the method of a run, or the model."""
        run = self.record["run"]
        return bare(self.record["model"] if run is None else run["train"]["method"])

    @property
    def curve(self) -> Curve:
        """Accuracy over eps."""
        record = self.record
        return Curve(self.name, record["eps"], record["accuracy"], record["images"])


def evaluate(
    subject: Subject,
    config: EvaluationConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    out: Path,
) -> Evaluation:
    """Accuracy, clean and under attack, and the largest singular values.

    An example counts as robust at a radius if the perturbed input that the attack returns is still
    classified as its true label, whatever labels the attack knows and wherever it leads. A targeted
    attack has a rate of success too: the share of examples that are given their target, of those
    whose target is not the label that the attack knows. Writes ``evaluation.json`` and
    ``evaluation.csv``, a row an example.

    Args:
        subject: a run, or another model.
        config: what to measure.
        on_progress: called with the attacks done and all attacks, counted in examples.
        out: the folder for evaluation.json and evaluation.csv.

    Raises:
        OnrError: the configuration does not fit the subject.

    """
    train, settings = subject.config, _settings(subject)
    # The user's own text, which may name the plugin too.
    p = config.p or train.method_options.get("p", str(settings.get("p", "2")))
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
    guessed = clean.argmax(axis=1)
    columns = {"example": np.arange(images), "label": true, "predicted": guessed}
    accuracies = [share(guessed == true)]
    labels = guessed if config.labels == "predicted" else true
    target = labels
    if config.target is not None:
        rng = np.random.default_rng(np.random.SeedSequence(config.seed).spawn(1)[0])
        target = columns["target"] = target_classes(config.target, labels, clean, rng=rng)
    success = [_rate(guessed == target, target != labels)]
    total = len(radii) * images
    for index, (eps, attack) in enumerate(zip(radii, attacks, strict=True)):

        def on_batch(done: int, before: int = index * images) -> None:
            on_progress(before + done, total)

        outcome = attack_outcome(
            subject.network,
            attack,
            x,
            subject.network.asarray(target),
            norm=norm,
            seed=(config.seed, index),
            on_batch=on_batch,
        )
        correct = outcome.predicted == true
        columns[f"correct at {eps!r}"] = correct.astype(int)
        columns[f"perturbation at {eps!r}"] = outcome.size
        accuracies.append(share(correct))
        if config.target is not None:
            columns[f"on target at {eps!r}"] = (outcome.predicted == target).astype(int)
            success.append(_rate(outcome.predicted == target, target != labels))
    sigma = largest_singular_values(subject.network, x[: config.spectrum])
    names = {"norm/p": norm_spec(p), "attack": config.attack}
    if chosen.loss_spec is not None:
        names["loss"] = chosen.loss_spec
    record: dict[str, Any] = {
        "run": None if subject.run is None else subject.run.config,
        "model": train.model,
        "model_options": train.model_options,
        "weights": subject.origin,
        "dataset": train.dataset,
        "epochs": subject.epochs,
        "best": config.best,
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
        "eps": [0.0, *radii],
        "accuracy": [found for found, _ in accuracies],
        "standard_error": [error for _, error in accuracies],
        "sigma_1": {"images": len(sigma), "mean": float(sigma.mean()), "max": float(sigma.max())},
        "versions": versions() | getattr(attacks[0], "versions", {}),
        "served": served(names),
    }
    if config.target is not None:
        record["targeted_success"] = success
    write_atomic(out / "evaluation.csv", csv_table(columns_as_rows(columns)))
    write_atomic(out / "evaluation.json", (json.dumps(record, indent=2) + "\n").encode())
    return Evaluation(record, sigma, trained)


def _settings(subject: Subject) -> dict[str, Any]:
    """The settings of the method that a run was trained with; none for another model."""
    return {} if subject.run is None else dict(subject.run.config.get("settings", {}))


def _rate(success: np.ndarray, among: np.ndarray) -> float | None:
    """The mean of ``success`` over the examples ``among``; ``None`` if there are none."""
    return float(np.mean(success[among])) if np.any(among) else None
