"""Evaluate a run or a model: accuracy under attack, with a JSON record and a CSV table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onr.arrays import to_numpy
from onr.errors import OnrError
from onr.feasible import doubt, require_radius
from onr.files import require_writable, write_atomic
from onr.measurements.accuracy import share
from onr.measurements.attack_outcomes import attack_outcomes
from onr.measurements.batches import Values
from onr.measurements.fingerprint import fingerprint
from onr.measurements.largest_singular_values import largest_singular_values
from onr.measurements.predictions import batch_size, classes_of
from onr.measurements.target_classes import target_classes
from onr.numerals import number, written
from onr.parts import StoredParts
from onr.plots import Curve
from onr.records import columns_as_rows, csv_table
from onr.registry import bare, norm_spec, served
from onr.text import attack_by_name
from onr.text import norm as norm_named
from onr.training.factories import norm_of_method, versions
from onr.training.subject import Subject
from onr.typing import Row

__all__ = ["Evaluation", "EvaluationConfig", "UnfinishedError", "evaluate"]

DEFAULT_IMAGES = 1000
USUAL_RADIUS = 0.5
OnProgress = Callable[[int, int, "dict[str, Any] | None"], None]
FILES = ("evaluation.json", "evaluation.csv")
TARGETS = 2**32 - 1
"""Tells the generator of random targets from those of the attack's starts."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure. Each field says what ``None`` stands for.

    Example:
        >>> EvaluationConfig(eps=("4/255", "8/255"), p="inf").attack
        'onr_paper:multitargeted'

    """

    eps: tuple[float | str, ...] | None = None
    """The radii of the attack, numbers or fractions as text. ``None`` takes 0.25, 0.5, 1 and 1.5
    times the training radius in the norm ``p``. Without a training radius, p = 2 uses 0.5 instead;
    other norms need ``eps``.
    """
    p: str | None = None
    """The norm of the ball. ``None`` takes the norm of the training method, or 2."""
    attack: str = "onr_paper:multitargeted"
    loss: str | None = None
    """What the attack ascends, if it takes a loss. ``None`` takes cross-entropy, targeted if there
    is a target.
    """
    steps: int | None = None
    """Iterations of the attack. ``None`` takes the attack's default."""
    restarts: int | None = None
    """Random starts of the attack. ``None`` takes the attack's default."""
    attack_options: Mapping[str, str] = field(default_factory=dict)
    """Further options of the attack, as text."""
    labels: str = "true"
    """Which labels the attack is given: ``true`` or ``predicted``."""
    target: str | None = None
    """The class that a targeted attack leads to: ``next``, ``random``, ``least-likely`` or a
    class number (:func:`onr.measurements.target_classes.target_classes`).
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
        """Accuracy against eps, from small to large, clean accuracy at eps = 0."""
        record = self.record
        eps, accuracy = zip(
            *sorted(zip(record["eps"], record["accuracy"], strict=True)), strict=True
        )
        return Curve(self.name, list(eps), list(accuracy), record["images"])


class UnfinishedError(OnrError):
    """An evaluation was interrupted, or cannot be written.

    Args:
        message: what happened.
        evaluation: what was measured: the images that are finished.

    Example:
        >>> found = Evaluation({"eps": [0.0]}, np.ones(2), trained_eps=None)
        >>> UnfinishedError("interrupted", found).evaluation.record
        {'eps': [0.0]}

    """

    def __init__(self, message: str, evaluation: Evaluation) -> None:
        super().__init__(message)
        self.evaluation = evaluation


def evaluate(
    subject: Subject,
    config: EvaluationConfig,
    on_progress: OnProgress = lambda done, total, record: None,
    *,
    out: Path,
    on_warning: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Measure accuracy, clean and under attack, and the largest singular values.

    An example counts as robust at a radius if the network still assigns the true label to the
    perturbed input, whatever labels and targets the attack was given. An attack that goes on from
    smaller radii (:func:`onr.measurements.attack_outcomes.attack_outcomes`) is run from the
    smallest radius to the largest, and an example that is broken at one counts as broken at all
    larger ones.
    For a targeted attack the record also holds the success rate: among the examples whose target
    differs from the label that the attack was given, the share that the network classifies as the
    target.

    The function writes ``evaluation.json`` and ``evaluation.csv``, with one row for each example.
    Until then a folder ``evaluation.json.partial-...`` keeps the batches that are finished, and the
    same evaluation of the same model goes on from there.

    Args:
        subject: a run, or another model.
        config: what to measure.
        on_progress: called before the first batch of images and after each, with the number of
            images so far, in all, and the record of those so far; ``None`` if there are none.
        out: the folder for evaluation.json and evaluation.csv.
        on_warning: called, in words, with each radius that is doubtful before the work, and after
            it with where batches of other settings are kept.

    Raises:
        OnrError: the configuration does not fit the subject, or the folder cannot be written to.
        ImageError: a logit of an image is NaN.
        UnfinishedError: the evaluation was interrupted after a batch, or the folder cannot be
            written to any more; the error holds what was measured.

    Example:
        >>> from onr.training.config import TrainConfig
        >>> from onr.training.subject import Subject
        >>> subject = Subject(TrainConfig(backend="numpy"))
        >>> config = EvaluationConfig(eps=(0.1, "1/5"), images=20)
        >>> found = evaluate(subject, config, out=tmp_path / "evaluation")
        >>> found.record["eps"], len(found.record["accuracy"]), found.sigma.shape
        ([0.0, 0.1, 0.2], 3, (20,))

    """
    train, settings, network = subject.config, _settings(subject), subject.network
    p = config.p or norm_of_method(train, settings, "p")
    norm = norm_named(p)
    same = settings.get("p") == norm.name and "eps" in settings
    trained = float(settings["eps"]) if same else None
    asked = _asked(config, trained, norm.name)
    radii = sorted(asked)
    for told in filter(None, (doubt(norm, eps) for eps in asked)):
        on_warning(told)
    targeted = config.target is not None
    chosen = attack_by_name(
        config.attack,
        loss=config.loss,
        steps=config.steps,
        restarts=config.restarts,
        options=config.attack_options,
        targeted=targeted,
    )
    attacks = [chosen.make(norm, eps, (0.0, 1.0)) for eps in radii]
    nested = all(hasattr(attack, "further") for attack in attacks)
    images = config.images or min(DEFAULT_IMAGES, len(subject.part(config.part)))
    x, y = subject.inputs(images, config.part)
    files = subject.part(config.part, images).files
    names = {"norm/p": norm_spec(p), "attack": config.attack}
    if chosen.loss_spec is not None:
        names["loss"] = chosen.loss_spec
    model = subject.record(config.part)
    fixed: dict[str, Any] = {
        "p": norm.name,
        "attack": config.attack,
        "attack_options": dict(config.attack_options),
        "loss": None if chosen.loss is None else chosen.loss.name,
        "steps": chosen.steps,
        "restarts": chosen.restarts,
        "labels": config.labels,
        "target": config.target,
        "seed": config.seed,
        "versions": versions() | getattr(attacks[0], "versions", {}),
        "served": served(names),
    }
    require_writable(out, *FILES)
    size = batch_size(network)
    key = fixed | {"radii": radii, "spectrum": config.spectrum, "batch": size}
    key["model"] = fingerprint(network, x, to_numpy(y))
    parts = StoredParts(out / FILES[0], key)
    values = Values[str](parts)

    def so_far() -> tuple[Evaluation, list[Row]]:
        columns = dict(values.items())
        sigma = columns.pop("sigma")
        record = model | {"images": len(columns["label"])} | fixed
        record["sigma_1"] = {
            "images": len(sigma),
            "mean": sigma.mean().item(),
            "max": sigma.max().item(),
        }
        rows = _summarise(record, columns, asked, files, nested=nested)
        return Evaluation(record, sigma, trained), rows

    try:
        for index, batch, labels in values.batches(x, y, size):
            first = index * size
            on_progress(first, images, so_far()[0].record if first else None)
            true, clean = to_numpy(labels), classes_of(network, batch, labels, first=first)
            values.add("label", true)
            values.add("predicted", clean)
            goal = known = clean if config.labels == "predicted" else true
            if config.target is not None:
                rng = np.random.default_rng([config.seed, TARGETS, first])
                goal = target_classes(config.target, known, network(batch), rng=rng)
                values.add("target", goal)
                values.add("elsewhere", goal != known)
            few = max(0, min(len(batch), config.spectrum - first))
            sigma = np.zeros(0)
            if few:
                sigma = largest_singular_values(network, batch[:few], first=first)
            values.add("sigma", sigma)
            outcomes = attack_outcomes(
                network,
                attacks,
                batch,
                network.asarray(goal),
                clean=clean,
                norm=norm,
                seeds=[(config.seed, place) for place in range(len(radii))],
                targeted=targeted,
                first=first,
            )
            for eps, outcome in zip(radii, outcomes, strict=True):
                values.add(f"predicted at {eps!r}", outcome.predicted)
                values.add(f"perturbation at {eps!r}", outcome.size)
    except KeyboardInterrupt:
        if not values.items():
            raise
        found = so_far()[0]
        raise UnfinishedError(
            f"interrupted with {found.record['images']:,} of {images:,} images finished: the same "
            "command goes on from there",
            found,
        ) from None
    found, rows = so_far()
    on_progress(images, images, found.record)
    try:
        write_atomic(out / FILES[1], csv_table(rows))
        write_atomic(out / FILES[0], (json.dumps(found.record, indent=2) + "\n").encode())
    except OnrError as error:
        raise UnfinishedError(str(error), found) from error
    parts.remove()
    if kept := parts.others():
        on_warning(kept)
    return found


def _asked(config: EvaluationConfig, trained: float | None, norm: str) -> dict[float, str]:
    """The radii that are asked for, each with its text, in the order given."""
    if config.eps is not None:
        texts: dict[float, str] = {}
        for eps in config.eps:
            radius = require_radius(number(eps) if isinstance(eps, str) else float(eps))
            texts.setdefault(radius, str(eps))
        return texts
    if trained is None and norm != "2":
        raise OnrError(f"give --eps: the model was not trained with norm {norm}")
    radii = (factor * (trained or USUAL_RADIUS) for factor in (0.25, 0.5, 1.0, 1.5))
    return {eps: written(eps) for eps in radii}


def _summarise(
    record: dict[str, Any],
    columns: Mapping[str, np.ndarray],
    asked: Mapping[float, str],
    files: list[str] | None,
    *,
    nested: bool,
) -> list[Row]:
    """Add to the record what the columns of all images come to; return a row for each image.

    With ``nested`` an image that is broken at one radius is broken at all larger ones.
    """
    true, clean = columns["label"], columns["predicted"]
    correct = {0.0: clean == true}
    smallest = np.where(correct[0.0], np.inf, 0.0)
    table: dict[str, Any] = {"example": np.arange(len(true))}
    if files is not None:
        table["file"] = files[: len(true)]
    table |= {"label": true, "predicted": clean}
    reached = {}
    if "target" in columns:
        table["target"] = columns["target"]
        reached[0.0] = clean == columns["target"]
    table["smallest radius"] = smallest
    before = correct[0.0]
    for eps in sorted(asked):
        predicted = columns[f"predicted at {eps!r}"]
        before = correct[eps] = (predicted == true) & (before | (not nested))
        smallest[~before & (smallest == np.inf)] = eps
        if "target" in columns:
            reached[eps] = predicted == columns["target"]
    for eps in asked:
        table[f"correct at {eps!r}"] = correct[eps].astype(int)
        table[f"perturbation at {eps!r}"] = columns[f"perturbation at {eps!r}"]
        if reached:
            table[f"on target at {eps!r}"] = reached[eps].astype(int)
    order = [0.0, *asked]
    record["eps"] = order
    record["eps_written"] = ["0", *asked.values()]
    record["accuracy"] = [share(correct[eps])[0] for eps in order]
    record["standard_error"] = [share(correct[eps])[1] for eps in order]
    if reached:
        among = columns["elsewhere"]
        record["targeted_success"] = [_rate(reached[eps], among) for eps in order]
    record["smallest_radius"] = [r if r < np.inf else None for r in smallest.tolist()]
    return columns_as_rows(table)


def _settings(subject: Subject) -> dict[str, Any]:
    """The settings of the training method of a run; empty for a model that is not a run."""
    return {} if subject.run is None else dict(subject.run.config.get("settings", {}))


def _rate(success: np.ndarray, among: np.ndarray) -> float | None:
    """The mean of ``success`` where ``among`` is true; ``None`` if that is nowhere."""
    return float(np.mean(success[among])) if np.any(among) else None
