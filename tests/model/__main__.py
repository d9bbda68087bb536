"""The long form: `python -m model --runs 100000`, from the folder `tests` (`make model`).

Shards the runs over processes, each block of them with a seed of its own; prints what was done, and
for a violation its seed and the shortest steps that show it. Exit code 1 after a violation.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from .machine import Tally
from .shards import BLOCK, block


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=50, help="steps of a run")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first block")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    os.nice(10)
    print(f"seed {given.seed}: {given.runs} runs of {given.steps} steps", flush=True)
    blocks = [
        (given.seed + number, min(BLOCK, given.runs - number * BLOCK), given.steps)
        for number in range(-(-given.runs // BLOCK))
    ]
    began, total, violations = time.monotonic(), Tally(), 0
    with multiprocessing.get_context("spawn").Pool(given.processes, maxtasksperchild=20) as pool:
        for seed, tally, violation in pool.imap_unordered(block, blocks):
            total.add(tally)
            if violation:
                violations += 1
                print(f"VIOLATION under seed {seed}\n{violation}", flush=True)
            seconds = time.monotonic() - began
            if sys.stdout.isatty() or seed % 20 == 0:
                print(f"  {total} after {seconds:.0f} s", flush=True)
    print(f"{total}; {violations} violations; {time.monotonic() - began:.0f} s")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
