"""Robust accuracy and time of ``multitargeted`` beside AutoAttack, on one run.

    python tests/benchmarks/against_autoattack.py RUN P EPS IMAGES DATA_DIR RECORD [BATCH]

Each line of the file RECORD is a batch of 50 images, or BATCH. A process that is killed loses one
attack on one batch: the same command goes on from there, and prints the totals at the end. It waits
for a run that is still in training. ``ONR_DEVICE=cuda`` runs it on a GPU, where the time is that on
the wall.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from turns import DEVICE, now

import onr
from onr.arrays import to_numpy
from onr.files import write_atomic
from onr.measurements.attack_outcomes import attack_outcomes
from onr.measurements.predictions import classes_of
from onr.numerals import number
from onr.text import attack_by_name, norm
from onr.training.config import TrainConfig
from onr.training.runs import Run

ATTACKS = {
    "multitargeted": {},
    "multitargeted, steps 100, targets 5": {"steps": 100, "options": {"targets": 5}},
    "pga": {},
    "autoattack": {},
}


def main(
    path: str, p: str, eps: str, images: str, data_dir: str, record: str, size: str = "50"
) -> None:
    """Attack the first images of the run's test part, and print the totals."""
    epochs = TrainConfig.read(Run.open(Path(path)).config).epochs
    while len(Run.open(Path(path)).records()) < epochs:
        time.sleep(30)
    run = onr.open_run(path, data_dir=data_dir, device=str(DEVICE))
    at_once = int(size)
    x, y = run.inputs(int(images))
    made = {
        name: attack_by_name(name.partition(",")[0], **given).make(norm(p), number(eps), (0.0, 1.0))
        for name, given in ATTACKS.items()
    }
    made["curve of eight radii"] = None
    file = Path(record)
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for index, first in enumerate(range(0, int(images), at_once)):
        part = slice(first, first + at_once)
        batch, labels = x[part], y[part]
        clean = classes_of(run.network, batch, labels)
        if index == len(done):
            done.append({"clean": int((clean == to_numpy(labels)).sum())})
        row = done[index]
        for name, attack in made.items():
            if name in row:
                continue
            radii = [number(eps)]
            attacks = [attack]
            if attack is None:
                radii = [number(eps) * k / 8 for k in range(1, 9)]
                attacks = [attack_by_name("multitargeted").make(norm(p), r, (0, 1)) for r in radii]
            began = now()
            found = attack_outcomes(
                run.network,
                attacks,
                batch,
                labels,
                clean=clean,
                norm=norm(p),
                seeds=[(0, k) for k in range(len(radii))],
                first=first,
            )
            robust = [int((one.predicted == to_numpy(labels)).sum()) for one in found]
            row[name] = {"robust": robust, "seconds": now() - began}
            write_atomic(file, "".join(json.dumps(row) + "\n" for row in done).encode())
    count = min(len(done) * at_once, int(images))
    print(f"{path}, {p}-norm, eps {eps}, {count} images, batches of {at_once} on {DEVICE}")
    print(f"clean {sum(row['clean'] for row in done) / count:.1%}")
    most = sum(row["autoattack"]["seconds"] for row in done)
    for name in made:
        robust = np.sum([row[name]["robust"] for row in done], axis=0) / count
        spent = sum(row[name]["seconds"] for row in done)
        shares = ", ".join(f"{share:.1%}" for share in robust)
        print(f"{name:36} {spent:8.1f} s  1/{most / spent:5.1f}  {shares}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
