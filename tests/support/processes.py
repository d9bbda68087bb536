"""Real processes on a real server: orchestrators, workers and commands, ended with the test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import redis

from penstock.common.settings import Settings
from penstock.common.state.connection import connect
from penstock.common.state.store import Store
from penstock.common.tied import tied
from penstock.orchestrator.service import Service

from .transitions import transitions

CODE = Path(__file__).parents[1] / "system" / "code"
PENSTOCK = str(Path(sys.executable).with_name("penstock"))


def until(fact: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> Any:
    """Waits for something to be true and returns it; fails when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not (found := fact()):
        assert time.monotonic() < deadline, f"{what or fact} did not come true in {timeout_s} s"
        time.sleep(0.01)
    return found


class Machines:
    """The processes of one cluster on `url`. `folder` takes their logs."""

    def __init__(self, url: str, folder: Path):
        self.url = url
        self.folder = folder
        #: what workflow files are written into: a copy of the system tests' jobs
        self.code = Path(shutil.copytree(CODE, folder / "code"))
        self.client = connect(url)
        self.service = Service(Store(self.client), Settings(redis_url=url))
        self.started: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "PENSTOCK_REDIS_URL": url}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Starts `penstock ARGUMENTS`, tied to the test."""
        return self.spawn([PENSTOCK, *arguments], arguments[0], environment)

    def spawn(
        self, command: list[str], name: str, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Starts a command of this cluster, tied to the test; `name` is its log's."""
        log = open(self.folder / f"{len(self.started)}-{name}.log", "wb")  # noqa: SIM115
        with log:
            process = subprocess.Popen(
                tied(command), stdout=log, stderr=log, env={**self.environment, **environment}
            )
        self.started.append(process)
        return process

    def orchestrator(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Starts an orchestrator."""
        return self.start("orchestrator", "start", *options, **environment)

    def worker(
        self, name: str, *options: str, concurrency: int = 2, **environment: str
    ) -> psutil.Process:
        """Starts a node and returns its daemon's process once it is registered."""
        self.start(
            "worker",
            "start",
            "--name",
            name,
            "--concurrency",
            str(concurrency),
            *options,
            **environment,
        )
        return self.daemon(name)

    def daemon(self, name: str, but: int = 0) -> psutil.Process:
        """The daemon of a node, once one is registered under another pid than `but`."""

        def found() -> psutil.Process | None:
            pids = [node["pid"] for node in self.service.nodes() if node["id"] == name]
            return (
                psutil.Process(pids[0])
                if pids and pids[0] != but and psutil.pid_exists(pids[0])
                else None
            )

        process: psutil.Process = until(found, what=f"node {name}")
        return process

    def slots(self, name: str) -> list[psutil.Process]:
        """The slot processes of a node."""
        return [
            one for one in self.daemon(name).children() if "penstock.worker.slot" in one.cmdline()
        ]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs `penstock ARGUMENTS` to its end."""
        return subprocess.run(
            [PENSTOCK, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            env={**self.environment, **environment},
            check=False,
        )

    def submit(self, file: Path, *options: str) -> str:
        """Submits a file; the execution's id."""
        done = self.run("submit", str(file), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait(self, execution: str, timeout_s: float = 60) -> dict[str, Any]:
        """Waits for its end; everything about it."""
        return self.service.wait(execution, timeout_s)

    def events(self, name: str = "") -> list[dict[str, str]]:
        """Recorded transitions, oldest first, with the time in ms as `ms`."""
        return [row for row in transitions(self.client) if not name or row["event"] == name]

    def close(self) -> None:
        """Ends everything that was started, and all below it."""
        trees = [tree for process in self.started for tree in _tree(process.pid)]
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for left in trees:
            if left.is_running() and left.status() != psutil.STATUS_ZOMBIE:
                left.send_signal(signal.SIGCONT)
                left.kill()
        self.client.close()

    def logs(self) -> str:
        """What the processes printed, for a failing test."""
        return "\n".join(
            f"== {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log"))
        )


def _tree(pid: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def commands_processed(client: redis.Redis) -> int:
    """Commands the server ran so far, those inside scripts counted."""
    stats: Any = client.info("commandstats")
    return sum(row["calls"] for row in stats.values())


def as_yaml(path: Path, workflow: dict[str, Any]) -> Path:
    """Writes a workflow (JSON is YAML)."""
    path.write_text(json.dumps(workflow, indent=1))
    return path
