"""Turns a workflow into the jobs that Redis holds. Pure: no Redis, no clock.

A fan-out or fan-in is a control job: it never enters a queue, orchestrators do
its work. (A fan-in with a function of the user's is handed to the workers.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...common import retry
from ...common.jobs import format_amounts, job_id, queue_class, queue_name, rq_data
from ...common.jsontext import json_writer
from ...common.spec.expansion import Child
from ...common.spec.models import Job, Retry, Work, Workflow
from ...common.spec.placeholders import references, unescape
from ...common.state.chunks import NewJob

SHELL = "penstock.worker.shell:run"
CUSTOM_FAN_IN = "penstock.worker.fanin:custom"

Fields = dict[str, str | int | float]

_as_json = json_writer()
_AS_USUAL = Retry()


def static_jobs(execution: str, workflow: Workflow) -> Iterator[NewJob]:
    """The jobs that the workflow itself names, in its order; children come with their fan-out."""
    dependents = _dependents(workflow)
    for job in workflow.jobs.values():
        fields = _fields(execution, workflow, job)
        if dependents[job.id]:
            fields["dependents"] = " ".join(dependents[job.id])
        if job.upstreams:
            upstreams = [job_id(execution, name) for name in job.upstreams]
            fields["dependency_ids"] = _as_json(upstreams)
        yield NewJob(job.id, _upstreams(job), fields)


def shared_by_children(source: Job, tolerated: bool) -> Fields:
    """The fields that all jobs of a fan-out have alike. `tolerated`: `tolerates_failures`."""
    template = source.template
    assert template is not None
    return {
        "run": template.run if template.run and template.command is None else SHELL,
        **setting_fields(template),
        "group": source.id,
        **_failure_fields(source, tolerated=tolerated),
    }


def child_job(child: Child) -> NewJob:
    """One job of a fan-out, with the fields of its own; its place in it stands in RQ's `meta`."""
    fields = call_fields(child.run, child.config, child.command)
    del fields["run"]  # which is that of all
    if child.name != child.id:
        fields["description"] = child.name
    fields["meta"] = _as_json(child.metadata)
    return NewJob(child.id, (), fields)


def tolerates_failures(workflow: Workflow, fan_out: str) -> bool:
    """Do all that read this fan-out's children accept that some failed?"""
    readers = [job for job in workflow.jobs.values() if fan_out in job.upstreams]
    return bool(readers) and all(
        job.fan_out_job_id == fan_out and job.aggregation and job.aggregation.on_failed != "fail"
        for job in readers
    )


def _fields(execution: str, workflow: Workflow, job: Job) -> Fields:
    if job.kind == "run":
        fields = {**call_fields(job.run, job.config, job.command), **setting_fields(job)}
    elif job.aggregation and job.aggregation.strategy == "custom":
        call = call_fields(CUSTOM_FAN_IN, {"config": job.config}, None)  # the outputs come later
        fields = {**call, **setting_fields(job), "kind": "fan-in"}
    else:
        fields = {"kind": job.kind, "run": f"penstock:{job.kind}"}
        fields["data"] = rq_data(f"penstock:{job.kind}", "{}")
    if job.name != job.id:
        fields["description"] = job.name
    tolerated = job.kind == "fan-out" and tolerates_failures(workflow, job.id)
    fields.update(_failure_fields(job, tolerated=tolerated))
    return fields


def _failure_fields(job: Job, *, tolerated: bool) -> Fields:
    fields: Fields = {}
    if job.on_failure == "continue":
        fields["on_failure"] = "continue"
    if tolerated:
        fields["tolerated"] = 1
    return fields


def call_fields(
    run: str | None, config: Mapping[str, Any], command: str | tuple[str, ...] | None
) -> Fields:
    """What is called: `run`, RQ's `data`, and the jobs whose results it names."""
    if command is not None:
        run, config = SHELL, {**config, "command": command}
    assert run is not None  # `resolve_functions` saw to it
    text = _as_json(config)
    refs: tuple[str, ...] = ()
    if "${" in text:
        refs = references(config)
        text = text if refs else _as_json(unescape(config))
    fields: Fields = {"run": run, "data": rq_data(run, text)}
    if refs:
        fields["refs"] = " ".join(refs)
    return fields


def setting_fields(work: Work) -> Fields:
    """Where and how it runs."""
    class_ = queue_class(work.capabilities)
    fields: Fields = {"origin": queue_name(class_, work.priority)}
    timeout = max(1, round(work.timeout_s))
    if timeout != retry.DEFAULT_TIMEOUT_S:
        fields["timeout"] = timeout
    if timeout != work.timeout_s:
        fields["timeout_s"] = work.timeout_s
    if work.retry.max != retry.DEFAULT_MAX:
        fields["retries"] = work.retry.max
    needs = format_amounts(work.resources.needs())
    if needs:
        fields["needs"] = needs
    if work.retry != _AS_USUAL:
        fields["retry"] = work.retry.model_dump_json()
    return fields


def _upstreams(job: Job) -> tuple[str, ...]:
    return tuple(name + _mark(job, name) for name in job.upstreams)


def _mark(job: Job, upstream: str) -> str:
    """A fan-in looks at its fan-out's children itself, however they ended."""
    return "?" if upstream == job.fan_out_job_id else ""


def _dependents(workflow: Workflow) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {name: [] for name in workflow.jobs}
    for job in workflow.jobs.values():
        for upstream in job.upstreams:
            dependents[upstream].append(job.id + _mark(job, upstream))
    return dependents
