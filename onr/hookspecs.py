"""What a plugin may offer.

A plugin is a module, named by an entry point of the group ``onr``, with functions marked
``@hookimpl`` and named as below. Each takes no argument and returns a list of :class:`Entry`: the
registration is data, and a target is imported when its name is first used. Plugins may offer

====================  =============================================================================
``onr_norms``         ``target() -> Norm``
``onr_losses``        ``target() -> Loss``
``onr_attacks``       ``target(p=, eps=, bounds=, ...) -> Attack``; of ``loss=``, ``steps=`` and
                      ``restarts=`` those that it names
``onr_models``        ``target(input_shape, classes, **options) -> Architecture`` (or, for torch
                      alone, a ``torch.nn.Module``); of ``normalize=`` (mean and deviation of the
                      training part) and ``pretrained=`` (whether its own weights are used) those
                      that it names. If the target has a method ``opened(download=)``, what that
                      gives is the target; its attributes ``preparation``, ``classes`` and
                      ``record`` say what its images and outputs are and where it comes from
``onr_datasets``      ``target(data_dir=, download=) -> Dataset``, and ``preparation=``, how the
                      model's images are resized and cropped, where the target names it
``onr_methods``       ``target(**options) -> Method``
``onr_backends``      ``target() -> Backend``
``onr_presets``       ``target() -> dict`` of settings, as a file for ``onr train --config``
``onr_grids``         ``target() -> dict``, as a file for ``onr sweep`` has it
``onr_experiments``   ``target() -> Experiment`` (:mod:`onr.experiments`)
``onr_measurements``  what experiments measure: ``target(network, x, y, **settings)``, a list of
                      rows (texts and numbers by column); ``p`` and ``q`` in the settings are norms,
                      and ``seed`` is given where the target names it
``onr_checks``        ``target() -> Check`` (:mod:`onr.auditing.protocols`), for ``onr audit``
``onr_commands``      a ``click.Command``
====================  =============================================================================

Where a user writes ``NAME:ARGUMENT`` (as in ``lp:1.5`` or ``npz:PATH``) the target receives the
argument as one further, first, string.
"""

from __future__ import annotations

from dataclasses import dataclass

import pluggy

PROJECT = "onr"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Entry:
    """One named thing that a plugin offers."""

    name: str
    """What users write; no colon, no white space."""
    target: str
    """``package.module:attribute``, imported at first use."""
    summary: str
    """One line for listings."""
    arrays: tuple[str, ...] = ()
    """For a backend: the packages whose arrays and models it takes, that of its arrays first, as
    ``torch``. The front door uses a backend only where one of them is loaded already, and records
    have their versions.
    """


@hookspec
def onr_norms() -> list[Entry]:
    """Norms for ``--p`` and ``--q``."""
    return []


@hookspec
def onr_losses() -> list[Entry]:
    """Losses that attacks ascend."""
    return []


@hookspec
def onr_attacks() -> list[Entry]:
    """Attacks for ``onr evaluate --attack`` and ``onr train --attack``."""
    return []


@hookspec
def onr_models() -> list[Entry]:
    """Models for ``onr train --model``."""
    return []


@hookspec
def onr_datasets() -> list[Entry]:
    """Data sets for ``onr train --dataset``."""
    return []


@hookspec
def onr_methods() -> list[Entry]:
    """Training methods for ``onr train --method``."""
    return []


@hookspec
def onr_backends() -> list[Entry]:
    """Backends for ``--backend``."""
    return []


@hookspec
def onr_presets() -> list[Entry]:
    """Settings for ``onr train --preset``."""
    return []


@hookspec
def onr_grids() -> list[Entry]:
    """Grids for ``onr sweep``."""
    return []


@hookspec
def onr_experiments() -> list[Entry]:
    """Experiments that reproduce a figure or a table."""
    return []


@hookspec
def onr_measurements() -> list[Entry]:
    """Measurements that experiments name."""
    return []


@hookspec
def onr_checks() -> list[Entry]:
    """Checks of ``onr audit``, each of which raises a flag."""
    return []


@hookspec
def onr_commands() -> list[Entry]:
    """Subcommands of ``onr``."""
    return []
