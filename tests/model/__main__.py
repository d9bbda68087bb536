"""The long forms: `python -m model --runs 100000 --search 300`, from the folder `tests` (`make model`).

First every interleaving of small workflows, each for at most so many seconds; then runs of the state
machine. Both are shared by processes; each block of runs has a seed of its own. A violation is printed
with its seed and the shortest steps that show it, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from typing import Any

from .machine import Tally
from .scenarios import LONG
from .shards import Done, block, search

#: runs under one seed
BLOCK = 250


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=50, help="steps of a run")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first block")
    parser.add_argument(
        "--search", type=float, default=120, help="seconds for each scenario; 0: none"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(given.processes, maxtasksperchild=20) as pool:
        wrong = _search(pool, given.search) if given.search else 0
        wrong += _run(pool, given.runs, given.steps, given.seed) if given.runs else 0
    return 1 if wrong else 0


def _search(pool: Any, seconds: float) -> int:
    wrong, states, transitions = 0, 0, 0
    done: Done
    for done in pool.imap_unordered(search, [(name, seconds) for name in LONG]):
        states, transitions = states + done.result.states, transitions + done.result.transitions
        wrong += _violation(done)
        print(f"{done.what}: {done.result}", flush=True)
    print(f"{len(LONG)} searches, {states} states, {transitions} transitions; {wrong} violations")
    return wrong


def _run(pool: Any, runs: int, steps: int, seed: int) -> int:
    print(f"seed {seed}: {runs} runs of {steps} steps", flush=True)
    blocks = [
        (seed + number, min(BLOCK, runs - number * BLOCK), steps)
        for number in range(-(-runs // BLOCK))
    ]
    began, total, wrong = time.monotonic(), Tally(), 0
    done: Done
    for number, done in enumerate(pool.imap_unordered(block, blocks), 1):
        total.add(done.result)
        wrong += _violation(done)
        if number % 20 == 0:
            print(f"  {total} after {time.monotonic() - began:.0f} s", flush=True)
    print(f"{total}; {wrong} violations; {time.monotonic() - began:.0f} s")
    return wrong


def _violation(done: Done) -> int:
    if done.violation:
        print(f"VIOLATION, {done.what}\n{done.violation}", flush=True)
    return bool(done.violation)


if __name__ == "__main__":
    sys.exit(main())
