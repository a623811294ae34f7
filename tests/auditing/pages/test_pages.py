"""The page and the summary of an audit."""

from __future__ import annotations

import math
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from audits import FLAGS, RADII, failed, made
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from onr.auditing.base_check import BaseCheck
from onr.auditing.comparison import compare
from onr.auditing.findings import findings
from onr.auditing.pages.audit_page import audit_page
from onr.auditing.pages.comparison_page import comparison_page
from onr.auditing.pages.png import as_picture, png
from onr.auditing.pages.shown_images import table
from onr.auditing.protocols import Flag
from onr.auditing.record import Audit

VOID = {"meta", "img", "br", "link", "input", "hr", "source"}
SCRIPT = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """A page that was read: it fails where elements are not nested."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content.decode())
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def checked(content: bytes) -> Page:
    """The page, if it is well formed, refers to nothing outside, and can be read aloud."""
    found = Page(content)
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in found.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,"))
            assert value is None or value[0] != "#" or value[1:] in ids
        assert attrs.get("aria-labelledby") is None or attrs["aria-labelledby"] in ids
        assert not any(name.startswith("on") for name in attrs)
        if tag == "img":
            assert attrs["alt"]
        if tag == "svg":
            assert attrs["role"] == "img"
            assert attrs["aria-label"]
        if tag == "th":
            assert attrs["scope"] in ("row", "col")
    assert len(found.all("caption")) == len(found.all("table"))
    assert len(found.all("script")) == 1
    assert not re.search(rb"url\(|@import|https?://|nan[,% ]", content)
    drawn = [attrs["d"] or "" for attrs in found.all("path")]
    assert all(re.fullmatch(r"[MLHVZh0-9. \-]+", d) for d in drawn)
    return found


def one_class(count: int = 12) -> Audit:
    return made(count, label=np.zeros(count), predicted=np.zeros(count))


def misclassified() -> Audit:
    audit = made()
    audit.columns["predicted"] = (audit.columns["label"] + 1) % 3
    for name in ("first-order radius", "radius found", *(f"robust at {r}" for r in RADII)):
        audit.columns[name] = np.zeros(12)
    return Audit(audit.record, audit.columns, audit.flags)


CASES = {
    "usual": made,
    "one image": lambda: made(1),
    "one class": one_class,
    "misclassified": misclassified,
    "failures": lambda: failed(made(), 0, 5),
    "one left": lambda: failed(made(3), 0, 1),
    "nothing found": lambda: made(**{"radius found": np.full(12, np.inf)}),
    "zero gradients": lambda: made(
        **{
            "first-order radius": np.full(12, np.inf),
            "norm 2:2": np.zeros(12),
            "alignment": np.full(12, np.nan),
            **{f"rho at {text}": np.full(12, np.nan) for text in RADII},
        }
    ),
    "no upper bounds": lambda: made(**{"norm inf:2 upper": np.full(12, np.nan)}),
    "no norms": lambda: made(**{"norm 2:2": None, "norm inf:2": None}),
    "grey": lambda: made(shape=(1, 5, 3)),
    "two channels": lambda: made(shape=(2, 4, 4)),
    "flat": lambda: made(shape=(16,)),
    "flat, no square": lambda: made(shape=(7,)),
    "large": lambda: made(shape=(3, 300, 520)),
    "no checks": lambda: made(flags=()),
    "no flag raised": lambda: made(flags=FLAGS[1:]),
    "1,000 classes": lambda: made(classes=1000),
    "plain radius": lambda: made(eps="0.5", radii={"0.5": 0.5}, **{"robust at 0.5": np.ones(12)}),
    "black box": lambda: made(**{"black-box: broken": np.array([0.0] * 6 + [np.nan] * 6)}),
    "eps written long": lambda: made(
        eps="0.50", radii={"0.5": 0.5}, **{"robust at 0.5": np.ones(12)}
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_page_is_whole_and_alone(case: str) -> None:
    audit = CASES[case]()
    found = checked(audit_page(audit))
    for sentence in findings(audit):
        assert sentence in found.text
    shown = len(audit.worst.get("place", ()))
    assert len(found.all("img")) == 3 * shown
    assert shown == (0 if case == "misclassified" else min(10, len(audit.pictures["place"])))
    checked(comparison_page(compare(audit, audit)))


values = st.sampled_from([math.nan, math.inf, 0.0, 1e-12, 0.01, 0.05, 3e8])


@settings(max_examples=20, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.data())
def test_a_page_is_whole_whatever_was_measured(data: st.DataObject) -> None:
    audit = made(5)
    for name, column in audit.columns.items():
        if column.dtype.kind == "f" and name.startswith(("norm", "rho", "align", "cell", "exact")):
            audit.columns[name] = np.array(data.draw(st.lists(values, min_size=5, max_size=5)))
    for name in ("first-order radius", "radius found"):
        radii = data.draw(st.lists(values.filter(lambda v: v == v), min_size=5, max_size=5))
        audit.columns[name] = np.array(radii)
    checked(audit_page(audit))
    assert max(map(len, audit.summary().splitlines())) <= 100


def test_names_are_escaped() -> None:
    flags = [Flag(SCRIPT, raised, 0.1, 0.2, SCRIPT, SCRIPT) for raised in (True, False, None)]
    audit = failed(made(flags=tuple(flags)), 2)
    audit.record.update(
        model=SCRIPT, data=SCRIPT, class_names=[SCRIPT] * 3, labels=SCRIPT, p=SCRIPT
    )
    audit.columns["failure"] = np.where(audit.columns["failure"] == "", "", SCRIPT)
    audit.columns["file"] = np.full(12, SCRIPT)
    for content in (audit_page(audit), comparison_page(compare(audit, audit))):
        found = checked(content)
        assert SCRIPT in found.text
        assert b"<script>alert" not in content
    assert SCRIPT not in audit._repr_html_()


def test_the_numbers_of_the_page_are_those_of_the_audit() -> None:
    audit = failed(made(200), 3)
    text = checked(audit_page(audit)).text
    for row in audit.curve:
        assert f"{100 * row['accuracy']:.1f} %{100 * row['low']:.1f} %" in text
    wrong = audit.columns["predicted"] != audit.columns["label"]
    assert f"{int(wrong[audit.measured].sum())} images are misclassified" in text
    assert "image 3: a logit is nan" in text
    assert "1 image could not be measured" in text


def test_a_large_table_is_cut_and_says_so() -> None:
    content = audit_page(made(2100)).decode()
    assert "2000 of 2100 images. The correctly classified" in content
    assert 2000 < content.count("<tr") < 2100


def test_an_installed_check_explains_its_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ours(BaseCheck):
        summary, meaning, remedy = "it varies", "The loss is noisy.", "Look at the forward pass."

    monkeypatch.setattr("onr.auditing.pages.audit_page.load", lambda kind, name: Ours)
    text = checked(audit_page(made())).text
    assert "The loss is noisy." in text
    assert "Look at the forward pass." in text


@pytest.mark.parametrize("case", CASES)
def test_a_summary_fits_on_a_screen(case: str) -> None:
    audit = CASES[case]()
    lines = str(audit).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert len(repr(audit).splitlines()) == 1


def test_a_summary_names_raised_flags_first_and_what_to_do() -> None:
    lines = made().summary().splitlines()
    place = lines.index("Flags: 1 raised, 1 ok, 1 not checked")
    assert lines[place + 1] == (
        "  RAISED ours, 0.3 > 0.05: the loss varies by 30 % -> onr explain ours"
    )
    assert lines[place + 2] == "  not checked box: pyautoattack is not installed"


@settings(max_examples=30)
@given(st.sampled_from([1, 3]), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_a_png_holds_the_pixels(channels: int, height: int, width: int, seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    content, parts = png(levels / 255), {}
    at = 8
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        assert struct.unpack(">I", content[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            kind + data
        )
        parts[kind] = data
        at += 12 + size
    assert struct.unpack(">IIBB", parts[b"IHDR"][:10]) == (
        width,
        height,
        8,
        0 if channels == 1 else 2,
    )
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    assert np.array_equal(lines[:, 1:].reshape(height, width, channels), levels)


def test_channels_move_to_the_end() -> None:
    values = np.arange(24.0).reshape(3, 2, 4)
    assert np.array_equal(as_picture(values), values.transpose(1, 2, 0))
    assert np.array_equal(as_picture(values[:2])[..., 0], values[:2].mean(axis=0))
    assert np.array_equal(as_picture(np.arange(4.0))[..., 0], [[0, 1], [2, 3]])


def test_a_false_gradient_is_warned_of_wherever_it_is_used() -> None:
    cut = Flag("graph-cut", True, 1.0, 0.2, "ours", "the gradient misses it", 20)
    warning = "computed from a gradient that the flag graph-cut calls false: do not use"
    wrong = {f"rho at {text}": np.full(12, 50.0) for text in RADII}
    text = checked(audit_page(made(flags=(cut,), **wrong))).text
    assert text.count(warning) == 5
    assert "the gradient is wrong by about that factor" in text
    assert "far from linear" not in text
    assert "calls false" not in checked(audit_page(made())).text


def test_correct_images_stand_first() -> None:
    audit = made(40)
    rows = table(audit)["rows"]
    right = [image for image in rows if image[1] == image[2]]
    assert rows[: len(right)] == right


def test_how_a_run_was_trained_is_said() -> None:
    train = {"method": "at", "method_options": {"eps": "8/255", "steps": "4"}, "epochs": 6}
    text = checked(audit_page(made(model="cnn7", run={"train": train}))).text
    assert "Audit of cnn7 (at, eps 8/255)" in text
    assert "at (eps 8/255, steps 4), 6 epochs" in text
