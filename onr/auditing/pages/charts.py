"""Small charts as SVG, in the colours of the page that they stand in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "LEFT",
    "RIGHT",
    "TOP",
    "WIDTH",
    "Axis",
    "bands_chart",
    "intervals_chart",
    "scatter_chart",
    "strips_chart",
]

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 14, 46
ROW = 46
"""The height of a strip and its label."""
POINTS = 2000
"""A scatter of more points shows so many of them, evenly spaced in the table."""
TICKS = 6


@dataclass(frozen=True)
class Axis:
    """From numbers to places on the chart.

    Example:
        >>> axis = Axis(1.0, 100.0, start=0, end=200, log=True)
        >>> axis(10.0), [text for _, text in axis.ticks]
        (100.0, ['1', '3', '10', '30', '100'])

    """

    low: float
    high: float
    start: float
    end: float
    label: str = field(default="", kw_only=True)
    log: bool = field(default=False, kw_only=True)
    given: Sequence[tuple[float, str]] = field(default=(), kw_only=True)
    """The ticks, if they are not to be chosen."""

    def __call__(self, value: float) -> float:
        """The place of a number, which is kept within the axis."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = min(max(value, self.low), self.high)
        at = math.log(value) if self.log else value
        return round(self.start + (self.end - self.start) * (at - low) / (high - low), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round numbers within the axis, and their texts."""
        if self.given:
            return list(self.given)
        values = _decades(self.low, self.high) if self.log else _steps(self.low, self.high)
        return [(value, f"{value:.6g}") for value in values]


def _decades(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: the finest choice that gives few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        every = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        found = [value for value in every if low * 0.999 <= value <= high * 1.001]
        if len(found) <= TICKS:
            return found
    return found[:: math.ceil(len(found) / TICKS)]


def _steps(low: float, high: float) -> list[float]:
    """Round numbers on a linear axis."""
    rough = (high - low) / (TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_axis(
    values: np.ndarray, start: float, end: float, *, label: str = "", floor: float = 1e-9
) -> Axis:
    """A logarithmic axis for the values that are finite and positive, with some room.

    Example:
        >>> axis = log_axis(np.array([1.0, 10.0, math.inf]), 0, 100)
        >>> 0.8 < axis.low < 1, 10 < axis.high < 13
        (True, True)

    """
    known = values[np.isfinite(values) & (values > 0)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (1.0, 10.0)
    low = max(low, high * floor)
    room = max((high / low) ** 0.04, 1.05)
    return Axis(low / room, high * room, start, end, label=label, log=True)


def bands_chart(
    x: Axis,
    y: Axis,
    places: Sequence[float],
    line: Sequence[float],
    bands: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    others: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    level: tuple[float, str] | None = None,
    mark: tuple[float, str] | None = None,
) -> str:
    """A line with bands around it, over the same places.

    Args:
        x: the horizontal axis.
        y: the vertical axis.
        places: where the line is known.
        line: its heights; NaN where none.
        bands: lower and upper ends, the widest first.
        title: what the chart shows, for screen readers.
        others: further dashed lines by name, as points; a single point is a ring.
        level: a height to compare with, and its text.
        mark: a place to notice, and its text.

    Example:
        >>> x, y = Axis(0, 1, 50, 400), Axis(0, 1, 250, 10)
        >>> chart = bands_chart(x, y, [0, 1], [0.9, 0.1], [([0.8, 0], [1, 0.2])], title="<b>")
        >>> chart.count('class="band"'), "<b>" in chart
        (1, False)

    """
    drawn = [_frame(x, y)]
    known = [k for k, value in enumerate(line) if not math.isnan(value)]
    for low, high in bands:
        ends = [(places[k], high[k]) for k in known] + [(places[k], low[k]) for k in known[::-1]]
        drawn.append(f'<path class="band" d="{_polygon(x, y, ends)}Z"/>')
    if level is not None:
        at = y(level[0])
        drawn.append(f'<path class="dashed" d="M{x.start} {at}H{x.end}"/>')
        drawn.append(f'<text x="{x.end - 4}" y="{at - 5}" class="end">{escape(level[1])}</text>')
    if mark is not None:
        at = x(mark[0])
        drawn.append(f'<path class="dashed" d="M{at} {y.start}V{y.end}"/>')
        drawn.append(f'<text x="{at + 5}" y="{y.end + 12}">{escape(mark[1])}</text>')
    points = [(places[k], line[k]) for k in known]
    drawn.append(f'<path class="line" d="{_polygon(x, y, points)}"/>')
    drawn.append(f'<path class="dots" d="{_dots(x, y, points)}"/>')
    for found in (others or {}).values():
        if len(found) == 1:  # a ring, which hides no dot
            ((across, up),) = found
            drawn.append(f'<circle class="ring second" cx="{x(across)}" cy="{y(up)}" r="8"/>')
            continue
        drawn.append(f'<path class="other" d="{_polygon(x, y, found)}"/>')
        drawn.append(f'<path class="dots second" d="{_dots(x, y, found)}"/>')
    for place, (name, found) in enumerate((others or {}).items()):
        at = y.end + (14 if mark is None else 32) + 18 * place
        start, text = x.end - 6, f"ring: {name}"
        if len(found) > 1:
            start, text = start - 40, name
            drawn.append(f'<path class="other" d="M{x.end - 36} {at}h30"/>')
        drawn.append(f'<text class="second end" x="{start}" y="{at + 4}">{escape(text)}</text>')
    return _svg("".join(drawn), title)


def scatter_chart(
    across: np.ndarray, up: np.ndarray, exact: np.ndarray, *, labels: tuple[str, str], title: str
) -> str:
    """Points on logarithmic axes of the same range, with the diagonal.

    Points whose height is infinite stand in a strip above the chart.

    Args:
        across: the horizontal numbers, all positive.
        up: the vertical ones.
        exact: which points are marked by a ring.
        labels: of the two axes.
        title: what the chart shows, for screen readers.

    Example:
        >>> a = np.array([1.0, 2.0, 3.0])
        >>> chart = scatter_chart(a, a + 1, a > 2, labels=("a", "b"), title="a and b")
        >>> "none found" in chart
        False

    """
    step = math.ceil(max(1, len(across)) / POINTS)
    keep = (np.arange(len(across)) % step == 0) | exact
    across, up, exact = across[keep], up[keep], exact[keep]
    missing = np.isposinf(up)
    top = TOP + (24 if missing.any() else 0)
    both = log_axis(np.concatenate([across, up]), 0, 1)
    x = Axis(both.low, both.high, LEFT, WIDTH - RIGHT, label=labels[0], log=True)
    y = Axis(both.low, both.high, HEIGHT - BOTTOM, top, label=labels[1], log=True)
    drawn = [_frame(x, y), f'<path class="dashed" d="M{x.start} {y.start}L{x.end} {y.end}"/>']
    drawn.append(f'<text class="end" x="{x.end - 34}" y="{y.end + 14}">equal</text>')
    points = list(zip(across[~missing], up[~missing], strict=True))
    drawn.append(f'<path class="points" d="{_dots(x, y, points)}"/>')
    if missing.any():
        high = "".join(f"M{x(value)} {TOP + 2}h0" for value in across[missing])
        drawn.append(f'<path class="points second" d="{high}"/>')
        drawn.append(f'<text class="second" x="{x.start + 4}" y="{TOP + 6}">none found</text>')
    for a, b in zip(across[exact], up[exact], strict=True):
        at = TOP + 2 if math.isinf(b) else y(b)
        drawn.append(f'<circle class="ring" cx="{x(a)}" cy="{at}" r="6"/>')
    return _svg("".join(drawn), title)


def strips_chart(rows: Sequence[tuple[str, np.ndarray]], *, label: str, title: str) -> str:
    """How numbers are distributed, a strip for each row, on one logarithmic axis.

    A thin line runs from the 5 to the 95 % quantile, a thick one from 25 to 75 %, with the median.

    Args:
        rows: the text and the numbers of each row; numbers that are not positive are left out.
        label: of the axis.
        title: what the chart shows, for screen readers.

    Example:
        >>> chart = strips_chart([("one", np.array([1.0, 2.0, 4.0]))], label="size", title="sizes")
        >>> chart.count('class="thick"')
        1

    """
    known = [(text, values[np.isfinite(values) & (values > 0)]) for text, values in rows]
    ends = [np.quantile(v, [0.05, 0.25, 0.5, 0.75, 0.95]) if len(v) else None for _, v in known]
    every = [each for each in ends if each is not None]
    height = TOP + ROW * len(known) + BOTTOM
    x = log_axis(
        np.concatenate(every) if every else np.array([]), 14, WIDTH - RIGHT, label=label, floor=1e-6
    )
    y = Axis(0, 1, height - BOTTOM, TOP)
    drawn = [_grid(x, y), _label(x, height)]
    for place, ((text, _), quantiles) in enumerate(zip(known, ends, strict=True)):
        at = TOP + ROW * place + 32
        drawn.append(f'<text x="{x.start}" y="{at - 14}" class="strong">{escape(text)}</text>')
        if quantiles is None:
            continue
        q5, q25, q50, q75, q95 = map(x, quantiles)
        drawn.append(f'<path class="thin" d="M{q5} {at}H{q95}"/>')
        drawn.append(f'<path class="thick" d="M{q25} {at}H{max(q75, q25 + 1)}"/>')
        drawn.append(f'<circle class="middle" cx="{q50}" cy="{at}" r="5"/>')
    return _svg("".join(drawn), title, height)


def intervals_chart(
    rows: Sequence[tuple[str, tuple[float, float, float]]], *, label: str, title: str
) -> str:
    """Ratios with their intervals, a row each, on a logarithmic axis with a line at 1.

    Args:
        rows: the text of each row, and the lower end, the ratio and the upper end.
        label: of the axis.
        title: what the chart shows, for screen readers.

    Example:
        >>> chart = intervals_chart([("norm", (0.4, 0.5, 0.6))], label="B / A", title="ratios")
        >>> chart.count("<circle")
        1

    """
    height = TOP + ROW * len(rows) + BOTTOM
    every = np.array([each for _, ends in rows for each in ends] + [0.8, 1.25])
    x = log_axis(every, 14, WIDTH - RIGHT, label=label, floor=1e-6)
    y = Axis(0, 1, height - BOTTOM, TOP)
    drawn = [_grid(x, y), _label(x, height)]
    drawn.append(f'<path class="dashed" d="M{x(1)} {y.start}V{y.end}"/>')
    for place, (text, ends) in enumerate(rows):
        at = TOP + ROW * place + 32
        low, middle, high = map(x, ends)
        drawn.append(f'<text x="{x.start}" y="{at - 14}" class="strong">{escape(text)}</text>')
        drawn.append(f'<path class="thin" d="M{low} {at}H{high}"/>')
        drawn.append(f'<circle class="middle" cx="{middle}" cy="{at}" r="5"/>')
    return _svg("".join(drawn), title, height)


def _svg(content: str, title: str, height: int = HEIGHT) -> str:
    text = escape(title, quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text}">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )


def _polygon(x: Axis, y: Axis, points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x(a)} {y(b)}" for a, b in points) if points else "M0 0"


def _dots(x: Axis, y: Axis, points: Sequence[tuple[float, float]]) -> str:
    return "".join(f"M{x(a)} {y(b)}h0" for a, b in points) or "M0 0"


def _grid(x: Axis, y: Axis) -> str:
    """The vertical lines and their numbers."""
    found = []
    for value, text in x.ticks:
        at = x(value)
        found.append(f'<path class="grid" d="M{at} {y.start}V{y.end}"/>')
        found.append(f'<text class="mid" x="{at}" y="{y.start + 16}">{escape(text)}</text>')
    return "".join(found)


def _label(x: Axis, height: int) -> str:
    middle = (x.start + x.end) / 2
    return f'<text class="mid" x="{middle}" y="{height - 8}">{escape(x.label)}</text>'


def _frame(x: Axis, y: Axis) -> str:
    """Grid lines, numbers and labels of both axes."""
    found = [_grid(x, y), _label(x, HEIGHT)]
    for value, text in y.ticks:
        at = y(value)
        found.append(f'<path class="grid" d="M{x.start} {at}H{x.end}"/>')
        found.append(f'<text class="end" x="{x.start - 6}" y="{at + 4}">{escape(text)}</text>')
    middle = (y.start + y.end) / 2
    found.append(
        f'<text class="mid" transform="translate(13 {middle}) rotate(-90)">{escape(y.label)}</text>'
    )
    return "".join(found)
