"""Runs scenarios one after another and prints what each has shown."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import pkgutil
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import scenarios
from .scenario import SCENARIOS, Run, Scenario

HEADER = ("scenario", "row", "injections", "violations", "p50", "p99", "max", "bound", "notes")


def load() -> None:
    """Imports every module of `scenarios`, each of which registers its own."""
    for module in sorted(pkgutil.iter_modules(scenarios.__path__), key=lambda one: one.name):
        importlib.import_module(f"{scenarios.__name__}.{module.name}")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 1 on any violation, missed bound or missed number."""
    arguments = parse(argv)
    load()
    chosen = choose(arguments.only)
    if arguments.list:
        for one in chosen:
            print(f"{one.name:36} {one.row:6} {one.full:>7} {one.short:>5}")
        return 0
    arguments.keep.mkdir(parents=True, exist_ok=True)
    print(f"seed {arguments.seed}", flush=True)
    share_s = 60 * arguments.minutes / len(chosen) if arguments.minutes else None
    runs = [run_one(one, arguments, share_s) for one in chosen]
    print()
    print(table(runs))
    for run in runs:
        show_violations(run)
    if arguments.json:
        arguments.json.write_text(json.dumps([as_json(run) for run in runs], indent=1) + "\n")
    return int(not all(passed(run) for run in runs))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--only", default="", help="scenarios by name, comma-separated")
    parser.add_argument("--minutes", type=float, help="share so much time among the scenarios")
    parser.add_argument("--short", action="store_true", help="small numbers, as in CI")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path(tempfile.gettempdir()) / "penstock-chaos",
        help="where histories of failed scenarios are kept",
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    return parser.parse_args(argv)


def choose(only: str) -> list[Scenario]:
    """The scenarios named, or all. Exits on an unknown name."""
    names = [name for name in only.replace(",", " ").split() if name]
    if unknown := [name for name in names if name not in SCENARIOS]:
        sys.exit(f"no scenario {', '.join(unknown)}; known: {', '.join(SCENARIOS)}")
    return [SCENARIOS[name] for name in names] if names else list(SCENARIOS.values())


def run_one(one: Scenario, arguments: argparse.Namespace, share_s: float | None) -> Run:
    """Runs a scenario; an error of its own counts as a violation."""
    run = Run(
        one,
        target=one.short if arguments.short else one.full,
        seed=arguments.seed,
        short=arguments.short,
        keep=arguments.keep,
        deadline=time.monotonic() + share_s if share_s else float("inf"),
        progress=_progress(),
    )
    began = time.monotonic()
    try:
        one.body(run)
    except Exception as error:
        traceback.print_exc()
        run.violated("error", f"{type(error).__name__}: {error}")
    run.took_s = time.monotonic() - began
    _clear_line()
    print(line(run), flush=True)
    return run


def _progress() -> Any:
    """Shows how far a scenario is, on a terminal only and twice a second at most."""
    last = 0.0

    def show(run: Run) -> None:
        nonlocal last
        if sys.stdout.isatty() and time.monotonic() - last > 0.5:
            last = time.monotonic()
            print(f"\r{run.scenario.name} {run.count}/{run.target} ", end="", flush=True)

    return show


def _clear_line() -> None:
    if sys.stdout.isatty():
        print("\r\033[K", end="")


def passed(run: Run) -> bool:
    """No violation, the bound kept, and (unless time was up) the number reached."""
    in_time = run.deadline != float("inf") or run.count >= run.target
    return not run.violations and in_time and keeps_bound(run)


def keeps_bound(run: Run) -> bool:
    """p99 keeps it; in the short form, where N is small and the machine CI's, p50."""
    bound = run.scenario.bound_s
    if bound is None or not run.recoveries_s:
        return True
    return quantile(run.recoveries_s, 0.5 if run.short else 0.99) <= bound


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 1).__int__() - 1)]


def row(run: Run) -> tuple[str, ...]:
    """One line of the table."""
    times = ["-"] * 3
    if run.recoveries_s:
        figures = (0.5, 0.99, 1.0)
        times = [f"{quantile(run.recoveries_s, share):.3f}" for share in figures]
    bound = run.scenario.bound_s
    notes = [f"{len(run.recoveries_s)} recoveries"] if run.recoveries_s else []
    notes += run.notes
    if run.count and not run.violations:
        notes.append(f"rate < {3 / run.count:.2g}")
    return (
        run.scenario.name,
        run.scenario.row,
        f"{run.count}/{run.target}",
        str(len(run.violations)),
        *times,
        "-" if bound is None else f"{bound:g}{'' if keeps_bound(run) else ' MISSED'}",
        "; ".join(notes),
    )


def line(run: Run) -> str:
    """What is printed when a scenario is done."""
    cells = dict(zip(HEADER, row(run), strict=True))
    verdict = "ok  " if passed(run) else "FAIL"
    return (
        f"{verdict} {run.scenario.name} {cells['injections']} in {run.took_s:.0f} s, "
        f"{cells['violations']} violations, recovery p50 {cells['p50']} p99 {cells['p99']} "
        f"max {cells['max']} s"
    )


def table(runs: Sequence[Run]) -> str:
    """All of them; times are seconds."""
    rows = [HEADER, *(row(run) for run in runs)]
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    ]
    return "\n".join(lines)


def show_violations(run: Run, most: int = 5) -> None:
    """The first of them, and where the history is."""
    for violation in run.violations[:most]:
        print(f"\n{run.scenario.name} (seed {run.seed}): {violation}")
    if len(run.violations) > most:
        print(f"... and {len(run.violations) - most} more")
    for place in run.kept:
        print(f"history and logs: {place}")


def as_json(run: Run) -> dict[str, Any]:
    """The figures of one run."""
    out: dict[str, Any] = {
        "scenario": run.scenario.name,
        "row": run.scenario.row,
        "seed": run.seed,
        "injections": run.count,
        "target": run.target,
        "violations": [str(one) for one in run.violations],
        "recoveries": len(run.recoveries_s),
        "bound_s": run.scenario.bound_s,
        "passed": passed(run),
        "notes": run.notes,
        "took_s": round(run.took_s, 1),
    }
    with contextlib.suppress(IndexError):
        for name, share in (("p50_s", 0.5), ("p99_s", 0.99), ("max_s", 1.0)):
            out[name] = round(quantile(run.recoveries_s, share), 4)
    return out
