"""What ``onr evaluate`` and ``onr measure`` share: RUN or MODEL, and the images to measure at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from onr.cli.options import model_option
from onr.data import PARTS
from onr.registry import OWN, bare, registry
from onr.training.config import TrainConfig
from onr.training.subject import Subject, open_subject

__all__ = ["announce", "opened", "subject_options"]

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULTS = TrainConfig()
SUBJECT = "subject"
OPENING = ("model_options", "weights", "dataset", "data_dir", "device", "best")


def subject_options(images: str | None) -> Callable[[Command], Command]:
    """The argument RUN or MODEL and its options.

    Args:
        images: how many images are taken if ``--images`` is not given, in words; a number is the
            option's default.

    """
    count: dict[str, Any] = {"help": f"The first so many images.  [default: {images}]"}
    if images is not None and images.isdecimal():
        count = {"default": int(images), "show_default": True, "help": "The first so many images."}
    options = (
        click.argument(SUBJECT, metavar="RUN|MODEL"),
        model_option,
        click.option("--weights", help="MODEL: a run's folder, .safetensors, or a state dict."),
        click.option(
            "--dataset", help=f"MODEL: as for onr train.  [default: {bare(DEFAULTS.dataset)}]"
        ),
        click.option(
            "--data-dir",
            help=f"Where files are.  [default: RUN's own; for a MODEL {DEFAULTS.data_dir}]",
        ),
        click.option("--device", help="cpu, cuda, cuda:1.  [default: RUN's own; for a MODEL cpu]"),
        click.option(
            "--best", is_flag=True, help="RUN: the epoch of best validation accuracy, not the last."
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
    """The run or model that the options name; takes these options out of ``options``.

    Raises:
        OnrError: there is no such run or model, or the options do not fit it.

    """
    target = options.pop(SUBJECT)
    subject = open_subject(target, **{name: options.pop(name) for name in OPENING})
    for warning in warnings(subject):
        click.echo(f"warning: {warning}", err=True)
    return subject


def warnings(subject: Subject) -> list[str]:
    """What is easy to get wrong about a model that is no run, in words."""
    if not subject.drawn or subject.run is not None:
        return []
    model = subject.config.model
    if registry().resolve("model", model).entry.name == OWN:
        return [
            f"no --weights given: the weights are those that {model} makes, random ones unless its "
            "code loads others"
        ]
    return [f"no --weights given: the weights of {bare(model)} are RANDOM, as drawn from seed 0"]


def announce(subject: Subject, images: int, part: str) -> str:
    """What is measured where, in words: the model, its weights, the images."""
    name = str(subject.run.path) if subject.run is not None else bare(subject.config.model)
    shape = " x ".join(str(size) for size in subject.dataset.input_shape)
    return f"{name} at {images} {part} images of {bare(subject.config.dataset)} ({shape})"
