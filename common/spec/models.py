"""The models of a workflow: what a file means, in canonical names, units and types.

Every model takes both spellings of its keys and their aliases (`spelling.py`), refuses unknown
keys, and is frozen. A model checks itself only; what jobs mean to each other is checked in
`validation.py`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from .. import retry as backoff
from ..handlers import FAN_IN, FAN_OUT, normalise_type
from . import fields, spelling
from .placeholders import references
from .places import Places
from .spelling import Spelling
from .wording import short

#: How long a job may run that names no timeout, in seconds.
DEFAULT_PRIORITY = 5
#: Whose orchestrators expand a workflow that names no domain.
DEFAULT_DOMAIN = "default"
#: The name of an item in the template of a fan-out over a list.
DEFAULT_ITEM = "item"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    spelling: ClassVar[Spelling]

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, data: Any) -> Any:
        if isinstance(data, cls):
            return data
        data = cls._expanded(data)
        return cls._adapted(cls.spelling.canonical(data)) if isinstance(data, dict) else data

    @classmethod
    def _expanded(cls, data: Any) -> Any:
        """A short form written out (`retry: 5`)."""
        return data

    @classmethod
    def _adapted(cls, data: dict[Any, Any]) -> dict[Any, Any]:
        """Keys whose meaning depends on others."""
        return data


class Retry(_Model):
    """When a failed attempt runs again. `max` retries are `max + 1` attempts; delays in seconds."""

    spelling = spelling.RETRY

    max: fields.Count = backoff.DEFAULT_MAX
    backoff_s: fields.Delay = backoff.DEFAULT_BACKOFF_S
    factor: fields.Factor = backoff.DEFAULT_FACTOR
    max_delay_s: fields.Delay = backoff.DEFAULT_MAX_DELAY_S
    jitter: fields.Fraction = backoff.DEFAULT_JITTER
    on: fields.ErrorNames = ()
    not_on: fields.ErrorNames = ()

    @classmethod
    def _expanded(cls, data: Any) -> Any:
        if data is False:
            return {"max": 0}
        return {"max": data} if isinstance(data, int) and data is not True else data


class Resources(_Model):
    """What a job takes of a node while it runs; sizes in bytes. Zero is not counted at all."""

    spelling = spelling.RESOURCES

    cpus: fields.Amount = 0.0
    gpus: fields.Count = 0
    ram: fields.Size = 0
    disk: fields.Size = 0
    bandwidth: fields.Amount = 0.0

    def needs(self) -> dict[str, float]:
        """The resources that are asked for, without the zeros."""
        return {name: float(amount) for name, amount in self if amount}


class Axis(_Model):
    """One parameter of a fan-out and the values it takes: a list, or a range of whole numbers."""

    spelling = spelling.AXIS

    name: fields.AxisName
    values: fields.JsonList | None = None
    range: fields.Span | None = None

    @property
    def items(self) -> Sequence[Any]:
        """Its values."""
        return range(*self.range) if self.range else self.values or []

    @classmethod
    def _adapted(cls, data: dict[Any, Any]) -> dict[Any, Any]:
        if "values" in data and "range" in data:
            raise ValueError("'values' and 'range' exclude each other; keep one")
        if "values" not in data and "range" not in data:
            raise ValueError(
                "needs values: a list, or range: a stop, [start, stop] or [start, stop, step]"
            )
        return data


class Aggregation(_Model):
    """How a fan-in makes one result of its children's."""

    spelling = spelling.AGGREGATION

    strategy: fields.StrategyName
    metric_name: fields.Text | None = None
    ascending: bool = False
    k: fields.Positive | None = None
    quantiles: fields.Fractions | None = None
    custom_aggregator: fields.Function | None = None
    on_failed: fields.FailedChildren = "fail"
    min_success: fields.MinSuccess | None = None


class StopWhen(_Model):
    """When a fan-out's other jobs need not run: a child's metric is at least, or at most, so much."""

    spelling = spelling.STOP_WHEN

    metric_name: fields.Travelling
    at_least: fields.Number | None = None
    at_most: fields.Number | None = None

    @classmethod
    def _expanded(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return data
        text = data if isinstance(data, str) else ""
        written = re.fullmatch(r"\s*([^\s<>=][^<>=]*?)\s*(>=|<=)\s*(\S+)\s*", text)
        if not written:
            raise ValueError(f"{short(data)} is not METRIC >= NUMBER or METRIC <= NUMBER")
        metric, sign, bound = written.groups()
        return {"metric_name": metric, "at_least" if sign == ">=" else "at_most": bound}

    @classmethod
    def _adapted(cls, data: dict[Any, Any]) -> dict[Any, Any]:
        if ("at_least" in data) == ("at_most" in data):
            raise ValueError("needs at_least or at_most, and not both")
        return data

    def to_json(self) -> str:
        """As the scripts take it."""
        return self.model_dump_json(exclude_none=True)


class Work(_Model):
    """What runs, and how: shared by jobs and by the template of a fan-out."""

    type: fields.TypeName = ""
    run: fields.Function | None = None
    command: fields.Command | None = None
    config: fields.JsonObject = {}
    retry: Retry = Retry()
    timeout_s: fields.Duration = float(backoff.DEFAULT_TIMEOUT_S)
    priority: fields.Priority = DEFAULT_PRIORITY
    resources: Resources = Resources()
    capabilities: fields.Tags = ()
    cache: fields.Cache = "none"

    @classmethod
    def _adapted(cls, data: dict[Any, Any]) -> dict[Any, Any]:
        if "timeout_ms" in data:
            if "timeout_s" in data:
                raise ValueError("'timeout' and 'timeout_ms' are the same setting; keep one")
            data["timeout_s"] = fields.seconds_of_ms(data.pop("timeout_ms"))
        return data


class Template(Work):
    """The job that a fan-out makes for each combination of its parameters or item of its list."""

    spelling = spelling.TEMPLATE

    name_pattern: fields.Text | None = None


class Job(Work):
    """A node of the workflow: a run, a fan-out (template with axes or a list), or a fan-in."""

    spelling = spelling.JOB

    id: fields.Identifier
    name: fields.Text
    depends_on: fields.Names = ()
    on_failure: fields.OnFailure = "fail"
    metadata: fields.JsonObject = {}
    template: Template | None = None
    parameters: tuple[Axis, ...] = ()
    over: fields.Json = None
    as_: fields.AxisName = DEFAULT_ITEM
    combine: fields.Combine | None = None
    include: tuple[fields.JsonObject, ...] | None = None
    exclude: tuple[fields.JsonObject, ...] | None = None
    max_parallel_jobs: fields.Positive | None = None
    keep_results: bool | None = None
    stop_when: StopWhen | None = None
    fan_out_job_id: fields.Text | None = None
    aggregation: Aggregation | None = None

    @property
    def kind(self) -> Literal["run", "fan-out", "fan-in"]:
        """`run`, `fan-out` or `fan-in`."""
        return "fan-out" if self.type == FAN_OUT else "fan-in" if self.type == FAN_IN else "run"

    # Asked for again and again; a copy keeps them, so it must not change what they are made of.
    @cached_property
    def references(self) -> tuple[str, ...]:
        """Jobs whose results this job (or its template) names, in order."""
        parts: list[Any] = [self.config, self.command, self.over]
        if self.template:
            parts += [self.template.config, self.template.command]
        return references(parts)

    @cached_property
    def upstreams(self) -> tuple[str, ...]:
        """Jobs that must end first: declared, named by reference, and a fan-in's fan-out."""
        source = (self.fan_out_job_id,) if self.fan_out_job_id else ()
        return tuple(dict.fromkeys((*self.depends_on, *self.references, *source)))

    @classmethod
    def _adapted(cls, data: dict[Any, Any]) -> dict[Any, Any]:
        data = super()._adapted(data)
        data.setdefault("name", data.get("id"))
        kind = data.get("type")
        if "parameters" in data and not (isinstance(kind, str) and normalise_type(kind) == FAN_OUT):
            if "config" in data:
                raise ValueError("'parameters' and 'config' are the same here; keep one")
            data["config"] = data.pop("parameters")
        return data


class Workflow(_Model):
    """A DAG of jobs, in the order of its file; at most `parallelism` of them run at once."""

    spelling = spelling.WORKFLOW

    id: fields.Identifier
    name: fields.Text = ""
    params: fields.JsonObject = {}
    jobs: dict[str, Job] = {}
    parallelism: fields.Positive | None = None
    failure_policy: fields.FailurePolicy = "continue"
    domain: fields.Domain = DEFAULT_DOMAIN
    outputs: fields.Names = ()
    parallel_execution: bool | None = None
    num_workers: fields.Workers | None = None

    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where in its file each part stands; empty for a workflow that was not read from one."""
        return self._places

    def placed(self, places: Places) -> Self:
        """The same workflow, which knows where its parts stand."""
        copy = self.model_copy()
        copy._places = places
        return copy

    def dependencies(self) -> dict[str, tuple[str, ...]]:
        """For each job, the jobs that must end before it starts."""
        return {name: job.upstreams for name, job in self.jobs.items()}

    def work(self) -> Iterator[tuple[tuple[str, ...], Work]]:
        """Everything that may name a function to run, with its path: jobs and templates."""
        for name, job in self.jobs.items():
            yield ("jobs", name), job
            if job.template:
                yield ("jobs", name, "template"), job.template

    def to_json(self) -> str:
        """The normalised workflow; what has its default value is left out, and what jobs' keys say."""
        said = self.model_dump(exclude_defaults=True)
        for key, job in said.get("jobs", {}).items():
            if job["name"] == job["id"]:
                del job["name"]
            if job["id"] == key:
                del job["id"]
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The workflow that `to_json` wrote."""
        said = json.loads(text)
        for key, job in said.get("jobs", {}).items():
            job.setdefault("id", key)
        return cls.model_validate(said)
