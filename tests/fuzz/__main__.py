"""Draw combinations for as long as one likes; exit with code 1 if one of them fails."""

from __future__ import annotations

import argparse
import collections
import sys
import time

import numpy as np
import torch

from fuzz.kinds import Kind, drawn
from fuzz.trial import CASES, VERBS, outcome


def command(name: str, kind: Kind, verb: str, seed: int) -> str:
    return f"python -m fuzz --case {name} --kind {kind} --verb {verb} --seed {seed}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="of the draws; the time if not given")
    parser.add_argument("--case", action="append", help="only these modules; may be repeated")
    parser.add_argument("--kind", help="only this kind, as float32/no_grad/1")
    parser.add_argument("--verb", action="append", help="only these verbs; may be repeated")
    parser.add_argument("--each", action="store_true", help="every module and verb once, in order")
    parser.add_argument("--verbose", action="store_true", help="print every outcome")
    chosen = parser.parse_args()
    seed = int(time.time()) if chosen.seed is None else chosen.seed
    rng = np.random.default_rng(seed)
    names, verbs = chosen.case or list(CASES), chosen.verb or list(VERBS)
    plain = Kind() if chosen.kind is None else Kind.parse(chosen.kind)
    each = chosen.each or (chosen.kind is not None and chosen.case and chosen.verb)
    torch.set_num_threads(1)
    print(f"seed {seed}, {len(names)} modules, {len(verbs)} verbs", flush=True)

    def combinations():
        if each:
            yield from ((name, plain, verb) for name in names for verb in verbs)
            return
        end = time.monotonic() + 60 * chosen.minutes
        while time.monotonic() < end:
            name, verb = (options[int(rng.integers(len(options)))] for options in (names, verbs))
            yield name, plain if chosen.kind else drawn(plain, rng).of_verb(verb), verb

    count: collections.Counter[str] = collections.Counter()
    for name, kind, verb in combinations():
        told = outcome(CASES[name], kind, verb, seed)
        count[told.partition(":")[0]] += 1
        if chosen.verbose or told.startswith("WRONG"):
            print(f"{told}\n    {command(name, kind, verb, seed)}", flush=True)
        if sum(count.values()) % 100 == 0:
            print(f"{sum(count.values())} tried: {dict(count)}", flush=True)
    print(f"{sum(count.values())} tried: {dict(count)}, seed {seed}")
    return int(count["WRONG"] > 0)


if __name__ == "__main__":
    sys.exit(main())
