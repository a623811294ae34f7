"""An audit that is saved can be opened again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from audits import failed, made

from onr.auditing.protocols import Flag
from onr.auditing.record import Audit
from onr.auditing.saved import KINDS, open_audit
from onr.errors import OnrError


def same(a: Audit, b: Audit) -> None:
    assert list(a.columns) == list(b.columns)
    for one, other in ((a.columns, b.columns), (a.worst, b.pictures)):
        assert one.keys() == other.keys()
        for name, values in one.items():
            assert values.dtype.kind == other[name].dtype.kind
            assert np.array_equal(values, other[name], equal_nan=values.dtype.kind == "f")
    assert a.record == b.record
    assert a.flags == b.flags


@pytest.mark.parametrize("table", ["csv", "parquet"])
@pytest.mark.parametrize("case", ["usual", "one image", "failures", "no pictures"])
def test_a_saved_audit_opens_as_it_was(table: str, case: str, tmp_path: Path) -> None:
    audit = made(1 if case == "one image" else 12)
    audit.columns["name"] = np.array(['a, "b"\nc', "1e5", "", "nan", "é"] * 3)[
        : len(audit.measured)
    ]
    audit.columns["digest"][0] = "12e456789012"
    if case == "failures":
        failed(audit, 1)
    if case == "no pictures":
        audit.pictures.clear()
    flag = Flag("odd", True, float("inf"), -float("inf"), "nobody", "é")
    audit = Audit(audit.record, audit.columns, (*audit.flags, flag), audit.pictures)
    written = audit.save(tmp_path, table=table)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    opened = open_audit(tmp_path)
    same(audit, opened)
    opened.save(tmp_path / "again", table=table)
    for path in written:
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_the_json_is_strict(tmp_path: Path) -> None:
    made(1).save(tmp_path)

    def refuse(text: str) -> None:
        raise AssertionError(text)

    found = json.loads((tmp_path / "audit.json").read_text(), parse_constant=refuse)
    assert found["table"] == "images.csv"


def test_an_audit_replaces_the_one_before(tmp_path: Path) -> None:
    made().save(tmp_path, table="parquet")
    audit = made(3, seed=1)
    audit.pictures.clear()
    audit.save(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["audit.html", "audit.json", "images.csv"]


def test_without_jinja2_there_is_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.warns(UserWarning, match=r"audit.html is not written.*onr\[plot\]"):
        written = made().save(tmp_path)
    assert "audit.html" not in [path.name for path in written]
    assert len(open_audit(tmp_path).measured) == 12


def test_without_pyarrow_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OnrError, match=r"pip install 'onr\[parquet\]'"):
        made().save(tmp_path, table="parquet")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OnrError, match=r"has no audit.json"):
        open_audit(tmp_path)
    with pytest.raises(OnrError, match="expected csv or parquet"):
        made().save(tmp_path, table="xls")
    made().save(tmp_path)
    table = (tmp_path / "images.csv").read_bytes()
    for content in (table[: len(table) // 2], b"", b"\xff"):
        (tmp_path / "images.csv").write_bytes(content)
        with pytest.raises(OnrError, match="cannot be read"):
            open_audit(tmp_path)
    (tmp_path / "images.csv").write_bytes(b"".join(table.splitlines(keepends=True)[:-1]))
    with pytest.raises(OnrError, match=r"images\.csv has 11 of 12 rows"):
        open_audit(tmp_path)
    (tmp_path / "images.csv").write_bytes(table)
    record = (tmp_path / "audit.json").read_text()
    whole = json.loads(record)
    without = [json.dumps({k: v for k, v in whole.items() if k != name}) for name in KINDS]
    for text in (*without, record[:50], "[]", "{}", record.replace("images.csv", "../images.csv")):
        (tmp_path / "audit.json").write_text(text)
        with pytest.raises(OnrError, match="cannot be read"):
            open_audit(tmp_path)
