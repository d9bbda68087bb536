"""What the jobs of a workflow mean to each other: kinds, dependencies, cycles, placeholders."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import Fault
from .drafting import Draft
from .expansion import Expansion
from .graph import cycles
from .kinds import CODE_FIELDS, kind_faults
from .models import Job, Workflow
from .placeholders import Malformed, Placeholder, placeholders
from .places import Path, Problem
from .wording import near_or_all

__all__ = ["CODE_FIELDS", "check", "check_workflow"]

#: Near names are looked for this often; a file may hold thousands of faults.
_MOST_HINTS = 50
#: Where the index of a generated id may stand.
_GENERATED = re.compile(r"_(0|[1-9]\d{0,8})(?=_|$)")


def check_workflow(workflow: Workflow) -> list[Fault]:
    """All faults of a workflow that was built in Python; an empty list if it may run."""
    return workflow.places.faults(check(workflow, map(Draft, workflow.jobs.values())))


def check(workflow: Workflow, drafts: Iterable[Draft]) -> list[Problem]:
    """Faults of single jobs' kinds, and of what the jobs say of each other."""
    return list(_Check(workflow, list(drafts)).problems())


class _Check:
    def __init__(self, workflow: Workflow, drafts: list[Draft]) -> None:
        self.workflow = workflow
        self.drafts = drafts
        self.jobs: Mapping[str, Job] = workflow.jobs
        self.hints = _MOST_HINTS

    def problems(self) -> Iterator[Problem]:
        for draft in self.drafts:
            path: Path = ("jobs", draft.job.id)
            if not draft.bad & CODE_FIELDS:
                yield from kind_faults(draft.job, path)
            yield from self._dependencies(draft.job, path)
            yield from self._source(draft.job, path, draft.bad)
            yield from self._kept(draft.job, path)
            yield from self._placeholders(draft, path)
        for index, name in enumerate(self.workflow.outputs):
            if name not in self.jobs:
                yield ("outputs", index), f"no job '{name}'{self._hint(name)}"
        for ring in cycles(self.workflow.dependencies()):
            more = [f"... ({len(ring)} jobs)"] if len(ring) > _MOST_HINTS else []
            shown = " -> ".join((*ring[:_MOST_HINTS], *more, ring[0]))
            message = f"jobs wait for each other: {shown}; take out one of these dependencies"
            yield ("jobs", ring[0], "depends_on"), message
        yield from _colliding_ids(self.jobs)

    def _hint(self, name: str) -> str:
        self.hints -= 1
        return near_or_all(name, self.jobs) if self.hints > 0 else ""

    def _dependencies(self, job: Job, path: Path) -> Iterator[Problem]:
        for index, name in enumerate(job.depends_on):
            if name not in self.jobs:
                yield (*path, "depends_on", index), f"no job '{name}'{self._hint(name)}"

    def _source(self, job: Job, path: Path, bad: frozenset[str]) -> Iterator[Problem]:
        """A fan-in's fan-out."""
        if job.kind != "fan-in" or "fan_out_job_id" in bad:
            return
        where, source = (*path, "fan_out_job_id"), job.fan_out_job_id
        if source is None:
            yield where, "FANIN_MISSING_SOURCE: is required; name the fan-out that it gathers"
        elif source not in self.jobs:
            fan_outs = [name for name, job in self.jobs.items() if job.kind == "fan-out"]
            hint = near_or_all(source, fan_outs)
            yield where, f"FANIN_MISSING_SOURCE: no job '{source}'{hint}"
        elif self.jobs[source].kind != "fan-out" and not self._is_unsure(source):
            yield where, f"TYPE_MISMATCH: '{source}' is no fan-out; name a job of type fan-out"

    def _kept(self, job: Job, path: Path) -> Iterator[Problem]:
        """Results that a fan-out does not keep, and that a fan-in needs."""
        if job.keep_results is not False:
            return
        for name, reader in self.jobs.items():
            how = reader.aggregation
            if (
                reader.fan_out_job_id == job.id
                and how
                and how.strategy in ("collect-all", "custom")
            ):
                message = (
                    f"'{name}' needs all of them ({how.strategy}); take it out, or change that"
                )
                yield (*path, "keep_results"), message

    def _is_unsure(self, name: str) -> bool:
        return any(draft.job.id == name and "type" in draft.bad for draft in self.drafts)

    def _placeholders(self, draft: Draft, path: Path) -> Iterator[Problem]:
        job = draft.job
        for field in ("config", "command", "over"):
            yield from self._named(getattr(job, field), (*path, field), ())
        template = job.template
        if template and not draft.bad & {"parameters", "over", "as_"}:
            inner = (*path, "template")
            names = _template_names(job)
            yield from self._named(template.config, (*inner, "config"), names)
            yield from self._named(template.command, (*inner, "command"), names)
            where = (*inner, "name_pattern")
            yield from self._named(template.name_pattern, where, names, results=False)

    def _named(
        self, value: Any, path: Path, names: tuple[str, ...], *, results: bool = True
    ) -> Iterator[Problem]:
        for where, found in placeholders(value, path):
            message = (
                str(found) if isinstance(found, Malformed) else self._wrong(found, names, results)
            )
            if message:
                yield where, message

    def _wrong(self, found: Placeholder, names: tuple[str, ...], results: bool) -> str:
        if found.name in names or found.name == "params":
            return ""
        if found.name != "jobs":
            known = (*names, "params", "jobs")
            return f"{found.shown} names nothing{near_or_all(found.name, known)}; $${{ is a literal ${{"
        if not results:
            return f"{found.shown} cannot stand in a name; use parameters and axes"
        if found.job is None:
            return f"{found.shown} names nothing; write ${{jobs.NAME.result}} and a path below it"
        return (
            ""
            if found.job in self.jobs
            else f"{found.shown}: no job '{found.job}'" + self._hint(found.job)
        )


def _template_names(job: Job) -> tuple[str, ...]:
    item = () if job.over is None else (job.as_,)
    return (*(axis.name for axis in job.parameters), *item, "index")


def _colliding_ids(jobs: Mapping[str, Job]) -> Iterator[Problem]:
    """Jobs whose id a fan-out would give to one that it makes."""
    fan_outs = {name: Expansion(job) for name, job in jobs.items() if job.kind == "fan-out"}
    for name, job in jobs.items():
        for match in _GENERATED.finditer(name) if fan_outs else ():
            source, index = fan_outs.get(name[: match.start()]), int(match[1])
            if source is None or not source.may_make(index):
                continue
            made = source.id(index)
            if made == name or (job.kind == "fan-out" and fan_outs[name].makes(made)):
                message = f"'{source.source}' makes a job '{made}' too; rename one of them"
                yield ("jobs", name, "id"), message
