"""The laws of a check of an audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from onr.arrays import array_namespace, to_numpy
from onr.auditing.block import Block
from onr.auditing.chunked_network import ChunkedNetwork
from onr.auditing.images import measure_images
from onr.auditing.protocols import Check, Evidence, Flag
from onr.auditing.threat import Threat
from onr.errors import OnrError
from onr.norms import LpNorm
from onr.testing.laws import Law, Laws, law, require
from onr.testing.networks import small_network

__all__ = ["check_check", "check_laws"]

TEXTS = ("name", "summary", "source", "meaning", "remedy")


def check_check(check: Check, backend: str = "onr_numpy:numpy") -> None:
    """Check what a check of an audit measures and decides, and that it does so each time.

    The check looks at the images of :func:`onr.testing.small_network`. It may say by an
    :class:`onr.errors.OnrError` that it cannot measure them; nothing else may be raised.

    Args:
        check: the check.
        backend: the backend of the network.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> from onr.auditing.checks.chance import Chance
        >>> check_check(Chance())

    """
    require(check_laws(check, backend))


def check_laws(check: Check, backend: str = "onr_numpy:numpy") -> Laws:
    """The laws that :func:`check_check` checks, one after the other."""
    for name in TEXTS:
        text = getattr(check, name, None)
        yield law(f"{name} is a text", isinstance(text, str) and bool(text.strip()), given=text)
    threshold = isinstance(check.threshold, int | float)
    yield law("the threshold is a number", threshold, threshold=check.threshold)
    block = _block(backend)
    before = to_numpy(block.x).copy()
    raises = "measure raises nothing but an OnrError"
    try:
        columns, again = dict(check.measure(block)), dict(check.measure(_block(backend)))
        yield Law(raises)
    except OnrError as error:
        yield Law(raises, skipped=f"it cannot measure the small network: {error}")
        columns, again = {}, {}
    except Exception as error:
        where = f"{len(block)} images of the small network, {type(error).__name__}: {error}"
        yield Law(raises, broken=where)
        return
    yield law("the images are left alone", to_numpy(block.x) == before)
    yield law("one block, one set of columns", columns.keys() == again.keys())
    for name, values in columns.items():
        found = np.asarray(values)
        fits = found.shape == (len(block),) and found.dtype.kind in "fiubUS"
        given = f"{found.dtype} of shape {found.shape}"
        yield law("a column has a number or a text for each image", fits, column=name, given=given)
        other = np.asarray(again.get(name))
        text = "one block, one value: it draws from block.rng alone"
        yield law(text, _equal(found, other), column=name, first=found, then=other)
    measured = {f"{check.name}: {name}": np.asarray(each) for name, each in columns.items()}
    yield from _verdicts(check, {**block.values, **measured}, block.threat, "the small network")
    nothing = {
        name: np.full(values.shape, "" if values.dtype.kind in "US" else np.nan)
        for name, values in block.values.items()
    }
    yield from _verdicts(check, nothing, block.threat, "images of which nothing was measured")


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    numbers = one.dtype.kind == other.dtype.kind == "f"
    return bool(np.array_equal(one, other, equal_nan=numbers))


def _verdicts(check: Check, columns: Mapping[str, np.ndarray], threat: Threat, where: str) -> Laws:
    evidence = Evidence(columns, threat, classes=4)
    raises = "verdict raises nothing"
    try:
        flag, again = check.verdict(evidence), check.verdict(evidence)
        yield Law(raises)
    except Exception as error:
        yield Law(raises, broken=f"{where}, {type(error).__name__}: {error}")
        return
    yield law("the verdict is a Flag", isinstance(flag, Flag), at=where, given=flag)
    if not isinstance(flag, Flag):
        return
    same = flag == again or str(flag) == str(again)
    yield law("one evidence, one verdict", same, at=where, first=str(flag), then=str(again))
    own = flag.name == check.name
    yield law("the flag has the name of the check", own, flag=flag.name, check=check.name)
    decided = flag.raised is None or isinstance(flag.raised, bool)
    yield law("raised is true, false or None", decided, at=where, raised=flag.raised)
    line = isinstance(flag.detail, str) and len(flag.detail.splitlines()) == 1
    yield law("the detail is one line", line, at=where, detail=flag.detail)
    if flag.raised is not None and flag.value is not None:
        above = flag.comparison == "above"
        beyond = flag.value > flag.threshold if above else flag.value < flag.threshold
        text = "the flag is raised where the value is beyond the threshold"
        told = f"{flag.value:g}, {flag.comparison} {flag.threshold:g}"
        yield law(text, beyond == flag.raised, at=where, value=told, raised=flag.raised)


def _block(backend: str) -> Block:
    """A block of the small network whose columns are measured, with images of its own."""
    block = _measured(backend)
    xp = array_namespace(block.x)
    return replace(block, x=xp.asarray(block.x, copy=True))


@cache
def _measured(backend: str) -> Block:
    network, x, y = small_network(backend, images=16)
    threat = Threat(LpNorm(2), "0.2")
    places = np.arange(len(x))
    block = Block(ChunkedNetwork(network, len(x)), x, to_numpy(y), places, threat)
    measured = measure_images(block, [(LpNorm(2), LpNorm(2))], cells=3)
    known = {"image": places.astype(float), "failure": np.full(len(x), "")}
    return replace(block, values=known | measured.columns, moved=measured.moved)
