"""The commands ``onr audit``, ``onr compare`` and ``onr explain``."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from rich.console import Console

from onr.arrays import to_numpy
from onr.auditing.audit import AuditSettings, checks_named, run_audit
from onr.auditing.comparison import compare as compared
from onr.auditing.protocols import Flag
from onr.auditing.record import RECORD, TABLES
from onr.auditing.saved import open_audit
from onr.auditing.summary import styled
from onr.auditing.threat import Threat
from onr.cli.progress import progress
from onr.cli.subjects import opened, subject_options
from onr.errors import OnrError
from onr.feasible import doubt
from onr.files import require_writable
from onr.front_door.models import FIRST, audited
from onr.numerals import number
from onr.text import norm, pair
from onr.training.factories import versions

__all__ = ["audit", "compare", "explain"]

RAISED, UNDECIDED = 3, 4
"""Exit codes: a flag of ``--fail-on`` is raised; or none is, and one could not be decided."""


def _texts(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(text.strip() for text in value.split(","))


def _shard(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Parse ``I/N``."""
    place, _, count = value.partition("/")
    if not (place.isdecimal() and count.isdecimal() and 1 <= int(place) <= int(count)):
        raise click.BadParameter(f"{value!r}: expected I/N with I from 1 to N, such as 3/8")
    return int(place), int(count)


def _size(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r}: expected auto, or a whole number >= 1")
    return int(value)


@click.command()
@subject_options("1,000 at most, or 100 with --fast")
@click.option("--p", required=True, help="The norm of the perturbations.")
@click.option("--eps", required=True, help="Their radius, pixels in [0, 1], such as 8/255.")
@click.option(
    "--norms",
    default="2:2",
    show_default=True,
    callback=_texts,
    help="Operator norms of the Jacobian, P:Q each, such as 2:2,inf:1.",
)
@click.option("--fast", is_flag=True, help="Fewer images, and a fifth of them for the checks.")
@click.option(
    "--seed", type=click.IntRange(0), help="Draw the images at random.  [default: the first ones]"
)
@click.option(
    "--checks",
    callback=_texts,
    help="The checks to make, with commas between; onr explain lists them.  [default: all]",
)
@click.option(
    "--check-limit",
    type=click.FloatRange(0, min_open=True),
    default=AuditSettings.check_limit,
    show_default=True,
    help="The most seconds of a check at a block of images; after that it does not decide.",
)
@click.option(
    "--cells",
    type=click.IntRange(0),
    help="For how many images to find the linear region.  [default: 3; 0 of large images]",
)
@click.option(
    "--batch-size",
    default="auto",
    show_default=True,
    callback=_size,
    help="How many images pass the network at once; auto halves it where memory runs out.",
)
@click.option(
    "--shard",
    default="1/1",
    callback=_shard,
    metavar="I/N",
    help="Measure a part of the blocks of images, for job arrays. The same command without "
    "--shard merges.",
)
@click.option(
    "--merge",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Another --out folder, in which shards of this audit lie. May be given several times.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder for the audit.  [default: RUN/audit; a MODEL's is printed alone]",
)
@click.option(
    "--table",
    type=click.Choice(list(TABLES)),
    default="csv",
    show_default=True,
    help="The format of the table with a row for each image.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the summary.")
@click.option(
    "--fail-on",
    callback=_texts,
    help=f"Flags, or any: exit with {RAISED} if one of them is raised, {UNDECIDED} if one could "
    "not be decided.",
)
def audit(
    p: str,
    eps: str,
    norms: tuple[str, ...],
    shard: tuple[int, int],
    merge: tuple[Path, ...],
    out: Path | None,
    table: str,
    as_json: bool,
    fail_on: tuple[str, ...] | None,
    images: int | None,
    part: str,
    **options: Any,
) -> None:
    """Say how sensitive a model is, what an attack achieves, and whether to believe it.

    RUN is the folder of a run. MODEL is a model as onr train takes it: FILE.py:ATTRIBUTE,
    MODULE:ATTRIBUTE, torchvision:NAME, timm:NAME, hf:ID.

    At each image the audit measures operator norms of the Jacobian, the distance to the nearest
    class by first order and by attack, and how far the model is linear. Checks then look for signs
    that the attack is misled, and raise flags; onr explain FLAG says what each means. The audit is
    a page, audit.html, with audit.json and a table of the images.

    The result does not depend on the number of processes (under torchrun) or on shards. A command
    that is interrupted or killed goes on from the blocks of images that are finished.
    """
    settings = AuditSettings(
        Threat(norm(p), eps),
        tuple(map(pair, norms)),
        images=images,
        **{name: options.pop(name) for name in ("seed", "fast", "checks", "check_limit", "cells")},
        batch_size=options.pop("batch_size"),
    )
    _require_known(fail_on, settings.checks)
    target = options["subject"]
    if out is None and Path(target).is_dir():
        out = Path(target) / "audit"
    if out is None and (shard[1] > 1 or merge):
        raise OnrError("shards lie in a folder: give --out, the same for all")
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if out is None and world > 1:
        raise OnrError("several processes share a folder: give --out")
    if told := doubt(settings.threat.p, number(eps)):
        click.echo(f"warning: {told}", err=True)
    subject = opened(options)
    x, y = subject.inputs(None, part)
    network, refused = audited(subject.network, x[: min(FIRST, len(x))])
    if out is not None:
        require_writable(out, RECORD, TABLES[table])
    with progress(f"auditing, process {rank}" if world > 1 else "auditing") as (update, status):
        if rank == 0:
            told = _estimate(network, x, settings, world * shard[1])
            status.console.print(told, highlight=False)
        finished = 0

        def on_block(done: int, total: int, kept: bool) -> None:
            nonlocal finished
            finished = done
            update(done, total, kept=kept)

        try:
            found = run_audit(
                network,
                x,
                to_numpy(y),
                settings,
                refused=refused,
                files=subject.part(part).files,
                subject=subject.record(part)
                | {"class_names": list(subject.dataset.classes), "versions": versions()},
                out=out,
                shard=shard,
                process=(rank, world),
                merge=merge,
                on_block=on_block,
            )
        except KeyboardInterrupt:
            kept = (
                "give --out to keep them" if out is None else "the same command goes on from them"
            )
            raise OnrError(f"interrupted with {finished:,} images finished: {kept}") from None
    if found is None:
        if rank == 0:
            click.echo(
                f"shard {shard[0]}/{shard[1]} is measured; the same command without --shard merges"
            )
        return
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        Console().print(styled(found.summary()), soft_wrap=True)
    if out is not None:
        written = found.save(out, table=table)
        names = ", ".join(path.name for path in written)
        click.echo(f"written to {out}: {names}", err=as_json)
    sys.exit(_code(found.flags, fail_on))


def _require_known(fail_on: Sequence[str] | None, checks: Sequence[str] | None) -> None:
    """Refuse a flag that no check of the audit can raise."""
    known = list(checks_named(checks)) if fail_on else []
    for name in fail_on or ():
        if name not in (*known, "any"):
            raise OnrError(f"--fail-on {name!r}: expected any, or some of {', '.join(known)}")


def _code(flags: Sequence[Flag], fail_on: Sequence[str] | None) -> int:
    """The exit code that ``--fail-on`` asks for."""
    asked = [flag for flag in flags if fail_on and ("any" in fail_on or flag.name in fail_on)]
    if any(flag.raised for flag in asked):
        return RAISED
    return UNDECIDED if any(flag.raised is None for flag in asked) else 0


PASSES = 200
"""About how many passes an image costs: the Jacobian, the attack at four radii, the checks."""
TIMED, TRIES = 8, 3


def _estimate(network: Any, x: Any, settings: AuditSettings, workers: int) -> str:
    """How long the audit will take, from the time of a few passes."""
    few, paces = x[: min(TIMED, len(x))], []
    for _ in range(TRIES):  # the first pass sets up the next ones
        began = perf_counter()
        here = network.linearize(few, jvp=False)
        here.vjp(here.value)
        paces.append((perf_counter() - began) / 2 / len(few))
    count = settings.count(len(x))
    cells = settings.cell_images(network.input_shape) * math.prod(network.input_shape)
    left = timedelta(seconds=round(min(paces) * (PASSES * count + cells) / workers))
    return f"{count:,} images, about {PASSES} passes each: {left}, by the time of a few passes"


@click.command()
@click.argument("flag", required=False)
def explain(flag: str | None) -> None:
    """Say what a flag of onr audit means, and what to do next; without FLAG, list the flags."""
    checks = checks_named(None)
    if flag is None:
        width = max(map(len, checks))
        for name, check in sorted(checks.items()):
            click.echo(f"{name:<{width}}  {check.summary}")
        return
    if flag not in checks:
        raise OnrError(f"no flag {flag!r}: expected one of {', '.join(sorted(checks))}")
    check = checks[flag]
    click.echo(f"{check.name}: {check.summary}\n")
    click.echo(click.wrap_text(" ".join(check.meaning.split()), 88))
    click.echo()
    click.echo(click.wrap_text(" ".join(check.remedy.split()), 88))
    click.echo(f"\nThreshold: {check.threshold:g}. Source: {check.source}.")


@click.command()
@click.argument("before", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("after", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="A folder for the page."
)
def compare(before: Path, after: Path, out: Path | None) -> None:
    """Compare two audits image by image: what moved, by how much, with intervals.

    BEFORE and AFTER are the folders that onr audit wrote, of two models, or of one model before and
    after training, at the same images.
    """
    if out is not None:
        require_writable(out)
    found = compared(open_audit(before), open_audit(after))
    Console().print(styled(found.summary()), soft_wrap=True)
    if out is not None:
        names = ", ".join(path.name for path in found.save(out))
        click.echo(f"written to {out}: {names}")
