"""Models from the user's own code: ``MODULE:ATTRIBUTE`` or ``FILE.py:ATTRIBUTE``."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from onr.architectures import Normalize
from onr.errors import OnrError
from onr_torch.models.logits import reason, require_logits
from onr_torch.models.signatures import parameters, readable, takes

__all__ = ["imported"]

GIVEN = ("input_shape", "classes", "num_classes", "normalize")
"""The arguments that a class or a function gets if it has parameters of these names."""
PHOTOGRAPHS = "; if it takes other sizes, folder:PATH@RESIZE,CROP resizes and crops photographs"


def imported(spec: str, /) -> Callable[..., nn.Module]:
    """The model builder for an ``nn.Module``, a subclass, or a function, from the user's code.

    A Python module is looked up in the current directory first, as by ``python -m``; a file runs
    anew each time. A class or a function is called with those of the arguments ``input_shape``,
    ``classes`` (or ``num_classes``) and ``normalize`` (:class:`onr.architectures.Normalize`) that
    it has parameters for. Its other parameters become the model's options, whose types follow from
    annotations or defaults. An ``nn.Module`` is copied with its weights. The model must map pixels
    in [0, 1] of shape ``(batch, *input_shape)`` to logits ``(batch, classes)``. If the module, the
    class or the function has an attribute ``class_names``, a list with the name of each output, the
    labels of a data set are found by these names.

    Args:
        spec: ``my_package.models:Net`` or ``path/to/net.py:make``.

    Returns:
        A target for an entry of the hook ``onr_models``.

    Raises:
        OnrError: the code cannot be found or run; the error names the line. The target raises it
            if the model cannot be built or is not a classifier of such inputs.

    Example:
        >>> code = "from torch import nn; net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))"
        >>> _ = (tmp_path / "net.py").write_text(code)
        >>> build = imported(f"{tmp_path}/net.py:net")
        >>> build((1, 2, 2), 3, normalize=Normalize((0.5,), (0.5,)))[1]
        Linear(in_features=4, out_features=3, bias=True)

    """
    what = f"model {spec}"
    found = _attribute(spec)
    if isinstance(found, nn.Module):
        make: Callable[..., Any] = _Copy(found)
    elif callable(found):
        make = found
    else:
        raise OnrError(
            f"{what} is a {type(found).__name__}: expected an nn.Module, a class of these, or a "
            "function that gives one"
        )
    known = parameters(make)
    options = readable(make, without=GIVEN)

    def target(
        input_shape: tuple[int, ...],
        classes: int,
        *,
        normalize: Normalize | None = None,
        **options: str | float,
    ) -> nn.Module:
        values = dict(zip(GIVEN, (input_shape, classes, classes, normalize), strict=True))
        arguments = {name: values[name] for name in GIVEN if name in known} | options
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in arguments:
                raise OnrError(
                    f"{what} needs {name}: give --model-option {name}=VALUE, which takes an "
                    "annotation as int, float or str, or give it a default"
                )
        try:
            module = make(**arguments)
        except Exception as error:
            raise OnrError(f"{what} cannot be built: {reason(error)}") from error
        if not isinstance(module, nn.Module):
            raise OnrError(f"{what} gives a {type(module).__name__}: expected an nn.Module")
        if not hasattr(module, "input_shape"):
            module.input_shape = input_shape  # type: ignore[assignment]  # nn.Module types its attributes as modules
        if module.input_shape not in (input_shape, list(input_shape)):
            raise OnrError(
                f"{what} has input_shape = {module.input_shape}, the data set's is {input_shape}"
            )
        advice = PHOTOGRAPHS if input_shape[0] == 3 else ""
        require_logits(module, input_shape, classes, what=what, advice=advice)
        return module

    takes(target, options)
    if "normalize" not in known:  # it takes the whole training part to find out
        signature = inspect.signature(target)
        left = [it for name, it in signature.parameters.items() if name != "normalize"]
        target.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]  # read by inspect
    target.classes = getattr(found, "class_names", None)  # type: ignore[attr-defined]  # read by make_dataset
    return target


class _Copy:
    """Returns copies of a module, so that no two networks share parameters."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self) -> nn.Module:
        return copy.deepcopy(self._module)


def _attribute(spec: str) -> Any:
    place, _, attribute = spec.rpartition(":")
    if not place or not attribute:
        raise OnrError(f"model {spec!r}: expected MODULE:ATTRIBUTE or FILE.py:ATTRIBUTE")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    try:
        return attrgetter(attribute)(module)
    except AttributeError as error:
        raise OnrError(f"model {spec}: {place} has no {attribute}: {error}") from error


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise OnrError(
                f"no model and no Python module is named {name!r} (looked in {here} and what is "
                "installed): 'onr plugins' lists the models"
            ) from error
        raise OnrError(f"{name} cannot be imported: {reason(error)}") from error


def _file(path: Path) -> ModuleType:
    path = path.absolute()
    folder, name = str(path.parent), f"onr_own_{path.stem}"
    if not path.is_file():
        raise OnrError(f"no file {path}: expected FILE.py:ATTRIBUTE")
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None  # noqa: S101 - the path ends in .py
    assert found.loader is not None  # noqa: S101 - a file has a loader
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # Some code, such as dataclasses, looks up its own module in sys.modules.
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise OnrError(f"{path} cannot be run: {reason(error)}") from error
    return module
