"""The exceptions of the project. This module imports nothing heavy."""

from __future__ import annotations

__all__ = ["ImageError", "NotAvailableError", "OnrError", "UnknownNameError", "missing_extra"]

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
    "timm": "timm",
    "transformers": "hf",
    "huggingface_hub": "hf",
    "dask": "sweep",
    "distributed": "sweep",
    "tensorboard": "tensorboard",
    "pyarrow": "parquet",
}
"""The extra of the installation (``pip install 'onr[EXTRA]'``) that brings each module."""


class OnrError(Exception):
    """A request cannot be met. The message names the value, what was expected, and what to do.

    The message is one line; line breaks in texts of other libraries become spaces. The command line
    prints the message and exits with code 2.

    Example:
        >>> from onr.norms import LpNorm
        >>> try:
        ...     LpNorm(0.5)
        ... except OnrError as error:
        ...     print(error)
        p = 0.5 gives no norm: expected a number >= 1, or inf

    """

    def __init__(self, message: object = "") -> None:
        text = str(message)
        super().__init__(" ".join(text.split()) if len(text.splitlines()) > 1 else text)


class UnknownNameError(OnrError):
    """No plugin offers an object of that kind and name, or more than one does."""


class NotAvailableError(OnrError):
    """The operation has no definition (or no algorithm) for this object."""


class ImageError(OnrError):
    """A value that belongs to one image is wrong: a logit that is NaN, a label that is no class.

    Args:
        index: the place of the image among the inputs.
        what: what is wrong, and what to do.

    Example:
        >>> print(ImageError(3, "a logit is NaN"))
        image 3: a logit is NaN

    """

    def __init__(self, index: int, what: str) -> None:
        super().__init__(f"image {index}: {what}")
        self.index, self.what = index, what

    def __reduce__(self) -> tuple[type[ImageError], tuple[int, str]]:
        """How pickle makes the error again in another process."""
        return type(self), (self.index, self.what)

    def after(self, count: int) -> ImageError:
        """The same error, where ``count`` other images precede the inputs."""
        return ImageError(count + self.index, self.what)


def missing_extra(error: ModuleNotFoundError) -> OnrError | None:
    """An error that says which extra to install for the module that was not found.

    The result is ``None`` if no extra brings that module.

    Example:
        >>> print(missing_extra(ModuleNotFoundError(name="flint")))
        this needs flint, which is not installed: pip install 'onr[exact]'

    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    extra = EXTRAS[module]
    return OnrError(f"this needs {module}, which is not installed: pip install 'onr[{extra}]'")
