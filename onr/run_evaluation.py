"""Measure a run and keep the result in its folder."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onr.errors import OnrError
from onr.evaluation import attack_accuracy, largest_singular_values, predict
from onr.plots import Curve
from onr.registry import load, norm_spec, served
from onr.registry import norm as norm_named
from onr.runs import Run, write_atomic
from onr.training import TrainConfig, validation_split, versions

__all__ = ["Evaluation", "EvaluationConfig", "evaluate_run"]

DEFAULT_IMAGES = 1000
USUAL_RADIUS = 0.5


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure; ``None`` stands for what suits the run."""

    eps: tuple[float, ...] | None = None
    """Radii; by default fractions and a multiple of the radius of training."""
    p: str | None = None
    """The norm of the ball; by default that of training, or 2."""
    attack: str = "pga"
    loss: str = "cross-entropy"
    steps: int = 20
    restarts: int = 1
    images: int | None = None
    """The first so many; by default 1,000 at most."""
    part: str = "test"
    spectrum: int = 200
    """How many images to find the largest singular value at."""
    device: str | None = None
    data_dir: str | None = None
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
    def curve(self) -> Curve:
        """Accuracy over eps."""
        record = self.record
        method = record["run"]["train"]["method"]
        return Curve(method, record["eps"], record["accuracy"], record["images"])


def evaluate_run(
    run: Run, config: EvaluationConfig, on_progress: Callable[[int, int], None]
) -> Evaluation:
    """Accuracy, clean and under attack, and the largest singular values.

    Attacks know the true labels. An example counts as robust at a radius if the iterate that the
    attack returns is still classified as its label. Writes ``evaluation.json`` and
    ``evaluation.csv``, a row an example, into the run's folder.

    Args:
        run: a run with a checkpoint.
        config: what to measure.
        on_progress: called with the attacks done and all attacks, counted in examples.

    Raises:
        OnrError: the run has no checkpoint, or the configuration does not fit it.

    """
    model, epochs = run.model()
    train = TrainConfig.read(run.config)
    for name in ("device", "data_dir"):
        if getattr(config, name) is not None:
            train = replace(train, **{name: getattr(config, name)})
    settings = run.config.get("settings", {})
    norm = norm_named(config.p or str(settings.get("p", "2")))
    same = settings.get("p") == norm.name and "eps" in settings
    trained = float(settings["eps"]) if same else None
    radii = config.eps
    if radii is None:
        if trained is None and norm.name != "2":
            raise OnrError(f"give --eps: the run was not trained with norm {norm.name}")
        radii = tuple(factor * (trained or USUAL_RADIUS) for factor in (0.25, 0.5, 1.0, 1.5))
    loss = load("loss", config.loss)()
    make_attack = load("attack", config.attack)
    attacks = [
        make_attack(
            p=norm,
            loss=loss,
            eps=eps,
            steps=config.steps,
            restarts=config.restarts,
            bounds=(0.0, 1.0),
        )
        for eps in radii
    ]

    dataset, backend = train.dataset_object(), train.backend_object()
    part = dataset.test if config.part == "test" else validation_split(dataset.train)[1]
    part = part.take(config.images or min(DEFAULT_IMAGES, len(part)))
    network = train.network(backend, dataset, model)

    guessed = predict(backend, network, part.images)
    columns = {"label": part.labels, "predicted": guessed}
    accuracy = [float(np.mean(guessed == part.labels))]
    total = len(radii) * len(part)
    for index, (eps, attack) in enumerate(zip(radii, attacks, strict=True)):

        def on_batch(done: int, before: int = index * len(part)) -> None:
            on_progress(before + done, total)

        outcome = attack_accuracy(
            backend,
            network,
            attack,
            part,
            norm=norm,
            seed=(config.seed, index),
            on_batch=on_batch,
        )
        columns[f"correct at {eps!r}"] = outcome.correct.astype(int)
        columns[f"perturbation at {eps!r}"] = outcome.size
        accuracy.append(float(np.mean(outcome.correct)))
    sigma = largest_singular_values(backend, network, part.images[: config.spectrum])
    names = {
        "norm/p": norm_spec(config.p or norm.name),
        "attack": config.attack,
        "loss": config.loss,
    }
    record = {
        "run": run.config,
        "epochs": epochs,
        "part": config.part,
        "images": len(part),
        "p": norm.name,
        "attack": config.attack,
        "loss": loss.name,
        "labels": "true",
        "steps": config.steps,
        "restarts": config.restarts,
        "seed": config.seed,
        "eps": [0.0, *radii],
        "accuracy": accuracy,
        "standard_error": [math.sqrt(a * (1 - a) / len(part)) for a in accuracy],
        "sigma_1": {"images": len(sigma), "mean": float(sigma.mean()), "max": float(sigma.max())},
        "versions": versions(),
        "served": served(names),
    }
    write_atomic(run.path / "evaluation.csv", _csv(columns))
    write_atomic(run.path / "evaluation.json", (json.dumps(record, indent=2) + "\n").encode())
    return Evaluation(record, sigma, trained)


def _csv(columns: dict[str, np.ndarray]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["example", *columns])
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        writer.writerow([index, *row])
    return text.getvalue().encode()
