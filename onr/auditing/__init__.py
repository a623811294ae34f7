"""The audit of a model: how sensitive it is, what an attack achieves, and whether to believe it."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_checks() -> list[Entry]:
    """The checks of the project, one file each."""
    return []
