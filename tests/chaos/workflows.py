"""Workflows of the scenarios, and what a history has to know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock.common.jobs import queue_class
from penstock.common.spec.expansion import Expansion
from penstock.common.spec.models import Job, Workflow

from .history import Record, spec

STEP = "work:step"


@dataclass(frozen=True)
class Prepared:
    """A workflow that was checked once and may be submitted often; `jobs` are its `spec()`s."""

    workflow: Workflow
    jobs: dict[str, Record]


def describe(workflow: Workflow) -> dict[str, Record]:
    """`spec()` of all its jobs by name, those of fan-outs included, in order."""
    out: dict[str, Record] = {}
    for job in workflow.jobs.values():
        upstreams = [_marked(workflow, job, name) for name in job.upstreams]
        out[job.id] = spec(
            upstreams,
            queue_class(job.capabilities),
            retries=job.retry.max,
            collects=job.fan_out_job_id,
            control=job.kind == "fan-out" or (job.kind == "fan-in" and not _custom(job)),
        )
        if job.kind == "fan-out" and job.template is not None:
            class_ = queue_class(job.template.capabilities)
            retries = job.template.retry.max
            expansion = Expansion(job)
            for name in expansion.child_ids(0, len(expansion)):
                out[name] = spec(upstreams, class_, retries=retries, group=job.id)
    return out


def _custom(job: Job) -> bool:
    return job.aggregation is not None and job.aggregation.strategy == "custom"


def _marked(workflow: Workflow, job: Job, upstream: str) -> str:
    tolerant = job.aggregation is not None and job.aggregation.on_failed != "fail"
    any_end = tolerant or workflow.jobs[upstream].on_failure == "continue"
    return f"{upstream}?" if any_end else upstream


# -- shapes


def step(id_: str, *, after: tuple[str, ...] = (), **rest: Any) -> dict[str, Any]:
    """A job that runs `work:step`; what is no field of a job is an argument of it."""
    fields = {"retry", "capabilities", "priority", "timeout", "resources", "on_failure"}
    job = {name: rest.pop(name) for name in list(rest) if name in fields}
    return {"id": id_, "run": STEP, "depends_on": list(after), "config": rest, "retry": 0, **job}


def batch(count: int, **rest: Any) -> dict[str, Any]:
    """Jobs that know nothing of each other."""
    return {"name": "batch", "jobs": [step(f"j{i}", **rest) for i in range(count)]}


def chain(length: int, **rest: Any) -> dict[str, Any]:
    """One after the other."""
    jobs = [step(f"c{i}", after=(f"c{i - 1}",) if i else (), **rest) for i in range(length)]
    return {"name": "chain", "jobs": jobs}


def diamond(width: int, **rest: Any) -> dict[str, Any]:
    """One, then many, then one."""
    middle = [step(f"m{i}", after=("top",), **rest) for i in range(width)]
    end = step("end", after=tuple(job["id"] for job in middle), **rest)
    return {"name": "diamond", "jobs": [step("top", **rest), *middle, end]}


def fan(count: int, *, parallel: int | None = None, **rest: Any) -> dict[str, Any]:
    """A fan-out of `count` and a fan-in that collects all of it."""
    job = step("", **{"retry": 0, **rest})
    template = {"run": STEP, "config": {**job["config"], "value": "${i}"}, "retry": job["retry"]}
    for name in ("capabilities", "priority", "timeout"):
        if name in job:
            template[name] = job[name]
    out = {
        "id": "each",
        "type": "fan-out",
        "template": template,
        "parameters": [{"name": "i", "values": list(range(count))}],
        **({"max_parallel_jobs": parallel} if parallel else {}),
    }
    collect = {
        "id": "all",
        "type": "fan-in",
        "fan_out_job_id": "each",
        "aggregation": {"strategy": "collect-all"},
    }
    return {"name": "fan", "jobs": [out, collect]}
