"""A training run in a folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onr.errors import OnrError
from onr.front_door.arguments import described
from onr.training.config import TrainConfig
from onr.training.loop import run_training
from onr.training.subject import Subject, open_run

__all__ = ["train"]


def train(
    config: TrainConfig,
    /,
    *,
    out: str | Path,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Subject:
    """Train a classifier in a folder, or continue the run there.

    Args:
        config: what to train; a run of the same configuration that was stopped goes on.
        out: the run's folder.
        on_epoch: called with each epoch's record, as it is written to ``metrics.jsonl``.

    A doubtful configuration, as an eps that no classifier withstands, is a ``UserWarning``.

    Returns:
        The trained model (``.network``) with its data set (``.batch(100)``), as
        :func:`onr.open_run` gives it.

    Raises:
        OnrError: the folder holds another run, or the training diverges.

    Example:
        >>> import onr
        >>> config = onr.TrainConfig(train_images=50, epochs=1, backend="numpy")
        >>> run = onr.train(config, out=tmp_path / "run")
        >>> x, y = run.batch(10)
        >>> onr.operator_norm(run.network, x, p=2, q=2).kind
        'exact'

    """
    if not isinstance(config, TrainConfig):
        raise OnrError(f"config is {described(config)}: expected an onr.TrainConfig")
    run_training(
        config,
        Path(out),
        on_epoch=on_epoch,
        on_warning=lambda text: warnings.warn(text, stacklevel=4),
    )
    return open_run(out)
