"""Drives a real worker: its processes, a folder of code for its jobs, and facts to wait for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import redis

from penstock.common.jobs import job_id, new_execution_id, queue_class, queue_name, rq_data
from penstock.common.state import keys
from penstock.common.state.chunks import STATIC, NewJob
from penstock.common.state.store import Store

from .workload import CODE

FactT = TypeVar("FactT")


def until(fact: Callable[[], FactT], what: str, timeout_s: float = 20.0) -> FactT:
    """The first true value of `fact`; fails when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)
    return found


@dataclass
class Execution:
    """Jobs in Redis, as an orchestrator would have put them there."""

    store: Store
    root: str
    digest: str = "d1"
    id: str = field(default_factory=lambda: new_execution_id(time.time_ns() // 1_000_000))

    def submit(self, *jobs: NewJob) -> Execution:
        fields = {"name": "t", "root": self.root, "digest": self.digest, "policy": "continue"}
        self.store.submit(self.id, "d", "{}", {**fields, "ttl_s": 1000, "parallelism": 0})
        for chunk, start in enumerate(range(0, len(jobs), 200)):
            part = jobs[start : start + 200]
            last = start + 200 >= len(jobs)
            assert self.store.extend(self.id, STATIC, chunk, last, part) == "OK"
        return self

    def job(self, name: str) -> dict[str, str]:
        raw: Any = self.store.client.hgetall(keys.job(job_id(self.id, name)))
        return {key.decode(): value.decode("utf-8", "replace") for key, value in raw.items()}

    def status(self, name: str) -> str:
        value: Any = self.store.client.hget(keys.job(job_id(self.id, name)), "status")
        return value.decode() if value else ""

    def ended(self, name: str, timeout_s: float = 20.0) -> dict[str, str]:
        """The job's fields once it has ended."""
        ends = ("finished", "failed", "canceled", "stopped")
        until(lambda: self.status(name) in ends, f"{name} ends ({self.job(name)})", timeout_s)
        return self.job(name)

    def result(self, name: str, timeout_s: float = 20.0) -> Any:
        job = self.ended(name, timeout_s)
        assert job["status"] == "finished", job
        return json.loads(job["result"])

    def error(self, name: str, timeout_s: float = 20.0) -> dict[str, Any]:
        job = self.ended(name, timeout_s)
        assert job["status"] == "failed", job
        found: dict[str, Any] = json.loads(job["error"])
        return found

    def log(self, name: str) -> str:
        raw: Any = self.store.client.get(keys.log(self.id, name))
        return (raw or b"").decode("utf-8", "replace")

    def of_all(self, what: str) -> int:
        """A count of the execution: finished, running, jobs, ..."""
        return int(self.store.execution(self.id).get(what, 0))


def job(name: str, run: str, config: dict[str, Any] | None = None, **fields: Any) -> NewJob:
    """A job that runs `run(**config)`; `needs`, `timeout_s`, `upstreams`, `refs` as fields."""
    class_ = queue_class(tuple(fields.pop("tags", ())))
    upstreams = fields.pop("upstreams", ())
    retries = fields.pop("retries", 0)
    given = {
        "run": run,
        "data": rq_data(run, json.dumps(config or {})),
        "origin": queue_name(class_, 5),
        "timeout": 60,
        "retries": retries,
        "retry": json.dumps({"max": retries, "backoff_s": 0.05, "jitter": 0}),
    }
    return NewJob(name, upstreams, {**given, **fields})


@dataclass
class Worker:
    """A worker: its supervisor, and through it all else."""

    name: str
    supervisor: subprocess.Popen[bytes]
    log: Path
    client: redis.Redis

    @property
    def daemon(self) -> psutil.Process:
        """The daemon that runs now."""
        return until(self._daemon, "the daemon runs")

    def _daemon(self) -> psutil.Process | None:
        for child in psutil.Process(self.supervisor.pid).children():
            with_args = child.cmdline()
            if "penstock.worker.daemon" in with_args:
                return child
        return None

    @property
    def slots(self) -> list[psutil.Process]:
        """The slots that run now."""
        found = []
        for child in self.daemon.children():
            try:
                if "penstock.worker.slot" in child.cmdline():
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all below it."""
        top = psutil.Process(self.supervisor.pid)
        return [top, *top.children(recursive=True)]

    def registered(self) -> str:
        """The node's incarnation in Redis; empty while there is none."""
        value: Any = self.client.hget(keys.node(self.name), "incarnation")
        return value.decode() if value else ""

    def stop(self, timeout_s: float = 15.0) -> int:
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(timeout_s)


@contextmanager
def worker(
    url: str, client: redis.Redis, folder: Path, *options: str, **env: str
) -> Iterator[Worker]:
    """A worker that is registered; afterwards it is stopped, and nothing of it may be left."""
    name = f"w{time.monotonic_ns() % 10**9}"
    log = folder / f"{name}.log"
    command = [sys.executable, "-P", "-m", "penstock.worker.supervisor", "--name", name, *options]
    given = {**os.environ, "PENSTOCK_REDIS_URL": url, "PENSTOCK_DRAIN_S": "1", **env}
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=given)
    found = Worker(name, process, log, client)
    try:
        until(lambda: found.registered() or process.poll() is not None, "the node registers")
        assert process.poll() is None, log.read_text()
        yield found
    except BaseException:
        print(log.read_text())
        raise
    finally:
        left = found.processes() if process.poll() is None else []
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(15)
        finally:
            if process.poll() is None:
                process.kill()
            psutil.wait_procs(left, timeout=5)
            alive = [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
            for orphan in alive:
                orphan.kill()
    assert not alive, f"left behind: {alive}"


class Site:
    """A server, a folder of code, and workers to start."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.url, self.client, self.folder = server.url, server.client, folder
        self.store = Store(server.client)
        self.code = folder / "code"
        self.code.mkdir()
        (self.code / "m.py").write_text(CODE)

    def submit(self, *jobs: Any, root: Path | None = None, digest: str = "d1") -> Execution:
        return Execution(self.store, str(root or self.code), digest).submit(*jobs)

    def worker(self, *options: str, **env: str) -> AbstractContextManager[Worker]:
        return worker(self.url, self.client, self.folder, *options, **env)

    def mark(self, name: str) -> str:
        return str(self.folder / name)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
