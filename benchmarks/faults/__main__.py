"""`python -m benchmarks.faults`, from the root, with tests on the path: see ../README.md."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .. import environments
from . import report
from .configs import CHOSEN, CONFIGS
from .ours import Ours
from .peer import Peer
from .scenarios import SCENARIOS, Run
from .system import Config, System
from .verdict import figures

#: Runs at a time: they wait more than they work.
AT_ONCE = 3


def main() -> None:
    arguments = parse()
    if arguments.one:
        _one(arguments)
        return
    results = run_all(arguments)
    report.save(results)
    print(report.table(results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", default="", help="parts of `scenario:system/config`, by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of injections")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds until all must be done")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--keep", type=Path, help="keep the histories in this folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every scenario on every system, some at a time, each in a process of its own."""
    for peer in {one.system for one in CONFIGS} & environments.REQUIREMENTS.keys():
        environments.python(peer)
    parts = [part for part in arguments.only.split(",") if part]
    names = [f"{scenario}:{one.title}" for scenario in SCENARIOS for one in CONFIGS]
    names = [name for name in names if name.partition(":")[2] in CHOSEN[name.partition(":")[0]]]
    waiting = [name for name in names if not parts or any(part in name for part in parts)]
    results = report.load()
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        while waiting or running:
            while waiting and len(running) < arguments.at_once:
                name = waiting.pop(0)
                out = Path(folder) / f"{name.replace('/', '-').replace(':', '-')}.json"
                running[name] = (_start(name, out, arguments), time.monotonic())
            for name, (process, began) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                out = Path(folder) / f"{name.replace('/', '-').replace(':', '-')}.json"
                if not out.exists():
                    sys.exit(f"{name} ended with {process.returncode} and no result")
                results["rows"][name] = json.loads(out.read_text())
                print(f"{name} in {time.monotonic() - began:.0f} s", flush=True)
            time.sleep(0.1)
    return results


def _start(name: str, out: Path, arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    options = ["--scale", str(arguments.scale), "--limit", str(arguments.limit)]
    options += ["--seed", str(arguments.seed)]
    options += ["--keep", str(arguments.keep)] if arguments.keep else []
    command = [sys.executable, "-m", "benchmarks.faults", "--one", name, "--out", str(out)]
    return subprocess.Popen([*command, *options])


def _one(arguments: argparse.Namespace) -> None:
    """One scenario on one system, in this process."""
    scenario, _, title = arguments.one.partition(":")
    config = next(one for one in CONFIGS if one.title == title)
    body, number, relayed = SCENARIOS[scenario]
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    system = _system(config, folder, relayed)
    injections = max(1, round(number * arguments.scale))
    run = Run(system, injections, arguments.limit, random.Random(arguments.seed))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what was started
    try:
        system.open()
        body(run)
        system.finish()
        history = system.history()
        row = figures(run, history)
    finally:
        system.close()
        if arguments.keep:
            place = arguments.keep / f"{scenario}-{title.replace('/', '-')}"
            shutil.copytree(
                folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock")
            )
        shutil.rmtree(folder, ignore_errors=True)
    row["limit_s"] = arguments.limit
    row["versions"] = report.versions(config.system)
    arguments.out.write_text(json.dumps(row, indent=1))


def _system(config: Config, folder: Path, relayed: bool) -> System:
    kind = Ours if config.system == "penstock" else Peer
    return kind(config, folder, relayed)


if __name__ == "__main__":
    main()
