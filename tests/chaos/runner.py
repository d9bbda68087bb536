"""Runs scenarios one after another and prints what each has shown."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import pkgutil
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penstock.common.tied import tied

from . import scenarios
from .scenario import SCENARIOS, Run, Scenario

Result = dict[str, Any]
TIMES = ("p50_s", "p99_s", "max_s")
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
    share_s = 60 * arguments.minutes * arguments.jobs / len(chosen) if arguments.minutes else None
    if arguments.jobs > 1 and len(chosen) > 1:
        print(f"seed {arguments.seed}", flush=True)
        results = side_by_side(chosen, arguments, share_s)
    else:
        if len(chosen) > 1:
            print(f"seed {arguments.seed}", flush=True)
        results = [run_one(one, arguments, share_s) for one in chosen]
    if not arguments.quiet:
        print()
        print(table(results))
        for result in results:
            show_violations(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(not all(result["passed"] for result in results))


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
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at a time")
    parser.add_argument("--quiet", action="store_true", help="one line a scenario, no table")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    return parser.parse_args(argv)


def choose(only: str) -> list[Scenario]:
    """The scenarios named, or all. Exits on an unknown name."""
    names = [name for name in only.replace(",", " ").split() if name]
    if unknown := [name for name in names if name not in SCENARIOS]:
        sys.exit(f"no scenario {', '.join(unknown)}; known: {', '.join(SCENARIOS)}")
    return [SCENARIOS[name] for name in names] if names else list(SCENARIOS.values())


def run_one(one: Scenario, arguments: argparse.Namespace, share_s: float | None) -> Result:
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
    _clear_line()
    result = judged(run, time.monotonic() - began)
    print(line(result), flush=True)
    return result


def side_by_side(
    chosen: Sequence[Scenario], arguments: argparse.Namespace, share_s: float | None
) -> list[Result]:
    """Runs scenarios in processes of their own, `--jobs` at a time; most of them wait a lot."""
    with tempfile.TemporaryDirectory(prefix="chaos-run-") as folder:
        waiting, running = list(chosen), []
        while waiting or running:
            while waiting and len(running) < arguments.jobs:
                running.append(_start(waiting.pop(0), arguments, share_s, Path(folder)))
            running = [process for process in running if process.poll() is None]
            time.sleep(0.05)
        return [_read_result(one, Path(folder), arguments) for one in chosen]


def _start(
    one: Scenario, arguments: argparse.Namespace, share_s: float | None, folder: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "chaos", "--quiet", "--only", one.name]
    command += ["--seed", str(arguments.seed), "--keep", str(arguments.keep)]
    command += ["--json", str(folder / f"{one.name}.json")]
    command += ["--short"] if arguments.short else []
    command += ["--minutes", str(share_s / 60)] if share_s else []
    return subprocess.Popen(tied(command))


def _read_result(one: Scenario, folder: Path, arguments: argparse.Namespace) -> Result:
    path = folder / f"{one.name}.json"
    if path.exists():
        (result,) = json.loads(path.read_text())
        return result
    run = Run(one, one.full, arguments.seed, arguments.short, arguments.keep)
    run.violated("error", "its process died")
    return judged(run, 0.0)


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


def judged(run: Run, took_s: float) -> Result:
    """All that a run has shown, as JSON."""
    out: Result = {
        "scenario": run.scenario.name,
        "row": run.scenario.row,
        "seed": run.seed,
        "injections": run.count,
        "target": run.target,
        "violations": [str(one) for one in run.violations],
        "recoveries": len(run.recoveries_s),
        "bound_s": run.scenario.bound_s,
        "kept_bounds": keeps_bounds(run),
        "notes": [*told_delays(run), *_told_undone(run), *run.notes],
        "kept": [str(path) for path in run.kept],
        "took_s": round(took_s, 1),
    }
    if run.recoveries_s:
        for name, share in (("p50_s", 0.5), ("p99_s", 0.99), ("max_s", 1.0)):
            out[name] = round(quantile(run.recoveries_s, share), 4)
    reached = run.deadline != float("inf") or run.count >= run.target
    out["passed"] = not run.violations and reached and out["kept_bounds"]
    return out


def keeps_bounds(run: Run) -> bool:
    """p99 keeps them; in the short form, where N is small and the machine CI's, p50."""
    bounds = [(run.recoveries_s, run.scenario.bound_s)]
    bounds += [(run.delays_s.get(name, []), most) for name, most in run.scenario.delays_s.items()]
    share = 0.5 if run.short else 0.99
    return all(
        quantile(values, share) <= bound for values, bound in bounds if values and bound is not None
    )


def told_delays(run: Run) -> list[str]:
    """Those that the scenario bounds, for the notes."""
    out = []
    for name, bound in run.scenario.delays_s.items():
        if values := run.delays_s.get(name, []):
            p99 = quantile(values, 0.99)
            figures = f"p99 {p99:.3f} max {max(values):.3f} of {len(values)}"
            out.append(f"{name} {figures} (bound {bound:g})")
    return out


def _told_undone(run: Run) -> list[str]:
    return [f"Redis lost {run.undone} events in its fsyncs"] if run.undone else []


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def row(result: Result) -> tuple[str, ...]:
    """One line of the table."""
    times = [f"{result[name]:.3f}" if name in result else "-" for name in TIMES]
    notes = [f"{result['recoveries']} recoveries"] if result["recoveries"] else []
    notes += result["notes"]
    if result["injections"] and not result["violations"]:
        notes.append(f"rate < {3 / result['injections']:.2g}")
    bound = "-" if result["bound_s"] is None else f"{result['bound_s']:g}"
    return (
        result["scenario"],
        result["row"],
        f"{result['injections']}/{result['target']}",
        str(len(result["violations"])),
        *times,
        bound if result["kept_bounds"] else f"{bound} MISSED",
        "; ".join(notes),
    )


def line(result: Result) -> str:
    """What is printed when a scenario is done."""
    cells = dict(zip(HEADER, row(result), strict=True))
    times = f"recovery p50 {cells['p50']} p99 {cells['p99']} max {cells['max']} s"
    return (
        f"{'ok  ' if result['passed'] else 'FAIL'} {cells['scenario']} {cells['injections']} "
        f"in {result['took_s']:.0f} s, {cells['violations']} violations, {times}"
    )


def table(results: Sequence[Result]) -> str:
    """All of them; times are seconds."""
    rows = [HEADER, *(row(result) for result in results)]
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    ]
    return "\n".join(lines)


def show_violations(result: Result, most: int = 5) -> None:
    """The first of them, and where the history is."""
    for violation in result["violations"][:most]:
        print(f"\n{result['scenario']} (seed {result['seed']}): {violation}")
    if len(result["violations"]) > most:
        print(f"... and {len(result['violations']) - most} more")
    for place in result["kept"]:
        print(f"history and logs: {place}")
