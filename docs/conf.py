"""The site: Sphinx with MyST and furo, built by ``make docs`` without a network."""

from __future__ import annotations

import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml

sys.path.insert(0, str(Path(__file__).parent / "site"))

from onr.version import __version__

project = "onr"
author = "onr contributors"
project_copyright = "onr contributors"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "commands",
]
exclude_patterns = ["_build", "site"]
nitpicky = True
suppress_warnings = ["config.cache"]

# Markdown: headings are link targets, as on GitHub.
myst_enable_extensions = ["dollarmath", "deflist", "fieldlist"]
myst_heading_anchors = 4
highlight_language = "text"

# Notebooks are Markdown files; their cells run at each build, and an error ends it.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 1200
nb_render_image_options = {"align": "center"}

# The reference is made of docstrings. Types are those that the signatures write.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "special-members": "__call__"}
napoleon_numpy_docstring = False
add_module_names = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"onr {release}"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False


def _mathml(node: nodes.Node, *, block: bool) -> str:
    """TeX as MathML, which browsers draw without a script; bars and brackets keep their size."""
    tree = latex2mathml.tex2mathml(node.astext(), as_block=block)
    return re.sub(
        r"<mo(?: class=\"\w+\")?>([][(){}|‖])</mo>", r'<mo stretchy="false">\1</mo>', tree
    )


def _known(app: Any, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """What exists in the code and is on no page is text; what does not exist is a warning."""
    if node.get("refdomain") != "py":
        return None
    for name in (node["reftarget"], f"{node.get('py:module')}.{node['reftarget']}"):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError, ValueError):
            continue
        return content
    return None


_attributes: dict[str, list[str]] = {}


def _keep(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "data", "property"):
        _attributes[name] = list(lines)


def _restore(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Undo napoleon, which reads the words of an attribute before a colon as its type."""
    if name in _attributes:
        lines[:] = _attributes.pop(name)


def _signature(app: Any, what: str, name: str, found: Any, *_: Any) -> tuple[str, None] | None:
    """A protocol is not called, and has no signature."""
    return ("", None) if getattr(found, "_is_protocol", False) else None


def setup(app: Any) -> None:
    """Formulas become MathML, so that no page loads a script from elsewhere."""

    def inline(translator: Any, node: nodes.Node) -> None:
        translator.body.append(_mathml(node, block=False))
        raise nodes.SkipNode

    def block(translator: Any, node: nodes.Node) -> None:
        translator.body.append(f'<div class="formula">{_mathml(node, block=True)}</div>')
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("missing-reference", _known)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _keep, priority=400)
    app.connect("autodoc-process-docstring", _restore, priority=600)  # napoleon has 500
