"""`python -m benchmarks.speed`, from the root: see ../README.md.

Rounds: in each, every system does one repetition of its workloads, one system after the other, so
that the machine's moods are shared out evenly. W6, which is nearly only waiting, comes last, all
systems at once.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .. import environments
from . import report
from .measuring import Entry, started, systems
from .plots import plot

WORKLOADS = ("W1", "drain", "W2", "W3", "W4", "W5", "W6")
#: Ours first, so that a run that is ended early has what it is about.
SYSTEMS = ("penstock", "floor", *environments.REQUIREMENTS)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what was started
    asked = _parse()
    entries = list(_chosen(asked.only, asked.workloads))
    if unknown := {*asked.only} - {one.title for one in entries} - {one.system for one in entries}:
        sys.exit(
            f"nothing to measure of {', '.join(sorted(unknown))}; there are {', '.join(SYSTEMS)}"
        )
    results = report.load(asked.results)
    for one in entries:
        about = {"settings": one.settings, "versions": one.versions}
        results["systems"][one.title] = {**results["systems"].get(one.title, {}), **about}
    begun = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    with tempfile.TemporaryDirectory(prefix="speed-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for _ in range(asked.rounds):
            for one in entries:
                if one.workloads == ("W6",):
                    continue
                live = [workload for workload in one.workloads if workload != "W6"]
                found = _measured(one, live, folder, asked.scale)
                report.add(results, one.title, found, begun)
                report.save(results, asked.results)
        for title, found in _restarts(entries, folder, asked.scale).items():
            report.add(results, title, found, begun)
    report.save(results, asked.results)
    if asked.plots:
        plot(results, asked.results / "speed.png")
    print(report.table(results))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    only = "systems, or system/config, by commas: " + ", ".join(SYSTEMS)
    parser.add_argument("--only", type=_words, default=[], help=only)
    parser.add_argument(
        "--workloads", type=_workloads, default=list(WORKLOADS), help=", ".join(WORKLOADS)
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the jobs in W1 and W5")
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="no matplotlib")
    parser.add_argument("--results", type=Path, default=report.FOLDER, help="the folder for them")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _workloads(text: str) -> list[str]:
    if unknown := [word for word in _words(text) if word not in WORKLOADS]:
        raise argparse.ArgumentTypeError(
            f"no workload {unknown[0]}; there are {', '.join(WORKLOADS)}"
        )
    return [name for name in WORKLOADS if name in _words(text)]


def _chosen(only: list[str], workloads: list[str]) -> Iterator[Entry]:
    parts = {part.partition("/")[0] for part in only}
    for one in systems([name for name in SYSTEMS if not only or name in parts]):
        mine = tuple(name for name in workloads if name in one.workloads)
        if mine and (not only or one.system in only or one.title in only):
            yield one.with_workloads(mine)


def _measured(one: Entry, workloads: list[str], folder: Path, scale: float) -> dict[str, Any]:
    """All of them; after one that went wrong the others on a new server, with new processes."""
    began = time.monotonic()
    found: dict[str, Any] = {}
    while left := [name for name in workloads if name not in found]:
        with started(one, left, folder, scale) as harness:
            found |= harness.figures()
    faults = [f"{name}: {found[name]['error']}" for name in found if "error" in found[name]]
    took = f"in {time.monotonic() - began:.0f} s"
    print(f"{one.title} {' '.join(workloads)} {took}", *faults, flush=True)
    return found


def _restarts(entries: list[Entry], folder: Path, scale: float) -> dict[str, dict[str, Any]]:
    running = {}
    with ExitStack() as stack:
        for one in entries:
            if "W6" in one.workloads:
                running[one.title] = stack.enter_context(started(one, ["W6"], folder, scale))
                time.sleep(1.0)  # that not all of them start up at once
        found = {title: harness.figures() for title, harness in running.items()}
    for title, figures in found.items():
        print(f"{title} W6 {figures['W6']}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
