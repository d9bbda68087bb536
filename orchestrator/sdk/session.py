"""One `with cluster:`: an execution that grows by a job with each call of a task."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import redis

from ...common.code import CodeRoot
from ...common.context import waiting
from ...common.errors import (
    ClientGone,
    ExecutionCanceled,
    InputError,
    PenstockError,
    RedisUnavailable,
    ValueFailed,
)
from ...common.jobs import job_id, new_execution_id, rq_data
from ...common.pickles import CLOUDPICKLE
from ...common.spec import models
from ...common.spec.functions import check_functions
from ...common.state.chunks import CHUNK, STATIC, NewJob
from ...common.values import keep_by_content, keep_json_by_content, loads, without_pickles
from ..engine.compiler import Fields, call_fields, setting_fields
from ..engine.sessions import LEFT_OPEN_S
from ..insist import insist
from ..service import Service
from ..submitting import execution_fields
from . import causes, retried
from .arguments import Travelling, Upstream, bound, inline, item_arguments
from .code import found_by, located, program_folder, program_name
from .jobs import CANCELED, Job, JobArray, child_name
from .listener import Listener
from .notebook import redraw, shown
from .options import work_of
from .tasks import Task
from .unmet import Unmet, asks_for
from .workflows import Workflow

log = logging.getLogger("penstock.client")
R = TypeVar("R")

#: what stands for the function of an array, whose jobs its program makes
ARRAY = "penstock:array"
#: jobs whose outcomes are read in one round trip
_PAGE = 5000
#: results that are files are read so many at a time
_READERS = 4
#: characters of a function's name in the names of its jobs
_LONGEST = 60


@dataclass(frozen=True)
class Prepared:
    """What all jobs of a task have alike: `name` begins their names, `settings` are fields, `asks` is
    what they ask of a node."""

    name: str
    asks: str
    run: str
    folder: Path | None
    settings: Fields


class Session:
    """Submits tasks, each when it is called. Opened with the first one; a closed one takes no more.

    `code` finds the code root of a folder. With `id_` it may have been opened before, by an earlier
    attempt of the job `parent`: calls that were made then are not made again. Safe for threads.
    """

    def __init__(
        self,
        service: Service,
        code: Callable[[Path], CodeRoot],
        id_: str = "",
        parent: str = "",
    ):
        #: The id of its execution.
        self.id = id_ or new_execution_id(int(time.time() * 1000))
        #: What it belongs to, which is not given up before it.
        self.cluster: object = None
        self._parent = parent
        self._service, self._store = service, service.store
        self._code = code
        self._root: Path | None = None
        self._prepared: dict[tuple[Any, str], Prepared] = {}
        self._found: list[Prepared] = []
        self._count: Counter[str] = Counter()
        self._chunks = 0
        self._arrays: list[str] = []
        self._lock = threading.Lock()
        self._refused: PenstockError | None = None
        self._readers = ThreadPoolExecutor(_READERS, "penstock-reads")  # has no thread yet
        self._reads: set[Future[None]] = set()
        #: One whose program is not heard of for so long is closed by an orchestrator, seconds.
        self._hold_s = min(service.settings.session_hold_s, LEFT_OPEN_S if parent else math.inf)
        self._unmet = Unmet(self._store, self.id)
        self._listener = Listener(
            service.changes,
            self.id,
            self.outcomes,
            self._unmet.look,
            self._renew,
            renew_s=self._hold_s / 4,
        )

    @property
    def opened(self) -> bool:
        """Whether anything was submitted."""
        return self._root is not None

    # -- what tasks ask for

    def call(self, task: Task[Any, R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job[R]:
        """Submits one job."""
        prepared = self._prepare(task)
        config, upstreams = self._arguments(task, args, kwargs, "")
        with self._lock:
            self._open(prepared)
            job: Job[R] = Job(self, self._next_name(prepared))
            fields = {**prepared.settings, **call_fields(prepared.run, config, None)}
            self._listener.watch(job, submitted=False)
            try:
                self._add(self._new_job(job.name, upstreams, fields))
            except BaseException:
                self._listener.forget(job)
                raise
            self._unmet.submitted(prepared.asks, job.name)
        if self._parent:  # an earlier attempt may have submitted it: its end is not told again
            self._listener.look_soon(job)
        return job

    def map(
        self, task: Task[Any, R], items: Iterable[Any], max_concurrent: int | None
    ) -> JobArray[R]:
        """Submits one job for each item."""
        name = task.function.__name__
        if max_concurrent is not None and max_concurrent < 1:
            raise InputError(f"{name}.map(): max_concurrent is {max_concurrent}; give 1 or more")
        prepared = self._prepare(task)
        calls = self._calls(task, items)
        if not calls:
            raise InputError(f"{name}.map() was given no items: there is nothing to run")
        with self._lock:
            self._open(prepared)
            array = self._next_name(prepared)
            fields: Fields = {"kind": "fan-out", "run": ARRAY, "data": rq_data(ARRAY, "{}")}
            self._add(NewJob(array, (), fields))
            self._arrays.append(array)
            self._fill(array, max_concurrent or 0, prepared, calls)
            ends = child_name(array, 0), child_name(array, len(calls) - 1)
            self._unmet.submitted(prepared.asks, *ends)
        upstreams = dict.fromkeys(name for _, names in calls for name in names)
        return JobArray(self, array, len(calls), list(upstreams))

    def _calls(
        self, task: Task[Any, Any], items: Iterable[Any]
    ) -> list[tuple[dict[str, Any], tuple[str, ...]]]:
        """(arguments by name, upstreams) of each item; all are looked at before any is submitted."""
        if isinstance(items, str | bytes | dict):
            raise InputError(
                f"{task.function.__name__}.map() takes a list of items; this is a {type(items).__name__}"
            )
        if isinstance(items, JobArray) and items.session is self:
            items = [Upstream(name) for name in items.names]
        return [
            self._arguments(task, *item_arguments(item), f"item {index}: ")
            for index, item in enumerate(items)
        ]

    def _arguments(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], where: str
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        name = task.function.__name__
        given = bound(task.function, args, kwargs, where)
        travelling = Travelling(
            lambda job: job.session is self,
            lambda value: keep_by_content(value, self._service.artifacts(), self.id, name),
        )
        for upstream in task.upstreams:
            travelling.wait_for(upstream)
        config = {
            argument: travelling.as_json(value, f"{where}argument {argument!r} of {name}()")
            for argument, value in given.items()
        }
        limit = int(self._service.settings.inline_limit_bytes)
        return inline(config, limit, self._as_file), tuple(travelling.upstreams)

    def _as_file(self, text: bytes) -> dict[str, Any] | None:
        """What stands for a large argument; None where it goes to Redis, as a node might not see the file."""
        files = self._service.artifacts()
        if files is None or not files.shared:
            return None
        try:
            return keep_json_by_content(text, files, self.id, "arguments")
        except ValueFailed as error:
            log.warning("an argument of %d bytes goes to Redis: %s", len(text), error)
            return None

    def _prepare(self, task: Task[Any, Any]) -> Prepared:
        key = task.function, repr(sorted(task.options.items()))
        if key not in self._prepared:
            run, folder = located(task.function)
            if isinstance(task, Workflow) and not isinstance(found_by(task.function), Workflow):
                raise InputError(
                    f"the name {task.function.__qualname__} of {task.function.__module__} is not this "
                    "workflow, and a worker finds it by that: use @workflow above the function"
                )
            work = work_of(task.function.__name__, run, task.options)
            settings = setting_fields(work)
            if work.name_pattern:
                settings["description"] = work.name_pattern
            name = re.sub(r"[^A-Za-z0-9_]", "_", task.function.__name__)[:_LONGEST]
            asks = asks_for(task.function.__name__, task.options)
            self._prepared[key] = Prepared(name, asks, run, folder, settings)
        return self._prepared[key]

    # -- the execution

    def _open(self, prepared: Prepared) -> None:
        """Makes sure that there is an execution, whose nodes find the code of this task."""
        if self._refused:
            raise self._refused
        if self._root is None:
            folder = prepared.folder or program_folder()
            workflow = models.Workflow(id="session", name=program_name())
            fields = execution_fields(workflow, self._code(folder), self._service.settings)
            fields |= {"session": 1, **({"parent": self._parent} if self._parent else {})}
            spec = workflow.to_json()
            insist(
                lambda: self._store.submit(self.id, self.id, spec, fields, compile_s=self._hold_s)
            )
            if self._parent:
                retried.begin_anew(self._store, self.id, self._parent)
            self._root = folder
            self._listener.start()
        elif prepared.folder not in (None, self._root):
            self._check_elsewhere(prepared, self._root)

    def _check_elsewhere(self, prepared: Prepared, root: Path) -> None:
        """A task of another folder than the session's: workers may find it all the same."""
        if prepared in self._found:
            return
        if faults := check_functions({f"@task {prepared.name}": prepared.run}, root):
            raise InputError(
                f"{faults[0]}; the jobs of one `with cluster:` share a folder of code, which is {root} "
                f"for this one: install {prepared.folder} as a package, or submit its tasks in a `with` "
                "of their own"
            )
        self._found.append(prepared)

    def _next_name(self, prepared: Prepared) -> str:
        # A hyphen stands in no function's name, so that no other can come to the same one.
        number = self._count[prepared.name]
        self._count[prepared.name] += 1
        return f"{prepared.name}-{number}"

    def _new_job(
        self, name: str, upstreams: tuple[str, ...], fields: Fields, array: str = ""
    ) -> NewJob:
        """A job as the store takes it; to RQ's tools one of an array depends on that as well."""
        before = (array, *upstreams) if array else upstreams
        if before:
            ids = [job_id(self.id, upstream) for upstream in before]
            fields["dependency_ids"] = json.dumps(ids)
        return NewJob(name, upstreams, fields)

    def _add(self, *jobs: NewJob, last: bool = False) -> None:
        self._extend(STATIC, self._chunks, last, jobs)
        self._chunks += 1

    def _extend(self, stage: str, number: int, last: bool, jobs: Sequence[NewJob]) -> None:
        """Whether a chunk arrived must be known before the next one takes its number or the following."""
        try:
            verdict = insist(lambda: self._store.extend(self.id, stage, number, last, jobs))
        except BaseException as error:
            self._refused = RedisUnavailable(
                f"session {self.id} takes no more: it was cut off while it submitted ({error!r}); "
                "enter `with cluster:` again"
            )
            raise
        if verdict == "OK" or self._made_before(jobs):
            return
        if verdict in ("CLOSED", "RETRYING"):
            self._refused = ExecutionCanceled(
                f"session {self.id} takes no more: it was canceled, or has ended", execution=self.id
            )
        elif self._parent:
            self._refused = self._other_calls(jobs[0].name)
        else:
            self._refused = ClientGone(
                f"session {self.id} takes no more: this program was not heard of for {self._hold_s:g} s "
                "(PENSTOCK_SESSION_HOLD_S), and it was closed; enter `with cluster:` again"
            )
        raise self._refused

    def _made_before(self, jobs: Sequence[NewJob]) -> bool:
        """Whether these jobs are there, by a request that came twice or by an earlier attempt.

        Raises InputError where that made them for other calls.
        """
        fields = ("data", "upstreams")
        rows = self._store.jobs(self.id, [job.name for job in jobs], fields)
        if not all(row["data"] for row in rows):
            return False
        for job, row in zip(jobs, rows, strict=True):
            same = _same_call(row["data"], str(job.fields["data"]))
            if not same or row["upstreams"] != " ".join(job.upstreams):
                self._refused = self._other_calls(job.name)
                raise self._refused
        return True

    def _other_calls(self, name: str) -> InputError:
        return InputError(
            f"workflow {self._parent}: the call that makes {name} is not the one that an earlier attempt "
            "made; a workflow makes the same calls, in the same order, each time"
        )

    def _fill(
        self,
        array: str,
        limit: int,
        prepared: Prepared,
        calls: Sequence[tuple[dict[str, Any], tuple[str, ...]]],
    ) -> None:
        """Makes an array's jobs. One that is cut off fails, and with it what waits for it."""
        about = json.dumps({"job_count": len(calls), "source_job_id": array, "parameter_count": 0})
        try:
            insist(lambda: self._store.open_group(self.id, array, len(calls), limit, 1, about))
            for number, start in enumerate(range(0, len(calls), CHUNK)):
                jobs = [
                    self._new_child(array, index, prepared, *calls[index])
                    for index in range(start, min(start + CHUNK, len(calls)))
                ]
                self._extend(array, number, start + CHUNK >= len(calls), jobs)
        except BaseException as error:
            why = {"type": ClientGone.__name__, "message": repr(error), "traceback": ""}
            self._refused = self._refused or ClientGone(f"{array} was cut off: {error!r}")
            with suppress(
                redis.exceptions.RedisError
            ):  # an orchestrator does it when it closes this
                self._store.fail_control(self.id, array, json.dumps(why))
            raise

    def _new_child(
        self,
        array: str,
        index: int,
        prepared: Prepared,
        config: dict[str, Any],
        upstreams: tuple[str, ...],
    ) -> NewJob:
        fields = {
            **prepared.settings,
            **call_fields(prepared.run, config, None),
            "group": array,
            "meta": json.dumps({"source_job_id": array, "index": index}),
        }
        return self._new_job(child_name(array, index), upstreams, fields, array)

    # -- what jobs ask for

    def watch(self, job: Job[Any]) -> None:
        """The job, which was submitted before, is settled when it has ended."""
        self._listener.watch(job, submitted=True)

    def outcomes(self, names: Sequence[str]) -> list[tuple[str, bytes]]:
        """(status, result or error as JSON) of jobs by name."""
        found: list[tuple[str, bytes]] = []
        for start in range(0, len(names), _PAGE):
            found += self._store.outcomes(self.id, names[start : start + _PAGE])
        canceled = [
            at for at, (status, text) in enumerate(found) if status == CANCELED and not text
        ]
        rows = self._store.jobs(self.id, [names[at] for at in canceled], ("reason",))
        reasons = {
            row["reason"]: causes.explained(self._store, self.id, row["reason"]) for row in rows
        }
        for at, row in zip(canceled, rows, strict=True):
            found[at] = CANCELED, json.dumps({"message": reasons[row["reason"]]}).encode()
        return found

    def in_reader(self, read: Callable[[], None]) -> None:
        """Reads a result that is a file: not in the thread that listens, which would hear nothing meanwhile."""
        self._reads.add(done := self._readers.submit(read))
        done.add_done_callback(self._reads.discard)

    def value_of(self, text: bytes) -> Any:
        """What a job returned, of its result in Redis. Raises ValueFailed, NotFound."""
        return loads(text, self._service.artifacts)

    def log(self, name: str) -> str:
        """What a job has printed."""
        return self._service.log(self.id, name)

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Jobs are waited for in this block: in a job, its slot and cpus serve others meanwhile; in a
        notebook it is shown how they stand."""
        with waiting(), shown(self._store, self.id, self._arrays):
            yield

    # -- the end

    def wait(self) -> None:
        """Waits until all jobs of a closed session have ended, and are settled here."""
        if self.opened:
            with self.waited_for():
                self._service.wait_status(self.id)
            self._listener.look()
            wait(list(self._reads))

    def cancel(self) -> None:
        """Ends all of its jobs."""
        if self.opened:
            self._service.cancel(self.id)

    def stop(self) -> None:
        """Its connections are about to be closed."""
        self._listener.stop()
        self._readers.shutdown(wait=False)

    def _renew(self) -> None:
        self._store.renew_session(self.id, models.DEFAULT_DOMAIN, self._hold_s)

    def close(self) -> None:
        """Takes no more jobs; the execution ends with the last of those that it has."""
        with self._lock:
            self._listener.close()
            if self.opened and not self._refused:
                with suppress(ExecutionCanceled):  # what is asked of its jobs tells
                    self._add(last=True)
                redraw(self.id)
            self._refused = self._refused or InputError(
                "this `with cluster:` has ended; enter it again to submit more"
            )


def _same_call(one: str, other: str) -> bool:
    return one == other or (
        CLOUDPICKLE in one
        and without_pickles(json.loads(one)) == without_pickles(json.loads(other))
    )
