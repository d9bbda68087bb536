"""The keys of a workflow file: each loads in snake_case, in camelCase, and under its aliases."""

from collections.abc import Iterator, Mapping
from typing import Any


class Spelling:
    """Which keys a mapping may have, and the one name that each stands for."""

    def __init__(self, **fields: tuple[str, ...]) -> None:
        self.fields = tuple(fields)
        self._names: dict[str, str] = {}
        self._spellings: dict[str, tuple[str, ...]] = {}
        for field, aliases in fields.items():
            names = [field, *aliases]
            every = tuple(dict.fromkeys([*names, *(camel(name) for name in names)]))
            self._spellings[field] = every
            self._names.update(dict.fromkeys(every, field))

    def canonical(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """The mapping under canonical names; unknown keys stay, null stands for the default.

        Raises ValueError where one field is given under two names.
        """
        named: dict[Any, Any] = {}
        written: dict[str, Any] = {}
        for key, value in data.items():
            field = self._names.get(key)
            if field is None:
                named[key] = value
            elif field in written:
                raise ValueError(f"'{written[field]}' and '{key}' are the same setting; keep one")
            elif value is not None:
                written[field] = key
                named[field] = value
        return named

    def name_of(self, key: Any) -> Any:
        """The canonical name of a key; an unknown key stays."""
        return self._names.get(key, key)

    def given(self, field: str, data: Mapping[Any, Any]) -> bool:
        """Whether a mapping has the field, under any spelling."""
        return any(self.name_of(key) == field for key in data)

    def of(self, field: str) -> tuple[str, ...]:
        """Every spelling of a field."""
        return self._spellings.get(field, ())

    def known(self) -> Iterator[str]:
        """All spellings, for near-name suggestions."""
        return iter(self._names)


def camel(name: str) -> str:
    """`depends_on` -> `dependsOn`."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


_WORK: dict[str, tuple[str, ...]] = {
    "type": ("task_type",),
    "run": (),
    "command": (),
    "config": (),
    "retry": ("retry_config", "max_retries", "retries"),
    "timeout_s": ("timeout",),
    "timeout_ms": (),
    "priority": (),
    "resources": (),
    "capabilities": (),
    "cache": (),
}

RETRY = Spelling(
    max=("max_retries", "retries"),
    backoff_s=("backoff",),
    factor=("backoff_factor",),
    max_delay_s=("max_delay",),
    jitter=(),
    on=(),
    not_on=(),
)
RESOURCES = Spelling(
    cpus=("cpu", "cpus_per_task"),
    gpus=("gpu",),
    ram=("mem", "memory"),
    disk=("storage",),
    bandwidth=("network",),
)
AXIS = Spelling(name=(), values=(), range=())
AGGREGATION = Spelling(
    strategy=(),
    metric_name=(),
    ascending=(),
    k=("top_k",),
    quantiles=(),
    custom_aggregator=(),
    on_failed=("failed_children",),
    min_success=(),
)
STOP_WHEN = Spelling(metric_name=("metric",), at_least=(), at_most=())
TEMPLATE = Spelling(**(_WORK | {"config": ("parameters",), "name_pattern": ()}))
JOB = Spelling(
    **_WORK,
    id=("task_id",),
    name=(),
    depends_on=("dependencies",),
    on_failure=(),
    metadata=(),
    template=(),
    parameters=(),
    over=(),
    as_=("as",),
    combine=(),
    include=(),
    exclude=(),
    max_parallel_jobs=(),
    keep_results=(),
    stop_when=(),
    fan_out_job_id=(),
    aggregation=(),
)
WORKFLOW = Spelling(
    id=("workflow_id",),
    name=(),
    params=("global_parameters",),
    jobs=("tasks",),
    parallelism=("max_parallel_jobs",),
    failure_policy=(),
    domain=(),
    outputs=(),
    parallel_execution=(),
    num_workers=(),
)
_INSIDE = {
    "retry": RETRY,
    "resources": RESOURCES,
    "parameters": AXIS,
    "aggregation": AGGREGATION,
    "stop_when": STOP_WHEN,
    "template": TEMPLATE,
}
_ALL = (JOB, TEMPLATE, WORKFLOW, AGGREGATION, STOP_WHEN, RETRY, RESOURCES, AXIS)
#: Fields that are written in another unit or, on jobs that are no fan-out, under another name.
_STANDS_FOR = {"timeout_s": ("timeout_ms", "timeoutMs"), "config": ("parameters",)}


def spelling_at(path: tuple[str | int, ...]) -> Spelling:
    """The keys of the mapping at a path inside a job: `("template", "retry")` -> RETRY."""
    names = [step for step in path if isinstance(step, str)]
    return _INSIDE.get(names[-1], JOB) if names else JOB


def spellings_of(field: str) -> Iterator[str]:
    """Every spelling of a field, wherever it stands."""
    for spelling in _ALL:
        yield from spelling.of(field)
    yield from _STANDS_FOR.get(field, ())
