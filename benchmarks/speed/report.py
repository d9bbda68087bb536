"""results.json and results.md: medians with their ranges, and ratios to the goals."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import tables

#: Where the results are kept that are committed.
FOLDER = Path(__file__).parent
OURS, FLOOR = "penstock", "floor"

Results = dict[str, Any]


def load(folder: Path) -> Results:
    """What earlier runs have found; a later run replaces the figures of what it measures."""
    file = folder / "results.json"
    return dict(json.loads(file.read_text())) if file.exists() else {"systems": {}}


def save(results: Results, folder: Path) -> None:
    """Writes results.json and results.md."""
    results["machine"] = tables.machine()
    (folder / "results.json").write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    (folder / "results.md").write_text(table(results) + "\n")


def add(results: Results, title: str, found: dict[str, Any], begun: str) -> None:
    """Adds one repetition of some workloads, in place of those of earlier runs."""
    of_system = results["systems"][title].setdefault("workloads", {})
    for name, figures in found.items():
        if of_system.get(name, {}).get("begun") != begun:
            of_system[name] = {"begun": begun, "rounds": []}
        of_system[name]["rounds"].append(figures)


# -- reading them


def titles(results: Results) -> list[str]:
    """All systems: ours, the floor, the peers by name."""
    first = {OURS: 0, FLOOR: 1}
    return sorted(
        results["systems"], key=lambda title: (first.get(title.partition("/")[0], 2), title)
    )


def values(results: Results, title: str, workload: str, figure: str) -> list[float]:
    """A figure of all rounds; empty where there is none."""
    rounds = results["systems"].get(title, {}).get("workloads", {}).get(workload, {})
    found = (one.get(figure) for one in rounds.get("rounds", ()))
    return [value for value in found if value is not None]


def median(results: Results, title: str, workload: str, figure: str) -> float | None:
    """The median over the rounds."""
    found = values(results, title, workload, figure)
    return statistics.median(found) if found else None


def mark(results: Results, title: str, workload: str) -> str:
    """`†` where others were measured at that later, and so on a machine in another mood."""
    begun = {
        name: one["workloads"][workload]["begun"]
        for name, one in results["systems"].items()
        if workload in one.get("workloads", {})
    }
    return "†" if title in begun and begun[title] < max(begun.values()) else ""


def best(
    results: Results, workload: str, figure: str, choose: Callable[..., str], of: str = ""
) -> tuple[str, float] | None:
    """The title with the best median, and that. `of`: only that system; else any peer."""
    found = {
        title: value
        for title in results["systems"]
        if (title.startswith(f"{of}/") if of else title.partition("/")[0] not in (OURS, FLOOR))
        and (value := median(results, title, workload, figure)) is not None
    }
    if not found:
        return None
    title = choose(found, key=lambda title: found[title])
    return title, found[title]


@dataclass(frozen=True)
class Goal:
    """A line of what must be reached: our figure divided by that of `against`."""

    text: str
    workload: str
    figure: str
    #: 'peer' (the best one), 'floor', or a title
    against: str
    bound: float
    #: is more better?
    more: bool

    @property
    def choose(self) -> Callable[..., str]:
        return max if self.more else min

    def row(self, results: Results) -> list[object]:
        ours = best(results, self.workload, self.figure, self.choose, OURS)
        theirs = self._other(results)
        if ours is None or theirs is None:
            return [self.text, "-", "-", "-", "-", "not measured"]
        ratio = ours[1] / theirs[1]
        met = ratio >= self.bound if self.more else ratio <= self.bound
        sign = "at least" if self.more else "at most"
        return [
            self.text,
            f"{plain(ours[1])}{mark(results, ours[0], self.workload)} ({ours[0].partition('/')[2]})",
            f"{plain(theirs[1])}{mark(results, theirs[0], self.workload)} ({theirs[0]})",
            f"{ratio:.2f}",
            f"{sign} {self.bound:.2g}",
            "yes" if met else "**no**",
        ]

    def _other(self, results: Results) -> tuple[str, float] | None:
        if self.against in ("peer", FLOOR):
            of = FLOOR if self.against == FLOOR else ""
            return best(results, self.workload, self.figure, self.choose, of)
        value = median(results, self.against, self.workload, self.figure)
        return None if value is None else (self.against, value)


GOALS = [
    Goal("W1, jobs/s", "W1", "jobs_per_s", "peer", 5, True),
    Goal("W1, a full queue drained, jobs/s", "drain", "jobs_per_s", "peer", 8, True),
    Goal("W1 against RQ's default worker, jobs/s", "W1", "jobs_per_s", "rq/fork", 200, True),
    Goal("W2, 1,000 wide, s", "W2", "s_1000", "peer", 1 / 5, False),
    Goal("W2, 5,000 wide, s", "W2", "s_5000", "peer", 1 / 7, False),
    Goal("W3, ms a hop", "W3", "ms_a_hop", "peer", 1 / 3, False),
    Goal("W4, p50, ms", "W4", "p50_ms", "peer", 0.9, False),
    Goal("W4, p99, ms", "W4", "p99_ms", "peer", 1.2, False),
    Goal("W5, 40 bytes of argument, bytes a job", "W5", "bytes_40", "rq/recommended", 0.6, False),
    Goal("W5, 200 bytes of argument, bytes a job", "W5", "bytes_200", "rq/recommended", 0.6, False),
    Goal("W1 against the floor, jobs/s", "W1", "jobs_per_s", FLOOR, 0.5, True),
    Goal("W2, 1,000 wide, against the floor, s", "W2", "s_1000", FLOOR, 1 / 0.4, False),
    Goal("W3 against the floor, ms a hop", "W3", "ms_a_hop", FLOOR, 1 / 0.4, False),
]
#: Column -> (workload, figure, digits).
FIGURES = {
    "W1, jobs/s": ("W1", "jobs_per_s", 0),
    "drained, jobs/s": ("drain", "jobs_per_s", 0),
    "W2 1,000, s": ("W2", "s_1000", 2),
    "W2 5,000, s": ("W2", "s_5000", 2),
    "W3, ms a hop": ("W3", "ms_a_hop", 2),
    "W4 p50, ms": ("W4", "p50_ms", 2),
    "W4 p99, ms": ("W4", "p99_ms", 2),
    "W5, bytes (40)": ("W5", "bytes_40", 0),
    "W5, bytes (200)": ("W5", "bytes_200", 0),
    "W6, s": ("W6", "restart_s", 1),
}
COSTS = {
    "jobs": ("W1", "jobs", 0),
    "commands": ("W1", "commands", 1),
    "round trips": ("W1", "reads", 2),
    "Redis, us": ("W1", "redis_cpu_us", 0),
    "workers, us": ("W1", "workers_cpu_us", 0),
    "client, us": ("W1", "client_cpu_us", 0),
    "others' cores": ("W1", "foreign_cpu", 2),
}


def table(results: Results) -> str:
    """All of results.md."""
    machine = results["machine"]
    lines = [
        "# Speed, side by side",
        "",
        "Written by `make bench`; what it does and how to read it: [README](../README.md). Medians "
        f"(min-max) of the rounds. {machine['cores']} cores, Python {machine['python']}, redis-server "
        f"{machine['redis-server']}. † of an earlier run than the others: compare with care.",
        "",
        "![the figures](speed.png)",
        "",
        "## Against the goals",
        "",
        "Our best configuration against the best of the peers, or what is named; medians.",
        "",
        *tables.head(["what", "Penstock", "against", "ratio", "goal", "reached"]),
        *(tables.row(goal.row(results)) for goal in GOALS),
        "",
        "## All figures",
        "",
        *_figures(results, FIGURES),
        "",
        "W6: seconds from a worker's SIGKILL to the second start of its job; of Ray and Dask only the "
        "job's own process is killed, for their supervisors serve all workers. Once, all systems at once.",
        "",
        "## What a job of W1 costs",
        "",
        "Redis commands (those inside of scripts and MULTI too), reads from sockets (about as many as "
        "round trips), and CPU time, each a job; and the cores that foreign processes kept busy.",
        "",
        *_figures(results, COSTS),
        "",
        "## How each is set up",
        "",
    ]
    for title in titles(results):
        one = results["systems"][title]
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        lines.append(f"- **{title}** ({versions}): {one['settings']}.")
        lines += [f"  - {text}" for text in _remarks(one)]
    return "\n".join(lines)


def _figures(results: Results, columns: dict[str, tuple[str, str, int]]) -> Iterator[str]:
    yield from tables.head(["system", *columns])
    for title in titles(results):
        cells = [_cell(results, title, *of) for of in columns.values()]
        if any(cells):
            yield tables.row([title, *cells])


def _cell(results: Results, title: str, workload: str, figure: str, digits: int) -> str:
    found = values(results, title, workload, figure)
    rounds = results["systems"][title].get("workloads", {}).get(workload, {}).get("rounds", ())
    if not found:
        return _why_not(rounds, figure)
    middle = f"{statistics.median(found):,.{digits}f}{mark(results, title, workload)}"
    if len(found) == 1:
        return middle
    return f"{middle} ({min(found):,.{digits}f}-{max(found):,.{digits}f})"


def _why_not(rounds: Iterable[dict[str, Any]], figure: str) -> str:
    for one in rounds:
        if "limit_s" in one:
            return f"> {one['limit_s']:.0f}"
        if "not_supported" in one:
            return "none"
        if "error" in one:
            return "error"
    return ""


def _remarks(one: dict[str, Any]) -> Iterator[str]:
    for name, workload in one.get("workloads", {}).items():
        seen = set()
        for figures in workload["rounds"]:
            for word in ("not_supported", "error"):
                if word in figures and figures[word] not in seen:
                    seen.add(figures[word])
                    yield f"{name}, {word.replace('_', ' ')}: {figures[word]}"


def plain(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
