"""Build the objects that a configuration names, and record which plugin served each name."""

from __future__ import annotations

import importlib.metadata
import inspect
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from onr.class_names import largest_output
from onr.data import Dataset
from onr.errors import OnrError
from onr.protocols import BackendNetwork, Method, Norm
from onr.registry import OWN, bare, load, norm_spec, registry, served
from onr.text import call
from onr.text import norm as norm_named
from onr.training.config import TrainConfig
from onr.training.protocols import Backend
from onr.version import __version__

__all__ = [
    "make_backend",
    "make_dataset",
    "make_method",
    "make_network",
    "model_source",
    "norm_of_method",
    "open_model",
    "run_record",
    "trained_ball",
    "versions",
]


def open_model(config: TrainConfig) -> Callable[..., Any]:
    """The target that builds the model; of a published model, what is known before it is built.

    A published model has ``preparation``, ``classes`` and ``record``, as
    :class:`onr_torch.models.published.Published` has them.

    Raises:
        OnrError: the model's files cannot be found, and may not be downloaded.

    Example:
        >>> open_model(TrainConfig(model="mlp")).__name__
        'mlp'

    """
    target = load("model", config.model)
    opened: Callable[..., Any] = (
        target.opened(download=config.download) if hasattr(target, "opened") else target
    )
    return opened


def model_source(model: Callable[..., Any], *, pretrained: bool) -> dict[str, Any] | None:
    """Where a published model comes from, for records; ``None`` for other models.

    Args:
        model: what :func:`open_model` gives.
        pretrained: whether the published weights are used, whose files are then hashed.

    Example:
        >>> model_source(open_model(TrainConfig(model="mlp")), pretrained=True) is None
        True

    """
    record: Callable[..., dict[str, Any]] | None = getattr(model, "record", None)
    return None if record is None else record(pretrained=pretrained)


def make_dataset(config: TrainConfig, model: Callable[..., Any] | None = None) -> Dataset:
    """Load the data set that the configuration names, as its model needs it.

    A data set whose target takes ``preparation`` is given that of a published model. If the classes
    of the model's outputs have names, the labels become the outputs of the same name. The names of
    a published model do not count where its weights come from a file. Classes that are numbers of
    outputs, as ``#2``, are these outputs of a model without names, too.

    Args:
        config: names the data set.
        model: what :func:`open_model` gives, if it is known already: opening runs the user's code.

    Example:
        >>> make_dataset(TrainConfig(dataset="digits")).input_shape
        (1, 8, 8)

    """
    target, model = load("dataset", config.dataset), model or open_model(config)
    given: dict[str, Any] = {"data_dir": Path(config.data_dir), "download": config.download}
    if "preparation" in inspect.signature(target).parameters:
        given["preparation"] = getattr(model, "preparation", None)
    dataset: Dataset = target(**given)
    names = getattr(model, "classes", None)
    if not names or (config.weights is not None and hasattr(model, "record")):
        largest = largest_output(dataset.classes)
        if largest is None:
            return dataset
        names = [str(output) for output in range(max(largest + 1, len(dataset.classes)))]
    return dataset.labelled_for(names, model=bare(config.model))


def make_method(config: TrainConfig) -> Method:
    """Build the training method; its options are parsed from text.

    Example:
        >>> make_method(TrainConfig(method="dd-snr", method_options={"eps": "0.5"})).settings["eps"]
        0.5

    """
    target = load("method", config.method)
    method: Method = call(target, config.method_options, what=f"method {bare(config.method)}")
    return method


def make_backend(config: TrainConfig) -> Backend:
    """Load the backend that the configuration names.

    Example:
        >>> make_backend(TrainConfig(backend="numpy")).rank
        0

    """
    backend: Backend = load("backend", config.backend)()
    return backend


def make_network(
    config: TrainConfig,
    backend: Backend,
    dataset: Dataset,
    parameters: Mapping[str, np.ndarray] | None = None,
    model: Callable[..., Any] | None = None,
) -> BackendNetwork:
    """Build the model for the input shape and the classes of a data set.

    Args:
        config: names the model, its options, the float type and the device.
        backend: builds the network.
        dataset: gives the input shape, the classes and the normalisation.
        parameters: the parameters by name. If not given, they are read from ``config.weights``;
            if that is ``None`` too, they are drawn from the seed.
        model: what :func:`open_model` gives, if it is known already: opening runs the user's code.

    Example:
        >>> config = TrainConfig(backend="numpy", model="mlp", dataset="digits")
        >>> network = make_network(config, make_backend(config), make_dataset(config))
        >>> network(np.zeros((2, 1, 8, 8), dtype=np.float32)).shape
        (2, 10)

    """
    if parameters is None and config.weights is not None:
        parameters = backend.read_parameters(Path(config.weights))

    def make() -> Any:
        target = model or open_model(config)
        named = inspect.signature(target).parameters
        given: dict[str, Any] = {}
        if "normalize" in named:
            try:
                given["normalize"] = dataset.normalization()
            except OnrError as error:
                raise OnrError(
                    f"model {bare(config.model)} normalises images by the mean and deviation of "
                    f"the training part, and {error}; torchvision:NAME@DEFAULT --weights FILE "
                    "normalises as published weights do, and FILE.py:ATTRIBUTE as your code does"
                ) from None
        if "pretrained" in named:
            given["pretrained"] = parameters is None
        return call(
            target,
            config.model_options,
            dataset.input_shape,
            len(dataset.classes),
            what=f"model {bare(config.model)}",
            **given,
        )

    return backend.build(
        make, seed=config.seed, parameters=parameters, dtype=config.dtype, device=config.device
    )


def trained_ball(config: TrainConfig, method: Method) -> tuple[Norm, float] | None:
    """The norm and the radius that the method trains for; ``None`` if its settings have none.

    Example:
        >>> config = TrainConfig(method="at", method_options={"p": "inf", "eps": "8/255"})
        >>> trained_ball(config, make_method(config))
        (<norm inf>, 0.03137254901960784)

    """
    settings = method.settings
    if not {"p", "eps"} <= settings.keys():
        return None
    return norm_named(norm_of_method(config, settings, "p")), float(settings["eps"])


def norm_of_method(config: TrainConfig, settings: Mapping[str, Any], option: str) -> str:
    """The text that names the norm ``p`` or ``q`` of a method; ``2`` if the method has none.

    The settings hold the bare name of the norm; the user's text may also name the plugin.
    """
    return config.method_options.get(option, str(settings.get(option, "2")))


def run_record(config: TrainConfig, method: Method) -> dict[str, Any]:
    """The content of ``config.json``: resolved settings, versions, and who served each name.

    Example:
        >>> config = TrainConfig(backend="numpy")
        >>> record = run_record(config, make_method(config))
        >>> record["train"]["epochs"], record["served"]["backend"]["plugin"]
        (20, 'onr_numpy')

    """
    names = {
        "backend": config.backend,
        "dataset": config.dataset,
        "model": config.model,
        "method": config.method,
    }
    # JSON has no infinity, so the record holds the text that users write.
    settings = {k: "inf" if v == math.inf else v for k, v in method.settings.items()}
    for option in ("p", "q"):
        if option in settings:
            names[f"norm/{option}"] = norm_spec(norm_of_method(config, settings, option))
    for kind in ("loss", "attack"):
        if kind in settings:
            names[kind] = _part_of_method(config, kind, str(settings[kind]))
    own = registry().resolve("model", config.model).entry.name == OWN
    source = None if own else model_source(open_model(config), pretrained=config.weights is None)
    return {
        "onr": __version__,
        "versions": versions() | getattr(method, "versions", {}),
        "served": served(names),
        "settings": settings,
        "train": asdict(config),
    } | ({} if source is None else {"model_source": source})


def _part_of_method(config: TrainConfig, kind: str, name: str) -> str:
    """The user's own text; else the part of that name of the plugin that offers the method."""
    plugin = registry().resolve("method", config.method).plugin
    offered = {entry.name for owner, entry in registry().offers(kind) if owner is plugin}
    own = f"{plugin.name}:{name}" if name.partition(":")[0] in offered else name
    return config.method_options.get(kind, own)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that affect the numbers of a run.

    Example:
        >>> versions()["numpy"] == np.__version__
        True

    """
    found = {"python": platform.python_version(), "machine": platform.machine()}
    backends = [name for _, entry in registry().offers("backend") for name in entry.arrays]
    for name in dict.fromkeys(("numpy", "torch", "torchvision", "scikit-learn", *backends)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
