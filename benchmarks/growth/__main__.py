"""`python -m benchmarks.growth`, from the root, with tests on the path: see ../README.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import tables
from . import children, curves
from .cluster import cluster
from .plots import plot

FOLDER = Path(__file__).parent
RESULTS, TABLE = FOLDER / "results.json", FOLDER / "results.md"


def _width(most: int) -> Any:
    with cluster() as on:
        on.start(2)
        return curves.width(_steps(10, min(most, 100_000)), on)


def _chain(most: int) -> Any:
    with cluster() as on:
        on.start(2)
        return curves.chain(_steps(10, min(most, 10_000)), on)


def _children(most: int) -> Any:
    with cluster() as on:
        on.start(2)
        return children.children(_steps(10_000, most), on)


def _slow(most: int) -> Any:
    with cluster() as on:
        on.start(2)
        return curves.slow_scripts(on, min(most, 20_000))


#: What is measured, by name; each is given the largest size.
MEASURED: dict[str, Callable[[int], Any]] = {
    "queue": lambda most: curves.queue_length(_steps(1000, most)),
    "width": _width,
    "children": _children,
    "chain": _chain,
    "nodes": lambda most: curves.nodes((1, 10, 50, 100, 200), 20.0),
    "slots": lambda most: curves.slots((1, 2, 4, 8), min(most, 10_000)),
    "slow": _slow,
}
ABOUT = {
    "queue": "Beside a queue of so many jobs: an advance that settles 96 jobs and claims 96 others, "
    "microseconds of the server (INFO commandstats, medians of five runs in turn, with the lowest and "
    "highest); how fast the jobs were made, and what each takes of memory.",
    "width": "1 -> width -> 1, the last with all results: milliseconds a child.",
    "children": "A fan-out of no-op children that give a metric, into average-metrics and best-metric, both checked: "
    "how long it takes; the peak of Redis' memory above what it held before, in MB; the stream of events at the end, which "
    "is trimmed (each run begins with that of the one before); memory (RSS) of orchestrator and daemon in MB after 10,000 children and at the end; scripts, "
    "how many took over 10 ms, and the slowest of them.",
    "chain": "A chain: milliseconds a hop.",
    "nodes": "Nodes that beat once a second: the share of a core that the server spends on them, beyond "
    "what it spends with none.",
    "slots": "One node with so many slots: no-op jobs a second, and jobs a second that wait for 5 ms.",
}

_WHERE = (
    "The same run by INFO commandstats: making, claiming and settling a job. "
    "`lua` is the scripts' time beyond the commands that they call; those under 0.1 us are left out."
)
_SHOWN_USEC = 0.1


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what was started
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--only", default="", help="by commas: " + ", ".join(MEASURED))
    parser.add_argument("--most", type=int, default=1_000_000, help="jobs of the longest queue")
    asked = parser.parse_args()
    wanted = asked.only.split(",") if asked.only else list(MEASURED)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in wanted:
        results[name] = MEASURED[name](asked.most)
        print(name, json.dumps(results[name]), flush=True)
        results["machine"] = tables.machine()
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        TABLE.write_text(table(results) + "\n")
    plot(results, FOLDER / "growth.png")
    return 0


def _steps(first: int, most: int) -> list[int]:
    steps = [first]
    while steps[-1] * 10 <= most:
        steps.append(steps[-1] * 10)
    return steps


def table(results: dict[str, Any]) -> str:
    """All of results.md."""
    machine = results["machine"]
    lines = [
        "# Growth",
        "",
        "Written by `make bench-growth`; how to read it: [README](../README.md). "
        f"{machine['cores']} cores, Python {machine['python']}, redis-server "
        f"{machine['redis-server']} with deploy/redis.conf.",
        "",
        "![the curves](growth.png)",
    ]
    for name, about in ABOUT.items():
        if points := results.get(name):
            figures = list(next(iter(points.values())))
            lines += ["", f"## {name}", "", about, "", *tables.head([name, *figures])]
            for x, point in points.items():
                cells = [f"{point[figure]:,.4g}" for figure in figures]
                lines.append(tables.row([f"{int(x):,}", *cells]))
    if slow := results.get("slow"):
        lines += ["", "## Scripts over 10 ms", "", _slow_text(slow)]
        lines += ["", "## Where the server's time goes", "", _WHERE, ""]
        lines += tables.head(["in scripts", "calls a job", "us a job"])
        for name, one in slow["in_scripts"].items():
            if one["usec"] >= _SHOWN_USEC:
                lines.append(tables.row([name, f"{one['calls']:.2f}", f"{one['usec']:.2f}"]))
    return "\n".join(lines)


def _slow_text(slow: dict[str, Any]) -> str:
    over = slow["over_10_ms"]
    share = 100 * (1 - len(over) / slow["scripts"])
    text = (
        f"A fan-out of {slow['jobs']:,} with everything on the same machine: "
        f"{slow['scripts']:,} scripts, {slow['usec_per_script']:.0f} us each on average, "
        f"{len(over)} commands over 10 ms ({share:.3f} % of scripts under it)"
    )
    listed = ", ".join(f"{one['script']} {one['ms']:.1f} ms" for one in over[:20])
    return f"{text}: {listed}." if listed else f"{text}."


if __name__ == "__main__":
    sys.exit(main())
