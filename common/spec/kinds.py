"""What a job of each kind must have, and what it must not."""

from collections.abc import Iterator
from typing import Any

from ..folds import OF_ONE_METRIC
from ..handlers import CONTROL_TYPES, FAN_IN, FAN_OUT
from .axes import axis_faults
from .models import Aggregation, Job, Work
from .placeholders import Placeholder, placeholders
from .places import Path, Problem

#: Fields that say what runs; where one is wrong, the others are not judged.
CODE_FIELDS = frozenset({"type", "run", "command", "template", "aggregation", "fan_out_job_id"})

_LATER = tuple(name for name in CONTROL_TYPES if name not in (FAN_OUT, FAN_IN))
_FAN_OUT_FIELDS = (
    "template",
    "over",
    "combine",
    "include",
    "exclude",
    "max_parallel_jobs",
    "keep_results",
    "stop_when",
)
_FAN_IN_FIELDS = ("fan_out_job_id", "aggregation")


def kind_faults(job: Job, path: Path) -> Iterator[Problem]:
    """What a job of this kind must and must not have."""
    if job.type in _LATER:
        yield (*path, "type"), f"jobs of type '{job.type}' are not run by this version yet"
        return
    if job.kind != "fan-out":
        yield from _misplaced(job, path, _FAN_OUT_FIELDS, FAN_OUT)
    if job.kind != "fan-in":
        yield from _misplaced(job, path, _FAN_IN_FIELDS, FAN_IN)
    if job.kind == "run":
        yield from _work(job, path)
    else:
        yield from _no_code(job, path)
        yield from _fan_out(job, path) if job.kind == "fan-out" else _fan_in(job, path)


def _misplaced(job: Job, path: Path, fields: tuple[str, ...], kind: str) -> Iterator[Problem]:
    for field in fields:
        if getattr(job, field) is not None:
            yield (*path, field), f"belongs to a {kind}; set type: {kind}, or take it out"


def _no_code(job: Job, path: Path) -> Iterator[Problem]:
    way = "put it into its template" if job.kind == "fan-out" else "use aggregation"
    for field in ("run", "command"):
        if getattr(job, field) is not None:
            yield (*path, field), f"a {job.kind} runs no code itself; {way}"


def _work(work: Work, path: Path) -> Iterator[Problem]:
    if work.run and work.command:
        yield (*path, "command"), "run and command exclude each other; keep one"
    elif not (work.run or work.command or work.type):
        message = "is required: run: module:function, command:, or a type with a handler"
        yield (*path, "run"), message


def _fan_out(job: Job, path: Path) -> Iterator[Problem]:
    if job.template is None:
        yield (*path, "template"), "is required; it describes the jobs that the fan-out makes"
    elif job.template.type in CONTROL_TYPES:
        message = f"a fan-out makes jobs that run code, not '{job.template.type}'"
        yield (*path, "template", "type"), message
    else:
        yield from _work(job.template, (*path, "template"))
    if job.config:
        yield (*path, "config"), "belongs into the template of a fan-out"
    if job.over is not None:
        if job.parameters:
            yield (*path, "over"), "parameters and over exclude each other; keep one"
        if not isinstance(job.over, list) and not _is_reference(job.over):
            yield (*path, "over"), "is neither a list nor ${jobs.NAME.result...}"
    yield from axis_faults(job, path)


def _fan_in(job: Job, path: Path) -> Iterator[Problem]:
    if job.aggregation is None:
        yield (*path, "aggregation"), "is required; give it a strategy"
        return
    yield from _aggregation(job.aggregation, (*path, "aggregation"))
    if job.config and job.aggregation.strategy != "custom":
        message = f"is not used by {job.aggregation.strategy}; only a custom_aggregator gets it"
        yield (*path, "config"), message


def _aggregation(aggregation: Aggregation, path: Path) -> Iterator[Problem]:
    strategy = aggregation.strategy
    if strategy in OF_ONE_METRIC and not aggregation.metric_name:
        yield (*path, "metric_name"), f"is required by {strategy}"
    if strategy == "top-k" and aggregation.k is None:
        yield (*path, "k"), "is required by top-k: how many outputs it gives"
    for field, wanted in (("k", "top-k"), ("quantiles", "quantiles")):
        if strategy != wanted and getattr(aggregation, field) is not None:
            yield (*path, field), f"is not used by {strategy}; set strategy: {wanted}"
    if strategy == "custom" and not aggregation.custom_aggregator:
        yield (*path, "custom_aggregator"), "is required by custom; write module:function"
    if strategy != "custom" and aggregation.custom_aggregator:
        yield (*path, "custom_aggregator"), f"is not used by {strategy}; set strategy: custom"
    if aggregation.min_success is not None and aggregation.on_failed == "fail":
        yield (*path, "min_success"), "needs on_failed: skip or on_failed: pass"


def _is_reference(over: Any) -> bool:
    found = list(placeholders(over)) if isinstance(over, str) else []
    return len(found) == 1 and isinstance(found[0][1], Placeholder) and found[0][1].text == over
