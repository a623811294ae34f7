"""What the project raises when a request cannot be met. Imports nothing heavy."""

from __future__ import annotations

EXTRAS = {
    "torch": "torch",
    "torchvision": "torch",
    "sklearn": "digits",
    "matplotlib": "plot",
    "jinja2": "plot",
    "flint": "exact",
    "pyautoattack": "attacks",
    "torchattacks": "peers",
    "foolbox": "peers",
    "dask": "sweep",
    "distributed": "sweep",
    "tensorboard": "tensorboard",
}
"""Which optional part of the installation brings which module."""


class OnrError(Exception):
    """A request that cannot be met; the message names the value, what was expected, what to do.

    The command line prints it as one line and exits with code 2.
    """


class UnknownNameError(OnrError):
    """No plugin offers an object of that kind and name, or more than one does."""


class NotAvailableError(OnrError):
    """The operation has no definition (or no algorithm) for this object."""


def missing_extra(error: ModuleNotFoundError) -> OnrError | None:
    """Say which extra brings the module that was not found; ``None`` if it is none of ours."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    extra = EXTRAS[module]
    return OnrError(f"this needs {module}, which is not installed: pip install 'onr[{extra}]'")
