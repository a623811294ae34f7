"""What an audit measured: a table of images and flags, and what follows from them by counting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onr.auditing.images import WORST
from onr.auditing.intervals import quantile, wilson
from onr.auditing.protocols import Flag
from onr.records import columns_as_rows
from onr.typing import Row

__all__ = ["Results", "kinds", "norms"]

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, repr=False)
class Results:
    """The table of an audit, its flags, and its aggregates.

    Example:
        >>> columns = {"label": np.array([0.0, 1.0]), "predicted": np.array([0.0, 0.0])}
        >>> columns |= {"robust at 0.5": np.array([1.0, 0.0]), "failure": np.array(["", ""])}
        >>> found = Results({"radii": {"0.5": 0.5}}, columns)
        >>> [(row["eps"], row["accuracy"]) for row in found.curve]
        [('0', 0.5), ('0.5', 0.5)]

    """

    record: dict[str, Any]
    """What was audited and how: model, data, threat model, versions, passes and seconds."""
    columns: dict[str, np.ndarray]
    """The table, a column of shape ``(N,)`` for each quantity (:mod:`onr.auditing.images`)."""
    flags: tuple[Flag, ...] = ()
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    """The worst images: ``place`` in the table, and ``image``, ``maximiser``, ``perturbation``."""

    @property
    def measured(self) -> np.ndarray:
        """Which images could be measured, ``(N,)``."""
        found: np.ndarray = self.columns["failure"] == ""
        return found

    @property
    def raised(self) -> tuple[Flag, ...]:
        """The flags that are raised."""
        return tuple(flag for flag in self.flags if flag.raised)

    @property
    def worst(self) -> dict[str, np.ndarray]:
        """The pictures of the images that the smallest perturbations change, ten at most.

        The keys are those of :attr:`pictures`; none without pictures.
        """
        if not len(self.pictures.get("place", ())):
            return {}
        place = self.pictures["place"].astype(int)
        columns = self.columns
        order = np.lexsort((columns["first-order radius"][place], columns["radius found"][place]))
        return {name: values[order[:WORST]] for name, values in self.pictures.items()}

    @property
    def curve(self) -> list[Row]:
        """Accuracy against eps with Wilson's intervals at 95 %; clean accuracy at eps 0.

        Under attack it is an upper bound on robust accuracy. Images that could not be measured are
        left out.
        """
        columns, known = self.columns, self.measured
        correct = {"0": columns["predicted"] == columns["label"]}
        correct |= {text: columns[f"robust at {text}"] == 1 for text in self.record["radii"]}
        rows = []
        for text, each in correct.items():
            hits, count = int(each[known].sum()), int(known.sum())
            low, high = wilson(hits, count)
            rows.append(
                {"eps": text, "radius": self.record["radii"].get(text, 0.0)}
                | {"accuracy": hits / count, "low": low, "high": high, "images": count}
            )
        return rows

    def aggregates(self, *names: str, by_class: bool = False) -> list[Row]:
        """Quantiles of columns, 5, 50 and 95 %, with distribution-free intervals at 95 %.

        Args:
            names: the columns; those of norms, radii, singular values, alignment and rho if none is
                given.
            by_class: a row for each label too.

        """
        columns = self.columns
        kinds = ("norm ", "sigma 1", "first-order radius", "radius found", "alignment", "rho ",
                 "margin", "cell radius", "exact radius")  # fmt: skip
        usual = [
            name
            for name, values in columns.items()
            if name.startswith(kinds) and values.dtype.kind == "f" and not name.endswith("upper")
        ]
        labels = columns["label"]
        groups: list[tuple[str, np.ndarray]] = [("all", np.ones(len(labels), bool))]
        if by_class:
            known = np.unique(labels[~np.isnan(labels)])
            groups += [(str(int(label)), labels == label) for label in known]
        rows = []
        for name in names or usual:
            for group, members in groups:
                values = columns[name][members]
                row: Row = {"quantity": name, "class": group}
                row["images"] = int((~np.isnan(values)).sum())
                for q in QUANTILES:
                    at, low, high = quantile(values, q)
                    row |= {f"{q:.0%}": at, f"{q:.0%} low": low, f"{q:.0%} high": high}
                rows.append(row)
        return rows

    @property
    def rows(self) -> list[Row]:
        """The table as a row for each image."""
        return columns_as_rows({name: each.tolist() for name, each in self.columns.items()})


def norms(results: Results) -> list[str]:
    """The columns of operator norms, such as ``norm 2:2``.

    Example:
        >>> norms(Results({}, {"norm 2:2": np.zeros(1), "norm 2:2 upper": np.zeros(1)}))
        ['norm 2:2']

    """
    return [
        name
        for name in results.columns
        if name.startswith("norm ") and not name.endswith((" upper", " kind"))
    ]


def kinds(results: Results, norm: str) -> str:
    """What the values of a norm are: exact, or a bound; with counts if they differ.

    Example:
        >>> kinds(Results({}, {"norm 2:2 kind": np.array(["exact", "exact", ""])}), "norm 2:2")
        'exact'

    """
    found = results.columns.get(f"{norm} kind", np.array([], dtype=str))
    names, counts = np.unique(found[found != ""], return_counts=True)
    if len(names) == 1:
        return str(names[0])
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
