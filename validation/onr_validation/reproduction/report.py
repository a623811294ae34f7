"""The command ``onr report``: all results of a reproduction on one page without other files."""

from __future__ import annotations

import base64
import csv
import importlib.resources
import json
from pathlib import Path
from typing import Any

import click

from onr.errors import OnrError
from onr.files import write_atomic
from onr.registry import registry
from onr.version import __version__
from onr_validation.reproduction.results import united

__all__ = ["report"]

SHOWN_ROWS = 60
"""The page shows a table only if it has at most this many rows."""


@click.command()
@click.argument(
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reproduction/tiny"),
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page.  [default: FOLDER/report.html]",
)
def report(folder: Path, out: Path | None) -> None:
    """Gather what onr reproduce found in FOLDER into one HTML page.

    Figures are inside the page. Each claim stands with its verdict and the number that decides it,
    and each result with its command, models, versions, hardware and time.

    FOLDER is reproduction/tiny if not given.
    """
    import jinja2

    results = _results(folder)
    if not results:
        raise OnrError(f"{folder} holds no results: run onr reproduce first, or give its folder")
    template = importlib.resources.files(__package__).joinpath("report.html.jinja").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        results=results,
        scales=sorted({result["scale"] for result in results}),
        held=sum(claim["held"] for result in results for claim in result["claims"]),
        count=sum(len(result["claims"]) for result in results),
        hardware=sorted({name for result in results for name in result["hardware"]}),
        versions=united(result["versions"] for result in results),
        data=united(result["data"] for result in results),
        version=__version__,
    )
    path = out or folder / "report.html"
    write_atomic(path, page.encode())
    click.echo(f"{len(results)} results; the page: {path}")


def _results(folder: Path) -> list[dict[str, Any]]:
    """The results in a folder: registered experiments in their order, then all others by name."""
    known = [entry.name for _, entry in registry().offers("experiment")]
    files = {file.parent.name: file for file in folder.glob("*/result.json")}
    ordered = sorted(files, key=lambda n: (known.index(n) if n in known else len(known), n))
    return [_result(files[name]) for name in ordered]


def _result(file: Path) -> dict[str, Any]:
    """One result in the form that the page shows."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        figure = base64.b64encode((file.parent / "figure.svg").read_bytes()).decode()
        rows = list(csv.reader((file.parent / "table.csv").read_text().splitlines()))
        claims = [
            {
                "statement": claim["statement"],
                "measure": claim["measure"],
                "held": claim["held"],
                "value": "unknown" if claim["value"] is None else f"{claim['value']:.3g}",
                "asked": claim["asked"],
            }
            for claim in found["claims"]
        ]
        models = [
            {"name": name, "settings": ", ".join(f"{k} {v}" for k, v in settings.items())}
            for name, settings in found["models"].items()
        ]
        shown = {
            key: found[key]
            for key in ("experiment", "title", "scale", "command", "hardware", "versions", "data")
        }
        minutes = {key: found["seconds"][key] / 60 for key in ("training", "measuring")}
        # The page unites these values over all results; here a damaged result can still be named.
        united([found["versions"], found["data"], dict.fromkeys(found["hardware"], "")])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OnrError(
            f"{file.parent} is damaged ({error}): run onr reproduce {file.parent.name} again"
        ) from error
    return shown | {
        "claims": claims,
        "models": models,
        "figure": figure,
        "rows": len(rows) - 1,
        "table": rows if len(rows) <= SHOWN_ROWS + 1 else [],
        "minutes": minutes,
    }
