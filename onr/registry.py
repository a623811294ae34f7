"""The registry finds the plugins, sets broken ones aside, and resolves names to callables.

A name is ``NAME`` or ``NAME:ARGUMENT``, optionally after ``PLUGIN:``. pluggy collects what the
plugins offer.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pluggy

from onr import hookspecs
from onr.errors import OnrError, UnknownNameError, missing_extra
from onr.hookspecs import PROJECT, Entry
from onr.numerals import number
from onr.version import __version__

__all__ = [
    "KINDS",
    "OWN",
    "Plugin",
    "Registry",
    "Resolved",
    "bare",
    "canonical",
    "load",
    "located",
    "norm_spec",
    "registry",
    "served",
]

BUILTIN = ("onr.cli", "onr.auditing", "onr_numpy", "onr_torch", "onr_paper", "onr_validation")
"""The plugins of this project, in the order of registration."""
KINDS = {
    "norm": "onr_norms",
    "loss": "onr_losses",
    "attack": "onr_attacks",
    "model": "onr_models",
    "dataset": "onr_datasets",
    "method": "onr_methods",
    "backend": "onr_backends",
    "preset": "onr_presets",
    "grid": "onr_grids",
    "experiment": "onr_experiments",
    "measurement": "onr_measurements",
    "check": "onr_checks",
    "command": "onr_commands",
}
"""The kinds of objects that plugins offer, and the hook for each kind."""
GIVEN = {"model": 2, "measurement": 3}
"""How many positional arguments the target of a kind takes, not counting the name's argument."""
OWN = "python"
"""The registered model for the user's own code; the prefix ``python:`` may be left out."""
STRICT = "ONR_STRICT_PLUGINS"
"""The environment variable that makes a broken plugin an error."""
DISABLE = "ONR_DISABLE_PLUGINS"
"""The environment variable that names plugins to leave out, separated by commas."""


@dataclass(frozen=True)
class Plugin:
    """An installed plugin: where it comes from, what it offers, and why it was set aside, if so.

    Example:
        >>> paper = next(plugin for plugin in registry().plugins if plugin.name == "onr_paper")
        >>> paper.distribution, paper.problem is None
        ('onr', True)

    """

    name: str
    distribution: str
    version: str
    entries: tuple[tuple[str, Entry], ...]
    """What the plugin offers, as pairs of a kind and an entry."""
    problem: str | None = None
    """Why the plugin was set aside; ``None`` for a plugin that works."""


@dataclass(frozen=True)
class Resolved:
    """The entry that a name resolves to, with its plugin and the argument in the name.

    Example:
        >>> found = registry().resolve("norm", "lp:1.5")
        >>> found.plugin.name, found.entry.name, found.argument
        ('onr_paper', 'lp', '1.5')

    """

    kind: str
    spec: str
    entry: Entry
    plugin: Plugin
    argument: str | None

    def load(self) -> Callable[..., Any]:
        """Import the target and bind the argument, if the name has one.

        A model's target with one positional parameter, such as that of ``python:``, is a factory.
        It is called with the text after the colon, and it returns the builder of the model.

        Raises:
            OnrError: the target cannot be imported (the message names the extra to install, if an
                extra brings it), or the argument is missing or not expected.

        """
        module, _, attribute = self.entry.target.partition(":")
        try:
            target: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise missing_extra(error) or self._broken(error) from error
        except Exception as error:
            raise self._broken(error) from error
        own = _positional(target)
        makes_target = self.kind == "model" and own is not None and len(own) == 1
        if own is not None and self.kind != "command":
            self._check_argument(own, given=0 if makes_target else GIVEN.get(self.kind, 0))
        if self.argument is None:
            return target
        if makes_target:
            made: Callable[..., Any] = target(self.argument)
            return made
        return partial(target, self.argument)

    def target_module(self) -> str:
        """Import the target and return the name of its module."""
        self.load()
        return self.entry.target.partition(":")[0]

    def _check_argument(self, own: list[inspect.Parameter], *, given: int) -> None:
        """Raise an error that says what to write, before the call fails with a TypeError."""
        if self.argument is None and sum(p.default is p.empty for p in own) > given:
            raise OnrError(
                f"{self.kind} {self.spec!r} needs an argument: write {self.spec}:ARGUMENT"
            )
        if self.argument is not None and len(own) <= given:
            raise OnrError(f"{self.kind} {self.spec!r}: {self.entry.name} takes no argument")

    def _broken(self, error: Exception) -> OnrError:
        return OnrError(
            f"{self.spec!r} of plugin {self.plugin.name} cannot be loaded from "
            f"{self.entry.target}: {type(error).__name__}: {error}"
        )


def _positional(target: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """The positional parameters of a callable; ``None`` if it has no readable signature."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    return [parameter for parameter in parameters if parameter.kind in kinds]


def _is_code(spec: str) -> bool:
    """True if ``spec`` has the form ``package.module:attribute`` or ``file.py:attribute``."""
    place, _, attribute = spec.rpartition(":")
    names = attribute if place.endswith(".py") else f"{place}.{attribute}"
    return all(name.isidentifier() for name in names.split("."))


class Registry:
    """The plugins of this installation, those of this project first.

    Raises:
        OnrError: a plugin is broken and the environment variable ``ONR_STRICT_PLUGINS`` is set.

    Example:
        >>> found = Registry()
        >>> [plugin.name for plugin in found.plugins][:2]
        ['onr.cli', 'onr.auditing']
        >>> "pga" in [entry.name for _, entry in found.offers("attack")]
        True

    """

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._strict = os.environ.get(STRICT, "") not in ("", "0")
        disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")} - {""}
        self.plugins: list[Plugin] = []
        for name in BUILTIN:
            self._admit(name, PROJECT, __version__, partial(importlib.import_module, name))
        for point in sorted(importlib.metadata.entry_points(group=PROJECT), key=lambda p: p.name):
            distribution = point.dist.name if point.dist else "unknown"
            version = point.dist.version if point.dist else "unknown"
            if point.name in disabled:
                self.plugins.append(
                    Plugin(point.name, distribution, version, (), f"disabled by {DISABLE}")
                )
            else:
                self._admit(point.name, distribution, version, point.load)

    def _admit(self, name: str, distribution: str, version: str, load: Callable[[], Any]) -> None:
        entries: tuple[tuple[str, Entry], ...] = ()
        problem = None
        try:
            if any(known.name == name for known in self.plugins):
                raise ValueError(f"a plugin named {name} is there already")
            module = load()
            self._manager.register(module, name)
            entries = tuple(self._entries(module, name))
        except (Exception, SystemExit) as error:
            if self._strict:
                raise OnrError(
                    f"plugin {name} ({distribution} {version}) is broken: "
                    f"{type(error).__name__}: {error}"
                ) from error
            if self._manager.get_plugin(name) is not None:
                self._manager.unregister(name=name)
            problem = f"{type(error).__name__}: {error}"
        self.plugins.append(Plugin(name, distribution, version, entries, problem))

    def _entries(self, module: object, name: str) -> list[tuple[str, Entry]]:
        found: list[tuple[str, Entry]] = []
        known = set(KINDS.values())
        for attribute in dir(module):
            marked = self._manager.parse_hookimpl_opts(module, attribute)
            if marked is not None and (marked.get("specname") or attribute) not in known:
                raise ValueError(f"{attribute} is no hook of {PROJECT}: {', '.join(sorted(known))}")
        for kind, hook in KINDS.items():
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                if implementation.plugin_name != name:
                    continue
                for entry in implementation.function():
                    if not isinstance(entry, Entry):
                        raise TypeError(f"{hook} returned {entry!r}, expected onr.hookspecs.Entry")
                    texts = (entry.name, entry.target, entry.summary)
                    if not all(isinstance(text, str) for text in texts):
                        raise TypeError(f"{hook} returned {entry!r}: all three must be text")
                    if any(k == kind and e.name == entry.name for k, e in found):
                        raise ValueError(f"{hook} offers {entry.name!r} twice")
                    if entry.name.split() != [entry.name.replace(":", "")] or (
                        ":" not in entry.target
                    ):
                        raise ValueError(
                            f"{hook} returned {entry!r}: a name has no colon, and a target is "
                            "'package.module:attribute'"
                        )
                    found.append((kind, entry))
        return found

    def offers(self, kind: str) -> list[tuple[Plugin, Entry]]:
        """All entries of a kind with their plugins, in the order of registration."""
        return [
            (plugin, entry)
            for plugin in self.plugins
            for its_kind, entry in plugin.entries
            if its_kind == kind
        ]

    def resolve(self, kind: str, spec: str) -> Resolved:
        """Find what a name stands for.

        Args:
            kind: the kind of object, such as ``norm`` or ``model``.
            spec: the name; a model may also be ``MODULE:ATTRIBUTE`` or ``FILE.py:ATTRIBUTE``.

        Raises:
            UnknownNameError: no plugin offers an object of that kind and name, or several do.

        """
        rest = spec
        offers = self.offers(kind)
        head, colon, tail = spec.partition(":")
        if colon and any(plugin.name == head for plugin in self.plugins):
            offers, rest = [(p, e) for p, e in offers if p.name == head], tail
        name, colon, argument = rest.partition(":")
        found = [(plugin, entry) for plugin, entry in offers if entry.name == name]
        if len(found) == 1:
            plugin, entry = found[0]
            return Resolved(kind, spec, entry, plugin, argument if colon else None)
        if found:
            forms = " or ".join(f"{plugin.name}:{rest}" for plugin, _ in found)
            raise UnknownNameError(f"{kind} {spec!r} is offered more than once: write {forms}")
        if kind == "model" and rest == spec and _is_code(spec):
            for plugin, entry in offers:
                if entry.name == OWN:
                    return Resolved(kind, spec, entry, plugin, spec)
        names = ", ".join(sorted({entry.name for _, entry in self.offers(kind)})) or "none"
        raise UnknownNameError(f"unknown {kind} {spec!r}: expected one of {names}{self._aside()}")

    def _aside(self) -> str:
        broken = [plugin.name for plugin in self.plugins if plugin.problem]
        return f" (set aside: {', '.join(broken)}; see 'onr plugins')" if broken else ""


@cache
def registry() -> Registry:
    """The registry of this process, made at the first call.

    Example:
        >>> registry().resolve("dataset", "digits").plugin.name
        'onr_paper'

    """
    return Registry()


def load(kind: str, spec: str) -> Callable[..., Any]:
    """Import the callable that ``spec`` names.

    Raises:
        UnknownNameError: no plugin offers an object of that kind and name, or several do.
        OnrError: the callable cannot be imported.

    Example:
        >>> load("norm", "inf")()
        <norm inf>

    """
    return registry().resolve(kind, spec).load()


def located(model: str) -> str:
    """Make the path of a model absolute, so that it is found from any directory.

    That is the path in ``FILE.py:ATTRIBUTE``, and a folder after the colon, which starts with a dot
    or ``~``, as in ``hf:./mine``. Other names of models are returned unchanged.

    Raises:
        UnknownNameError: no plugin offers a model of that name, or several do.

    Example:
        >>> located("mlp")
        'mlp'

    """
    resolved = registry().resolve("model", model)
    argument = resolved.argument or ""
    if argument.startswith(("./", "../", "~")) and resolved.entry.name != OWN:
        return model.removesuffix(argument) + str(Path(argument).expanduser().absolute())
    file, _, attribute = argument.rpartition(":")
    if resolved.entry.name != OWN or not file.endswith(".py"):
        return model
    return f"{OWN}:{Path(file).absolute()}:{attribute}"


def served(specs: dict[str, str]) -> dict[str, dict[str, str]]:
    """The plugin, distribution and version behind each name, for the record of a run.

    Args:
        specs: names by use; a use is a kind, or a kind followed by ``/`` and more text.

    Raises:
        UnknownNameError: no plugin offers an object of that kind and name, or several do.

    Example:
        >>> served({"dataset": "digits"})["dataset"]["plugin"]
        'onr_paper'

    """
    found = {}
    for use, spec in specs.items():
        plugin = registry().resolve(use.partition("/")[0], spec).plugin
        found[use] = {
            "name": bare(spec),
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
        }
    return found


def norm_spec(spec: str) -> str:
    """The registered name for what a user writes for a norm.

    A number always means an lp norm of this project, even if a plugin offers a norm of that name.

    Example:
        >>> norm_spec("2"), norm_spec("1.5"), norm_spec("mine")
        ('onr_paper:2', 'onr_paper:lp:1.5', 'mine')

    """
    try:
        value = number(spec)
    except OnrError:
        return spec
    named = {1.0: "1", 2.0: "2", float("inf"): "inf"}
    return f"onr_paper:{named.get(value, f'lp:{spec}')}"


def bare(spec: str) -> str:
    """Remove the plugin from the front of a name, to show the name to people.

    Example:
        >>> bare("onr_paper:digits"), bare("lp:1.5")
        ('digits', 'lp:1.5')

    """
    head, colon, tail = spec.partition(":")
    return tail if colon and any(plugin.name == head for plugin in registry().plugins) else spec


def canonical(kind: str, spec: str) -> str:
    """Write a name with its plugin in front: every spelling of a name gives the same text.

    Raises:
        UnknownNameError: no plugin offers an object of that kind and name, or several do.

    Example:
        >>> canonical("dataset", "digits"), canonical("norm", "onr_paper:lp:3")
        ('onr_paper:digits', 'onr_paper:lp:3')

    """
    found = registry().resolve(kind, spec)
    argument = "" if found.argument is None else f":{found.argument}"
    return f"{found.plugin.name}:{found.entry.name}{argument}"
