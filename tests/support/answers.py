"""A service that answers the command line from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from penstock.common.errors import (
    NotFound,
)
from penstock.common.spec.models import Workflow

ID = "0mfk2v9qkabc123"
START = "2026-01-02T03:04:05Z"
WORKFLOW = {
    "id": "sweep",
    "name": "sweep",
    "jobs": {
        "load": {"id": "load", "name": "load", "run": "digits:load"},
        "end": {"id": "end", "name": "end", "run": "digits:end", "depends_on": ["load"]},
    },
}


def execution(status: str = "succeeded", result: Any = None, **jobs: Any) -> dict[str, Any]:
    ended = None if status in ("running", "paused") else "2026-01-02T03:04:07Z"
    return {
        "id": ID,
        "name": "sweep",
        "status": status,
        "created_at": START,
        "started_at": START,
        "ended_at": ended,
        "error": None,
        "progress": {"total": len(jobs), "done": 0, "failed": 0, "running": 0, "canceled": 0},
        "jobs": jobs,
        "result": result,
    }


def job(status: str, **fields: Any) -> dict[str, Any]:
    return {"status": status, "type": "run", "attempt": 1, "node": "n1", **fields}


class FakeService:
    """Answers from `states`, the states that `watch` passes through; notes what it is asked."""

    def __init__(self) -> None:
        self.states: list[Any] = [execution()]
        self.asked: list[Any] = []
        self.printed: list[tuple[str, str]] = []
        self.results: Any = None
        self.steered: str = ""
        self.fault: Exception | None = None
        self.workers: list[dict[str, Any]] = [{"id": "n1", "state": "idle"}]

    def resolve(self, id_: str) -> str:
        if id_ not in ("last", ID):
            raise NotFound(f"there is no execution {id_}; `penstock ls` lists them")
        return ID

    def submit(self, workflow: Workflow, *, key: str | None = None, **_: Any) -> str:
        if self.fault:
            raise self.fault
        self.asked.append(("submit", workflow.name, key))
        return ID

    def watch(self, id_: str, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        while self.states:
            state = self.states.pop(0)
            if isinstance(state, BaseException):
                raise state
            yield state

    def execution(self, id_: str) -> dict[str, Any]:
        return self.states[-1]

    def executions(self, limit: int = 20, inner: bool = False) -> list[dict[str, Any]]:
        return [self.execution(ID)]

    def result(self, id_: str, job: str | None = None) -> Any:
        return self.results

    def artifacts(self) -> None:
        """There is no place for values that are files."""

    def logs(self, id_: str, job: str | None = None) -> list[tuple[str, str]]:
        return self.printed

    def _control(self, verb: str, status: str) -> Callable[[str], str]:
        def control(id_: str) -> str:
            self.asked.append((verb, id_))
            return status

        return control

    def __getattr__(self, name: str) -> Any:
        statuses = {"pause": "paused", "resume": "running", "cancel": "canceled"}
        if name not in statuses:
            raise AttributeError(name)
        return self._control(name, self.steered or statuses[name])

    def retry(self, id_: str, failed: bool) -> str:
        self.asked.append(("retry", id_, failed))
        return id_

    def workflow(self, id_: str) -> Workflow:
        return Workflow.model_validate(WORKFLOW)

    def nodes(self) -> list[dict[str, Any]]:
        return self.workers

    def queues(self) -> list[dict[str, Any]]:
        return [{"name": "any.p5", "class": "any", "priority": 5, "waiting": 3, "paused": False}]

    def drain(self, node: str) -> None:
        self.asked.append(("drain", node))

    def pause_queues(self, names: Any) -> None:
        self.asked.append(("pause_queues", names))

    def resume_queues(self, names: Any) -> None:
        self.asked.append(("resume_queues", names))

    def dead_letter(self, limit: int = 100) -> list[dict[str, Any]]:
        return [{"execution": ID, "job": "load", "attempt": 4}]

    def redrive(self, id_: str | None = None) -> dict[str, Any]:
        self.asked.append(("redrive", id_))
        skipped = [{"execution": "0mfk2v9qkabc124", "reason": "it is running"}]
        return {"redriven": [{"execution": ID, "jobs": ["load"]}], "skipped": skipped}

    def doctor(self) -> list[dict[str, Any]]:
        return [{"check": "aof", "ok": False, "detail": "off", "fix": "set appendonly yes"}]

    def repair(self) -> list[str]:
        self.asked.append(("repair",))
        return ["job x-a: it is in no queue"]


Said = Callable[..., tuple[int, str, str]]
