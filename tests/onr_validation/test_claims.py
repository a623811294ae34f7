"""Verdicts on tables made up for them: each claim holds on one, and does not on another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onr.errors import OnrError
from onr.experiments import Claim, Experiment
from onr.plots import average
from onr.typing import Row
from onr_validation.experiments.accuracy_curves import equally_robust, more_robust, not_robust
from onr_validation.experiments.activation_panels import larger_cells
from onr_validation.experiments.alignment_panels import align_alike, alignment_claims
from onr_validation.experiments.brackets import Brackets
from onr_validation.experiments.directions import Directions
from onr_validation.experiments.fig2 import Figure2
from onr_validation.experiments.fig2 import own as own2
from onr_validation.experiments.fig3 import Figure3
from onr_validation.experiments.fig3 import own as own3
from onr_validation.experiments.fig4 import own as own4
from onr_validation.experiments.fig5 import Figure5
from onr_validation.experiments.fig6 import Figure6
from onr_validation.experiments.fig7 import Figure7
from onr_validation.experiments.fig8 import Figure8
from onr_validation.experiments.fig9 import Figure9
from onr_validation.experiments.fig10 import Figure10
from onr_validation.experiments.fig11 import Figure11
from onr_validation.experiments.fig15 import Figure15
from onr_validation.experiments.foils import Foils
from onr_validation.experiments.linearity_panels import linearity_claims
from onr_validation.experiments.table1 import Table1
from onr_validation.experiments.table2 import Table2
from onr_validation.experiments.table3 import Table3
from onr_validation.reproduction.drawing import largest, least, ratio
from onr_validation.reproduction.scales import TINY

EPS = TINY.eps()


def row(mean: float | None, **columns: Any) -> Row:
    return {"mean": mean, "standard_error": 0.01, "images": 10, **columns}


def curves(**accuracies: tuple[float, float]) -> list[Row]:
    """Clean accuracy and accuracy at the eps of training."""
    return [
        row(mean, method=method.replace("_", "-"), quantity="accuracy", eps=eps)
        for method, pair in accuracies.items()
        for eps, mean in zip((0.0, EPS), pair, strict=True)
    ]


def with_columns(rows: list[Row], **columns: Any) -> list[Row]:
    return [{**columns, **each} for each in rows]


def held(claims: Any) -> list[bool]:
    return [claim.held for claim in claims]


def of(experiment: Experiment, table: list[Row]) -> list[bool]:
    return held(experiment.claims(table, "tiny"))


def test_zero_holds_nothing():
    assert not Claim("", "", ratio(1.0, 0.0), at_least=0.0).held
    assert ratio(6.0, 3.0) == 2.0


@pytest.mark.parametrize("extreme", [least, largest])
@pytest.mark.parametrize("unknown", [float("nan"), None])
def test_what_is_unknown_holds_nothing_wherever_it_stands(extreme: Any, unknown: float | None):
    assert np.isnan(extreme([unknown, 1.0]))
    assert np.isnan(extreme([1.0, unknown]))
    assert np.isnan(extreme([]))
    assert (least([2.0, 1.0, 3.0]), largest([2.0, 3.0, 1.0])) == (1.0, 3.0)


def test_a_number_at_its_threshold_holds():
    assert 0.33 - 0.3 > 0.03
    assert Claim("", "", 0.33 - 0.3, at_most=0.03).held
    assert Claim("", "", 0.3 - 0.33, at_least=-0.03).held
    assert not Claim("", "", 0.0301, at_most=0.03).held


def test_a_claim_needs_a_threshold():
    with pytest.raises(OnrError, match="no threshold"):
        Claim("the moon is round", "roundness", 1.0)


def test_seeds_whose_mean_is_unknown_are_left_out():
    rows = [row(0.5, eps=1.0), row(None, eps=1.0), row(None, eps=2.0)]
    places, means, _ = average(rows, "eps")
    assert places.tolist() == [1.0]
    assert means.tolist() == [0.5]


@pytest.mark.parametrize(("other", "near"), [((0.86, 0.46), True), ((0.9, 0.44), False)])
def test_curves_near_each_other(other: tuple[float, float], near: bool):
    rows = curves(at=(0.9, 0.5), dd_snr=other)
    assert equally_robust(rows, "at", "dd-snr", "").held is near
    clean = curves(at=(0.9, 0.5), dd_snr=(0.84, 0.5))
    assert not equally_robust(clean, "at", "dd-snr", "").held


def test_curves_above_standard():
    rows = curves(standard=(0.9, 0.2), at=(0.8, 0.5), dd_snr=(0.8, 0.31), global_snr=(0.8, 0.24))
    assert more_robust(rows, ("at", "dd-snr"), EPS, "").held
    assert not_robust(rows, "global-snr", "").held
    worse = curves(standard=(0.9, 0.2), at=(0.8, 0.5), dd_snr=(0.8, 0.29), global_snr=(0.8, 0.26))
    assert not more_robust(worse, ("at", "dd-snr"), EPS, "").held
    assert not not_robust(worse, "global-snr", "").held


def test_a_gain_at_any_eps_robustifies():
    rows = curves(standard=(0.9, 0.0), global_snr=(0.8, 0.0))
    rows += [
        row(mean, method=m, quantity="accuracy", eps=EPS / 2)
        for m, mean in (("standard", 0.1), ("global-snr", 0.2))
    ]
    claim = not_robust(rows, "global-snr", "")
    assert not claim.held
    assert claim.value == pytest.approx(0.1)


def test_seeds_count_alike():
    rows = curves(at=(0.9, 0.5)) + curves(dd_snr=(0.9, 0.62)) + curves(dd_snr=(0.9, 0.42))
    assert equally_robust(rows, "at", "dd-snr", "").held


def test_fig3_and_fig15():
    good = curves(standard=(0.9, 0.1), at=(0.8, 0.5), dd_snr=(0.8, 0.5), global_snr=(0.9, 0.1))
    bad = curves(standard=(0.9, 0.1), at=(0.8, 0.5), dd_snr=(0.8, 0.1), global_snr=(0.9, 0.5))

    def both(cnn7: list[Row], wide: list[Row]) -> list[Row]:
        return with_columns(cnn7, network="cnn7") + with_columns(wide, network="wrn-28-10")

    assert of(Figure3(), both(good, good)) == [True] * 5
    assert of(Figure3(), both(bad, good)) == [False, False, False, True, True]
    assert of(Figure3(), both(good, bad)) == [True, True, True, False, False]
    own = curves(at=(0.8, 0.5), dd_onr_exact=(0.8, 0.49), dd_snr_warm=(0.8, 0.4))
    assert of(own3(), with_columns(own, network="cnn7")) == [True, False]
    assert of(Figure15(), good) == []  # one data set plays both roles
    assert held(Figure15().claims(_at_eps(good, 0.875), "cpu")) == [True] * 3
    assert held(Figure15().claims(_at_eps(bad, 0.875), "cpu")) == [False] * 3


def _at_eps(rows: list[Row], eps: float) -> list[Row]:
    return [{**each, "eps": eps if each["eps"] else 0.0} for each in rows]


def test_fig2():
    def table(sigma: dict[str, float], cosine: float = 0.5, tail: float = 0.01) -> list[Row]:
        found = []
        for method, value in sigma.items():
            rows = [row(value, quantity="singular value", of="clean", rank=1)]
            rows += [row(99.0, quantity="singular value", of="adversarial", rank=1)]
            rows += [row(cosine, quantity="cosine", of="trained", rank=1)]
            rows += [row(0.1, quantity="cosine", of="random", rank=1)]
            rows += [row(tail, quantity="cosine", of="trained", rank=rank) for rank in (11, 12)]
            rows += [row(None, quantity="cosine", of="trained", rank=13)]
            found += with_columns(rows, method=method)
        return found

    usual = {"standard": 20.0, "at": 2.0, "dd-snr": 3.0, "global-snr": 15.0}
    assert of(Figure2(), table(usual)) == [True] * 4
    assert of(Figure2(), table({**usual, "dd-snr": 11.0, "global-snr": 9.0})) == [
        False,
        False,
        True,
        True,
    ]
    assert of(Figure2(), table(usual, cosine=0.2, tail=0.1)) == [True, True, False, False]
    mine = {"at": 2.0, "dd-snr": 3.0, "dd-onr-exact": 3.0, "dd-snr-warm": 3.5}
    assert of(own2(), table(mine)) == [True] * 3
    assert of(own2(), table({**mine, "dd-onr-exact": 4.0})) == [False, True, True]


def linear(**values: tuple[float, float, float]) -> list[Row]:
    """Deviation, relative deviation and sigma_1, adversarial and at the eps of training."""
    names = ("deviation", "relative deviation", "sigma_1")
    return [
        row(mean, method=method.replace("_", "-"), quantity=name, direction=direction, eps=EPS)
        for method, three in values.items()
        for name, mean in zip(names, three, strict=True)
        for direction in ("adversarial", "random")
        if direction == "adversarial" or mean < 0
    ]


def test_linearity():
    def claims(rows: list[Row]) -> list[bool]:
        return held(linearity_claims(rows, ("at", "dd-snr"), EPS, ""))

    good = linear(standard=(4, 0.6, 8), at=(1, 0.3, 3), dd_snr=(2, 0.4, 4))
    assert claims(good) == [True] * 4
    bad = linear(standard=(4, 0.6, 8), at=(1, 0.3, 3), dd_snr=(3, 0.6, 5))
    assert claims(bad) == [False] * 4
    mine = linear(dd_snr=(2, 0.4, 4), dd_onr_exact=(2.4, 0, 0), dd_snr_warm=(2.6, 0, 0))
    assert of(own4(), mine) == [True, False]
    same = linear(global_snr=(2, 0, 4), **{"global_snr_10": (1.9, 0, 5.5)})
    assert of(Figure10(), same) == [True, False]


def shared(around: str, **values: float) -> list[Row]:
    return [
        row(mean, method=name.replace("_", "-"), quantity="shared", around=around, eps=EPS)
        for name, mean in values.items()
    ]


def test_activations():
    data = shared("data", standard=0.8, at=0.9, dd_snr=0.85, global_snr=0.5)
    noise = shared("noise", standard=0.7, at=0.72, dd_snr=0.68, global_snr=0.1)
    assert of(Figure5(), data + noise) == [True, True]
    assert of(Figure9(), data) == [True]
    assert larger_cells(data, ("at", "dd-snr"), EPS, "").value == pytest.approx(0.2 / 0.15)
    small = shared("data", standard=0.8, at=0.9, dd_snr=0.81)
    far = shared("noise", standard=0.7, at=0.72, dd_snr=0.6)
    assert of(Figure5(), small + far) == [False, False]
    assert of(Figure9(), small) == [False]
    # A method that changes no unit has no ratio, in whichever place it comes.
    for still in ("at", "dd_snr"):
        table = shared("data", **{"standard": 0.8, "at": 0.9, "dd_snr": 0.9, still: 1.0})
        assert of(Figure9(), table) == [False]
    silent = shared("noise", standard=1.0, at=0.9, dd_snr=0.9)
    assert of(Figure5(), data + silent) == [True, False]


def aligned(values: dict[str, tuple[float, ...]], random: float = 0.1, **columns: Any) -> list[Row]:
    shared_columns = {"quantity": "cosine"} | columns
    return [
        row(mean, method=method, direction=direction, eps=eps, **shared_columns)
        for method, means in values.items()
        for eps, cosine in zip((0.5, EPS, 1.5), means, strict=True)
        for direction, mean in (("adversarial", cosine), ("random", random))
    ]


def test_alignment():
    def claims(rows: list[Row]) -> list[bool]:
        return held(alignment_claims(rows, ("at", "dd-snr"), ("standard",), ""))

    good = {"at": (0.6, 0.5, 0.48), "dd-snr": (0.6, 0.55, 0.52), "standard": (0.4, 0.32, 0.31)}
    assert claims(aligned(good)) == [True] * 4
    assert claims(aligned({**good, "at": (0.55, 0.5, 0.56)})) == [False, True, True, True]
    assert claims(aligned({**good, "dd-snr": (0.75, 0.65, 0.45)})) == [True, False, True, True]
    assert claims(aligned({**good, "standard": (0.6, 0.52, 0.5)})) == [True, True, False, True]
    assert claims(aligned(good, random=0.14)) == [True, True, True, False]
    assert claims(aligned(good, random=0.0)) == [True, True, True, False]
    assert not align_alike(aligned({"a": (0.5,) * 3, "b": (0.61,) * 3}), "a", "b", "").held
    table = [*aligned({**good, "global-snr": (0.2, 0.2, 0.2)})]
    for method in ("at", "dd-snr", "standard", "global-snr"):
        table += aligned({method: (0.9, 0.9, 0.9)}, quantity="correlation")
    assert of(Figure8(), table)[-1] is False
    assert of(Figure8(), [*table[:24], *({**r, "quantity": "correlation"} for r in table[:24])])[-1]


def test_global_snr_with_more_iterations():
    rows = curves(**{"global_snr": (0.9, 0.2), "global_snr_10": (0.9, 0.26)})
    cosines = aligned({"global-snr": (0.3,) * 3, "global-snr-10": (0.35,) * 3})
    assert of(Figure11(), rows + cosines) == [False, True]


def test_fig6():
    def table(robust: list[float]) -> list[Row]:
        alphas = [factor * EPS / 10 for factor in TINY.alphas]
        return [
            row(mean, alpha=alpha, eps=eps)
            for alpha, attacked in zip(alphas, robust, strict=True)
            for eps, mean in ((0.0, 0.9), (EPS, attacked))
        ]

    assert of(Figure6(), table([0.1, 0.2, 0.3, 0.35, 0.36, 0.34])) == [True, True]
    assert of(Figure6(), table([0.34, 0.2, 0.3, 0.35, 0.36, 0.31])) == [False, False]


def test_fig7():
    def table(clean: float, robust: float) -> list[Row]:
        values = {0.0: (0.9, 0.5), 0.5: (clean, robust), 1.0: (0.9, 0.5)}
        return [
            row(mean, t=t, eps=eps)
            for t, pair in values.items()
            for eps, mean in zip((0.0, EPS), pair, strict=True)
        ]

    assert of(Figure7(), table(0.88, 0.52)) == [True, True]
    assert of(Figure7(), table(0.84, 0.56)) == [False, False]


def test_foils():
    rows = curves(
        at=(0.8, 0.5),
        dd_snr=(0.82, 0.5),
        input_gradient=(0.81, 0.1),
        at_fgm=(0.8, 0.48),
        frobenius=(0.7, 0.4),
    )
    assert of(Foils(), rows) == [True, True, False, True, True, False]


def test_table1():
    rows = [{"cases": 5, "failures": 0}, {"cases": 5, "failures": 0}]
    assert of(Table1(), rows) == [True]
    assert of(Table1(), [*rows, {"cases": 5, "failures": 1}]) == [False]


def test_table2():
    def table(wide: float = 0.8, **clean: float) -> list[Row]:
        rows = curves(**{method: (value, 0.1) for method, value in clean.items()})
        wide_rows = curves(at=(0.8, 0.1), dd_snr=(wide, 0.1))
        return [
            *with_columns(rows, network="cnn7", p="2"),
            *with_columns(wide_rows, network="wrn-28-10", p="2"),
        ]

    same = {"at": 0.8, "at_linf": 0.7, "dd_snr": 0.82, "dd_onr": 0.68, "global_snr": 0.78}
    assert of(Table2(), table(**same)) == [True] * 4
    other = table(0.76, **{**same, "dd_onr": 0.8, "global_snr": 0.76})
    assert of(Table2(), other) == [True, False, False, False]


def test_table3():
    def table(usual: float, other: float) -> list[Row]:
        rows = [row(0.8, method="at", option="eps", value=v, eps=0.0) for v in ("1", "1.0")]
        for method in ("dd-snr", "global-snr"):
            lam = TINY.methods[method][1]["lam"]
            rows.append(row(usual, method=method, option="lam", value=lam, eps=0.0))
            rows.append(row(other, method=method, option="lam", value="7", eps=0.0))
        return rows

    assert of(Table3(), table(0.8, 0.9)) == [True, True]
    assert of(Table3(), table(0.81, 0.8)) == [True, True]
    assert of(Table3(), table(0.84, 0.79)) == [False, False]


def test_directions_and_norms():
    cells = [(p, q) for p in ("1", "2", "inf") for q in ("1", "2", "inf")]

    def directions(power: float, far: float, gain: float) -> list[Row]:
        return [
            row(mean, radius=radius, method=method, quantity=quantity, p=p, q=q)
            for method in ("standard", "at", "dd-snr")
            for p, q in cells
            for radius, quantity, mean in (
                ("small", "power method", power if (p, q) == ("2", "1") else 1.0),
                ("training", "power method", far),
                ("small", "gain", gain),
            )
        ]

    assert of(Directions(), directions(0.96, 0.8, 0.9)) == [True] * 3
    assert of(Directions(), directions(0.9, 0.6, 0.7)) == [False] * 3

    def norms(worst: float, least: float) -> list[Row]:
        bounds = {"standard": (8.0, 9.0), "at": (1.0, 2.0), "dd-snr": (1.0, worst)}
        return [
            {**row(mean, method=method, p=p, q=q, quantity=quantity), "least": least}
            for method, (low, high) in bounds.items()
            for p, q in cells
            for quantity, mean in (("lower", low), ("upper", high), ("bracket", low / high))
        ]

    assert of(Brackets(), norms(4.0, 0.9)) == [True, True]
    assert of(Brackets(), norms(4.1, 0.7)) == [False, False]
