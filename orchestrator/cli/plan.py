"""What a workflow would run, worked out without running it: pure functions of a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...common.spec.axes import Combinations
from .app import App
from .graph import Node
from .output import clean, emit, show, write

if TYPE_CHECKING:
    from ...common.spec.models import Job, Workflow


def generated(job: Job) -> int | None:
    """Jobs that a fan-out makes; None where only its run can tell, 0 for other jobs."""
    if job.kind != "fan-out":
        return 0
    if isinstance(job.over, list):
        return len(job.over)
    if job.over is not None:
        return None
    return len(Combinations(job))


def count(workflow: Workflow) -> int | None:
    """All jobs, generated ones included; None where only the run can tell."""
    numbers = [generated(job) for job in workflow.jobs.values()]
    known = [number for number in numbers if number is not None]
    return len(workflow.jobs) + sum(known) if len(known) == len(numbers) else None


def counted(workflow: Workflow) -> str:
    """`21 jobs`, or `3 jobs and those generated as it runs`."""
    number = count(workflow)
    if number is None:
        number = len(workflow.jobs)
        return f"{_jobs(number)} and those generated as it runs"
    return _jobs(number)


def _jobs(number: int) -> str:
    return f"{number} {'job' if number == 1 else 'jobs'}"


def nodes(workflow: Workflow) -> list[Node]:
    """The nodes of the workflow's graph, in the order of its file."""
    upstreams = workflow.dependencies()
    return [Node(id_, job.kind, _note(job), upstreams[id_]) for id_, job in workflow.jobs.items()]


def _note(job: Job) -> str:
    if job.kind == "fan-out":
        number = generated(job)
        return "fan-out" if number is None else f"fan-out of {number}"
    return job.aggregation.strategy if job.aggregation else ""


def show_plan(app: App, workflow: Workflow, slots: int | None) -> None:
    """Prints what a dry run found: the jobs, what they wait for, how many run at once."""
    upstreams = workflow.dependencies()
    if app.json:
        emit(
            {
                "name": workflow.name,
                "total": count(workflow),
                "slots": slots,
                "jobs": {id_: _as_json(job, upstreams[id_]) for id_, job in workflow.jobs.items()},
            }
        )
        return
    from .render import table

    lines = [
        (id_, _what(job), ", ".join(upstreams[id_]) or "-", "+".join(job.capabilities) or "any")
        for id_, job in workflow.jobs.items()
    ]
    at_once = f", {slots} at once" if slots else ""
    write(f"{clean(workflow.name)}: {counted(workflow)}{at_once}; nothing was started")
    show(table(["job", "what", "after", "class"], lines))


def _as_json(job: Job, upstreams: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": job.kind if job.kind != "run" else job.type,
        "run": job.template.run if job.template else job.run,
        "depends_on": list(upstreams),
        "generated": generated(job),
        "capabilities": list((job.template or job).capabilities),
        "priority": (job.template or job).priority,
    }


def _what(job: Job) -> str:
    if job.template:
        number = generated(job)
        return f"{'?' if number is None else number} x {_does(job.template)}"
    return _note(job) or _does(job)


def _does(work: Any) -> str:
    """The function, the command or the type that a job runs."""
    if work.run:
        return str(work.run)
    command = work.command
    if command:
        return command if isinstance(command, str) else " ".join(command)
    return str(work.type)
