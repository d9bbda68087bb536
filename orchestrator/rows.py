"""What Redis holds, in the shapes that CLI and API show. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..common.errors import ExecutionCanceled, ExecutionFailed
from ..common.jobs import parse_amounts
from ..common.spec.models import Workflow
from ..common.state.states import JOB_TERMINAL

#: the fields of a job that `job_row` reads
JOB_FIELDS = (
    "status",
    "attempt",
    "worker_name",
    "result",
    "error",
    "started_at",
    "ended_at",
    "reason",
    "kind",
    "group",
    "description",
    "origin",
)


@dataclass(frozen=True)
class Living:
    """Who is there: nodes by name (do they beat?), those of them that end, whether any orchestrator
    leads, what is paused (None: all queues), whether whoever asks is starting them itself, and
    whether the server is the private one of this machine."""

    nodes: dict[str, bool]
    draining: frozenset[str]
    orchestrators: bool
    paused: frozenset[str] | None
    hosted: bool
    embedded: bool = False

    def start(self, part: str) -> str:
        """The command that starts a worker or an orchestrator."""
        return "penstock up" if self.embedded else f"penstock {part} start"


def jobs_in_order(
    workflow: Workflow, rows: dict[str, dict[str, str]]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Jobs as the workflow has them, each fan-out's children behind it; those of a session as they came."""
    children: dict[str, list[str]] = {}
    for name, row in rows.items():
        children.setdefault(row["group"], []).append(name)
    if not workflow.jobs:
        yield from ((name, {**row, "type": row["kind"] or "run"}) for name, row in rows.items())
    for name, job in workflow.jobs.items():
        yield name, {**rows.get(name, {}), "type": job.type or job.kind}
        for child in children.get(name, ()):
            yield (
                child,
                {**rows[child], "type": (job.template.type if job.template else "") or "run"},
            )


def job_row(id_: str, row: dict[str, str], unmade: str = "deferred") -> dict[str, Any]:
    """The job `id_` as users see it. `unmade` is the status of one that does not exist yet, or never will."""
    named = row.get("description") or (id_ if row.get("status") else None)
    return {
        "status": row.get("status") or unmade,
        "name": named,
        "type": row["type"],
        "attempt": int(row.get("attempt") or 0),
        "node": row.get("worker_name") or None,
        "result": job_result(row),
        "error": loads(row.get("error", "")),
        "started_at": row.get("started_at") or None,
        "ended_at": row.get("ended_at") or None,
        "reason": row.get("reason") or None,
        "queue": row.get("origin") or None,
        "fan_out": row.get("group") or None,
        "history": [],
    }


def may_have_history(row: dict[str, str]) -> bool:
    """Could an attempt of this job have ended badly? Not where the first one goes on, or went well."""
    attempt = int(row.get("attempt") or 0)
    return attempt > 1 or (attempt == 1 and row["status"] not in ("started", "finished"))


def explain(jobs: dict[str, dict[str, Any]], status: str, living: Living) -> None:
    """Says of jobs that wait without a reason of their own what they wait for."""
    for job in jobs.values():
        job["reason"] = job["reason"] or _waits_for(job, status, living)


def _waits_for(job: dict[str, Any], status: str, living: Living) -> str | None:
    if job["status"] == "deferred" and status == "pending" and not living.orchestrators:
        if living.hosted:
            return "an orchestrator is starting"
        return f"no orchestrator runs; start one: {living.start('orchestrator')}"
    if job["status"] == "queued":
        return _keeps_queued(job["queue"], living)
    if job["status"] == "started" and job["node"] and not living.nodes.get(job["node"]):
        return f"its node {job['node']} is silent"
    if job["status"] == "scheduled" and job["error"]:
        error = f"{job['error'].get('type')}: {job['error'].get('message')}".splitlines()[0]
        return f"attempt {job['attempt']} failed, waits to run again: {error}"
    return None


def _keeps_queued(queue: str, living: Living) -> str | None:
    """What keeps a queue's jobs from starting, other than work before them."""
    beating = {name for name, beats in living.nodes.items() if beats}
    if living.paused is None or queue in living.paused:
        return "its queue is paused; let its jobs start: penstock queue resume"
    if not beating and living.hosted:
        return "a worker is starting"
    if not beating:
        return f"no live worker; start one: {living.start('worker')}"
    if beating <= living.draining:
        return f"all live workers were told to end; start one: {living.start('worker')}"
    return None


def job_result(row: Mapping[str, str]) -> Any:
    return loads(row.get("result", "")) if row.get("status") == "finished" else None


def result_jobs(workflow: Workflow) -> list[str]:
    """The jobs that `execution_result` reads."""
    return list(workflow.outputs or [*workflow.jobs][-1:])


def execution_result(workflow: Workflow, jobs: dict[str, dict[str, Any]]) -> Any:
    if workflow.outputs:
        return {name: jobs[name]["result"] for name in workflow.outputs}
    return jobs[next(reversed(workflow.jobs))]["result"] if workflow.jobs else None


def result_of(found: dict[str, Any]) -> Any:
    """The result of an execution that has ended. Raises ExecutionFailed, ExecutionCanceled."""
    id_ = found["id"]
    if found["status"] == "failed":
        raise ExecutionFailed(f"execution {id_} failed: {_first_error(found)}", execution=id_)
    if found["status"] == "canceled":
        raise ExecutionCanceled(f"execution {id_} was canceled", execution=id_)
    return found["result"]


def _first_error(found: dict[str, Any]) -> str:
    for name, job in found["jobs"].items():
        if job["error"]:
            return f"{name}: {job['error']['type']}: {job['error']['message']}"
    return f"see its jobs: penstock status {found['id']}"


def all_ended(found: dict[str, Any]) -> bool:
    """Have all jobs ended too? After a cancel they follow their execution."""
    return all(
        job["status"] in JOB_TERMINAL or job["attempt"] == 0 for job in found["jobs"].values()
    )


def progress_of(fields: dict[str, str], unmade: int = 0) -> dict[str, Any]:
    """How far an execution is; `unmade` are jobs of its fan-outs that have yet to be made."""
    count = {
        name: int(fields.get(name, 0))
        for name in ("jobs", "finished", "failed", "stopped", "canceled", "running")
    }
    ended = count["finished"] + count["failed"] + count["stopped"] + count["canceled"]
    total = count["jobs"] + unmade
    return {
        "total": total,
        "done": count["finished"],
        "failed": count["failed"] + count["stopped"],
        "running": count["running"],
        "canceled": count["canceled"],
        "fraction": round(ended / total, 4) if total else 0.0,
    }


def node_row(id_: str, silent_ms: int, fields: dict[str, str]) -> dict[str, Any]:
    total, used = parse_amounts(fields.get("resources", "")), parse_amounts(fields.get("used", ""))
    silent = silent_ms > int(fields.get("timeout_ms", 3000))
    return {
        "id": id_,
        "hostname": fields.get("hostname", ""),
        "state": "silent" if silent else fields.get("state", ""),
        "capabilities": fields.get("capabilities", "").split(),
        "concurrency": int(fields.get("concurrency", 0)),
        "running": round(used.get("slots", 0)),
        "cpus": total.get("cpus", 0),
        "gpus": int(total.get("gpus", 0)),
        "ram": int(total.get("ram", 0)),
        "last_beat_s": round(silent_ms / 1000, 3),
        "pid": int(fields.get("pid", 0)),
        "version": fields.get("version", ""),
        "python": fields.get("python", ""),
    }


def queue_row(name: str, counts: list[int], paused: bool) -> dict[str, Any]:
    class_, _, priority = name.rpartition(".p")
    waiting, running, finished, failed = counts
    return {
        "name": name,
        "class": class_,
        "priority": int(priority) if priority.isdigit() else 0,
        "waiting": waiting,
        "running": running,
        "finished": finished,
        "failed": failed,
        "paused": paused,
    }


def loads(text: str) -> Any:
    return json.loads(text) if text else None
