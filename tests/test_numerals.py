"""Numbers as users write them, and as they read them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onr.auditing.protocols import Flag
from onr.auditing.wording import flag_number
from onr.errors import OnrError
from onr.numerals import hundredths, number, require_whole


@pytest.mark.parametrize("text", ["8/255/2", "1/3/5", "1//2", "/2", "1/", "", "1/0", "1e999"])
def test_a_number_has_one_meaning(text: str) -> None:
    with pytest.raises(OnrError, match="is no number"):
        number(text)


@given(st.integers(1, 10**6), st.data())
def test_a_share_reads_as_none_or_all_only_if_it_is(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count) | st.sampled_from([0, 1, count - 1, count]))
    text = hundredths(hits / count)
    assert (float(text) == 0, float(text) == 100) == (hits == 0, hits == count)
    assert math.isclose(float(text), 100 * hits / count, abs_tol=0.0501)


@given(
    st.floats(-1e9, 1e9),
    st.floats(-1e9, 1e9) | st.none(),
    st.sampled_from(["above", "below"]),
)
def test_a_flag_says_nothing_that_its_digits_deny(
    threshold: float, value: float | None, comparison: str
) -> None:
    value = math.nextafter(threshold, math.inf) if value is None else value
    raised = value > threshold if comparison == "above" else value < threshold
    flag = Flag("odd", raised, value, threshold, "ours", "", comparison=comparison)
    left, sign, right = flag_number(flag).split()
    a, b = float(left), float(right)
    assert {">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b}[sign]


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_a_count_is_a_whole_number(value: Any) -> None:
    with pytest.raises(OnrError, match=f"steps = {value!r}: expected a whole number"):
        require_whole(steps=value)
