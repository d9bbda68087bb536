"""Fan-out: the jobs that a template makes, each computed from its index when it is needed.

Nothing is materialised (`axes.py`), so that a million jobs cost what one does.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..handlers import FAN_IN, FAN_OUT, normalise_type
from ..values import named
from .axes import Combinations
from .models import Job
from .placeholders import Opened, as_it_is, as_text, bind, binder, references, resolve, substitute

#: A generated id that is longer than this is cut ...
LONGEST_ID = 128
#: ... to this many characters, of which the last are a digest of the whole id.
CUT_ID = 120

_DIGEST_BYTES = 6
_OUTSIDE = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(slots=True)
class Child:
    """One job of a fan-out; `config` and `command` may still name results of other jobs."""

    index: int
    id: str
    name: str
    run: str | None
    command: str | tuple[str, ...] | None
    config: dict[str, Any]
    parameters: dict[str, Any]
    metadata: dict[str, Any]


class Expansion:
    """The jobs of one fan-out. `over` is the list that its `over:` named, once it is known; `opened` gives what
    an item stands for that is elsewhere.

    Raises InputError where `over` is no list.
    """

    def __init__(self, job: Job, over: list[Any] | None = None, opened: Opened = as_it_is) -> None:
        self.source = job.id
        self._opened = opened
        self.template = job.template
        self._config = binder(job.template.config if job.template else {})
        self._item = job.as_
        self._combinations = Combinations(job)
        self._heads = {axis.name: _OUTSIDE.sub("_", f"_{axis.name}_") for axis in job.parameters}
        #: The number of axes, not of jobs.
        self.parameter_count = len(job.parameters)
        self._is_over = over is not None or job.over is not None
        self._items = over if over is not None else _literal_items(job.over)
        if (about := named(self._items)) is not None:
            raise InputError(
                f"'over' of the fan-out '{job.id}' gave a value that is a file ({about['codec']}); it needs a list"
            )
        if self._items is not None and not isinstance(self._items, list):
            kind = type(self._items).__name__
            raise InputError(f"'over' of the fan-out '{job.id}' gave a {kind}; it needs a list")
        #: The number of jobs.
        self.size = len(self._items or ()) if self._is_over else len(self._combinations)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Child]:
        return map(self.child, range(self.size))

    def parameters(self, index: int) -> dict[str, Any]:
        """The values of job `index` by the name of their axis (or the item under its name)."""
        if not 0 <= index < self.size:
            raise IndexError(f"the fan-out '{self.source}' has no job {index}; it has {self.size}")
        if self._is_over:
            return {self._item: (self._items or [])[index]}
        found: dict[str, Any] = self._combinations[index]
        return found

    def id(self, index: int) -> str:
        """`<source>_<index>_<param>_<value>...`, of `[A-Za-z0-9_-]`, at most 128 characters."""
        return self._id(index, {} if self._is_over else self.parameters(index))

    def _id(self, index: int, parameters: Mapping[str, Any]) -> str:
        plain = f"{self.source}_{index}"
        if not self._is_over:
            for name, value in parameters.items():
                text = str(value) if type(value) is int else _OUTSIDE.sub("_", as_text(value))
                plain += self._heads[name] + text
        if len(plain) <= LONGEST_ID:
            return plain
        tail = hashlib.blake2b(plain.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        kept = max(CUT_ID - len(tail) - 1, len(f"{self.source}_{index}"))  # the index is read back
        return f"{plain[:kept]}_{tail}"

    def child_ids(self, start: int, stop: int) -> list[str]:
        """The ids of the jobs from `start` up to `stop`, as a slice would give them."""
        return [self.id(index) for index in range(self.size)[start:stop]]

    def named(self, index: int) -> dict[str, Any]:
        """`{id, name, parameters}` of job `index`."""
        parameters = self.parameters(index)
        id_ = self._id(index, parameters)
        name = self._name(id_, {"index": index, **parameters})
        return {"id": id_, "name": name, "parameters": parameters}

    def _name(self, id_: str, names: Mapping[str, Any]) -> str:
        pattern = self.template.name_pattern if self.template else None
        return as_text(substitute(pattern, names, final=True)) if pattern else id_

    def child(self, index: int) -> Child:
        """Job `index`, with its axes (or item) filled in."""
        parameters = self.parameters(index)
        id_ = self._id(index, parameters)
        names = {"index": index, **parameters}
        template = self.template
        return Child(
            index,
            id_,
            self._name(id_, names),
            template.run if template else None,
            _command(template.command, names, self._opened) if template else None,
            self._config(names, self._opened),
            parameters,
            {"source_job_id": self.source, "index": index, "parameters": parameters},
        )

    def may_make(self, index: int) -> bool:
        """Whether there is, or may come to be, a job of this index."""
        return index < self.size or (self._is_over and self._items is None)

    def makes(self, job_id: str) -> bool:
        """Whether one of the jobs has this id."""
        index = child_index(self.source, job_id)
        return index is not None and self.may_make(index) and self.id(index) == job_id


def is_fan_out_job(job: Job | Mapping[str, Any]) -> bool:
    """Whether a job, or the mapping that describes one, is a fan-out."""
    return _type(job) == FAN_OUT


def is_fan_in_job(job: Job | Mapping[str, Any]) -> bool:
    """Whether a job, or the mapping that describes one, is a fan-in."""
    return _type(job) == FAN_IN


def generated_job_ids(source: str, ids: Iterable[str]) -> list[str]:
    """Those of the ids that the fan-out `source` made, in the order of their index."""
    found = ((child_index(source, name), name) for name in ids)
    return [name for _, name in sorted((index, name) for index, name in found if index is not None)]


def generate_dynamic_jobs(job: Job, over: list[Any] | None = None) -> list[Child]:
    """All jobs of a fan-out at once; `Expansion` gives them one by one."""
    return list(Expansion(job, over))


def child_index(source: str, job_id: str) -> int | None:
    """The index of a job that the fan-out `source` made; None of an id that is not of that form."""
    match = re.match(r"_(0|[1-9]\d*)(?=_|\Z)", job_id.removeprefix(source))
    return int(match[1]) if match and job_id.startswith(source) else None


def _literal_items(over: Any) -> Any:
    """The items of a list that stands in the workflow itself; None if a job has yet to give it."""
    return resolve(over, {}) if isinstance(over, list) and not references(over) else None


def _command(
    command: str | tuple[str, ...] | None, names: Mapping[str, Any], opened: Opened
) -> str | tuple[str, ...] | None:
    if command is None:
        return None
    if isinstance(command, str):
        return as_text(bind(command, names, opened))
    return tuple(as_text(part) for part in bind(command, names, opened))


def _type(job: Job | Mapping[str, Any]) -> str:
    if isinstance(job, Job):
        return job.type
    kind = job.get("type", job.get("task_type", job.get("taskType", "")))
    return normalise_type(kind) if isinstance(kind, str) else ""
