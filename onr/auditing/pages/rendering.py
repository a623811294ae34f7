"""Pages from the templates beside this module, by jinja2."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any

__all__ = ["rendered"]


def rendered(template: str, **context: Any) -> bytes:
    """A page from one of the templates beside this module.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.

    """
    import jinja2

    found: bytes = _environment(jinja2).get_template(template).render(**context).encode()
    return found


@functools.cache
def _environment(jinja2: Any) -> Any:
    """Where templates are compiled, once each."""
    folder = importlib.resources.files(__package__)
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
