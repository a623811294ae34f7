"""Checks that a module which others wrote is a classifier of given images."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch
from torch import nn

from onr.errors import OnrError
from onr_torch.modes import converter, evaluating, replaced
from onr_torch.outputs import tensor_of

__all__ = ["reason", "require_logits"]

_NOT_THEIRS = (str(Path(__file__).parent), str(Path(torch.__file__).parent), "<")


def require_logits(
    module: nn.Module, input_shape: tuple[int, ...], classes: int, *, what: str, advice: str = ""
) -> None:
    """Run the module on two black images, in float32 and in evaluation mode, and check the logits.

    Args:
        module: the module, on one device; its parameters keep their dtypes.
        input_shape: the shape of one input.
        classes: the number of logits.
        what: how to name the module in errors.
        advice: what the error tells the user to do if the module fails.

    Raises:
        OnrError: the module has no parameters, fails, or returns anything but one tensor of shape
            ``(2, classes)``.

    Example:
        >>> require_logits(nn.Linear(4, 3), (4,), 3, what="my model")

    """
    parameter = next(module.parameters(), None)
    if parameter is None:
        raise OnrError(f"{what} has no parameters: there is nothing to train")
    try:
        x = torch.zeros(2, *input_shape, device=parameter.device)
        with torch.no_grad(), evaluating(module), replaced(module, converter(torch.float32)):
            logits = tensor_of(module(x), module)
    except OnrError as error:
        raise OnrError(f"{what}: {error}") from error
    except Exception as error:
        raise OnrError(
            f"{what} does not take inputs of shape {input_shape}: {reason(error)}{advice}"
        ) from error
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != (2, classes):
        raise OnrError(
            f"{what} gives {found} for two inputs of shape {input_shape}: expected "
            f"(2, {classes}), a logit for each class"
        )


def reason(error: BaseException) -> str:
    """An error's name and text, and the last line of its traceback outside of our code and torch.

    Example:
        >>> reason(ValueError("too small"))
        'ValueError: too small'

    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_NOT_THEIRS)
    ]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
