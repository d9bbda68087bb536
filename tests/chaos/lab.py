"""A cluster for one scenario: a Redis of its own, nodes, orchestrators, a client, a recorder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from penstock.common.code import code_root
from penstock.common.jobs import job_id
from penstock.common.settings import Settings
from penstock.common.spec.functions import resolve_functions
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys
from penstock.common.state.store import Store
from penstock.orchestrator.service import Service
from penstock.worker.isolation import is_alive
from support.processes import Machines, until

from .effects import Effects, Running
from .history import Journal, Record, digest
from .node import Node
from .recorder import Recorder
from .server import Server
from .story import EXECUTION_ENDED, TERMINAL
from .workflows import Prepared, describe

CODE = Path(__file__).parent / "code"
#: In the environment of every process of a lab, so that each is found at the end.
MARK = "CHAOS_LAB"
#: Nothing has changed for so long: then it will not any more, seconds.
STUCK_S = 45.0


class Lab:
    """`open` before use, `close` after it; `Run.lab` does both.

    `package` is a folder that holds another `penstock` for the processes of the cluster, `server`
    the arguments of `Server`, `by_arrival` that of `Recorder`; `environment` is for all processes.
    Start processes from the thread that lives as long as they shall (see `tied`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        scenario: str = "",
        package: Path | None = None,
        server: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        by_arrival: bool = False,
        state_ttl_s: float | None = None,
    ) -> None:
        self.folder = folder
        self.scenario = scenario
        self.history = folder / "history"
        self.server = Server(folder, **(server or {}))
        self.by_node: dict[str, Node] = {}
        self.orchestrators: list[subprocess.Popen[bytes]] = []
        self.accepted: list[str] = []
        self._prepared: dict[str, Prepared] = {}
        self._ttl_s = state_ttl_s
        self._by_arrival = by_arrival
        self._environment = {
            MARK: str(folder),
            "CHAOS_EFFECTS": str(self.history / "effects.jsonl"),
            "PENSTOCK_DRAIN_S": "1",
            **(environment or {}),
        }
        if package is not None:
            self._environment["PYTHONPATH"] = str(package)

    def open(self) -> None:
        """Starts the server and the recorder; nodes and orchestrators are the scenario's."""
        self.history.mkdir()
        self.server.start()
        self.machines = Machines(self.server.url, self.folder)
        self.machines.environment.update(self._environment)
        self.machines.environment.pop("PENSTOCK_REDIS_URL")
        for file in CODE.glob("*.py"):
            shutil.copy(file, self.machines.code)
        self.client: Any = self.machines.client
        ttl = {} if self._ttl_s is None else {"state_ttl_s": self._ttl_s}
        settings = Settings(redis_url=self.server.url, **ttl)
        self.service = Service(Store(self.client), settings)
        self.store = self.service.store
        self.code = code_root(self.machines.code)
        self.effects = Effects(self.history / "effects.jsonl")
        self.journal = Journal(self.history, "client")
        self.recorder = Recorder(self.server.url, self.history, by_arrival=self._by_arrival)
        self.recorder.start()

    # -- parts

    def spawn(
        self,
        module: str,
        *options: str,
        name: str,
        url: str | None = None,
        prefix: Sequence[str] = (),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Starts a module of Penstock's as a process; `prefix` goes before its command."""
        command = [*prefix, sys.executable, "-P", "-m", module, *options]
        given = {"PENSTOCK_REDIS_URL": url or self.server.url, **environment}
        return self.machines.spawn(command, name, given)

    def orchestrator(self, **options: Any) -> subprocess.Popen[bytes]:
        """Starts one. Options: `url`, `prefix`, environment."""
        options.setdefault("name", f"o{len(self.orchestrators)}")
        process = self.spawn("penstock.orchestrator.main", **options)
        self.orchestrators.append(process)
        return process

    def orchestrator_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Waits until an orchestrator has begun its work."""
        number = self.machines.started.index(process)
        (log,) = self.folder.glob(f"{number}-*.log")
        until(lambda: "orchestrator_started" in log.read_text(), 60.0, "an orchestrator starts")

    def node(
        self,
        name: str,
        *,
        concurrency: int = 2,
        capabilities: Sequence[str] = (),
        wait: bool = True,
        **options: Any,
    ) -> Node:
        """Starts a node. Options: `url`, `prefix`, environment."""
        words = ["--name", name, "--concurrency", str(concurrency)]
        words += ["--cpus", str(concurrency)]
        if capabilities:
            words += ["--capabilities", ",".join(capabilities)]

        def spawn() -> subprocess.Popen[bytes]:
            return self.spawn("penstock.worker.supervisor", *words, name=name, **options)

        node = self.by_node[name] = Node(name, self.client, spawn)
        if wait:
            node.ready()
        return node

    def nodes(self, count: int, **options: Any) -> list[Node]:
        """Starts nodes n0, n1, ... at once, and waits for all."""
        names = [f"n{len(self.by_node) + i}" for i in range(count)]
        made = [self.node(name, wait=False, **options) for name in names]
        for node in made:
            node.ready()
        return made

    # -- the client

    def prepare(self, workflow: Mapping[str, Any]) -> Prepared:
        """Checks a workflow, once for all times that it is submitted."""
        known = json.dumps(workflow, sort_keys=True)
        if known not in self._prepared:
            loaded = parse_workflow(dict(workflow))
            # One import of our own module is proof enough for all workflows.
            whole = resolve_functions(loaded, self.machines.code, check=not self._prepared)
            self._prepared[known] = Prepared(whole, describe(whole))
        return self._prepared[known]

    def submit(self, workflow: Mapping[str, Any] | Prepared, *, key: str | None = None) -> str:
        """Submits it and notes that it was accepted; the execution's id."""
        prepared = workflow if isinstance(workflow, Prepared) else self.prepare(workflow)
        execution = self.service.submit(prepared.workflow, key=key, code=self.code)
        if execution not in self.accepted:
            self.journal.write("accepted", execution=execution, jobs=prepared.jobs)
            self.accepted.append(execution)
        return execution

    def cancel(self, execution: str) -> str:
        """Cancels it; the acknowledgement is noted when it took effect."""
        status = self.service.cancel(execution)
        if status == "canceled":
            self.journal.write("cancel_acked", execution=execution)
        return status

    def retry(self, execution: str) -> None:
        """`penstock retry --failed`."""
        self.journal.write("resubmitted", execution=execution)
        self.service.retry(execution, failed=True)

    # -- the nemesis

    def fault(
        self, kind: str, target: str, jobs: Iterable[Record] = (), at: float | None = None
    ) -> Record:
        """Notes an injection and the attempts that it hits: dicts of execution, job, attempt."""
        record = {"scenario": self.scenario, "kind": kind, "target": target, "jobs": list(jobs)}
        return self.journal.write("fault", at, **record)

    def running(self) -> list[Running]:
        """The attempts whose code runs now, by their own word."""
        return self.effects.running()

    def recovered(self, *faults: Record) -> bool:
        """Has every attempt that these faults hit ended, or been claimed again?"""
        hits = [hit for fault in faults for hit in fault["jobs"]]
        with self.client.pipeline(transaction=False) as pipe:
            for hit in hits:
                pipe.hmget(keys.job(job_id(hit["execution"], hit["job"])), "status", "attempt")
            rows = pipe.execute() if hits else []
        return all(_is_past(hit, *row) for hit, row in zip(hits, rows, strict=True))

    def await_recovery(self, *faults: Record, timeout_s: float = 30.0) -> bool:
        """Waits for `recovered`; False when it does not come in time."""
        deadline = time.monotonic() + timeout_s
        while not self.recovered(*faults):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    # -- the end

    def open_executions(self, among: Iterable[str] | None = None) -> list[str]:
        """Those (of all accepted) that have not ended with all their jobs."""
        ids = list(self.accepted if among is None else among)
        fields = ("status", "jobs", "finished", "failed", "canceled", "stopped", "retrying")
        out = []
        for start in range(0, len(ids), 1000):
            part = ids[start : start + 1000]
            with self.client.pipeline(transaction=False) as pipe:
                for id_ in part:
                    pipe.hmget(keys.execution(id_), *fields)
                rows = pipe.execute()
            out += [id_ for id_, row in zip(part, rows, strict=True) if not _is_over(row)]
        return out

    def await_ends(self, among: Iterable[str] | None = None, timeout_s: float = 600.0) -> list[str]:
        """Waits until they have ended; returns those that have not when nothing moves any more."""
        left = list(self.accepted if among is None else among)
        deadline, seen, moved = time.monotonic() + timeout_s, -1, time.monotonic()
        while left := self.open_executions(left):
            now = time.monotonic()
            if self.recorder.seen != seen:
                seen, moved = self.recorder.seen, now
            if now > deadline or now - moved > STUCK_S:
                break
            time.sleep(0.02)
        return left

    def finish(self, timeout_s: float = 600.0, *, expired: bool = False) -> list[str]:
        """Waits for all that was accepted, and notes how it ended; returns what did not end.

        With `expired` the executions may be gone by their TTL: then only that is noted.
        """
        left = self.await_ends(timeout_s=timeout_s)
        self.recorder.catch_up()
        for execution in self.accepted:
            self._note_final(execution, expired)
        self.journal.flush()
        return left

    def _note_final(self, execution: str, expired: bool) -> None:
        names = self.store.job_names(execution)
        rows = self.store.jobs(execution, names, ("status", "attempt", "kind", "result"))
        jobs = {name: _final(row) for name, row in zip(names, rows, strict=True)}
        status = self.store.execution(execution).get("status", "")
        if expired and not status:  # read last: its jobs may have gone while they were read
            self.journal.write("final", execution=execution, status="", jobs={}, expired=True)
        else:
            self.journal.write("final", execution=execution, status=status, jobs=jobs)

    def close(self) -> list[str]:
        """Ends everything; says what was left running by the ends of all parts."""
        if not hasattr(self, "recorder"):
            self.server.close()
            return []
        for pid in _marked(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for process in self.machines.started:
            process.terminate()
        for process in self.machines.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
        self.recorder.stop()
        self.journal.close()
        left = self._kill_what_is_left()
        self.machines.close()
        self.server.close()
        return left

    def _kill_what_is_left(self) -> list[str]:
        grace = time.monotonic() + 2.0
        while (pids := _marked(self.folder)) and time.monotonic() < grace:
            time.sleep(0.02)
        texts = []
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                texts.append(f"left running: {pid} {' '.join(process.cmdline())[-120:]}")
                process.kill()
        return texts

    def logs(self) -> str:
        """What all processes printed."""
        return self.machines.logs() if hasattr(self, "machines") else ""


def _is_past(hit: Record, status: bytes | None, attempt: bytes | None) -> bool:
    if status is None:
        return True
    later = int(attempt or 0) > hit["attempt"]
    return status.decode() in TERMINAL or (later and status == b"started")


def _is_over(row: list[bytes | None]) -> bool:
    status, jobs, *ended = row[:6]
    if status is None:
        return True
    counted = sum(int(count or 0) for count in ended)
    return status.decode() in EXECUTION_ENDED and counted >= int(jobs or 0) and not row[6]


def _final(row: dict[str, str]) -> Record:
    out: Record = {"status": row["status"], "attempt": int(row["attempt"] or 0)}
    if row["status"] != "finished" or not row["result"] or row["kind"] == "fan-out":
        return out
    result = json.loads(row["result"])
    out["result"] = digest(result)
    if isinstance(result, dict) and "attempt" in result:
        out["told"] = result["attempt"]
    if isinstance(result, dict) and isinstance(result.get("aggregated_result"), list):
        out["inputs"] = [digest(one) for one in result["aggregated_result"]]
    return out


def _marked(folder: Path) -> list[int]:
    """All processes that live with this lab's mark in their environment, its server's not."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes() and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


__all__ = ["Lab", "Node", "Running", "Server", "until"]
