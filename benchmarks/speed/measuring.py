"""The harnesses as processes: each in its system's environment, on a server of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.common.tied import tied

from .. import environments
from .server import RECOMMENDED, STOCK, Server

PEERS = Path(__file__).parent / "peers"
#: A harness is given so long for each of its workloads, in seconds.
WORKLOAD_S = 300.0
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

    def with_workloads(self, workloads: tuple[str, ...]) -> Entry:
        return replace(self, workloads=workloads)


def systems(names: Iterable[str]) -> Iterator[Entry]:
    """All configurations of these systems, as they describe themselves."""
    for system in names:
        command = _command(system, "--describe")
        said = subprocess.run(command, env=_environment(), check=True, stdout=subprocess.PIPE)
        about = json.loads(said.stdout.splitlines()[-1])
        for config, settings in about["configs"].items():
            workloads = tuple(about["workloads"][config].split())
            yield Entry(system, config, workloads, settings, about["versions"])


@dataclass(frozen=True)
class Harness:
    """A harness at work, and the file into which it writes its figures."""

    process: subprocess.Popen[bytes]
    out: Path
    workloads: list[str]

    def figures(self) -> dict[str, Any]:
        """By workload, up to the first that went wrong; at least one."""
        why = "the harness ended"
        limit_s = WORKLOAD_S * len(self.workloads)
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            why = f"nothing came in {limit_s:.0f} s"
        found = dict(json.loads(self.out.read_text())) if self.out.exists() else {}
        missing = [name for name in self.workloads if name not in found]
        if missing and not any("error" in one for one in found.values()):
            log = (self.out.parent / "harness.log").read_text()[-500:]
            found[missing[0]] = {"error": f"{why}: {log}"}
        return found


@contextmanager
def started(one: Entry, workloads: list[str], folder: Path, scale: float) -> Iterator[Harness]:
    """A harness that measures these; it, its server and what it started end with the block."""
    work = Path(tempfile.mkdtemp(prefix=f"{one.system}-{one.config}-", dir=folder))
    server = Server(work, RECOMMENDED if one.title in RECOMMENDED_FOR else STOCK)
    out = work / "figures.json"
    environment = _environment(
        BENCH_CONFIG=one.config,
        BENCH_REDIS_PORT=str(server.port),
        BENCH_REDIS_PID=str(server.process.pid),
        BENCH_MARKS=str(work / "marks"),
        BENCH_WORK=str(work),
        BENCH_SCALE=str(scale),
    )
    options = ["--config", one.config, "--workloads", ",".join(workloads), "--out", str(out)]
    try:
        with open(work / "harness.log", "wb") as log:
            command = tied(_command(one.system, *options))
            process = subprocess.Popen(command, env=environment, cwd=work, stdout=log, stderr=log)
        try:
            yield Harness(process, out, workloads)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    finally:
        server.stop()


def _command(system: str, *options: str) -> list[str]:
    own = system in environments.REQUIREMENTS
    python = str(environments.python(system)) if own else sys.executable
    return [python, str(PEERS / f"peer_{system}.py"), *options]


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "PYTHONPATH": str(PEERS), **more}
