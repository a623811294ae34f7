"""Two audits of the same images: what moved, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onr.auditing.comparison_summary import comparison_findings, comparison_summary
from onr.auditing.differences import Change, Differences, FlagPair, Moved, state
from onr.auditing.intervals import newcombe, quantile
from onr.auditing.pages.comparison_page import comparison_page
from onr.auditing.record import Audit, json_bytes, page_or_warning
from onr.auditing.results import norms
from onr.auditing.saved import open_audit
from onr.auditing.wording import eps_text, threat_text
from onr.errors import OnrError
from onr.files import write_atomic
from onr.numerals import number

__all__ = ["Change", "Comparison", "Moved", "compare"]

PAGE, RECORD = "comparison.html", "comparison.json"


@dataclass(frozen=True)
class Comparison(Differences):
    """Two audits compared, as text, as a page and as a file.

    Example:
        >>> columns = {"label": np.zeros(3), "predicted": np.zeros(3)}
        >>> columns |= {"digest": np.array(list("abc")), "failure": np.array([""] * 3)}
        >>> columns |= {"robust at 1": np.array([1.0, 0.0, 0.0])}
        >>> a = Audit({"p": "2", "eps": "1", "radii": {"1": 1.0}, "bounds": [0.0, 1.0]}, columns)
        >>> found = compare(a, a)
        >>> [(each.eps, each.difference) for each in found.accuracy], found.changes
        ([('0', 0.0), ('1', 0.0)], ())

    """

    def __str__(self) -> str:
        """The summary."""
        return self.summary()

    @property
    def findings(self) -> list[str]:
        """What moved, in sentences."""
        return comparison_findings(self)

    def summary(self) -> str:
        """What moved, as text of one screen."""
        return comparison_summary(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        flags = [
            {"name": name, "a": a and vars(a), "b": b and vars(b)} for name, a, b in self.flags
        ]
        return asdict(self) | {"flags": flags}

    def save(self, folder: str | Path, /) -> list[Path]:
        """Write ``comparison.json`` and the page ``comparison.html``, which needs no other file.

        Without jinja2 there is no page, and a warning says so.

        Returns:
            The files that were written.

        Raises:
            OnrError: the folder cannot be written to.

        """
        folder = Path(folder)
        files = page_or_warning(PAGE, lambda: comparison_page(self))
        files[RECORD] = json_bytes(self.to_dict())
        for name, content in files.items():
            write_atomic(folder / name, content)
        return [folder / name for name in files]


def compare(a: Audit | str | Path, b: Audit | str | Path, /) -> Comparison:
    """Compare two audits of the same images and threat model, image by image.

    Images are the same if their pixels are (column ``digest``). Images that one of the audits lacks
    or could not measure are left out. Differences of accuracies have Newcombe's interval for paired
    shares (Newcombe 1998, Statistics in Medicine 17, 2635, method 10). Norms and radii are compared
    by the median of B / A over images, rho and alignment by the median of B - A. The intervals of
    these medians run between order statistics of the paired changes, which is the inversion of the
    sign test (David and Nagaraja 2003, Order Statistics, section 7.1), and assume no distribution.
    Every interval covers with 95 % on its own.

    Radii are compared at the images that both classify correctly. If only one radius was found, the
    ratio counts as infinite or 0; if none was, it is unknown, and the image is left out.

    Args:
        a: an audit, or the folder of a saved one.
        b: another.

    Raises:
        OnrError: a folder has no audit, the threat models or the labels differ, or no images are
            shared.

    Example:
        >>> columns = {"label": np.zeros(2), "predicted": np.zeros(2)}
        >>> columns |= {"digest": np.array(list("ab")), "failure": np.array([""] * 2)}
        >>> columns |= {"robust at 1": np.array([1.0, 0.0])}
        >>> record = {"p": "2", "eps": "1", "radii": {"1": 1.0}, "bounds": [0.0, 1.0]}
        >>> a = Audit(record, columns | {"norm 2:2": np.array([2.0, 4.0])})
        >>> b = Audit(record, columns | {"norm 2:2": np.array([1.0, 2.0])})
        >>> compare(a, b).changes[0].change
        0.5

    """
    a, b = (each if isinstance(each, Audit) else open_audit(each) for each in (a, b))
    _require_same_threat(a.record, b.record)
    rows_a, rows_b = _shared(a, b)
    label_a, label_b = a.columns["label"][rows_a], b.columns["label"][rows_b]
    if (label_a != label_b).any():
        raise OnrError(
            f"the audits have other labels for {int((label_a != label_b).sum())} of "
            f"{len(rows_a)} shared images: compare audits with the same labels"
        )
    columns_a = {name: values[rows_a] for name, values in a.columns.items()}
    columns_b = {name: values[rows_b] for name, values in b.columns.items()}
    flags, alike = _flags(a, b)
    return Comparison(
        a.record,
        b.record,
        len(rows_a),
        (len(a.measured), len(b.measured)),
        tuple(_accuracies(a, b, columns_a, columns_b)),
        tuple(_changes(a, b, columns_a, columns_b)),
        flags,
        alike,
    )


def _require_same_threat(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    same = (
        a["p"] == b["p"]
        and number(str(a["eps"])) == number(str(b["eps"]))
        and list(a.get("bounds", (0, 1))) == list(b.get("bounds", (0, 1)))
    )
    if not same:
        raise OnrError(
            f"the threat models differ ({threat_text(a)}; {threat_text(b)}): audit both models "
            "with the same p and eps"
        )


def _shared(a: Audit, b: Audit) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the images that both audits have and could measure, in the order of A."""
    for audit in (a, b):
        if "digest" not in audit.columns:
            raise OnrError("an audit has no column digest, which tells which images are the same")
    known = {key: row for key, row in _keys(b) if b.measured[row]}
    rows = [(row, known[key]) for key, row in _keys(a) if a.measured[row] and key in known]
    if not rows:
        raise OnrError(
            f"the audits share no images ({len(a.measured)} and {len(b.measured)} images): audit "
            "both models on the same images"
        )
    first, second = np.array(rows).T
    return first, second


def _keys(audit: Audit) -> list[tuple[tuple[str, int], int]]:
    """The digest of each image and how often it occurred before, with its row."""
    seen: dict[str, int] = {}
    found = []
    for row, digest in enumerate(audit.columns["digest"].tolist()):
        seen[digest] = seen.get(digest, -1) + 1
        found.append(((digest, seen[digest]), row))
    return found


def _radii(a: Audit, b: Audit) -> list[tuple[str, str]]:
    """The radii that both audits have, as A and as B writes them; no attack first."""
    known = {radius: text for text, radius in b.record["radii"].items()}
    both = [(text, known[r]) for text, r in a.record["radii"].items() if r in known]
    return [("0", "0"), *both]


def _accuracies(
    a: Audit, b: Audit, columns_a: Mapping[str, np.ndarray], columns_b: Mapping[str, np.ndarray]
) -> list[Moved]:
    found = []
    for text, text_b in _radii(a, b):
        one, other = (
            each["predicted"] == each["label"] if at == "0" else each[f"robust at {at}"] == 1
            for each, at in ((columns_a, text), (columns_b, text_b))
        )
        both, lost, gained = (int(x.sum()) for x in (one & other, one & ~other, other & ~one))
        low, high = newcombe(both, gained, lost, len(one))
        found.append(
            Moved(
                text,
                float(one.mean()),
                float(other.mean()),
                (gained - lost) / len(one),
                low,
                high,
                gained,
                lost,
                len(one),
            )
        )
    return found


def _changes(
    a: Audit, b: Audit, columns_a: Mapping[str, np.ndarray], columns_b: Mapping[str, np.ndarray]
) -> list[Change]:
    rho = f"rho at {eps_text(a.record)}"
    columns_b = {**columns_b, rho: columns_b.get(f"rho at {eps_text(b.record)}", np.array([]))}
    correct = (columns_a["predicted"] == columns_a["label"]) & (
        columns_b["predicted"] == columns_b["label"]
    )
    every = np.ones(len(correct), bool)
    wanted = [(name, "ratio", every) for name in norms(a) if name in norms(b)]
    wanted += [(name, "ratio", correct) for name in ("first-order radius", "radius found")]
    wanted += [(rho, "difference", every), ("alignment", "difference", every)]
    found = []
    for name, how, members in wanted:
        if not len(columns_a.get(name, ())) or not len(columns_b.get(name, ())):
            continue
        one, other = columns_a[name][members], columns_b[name][members]
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.log(other) - np.log(one) if how == "ratio" else other - one
        known = ~np.isnan(change)
        if not known.any():
            continue
        middle, low, high = quantile(change, 0.5)
        if how == "ratio":
            with np.errstate(over="ignore"):
                middle, low, high = (float(np.exp(each)) for each in (middle, low, high))
        before, after = (quantile(each[known], 0.5)[0] for each in (one, other))
        found.append(Change(name, how, before, after, middle, low, high, int(known.sum())))
    return found


def _flags(a: Audit, b: Audit) -> tuple[tuple[FlagPair, ...], int]:
    """The flags that differ, and how many do not."""
    one, other = ({flag.name: flag for flag in each.flags} for each in (a, b))
    pairs = [(name, one.get(name), other.get(name)) for name in {**one, **other}]
    differ = tuple(pair for pair in pairs if state(pair[1]) != state(pair[2]))
    return differ, len(pairs) - len(differ)
