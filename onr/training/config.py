"""The configuration of a training run. All values are checked on construction."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args, get_type_hints

from onr.data import AUGMENTATIONS
from onr.errors import OnrError
from onr.training.optimizers import Optimizer
from onr.training.schedules import schedule

__all__ = ["DTYPES", "TrainConfig"]

DTYPES = ("float32", "float64", "bfloat16")
LARGEST_RATE = 1e30
"""The largest learning rate: what a step multiplies with it stays a float32."""
SEEDS = 2**63
"""How many seeds every random generator takes."""
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
    """All settings that determine a run. Options of models and methods stay text.

    Raises:
        OnrError: a value has the wrong type for its field, or is out of range.

    Example:
        >>> TrainConfig(method="at", method_options={"eps": "8/255", "p": "inf"}).epochs
        20

    """

    backend: str = "onr_torch:torch"
    device: str = "cpu"
    dtype: str = "float32"
    dataset: str = "onr_paper:digits"
    data_dir: str = "data"
    download: bool = False
    train_images: int | None = None
    """How many images to train on, from the first; all but the validation images if ``None``."""
    augment: str | None = None
    """One of :data:`onr.data.AUGMENTATIONS`; the data set's own choice if ``None``."""
    model: str = "onr_paper:mlp"
    model_options: dict[str, str] = field(default_factory=dict)
    weights: str | None = None
    """A run's folder or a file to read initial parameters from. ``None`` draws them from the seed,
    or keeps those of a model that comes with its own.
    """
    method: str = "onr_paper:standard"
    method_options: dict[str, str] = field(default_factory=dict)
    epochs: int = 20
    batch_size: int = 128
    """How many examples a step takes. A last batch of one example joins the batch before: batch
    normalisation has no statistics of a single example.
    """
    optimizer: str = "adam"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    lr: float = 0.003
    """The peak learning rate, which the schedule scales."""
    schedule: str = "one-cycle"
    """A name that :func:`onr.training.schedules.schedule` takes."""
    average: float | None = None
    """The decay of an exponential average of the weights
    (:class:`onr.training.averaging.WeightAverage`), such as 0.999; no average if ``None``. It is
    kept, evaluated and saved beside the weights, which it does not change.
    """
    seed: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, kinds in _field_types().items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                # A float field also takes an int; "a number" covers both.
                names = " or ".join(
                    TYPE_NAMES[k] for k in kinds if k is not int or float not in kinds
                )
                raise OnrError(f"{name} = {value!r}: expected {names}")
            if float in kinds and isinstance(value, int) and abs(value) > sys.float_info.max:
                raise OnrError(f"{name} is too large for a number")
        for name in ("model_options", "method_options"):
            options = getattr(self, name)
            if not all(isinstance(value, str) for value in options.values()):
                raise OnrError(f"{name} = {options!r}: expected texts by name")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise OnrError(f"{name} = {getattr(self, name)}: expected at least 1")
        if not 0 < self.lr <= LARGEST_RATE:
            raise OnrError(f"lr = {self.lr}: expected a positive number, {LARGEST_RATE:g} at most")
        if self.average is not None and not 0 < self.average < 1:
            raise OnrError(
                f"average = {self.average}: expected the decay of an average, a number between 0 "
                "and 1 such as 0.999"
            )
        if not 0 <= self.seed < SEEDS:
            raise OnrError(f"seed = {self.seed}: expected a number >= 0 and below 2^63")
        if self.dtype not in DTYPES:
            raise OnrError(f"dtype = {self.dtype!r}: expected one of {', '.join(DTYPES)}")
        self.optimizer_settings()
        schedule(self.schedule)
        if self.augment not in (None, *AUGMENTATIONS):
            raise OnrError(
                f"augment = {self.augment!r}: expected one of {', '.join(AUGMENTATIONS)}"
            )

    @staticmethod
    def read(stored: dict[str, Any]) -> TrainConfig:
        """The configuration that the parsed ``config.json`` of a run holds.

        Raises:
            OnrError: the file is damaged, or another version of onr wrote it.

        """
        try:
            return TrainConfig(**stored["train"])
        except (KeyError, TypeError) as error:
            raise OnrError(f"config.json is damaged or of another version: {error}") from error

    def optimizer_settings(self) -> Optimizer:
        """The optimiser and its settings.

        Raises:
            OnrError: a setting of the optimiser is out of range.

        """
        return Optimizer(self.optimizer, self.momentum, self.nesterov, self.weight_decay)


@cache
def _field_types() -> dict[str, tuple[type, ...]]:
    """The types that the value of each field may have."""
    found = {}
    for name, hint in get_type_hints(TrainConfig).items():
        kinds = (
            get_args(hint) if type(None) in get_args(hint) else (getattr(hint, "__origin__", hint),)
        )
        found[name] = (*kinds, int) if float in kinds else kinds
    return found
