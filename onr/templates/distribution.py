"""A small distribution of one kind, written from templates."""

from __future__ import annotations

import importlib.util
import keyword
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from onr.errors import OnrError
from onr.registry import registry
from onr.version import __version__

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["TEMPLATES", "new_distribution"]

USES = {
    "norm": "onr verify-theorem --p NAME --q 1\n    onr train --method at --p NAME --eps 0.1",
    "attack": "onr evaluate RUN --attack NAME --attack-option momentum=0.5",
    "loss": "onr evaluate RUN --loss NAME",
    "model": "onr train --model NAME --model-option width=32",
    "dataset": "onr train --dataset NAME",
    "method": "onr train --method NAME --method-option lam=2",
    "backend": "onr verify-theorem --backend NAME --p inf --q 1",
    "experiment": "onr reproduce NAME",
    "check": "onr audit RUN --p inf --eps 8/255 --checks NAME",
    "preset": "onr train --preset NAME",
    "command": "onr NAME RUN",
}
"""How a part of each kind is used on the command line."""
TEMPLATES = tuple(USES)
"""The kinds that there is a template for."""
MARK = ".template"
"""How the names of the templates end, so that no tool takes them for source."""


def new_distribution(name: str, kind: str, into: Path) -> Path:
    """Write a distribution with one part of a kind, and return its folder.

    Args:
        name: the name of the Python package, such as ``my_norm``; the distribution and the part are
            called ``my-norm``.
        kind: one of ``TEMPLATES``.
        into: the folder in which the folder of the distribution is made.

    Raises:
        OnrError: the name is no name of a package or is taken, the kind has no template, or there
            is something where the folder would be.

    Example:
        >>> folder = new_distribution("my_norm", "norm", tmp_path)
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'my_norm', 'pyproject.toml', 'tests']

    """
    if kind not in TEMPLATES:
        raise OnrError(f"kind {kind!r} has no template: expected one of {', '.join(TEMPLATES)}")
    _require_free(name)
    part = name.replace("_", "-").strip("-")
    # Not called as the package: Python takes such a folder for a package where it is run beside it.
    folder = into / f"onr-{part.removeprefix('onr-')}"
    if folder.exists() or folder.is_symlink():
        raise OnrError(f"{folder} is there already: choose another name, or --into another folder")
    words = {
        "name": name,
        "part": part,
        "kind": kind,
        "module": "losses" if kind == "loss" else f"{kind}s",
        "distribution": folder.name,
        "version": ".".join(__version__.split(".")[:2]),
        "use": USES[kind].replace("NAME", part),
    }
    templates = files("onr.templates")
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=f".{name}-") as made:
            for source in ("common", kind):
                _fill(templates / source, Path(made) / folder.name, words)
            shutil.move(Path(made) / folder.name, folder)
    except OSError as error:
        raise OnrError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _require_free(name: str) -> None:
    """Refuse what is no name of a Python package, or is the name of one that is there.

    Raises:
        OnrError: the name cannot be used.

    """
    plain = name.isidentifier() and name.isascii() and name == name.lower()
    if not plain or keyword.iskeyword(name) or not name.strip("_") or name.startswith("_"):
        raise OnrError(
            f"{name!r} is no name of a Python package: expected small letters, digits and _, "
            "as my_norm"
        )
    if any(plugin.name == name for plugin in registry().plugins):
        raise OnrError(f"a plugin called {name} is installed already: choose another name")
    try:
        taken = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        taken = True
    if taken:
        raise OnrError(f"a Python package called {name} is there already: choose another name")


def _fill(source: Traversable, folder: Path, words: dict[str, str]) -> None:
    """Write the templates below ``source``, with the words in names and contents."""
    folder.mkdir(exist_ok=True)
    for item in source.iterdir():
        target = folder / item.name.replace("NAME", words["name"]).removesuffix(MARK)
        if item.is_dir():
            _fill(item, target, words)
        elif item.name.endswith(MARK):
            target.write_text(Template(item.read_text("utf-8")).substitute(words), "utf-8")
