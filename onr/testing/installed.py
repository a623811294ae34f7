"""The laws of what is installed: a part by its kind and name, made as ``onr`` makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from onr.errors import OnrError, UnknownNameError
from onr.registry import Plugin, load, registry
from onr.testing.attacks import attack_laws
from onr.testing.backends import backend_laws
from onr.testing.checks import check_laws
from onr.testing.datasets import dataset_laws
from onr.testing.laws import Law, Laws, at, law, outcomes
from onr.testing.losses import loss_laws
from onr.testing.methods import method_laws
from onr.testing.models import model_laws
from onr.testing.networks import small_network
from onr.testing.norms import array_laws, norm_laws
from onr.text import norm
from onr.training.config import TrainConfig

__all__ = ["laws_of", "parts_named"]

NUMPY, TORCH = "onr_numpy:numpy", "onr_torch:torch"
SHAPES = ((3, 4, 4), (1, 8, 8), (1, 28, 28), (3, 32, 32))
"""The shapes of the examples on which a norm is tried."""
RADII = {"2": 0.2, "inf": 0.05}
"""The balls in which attacks are tried."""


def parts_named(name: str, kind: str | None = None) -> list[tuple[str, str]]:
    """The kinds and qualified names of the parts that a name stands for.

    Args:
        name: a plugin, for all its parts; or a part, as ``pga``, ``my_plugin:my-norm`` or ``lp:3``;
            for the kind ``model`` also code, as ``net.py:Net``.
        kind: the kind of the part, if parts of several kinds have the name.

    Raises:
        UnknownNameError: nothing that is installed has this name, or several parts have.
        OnrError: the plugin was set aside.

    Example:
        >>> parts_named("onr_paper:pga"), parts_named("onr_numpy")
        ([('attack', 'onr_paper:pga')], [('backend', 'onr_numpy:numpy')])

    """
    plugins = {plugin.name: plugin for plugin in registry().plugins}
    if name in plugins:
        return _of_plugin(plugins[name], kind)
    found = []
    kinds = dict.fromkeys(each for plugin in plugins.values() for each, _ in plugin.entries)
    for each in kinds if kind is None else (kind,):
        try:
            resolved = registry().resolve(each, name)
        except UnknownNameError as error:
            if "more than once" in str(error):
                raise
            continue
        # A text as net.py:Net is a model's code, which is meant only where the kind says so.
        if each == kind or resolved.entry.name in name.split(":"):
            argument = "" if resolved.argument is None else f":{resolved.argument}"
            found.append((each, f"{resolved.plugin.name}:{resolved.entry.name}{argument}"))
    if len(found) > 1:
        kinds_found = ", ".join(each for each, _ in found)
        raise UnknownNameError(f"{name!r} is a part of several kinds: add --kind, {kinds_found}")
    if not found:
        known = ", ".join(plugins)
        said = "nothing" if kind is None else f"no {kind}"
        raise UnknownNameError(
            f"{said} that is installed is called {name!r}: expected a plugin ({known}) or one of "
            "its parts, which 'onr plugins' lists"
        )
    return found


def _of_plugin(plugin: Plugin, kind: str | None) -> list[tuple[str, str]]:
    if plugin.problem:
        raise OnrError(f"plugin {plugin.name} was set aside: {plugin.problem}")
    found = [
        (each, f"{plugin.name}:{entry.name}")
        for each, entry in plugin.entries
        if kind in (None, each)
    ]
    if not found:
        raise UnknownNameError(
            f"plugin {plugin.name} offers {'nothing' if kind is None else f'no {kind}'}"
        )
    return found


def laws_of(kind: str, spec: str) -> list[Law]:
    """The laws of a part and their outcomes; at least one, that the part can be made.

    A part that cannot be tried as it stands (it needs an argument, files, or a library) has a law
    that was not checked, with the reason.

    Example:
        >>> [str(each) for each in laws_of("command", "train")]
        ['it loads', 'it is a click command with a help text']

    """
    try:
        target = load(kind, spec)
    except OnrError as error:
        needs = any(said in str(error) for said in ("needs an argument", "is not installed"))
        return [Law("it loads", **{"skipped" if needs else "broken": str(error)})]
    found = outcomes(_LAWS[kind](target, spec) if kind in _LAWS else iter(()))
    return [Law("it loads"), *found]


def _norm(target: Callable[..., Any], spec: str) -> Laws:
    """At the first shape that the norm takes: it may be one of the images of some data set."""
    part = target()
    network, _, _ = small_network(TORCH)

    def laws(shape: tuple[int, ...]) -> Laws:
        yield from norm_laws(part, shape, draws=5)
        yield from array_laws(part, shape, network.asarray)

    yield from _first_taken([partial(laws, shape) for shape in SHAPES])


def _loss(target: Callable[..., Any], spec: str) -> Laws:
    yield from loss_laws(target())


def _attack(target: Callable[..., Any], spec: str) -> Laws:
    """In two balls, on a network of NumPy, or of torch for an attack that takes no other."""
    for p, eps in RADII.items():

        def laws(backend: str, p: str = p, eps: float = eps) -> Laws:
            network, x, y = small_network(backend)
            found = attack_laws(target, network, x, y, p=norm(p), eps=eps)
            return at(f"p = {p}, {backend.partition(':')[2]}", found)

        yield from _first_taken([partial(laws, NUMPY), partial(laws, TORCH)])


def _first_taken(tries: Sequence[Callable[[], Laws]]) -> Laws:
    """The laws of the first try that is not refused by an error at its start."""
    for place, make in enumerate(tries, start=1):
        try:
            laws = make()
            first = next(laws)
        except OnrError as error:
            if place == len(tries):
                yield Law("the other laws", skipped=str(error))
            continue
        yield first
        yield from laws
        return


def _method(target: Callable[..., Any], spec: str) -> Laws:
    yield from method_laws(target())


def _model(target: Callable[..., Any], spec: str) -> Laws:
    """For grey digits; or for photographs, for which the matrices of NumPy are too large."""
    if hasattr(target, "opened"):
        target = target.opened(download=False)
    large = partial(model_laws, target, input_shape=(3, 32, 32), backend=TORCH)
    yield from _first_taken([partial(model_laws, target), large])


def _dataset(target: Callable[..., Any], spec: str) -> Laws:
    data_dir = Path(TrainConfig().data_dir)
    try:
        target(data_dir=data_dir, download=False)
    except OnrError as error:
        if "download" in str(error) or "no such" in str(error).lower():
            yield Law("the laws of a data set", skipped=str(error))
            return
    yield from dataset_laws(lambda: target(data_dir=data_dir, download=False))


def _backend(target: Callable[..., Any], spec: str) -> Laws:
    yield from backend_laws(target())


def _check(target: Callable[..., Any], spec: str) -> Laws:
    check = target()
    named = spec.rpartition(":")[2]
    yield law("its name is that of the entry", check.name == named, name=check.name, entry=named)
    yield from check_laws(check)


def _preset(target: Callable[..., Any], spec: str) -> Laws:
    settings = target()
    TrainConfig(**settings)
    for kind in ("model", "dataset", "method", "backend"):
        if kind in settings:
            load(kind, settings[kind])
    yield law("its settings are those of onr train", isinstance(settings, dict))


def _experiment(target: Callable[..., Any], spec: str) -> Laws:
    title = target().title
    yield law("its title is a text", isinstance(title, str) and bool(title), title=title)


def _command(target: Callable[..., Any], spec: str) -> Laws:
    helped = bool(getattr(target, "help", None)) and callable(getattr(target, "main", None))
    yield law("it is a click command with a help text", helped, target=type(target).__name__)


_LAWS: dict[str, Callable[[Callable[..., Any], str], Iterator[Law]]] = {
    "norm": _norm,
    "loss": _loss,
    "attack": _attack,
    "method": _method,
    "model": _model,
    "dataset": _dataset,
    "backend": _backend,
    "check": _check,
    "preset": _preset,
    "experiment": _experiment,
    "command": _command,
}
