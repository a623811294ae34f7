"""From a configuration to the objects that it names; a run's record of who served each name."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from onr import __version__
from onr.data import Dataset
from onr.protocols import BackendNetwork, Method, Norm
from onr.registry import load, norm_spec, served
from onr.text import call
from onr.text import norm as norm_named
from onr.training.config import TrainConfig
from onr.training.protocols import Backend

__all__ = [
    "make_backend",
    "make_dataset",
    "make_method",
    "make_network",
    "run_record",
    "trained_ball",
    "versions",
]


def make_dataset(config: TrainConfig) -> Dataset:
    """Load the data set."""
    target = load("dataset", config.dataset)
    dataset: Dataset = target(data_dir=Path(config.data_dir), download=config.download)
    return dataset


def make_method(config: TrainConfig) -> Method:
    """Build the method, its options read from text."""
    target = load("method", config.method)
    method: Method = call(target, config.method_options, what=f"method {config.method}")
    return method


def make_backend(config: TrainConfig) -> Backend:
    """Load the backend."""
    backend: Backend = load("backend", config.backend)()
    return backend


def make_network(
    config: TrainConfig,
    backend: Backend,
    dataset: Dataset,
    parameters: Mapping[str, np.ndarray] | None = None,
) -> BackendNetwork:
    """Build the model for the data set's inputs and classes.

    Args:
        config: names the model and its options, the float type and the device.
        backend: where the network will live.
        dataset: gives the input shape, the classes and the normalisation.
        parameters: by name; those in ``config.weights`` if not given, else fresh ones that are
            drawn from the seed.

    """
    if parameters is None and config.weights is not None:
        parameters = backend.read_parameters(Path(config.weights))

    def make() -> Any:
        return call(
            load("model", config.model),
            config.model_options,
            dataset.input_shape,
            len(dataset.classes),
            what=f"model {config.model}",
            normalize=dataset.normalization(),
        )

    return backend.build(
        make, seed=config.seed, parameters=parameters, dtype=config.dtype, device=config.device
    )


def trained_ball(config: TrainConfig, method: Method) -> tuple[Norm, float] | None:
    """The norm and the radius that the method trains for; ``None`` if it names none."""
    settings = method.settings
    if not {"p", "eps"} <= settings.keys():
        return None
    # The user's own text, which may name the plugin too.
    name = config.method_options.get("p", str(settings["p"]))
    return norm_named(name), float(settings["eps"])


def run_record(config: TrainConfig, method: Method) -> dict[str, Any]:
    """What ``config.json`` holds: the settings, resolved; versions; who served each name."""
    names = {
        "backend": config.backend,
        "dataset": config.dataset,
        "model": config.model,
        "method": config.method,
    }
    # JSON has no infinity: it is written as users write it.
    settings = {k: "inf" if v == math.inf else v for k, v in method.settings.items()}
    for option in ("p", "q"):
        if option in settings:
            names[f"norm/{option}"] = norm_spec(
                config.method_options.get(option, str(settings[option]))
            )
    if "loss" in settings:
        names["loss"] = config.method_options.get("loss", str(settings["loss"]))
    return {
        "onr": __version__,
        "versions": versions(),
        "served": served(names),
        "settings": settings,
        "train": asdict(config),
    }


def versions() -> dict[str, str]:
    """The versions of what the numbers of a run depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("numpy", "torch", "torchvision", "scikit-learn"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
