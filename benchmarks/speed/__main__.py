"""`python -m benchmarks.speed`, from the root, with tests on the path: see ../README.md.

Rounds: in each, every system does one repetition of its workloads, one system after the other, so
that the machine's moods are shared out evenly. W6, which is nearly only waiting, comes last, all
systems at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import environments
from . import report
from .plots import plot
from .server import RECOMMENDED, STOCK, Server

PEERS = Path(__file__).parent / "peers"
WORKLOADS = ("W1", "drain", "W2", "W3", "W4", "W5", "W6")
#: Ours first, so that a run that is ended early has what it is about.
SYSTEMS = ("penstock", "floor", *environments.REQUIREMENTS)
#: Which configurations are on a server as we recommend it, with an AOF; the others have theirs
#: without persistence, which is the fastest there is for them.
RECOMMENDED_FOR = {"penstock/fan-out", "penstock/jobs", "floor/script", "rq/recommended"}


@dataclass(frozen=True)
class Entry:
    """A system in one configuration, and what it is measured by."""

    system: str
    config: str
    workloads: tuple[str, ...]
    settings: str
    versions: dict[str, str]

    @property
    def title(self) -> str:
        return f"{self.system}/{self.config}"

    @property
    def flags(self) -> tuple[str, ...]:
        return RECOMMENDED if self.title in RECOMMENDED_FOR else STOCK


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what was started
    asked = _parse()
    wanted = [name for name in WORKLOADS if not asked.workloads or name in asked.workloads]
    entries = list(_entries([part for part in asked.only.split(",") if part], wanted))
    results = report.load(asked.results)
    for one in entries:
        results["systems"][one.title] = {
            **results["systems"].get(one.title, {}),
            "settings": one.settings,
            "versions": one.versions,
        }
    begun = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        for _ in range(asked.rounds):
            for one in entries:
                live = [name for name in one.workloads if name != "W6"]
                if live:
                    found = _measure(one, live, Path(folder))
                    report.add(results, one.title, found, begun)
                    report.save(results, asked.results)
        for title, found in _restarts(entries, Path(folder)).items():
            report.add(results, title, found, begun)
    report.save(results, asked.results)
    if asked.plots:
        plot(results, asked.results / "speed.png")
    print(report.table(results))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", default="", help="systems, or system/config, by commas")
    parser.add_argument("--workloads", type=lambda text: text.split(","), default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="no matplotlib")
    parser.add_argument("--results", type=Path, default=report.FOLDER, help="the folder for them")
    return parser.parse_args()


def _entries(only: list[str], workloads: list[str]) -> Iterator[Entry]:
    for system in SYSTEMS:
        chosen = [part for part in only if part.partition("/")[0] == system]
        if only and not chosen:
            continue
        said = _run(system, "--describe", environment={})
        about = json.loads(said.splitlines()[-1])
        for config, settings in about["configs"].items():
            mine = tuple(name for name in workloads if name in about["workloads"][config].split())
            if mine and (not only or system in chosen or f"{system}/{config}" in chosen):
                yield Entry(system, config, mine, settings, about["versions"])


def _python(system: str) -> str:
    own = system in environments.REQUIREMENTS
    return str(environments.python(system)) if own else sys.executable


def _command(system: str, *options: str) -> list[str]:
    return [_python(system), str(PEERS / f"peer_{system}.py"), *options]


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "PYTHONPATH": str(PEERS), "PYTHONDONTWRITEBYTECODE": "1", **more}


def _run(system: str, *options: str, environment: dict[str, str]) -> str:
    return subprocess.run(
        _command(system, *options),
        env=_environment(**environment),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@contextmanager
def _started(one: Entry, workloads: list[str], folder: Path) -> Iterator[Measuring]:
    work = Path(tempfile.mkdtemp(prefix=f"{one.system}-{one.config}-", dir=folder))
    server = Server(work, one.flags)
    out = work / "figures.json"
    try:
        environment = _environment(
            BENCH_CONFIG=one.config,
            BENCH_REDIS_PORT=str(server.port),
            BENCH_REDIS_PID=str(server.process.pid),
            BENCH_MARKS=str(work / "marks"),
            BENCH_WORK=str(work),
        )
        options = ["--config", one.config, "--workloads", ",".join(workloads), "--out", str(out)]
        with open(work / "harness.log", "wb") as log:
            process = subprocess.Popen(
                _command(one.system, *options), env=environment, cwd=work, stdout=log, stderr=log
            )
        try:
            yield Measuring(process, out)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    finally:
        server.stop()


@dataclass(frozen=True)
class Measuring:
    """A harness at work, and the file in which its figures will be."""

    process: subprocess.Popen[bytes]
    out: Path

    def figures(self) -> dict[str, Any]:
        self.process.wait()
        if self.out.exists():
            return dict(json.loads(self.out.read_text()))
        log = (self.out.parent / "harness.log").read_text()[-1000:]
        return {"start": {"error": f"the harness died without figures: {log}"}}


def _measure(one: Entry, workloads: list[str], folder: Path) -> dict[str, Any]:
    began = time.monotonic()
    with _started(one, workloads, folder) as measuring:
        found = measuring.figures()
    faults = [f"{name}: {found[name]['error']}" for name in found if "error" in found[name]]
    print(
        f"{one.title} {' '.join(workloads)} in {time.monotonic() - began:.0f} s",
        *faults,
        flush=True,
    )
    return found


def _restarts(entries: list[Entry], folder: Path) -> dict[str, dict[str, Any]]:
    running = {}
    with ExitStack() as stack:
        for one in entries:
            if "W6" in one.workloads:
                running[one.title] = stack.enter_context(_started(one, ["W6"], folder))
                time.sleep(1.0)  # that not all of them start up at once
        found = {title: measuring.figures() for title, measuring in running.items()}
    for title, figures in found.items():
        print(f"{title} W6 {figures.get('W6', figures)}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
