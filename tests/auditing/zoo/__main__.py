"""Audit the whole zoo, and write the tables of ``docs/flags.md``.

What is measured is kept in ``measured.json`` beside this file. ``--model`` and ``--norm`` measure a
part anew and leave the rest; ``--page`` writes the page alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from auditing.zoo.honest import NoDataError
from auditing.zoo.members import MEMBERS, THREATS, audited
from auditing.zoo.tables import MEASURED, NORMS, PAGE, flagged, page, record, stored


def versions() -> str:
    """The date, and the versions of what was used."""
    return (
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"torch {torch.__version__.partition('+')[0]}, NumPy {np.__version__}; "
        f"{platform.machine()}, one thread"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="auditing.zoo", description=__doc__)
    parser.add_argument("--model", action="append", choices=MEMBERS, help="may be repeated")
    parser.add_argument("--norm", action="append", choices=THREATS, help="may be repeated")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = stored() if MEASURED.exists() else {"audits": {p: {} for p in THREATS}}
    wrong = 0
    with tempfile.TemporaryDirectory() as runs:
        for p in () if chosen.page else chosen.norm or THREATS:
            for name in chosen.model or MEMBERS:
                start = time.process_time()
                try:
                    told = record(audited(MEMBERS[name], Path(runs), p=p))
                except NoDataError as error:
                    print(f"{name}: left out: {error}", flush=True)
                    continue
                found["audits"][p][name] = told
                found["versions"] = versions()
                MEASURED.write_text(f"{json.dumps(found, indent=1)}\n")
                right = flagged(name, told)
                wrong += not right
                print(
                    f"{name}, {NORMS[p]}: {', '.join(told['raised']) or 'no flag'}"
                    f"{'' if right else ' (WRONG)'}, {time.process_time() - start:.1f} s",
                    flush=True,
                )
    PAGE.write_text(page())
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
