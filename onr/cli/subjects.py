"""Options that ``onr evaluate`` and ``onr measure`` share: RUN or MODEL, and the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from onr.cli.options import model_option, warn
from onr.data import PARTS
from onr.registry import OWN, bare, registry
from onr.training.config import TrainConfig
from onr.training.subject import Subject, open_subject

__all__ = ["announce", "opened", "subject_options"]

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULTS = TrainConfig()
SUBJECT = "subject"
OPENING = (
    "model_options",
    "weights",
    "dataset",
    "data_dir",
    "device",
    "download",
    "best",
    "averaged",
)


def subject_options(images: str) -> Callable[[Command], Command]:
    """A decorator that adds the argument RUN or MODEL and its options to a command.

    Args:
        images: the number of images if ``--images`` is not given. A number in digits becomes the
            default of the option; other text is only shown in its help.

    """
    count: dict[str, Any] = {"help": f"The number of images, from the first.  [default: {images}]"}
    if images.isdecimal():
        count = {"default": int(images), "show_default": True}
        count["help"] = "The number of images, from the first."
    options = (
        click.argument(SUBJECT, metavar="RUN|MODEL"),
        model_option,
        click.option("--weights", help="MODEL: a run's folder, .safetensors, or a state dict."),
        click.option(
            "--dataset", help=f"MODEL: as for onr train.  [default: {bare(DEFAULTS.dataset)}]"
        ),
        click.option(
            "--data-dir",
            help=f"Folder of data files.  [default: that of RUN; for a MODEL {DEFAULTS.data_dir}]",
        ),
        click.option(
            "--device", help="cpu, cuda, cuda:1.  [default: that of RUN; for a MODEL cpu]"
        ),
        click.option(
            "--download",
            is_flag=True,
            help="MODEL: fetch weights or a data set that are not on this machine yet.",
        ),
        click.option(
            "--best",
            is_flag=True,
            help="RUN: use the epoch of best validation accuracy, not the last.",
        ),
        click.option(
            "--averaged",
            is_flag=True,
            help="RUN: use the averages of the weights, which onr train --average keeps.",
        ),
        click.option(
            "--part",
            type=click.Choice(PARTS),
            default=PARTS[0],
            show_default=True,
            help="validation: images of the training part that no run trains on, for tuning.",
        ),
        click.option("--images", type=click.IntRange(1), **count),
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def opened(options: dict[str, Any]) -> Subject:
    """Open the run or model that the options name, and remove these options from ``options``.

    Raises:
        OnrError: there is no such run or model, or the options do not fit it.

    """
    target, chosen = options.pop(SUBJECT), options["dataset"] is not None
    subject = open_subject(target, **{name: options.pop(name) for name in OPENING})
    for warning in warnings(subject, dataset_chosen=chosen):
        warn(warning)
    return subject


def warnings(subject: Subject, *, dataset_chosen: bool) -> list[str]:
    """Warnings about a model that is no run: a default data set, weights that may be random."""
    if subject.run is not None:
        return []
    found, model = [], subject.config.model
    if not dataset_chosen:
        shape = " x ".join(str(size) for size in subject.dataset.input_shape)
        found.append(
            f"no --dataset given: the images are those of {bare(DEFAULTS.dataset)} ({shape}), and "
            "the numbers say nothing about a model that was made for others"
        )
    if subject.drawn and registry().resolve("model", model).entry.name == OWN:
        found.append(
            f"no --weights given: the weights are those that {model} makes, random ones unless its "
            "code loads others"
        )
    elif subject.drawn:
        found.append(
            f"no --weights given: the weights of {bare(model)} are RANDOM, as drawn from seed "
            f"{subject.config.seed}"
        )
    return found


def announce(subject: Subject, images: int, part: str) -> str:
    """The model and the images that are measured, in words."""
    name = str(subject.run.path) if subject.run is not None else bare(subject.config.model)
    name += ", averaged weights," * subject.averaged
    shape = " x ".join(str(size) for size in subject.dataset.input_shape)
    prepared = subject.dataset.preparation
    how = shape if prepared is None else f"{shape}, {prepared}"
    return f"{name} at {images} {part} images of {bare(subject.config.dataset)} ({how})"
