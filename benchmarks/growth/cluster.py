"""A server, nodes and an orchestrator for the curves, and jobs made without a client's checks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from penstock.common.code import code_root
from penstock.common.jobs import NodeInfo
from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state.chunks import CHUNK, STATIC, NewJob
from penstock.common.state.connection import connect
from penstock.common.state.scripts import Limits
from penstock.common.state.store import Store
from penstock.orchestrator.engine.compiler import static_jobs
from penstock.orchestrator.service import Service
from support.processes import Machines

from ..speed.server import RECOMMENDED, Server

CODE = Path(__file__).resolve().parents[1] / "speed" / "peers"
NODE = "bench"


class Cluster:
    """One server with deploy/redis.conf; what runs on it is the caller's to start."""

    def __init__(self, folder: Path, under: tuple[str, ...] = ()) -> None:
        self.server = Server(folder, RECOMMENDED, under)
        self.url = f"redis://127.0.0.1:{self.server.port}/0"
        self.settings = Settings(redis_url=self.url)
        self.client: Any = connect(self.url)
        self.store = Store(self.client, Limits.of(self.settings))
        self.service = Service(self.store, self.settings)
        self.machines = Machines(self.url, folder)
        self.machines.environment["PENSTOCK_HOME"] = str(folder)
        self.code = code_root(CODE)
        #: what `start` started, by name
        self.processes: dict[str, psutil.Process] = {}

    def close(self) -> None:
        self.machines.close()
        self.server.stop()

    def start(self, slots: int) -> None:
        """An orchestrator and a node."""
        orchestrator = self.machines.orchestrator()
        daemon = self.machines.worker(NODE, "--cpus", str(slots), concurrency=slots)
        self.processes = {"orchestrator": psutil.Process(orchestrator.pid), "daemon": daemon}

    def submit(self, workflow: dict[str, Any]) -> str:
        """A workflow whose functions are known to be there."""
        return self.service.submit(parse_workflow(workflow, {}), code=self.code)

    def run(self, workflow: dict[str, Any]) -> Any:
        """Its result, once it has succeeded."""
        found = self.service.wait(self.submit(workflow), 600.0)
        assert found["status"] == "succeeded", found["status"]
        return found["result"]

    def queue_jobs(self, execution: str, count: int) -> None:
        """Queues no-op jobs of an execution of their own, by the scripts that an orchestrator uses."""
        workflow = parse_workflow(
            {"jobs": [{"id": "j", "run": "work:noop", "config": {"i": 0}}]}, {}
        )
        fields = {"root": self.code.root, "digest": self.code.digest, "policy": "continue"}
        self.store.submit(execution, execution, workflow.to_json(), fields)
        (like,) = static_jobs(execution, workflow)
        numbers = iter(range(count))
        chunk = 0
        while names := [f"j{number}" for number in islice(numbers, CHUNK)]:
            last = names[-1] == f"j{count - 1}"
            jobs: Iterable[NewJob] = (NewJob(name, (), like.fields) for name in names)
            assert self.store.extend(execution, STATIC, chunk, last, jobs) == "OK"
            chunk += 1

    def register(self, name: str, slots: int = 2) -> None:
        """A node that is only a name: whoever calls plays it."""
        totals = {"cpus": float(slots)}
        self.store.register(NodeInfo(name, name, name, 1, ["cpu"], slots, totals, 60.0, "0"))

    def used_memory(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def cpu_s(self) -> float:
        """CPU seconds of the server so far."""
        times = psutil.Process(self.server.process.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def cluster(under: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """A cluster in a temporary folder, which goes with it; its server runs `under` a command."""
    with tempfile.TemporaryDirectory(prefix="growth-", ignore_cleanup_errors=True) as folder:
        it = Cluster(Path(folder), under)
        try:
            yield it
        finally:
            it.close()
