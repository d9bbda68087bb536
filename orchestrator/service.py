"""What can be asked of a cluster: the one layer that CLI, SDK and REST call.

Ids, statuses and field names are those of docs/cli.md; dates are ISO-8601 in
UTC, durations seconds. Nothing here prints, and nothing here runs user code.
"""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from ..common.code import CodeRoot
from ..common.errors import (
    ExecutionFailed,
    InputError,
    NotFound,
    WaitTimeout,
)
from ..common.jobs import job_id
from ..common.settings import Settings
from ..common.spec.expansion import Expansion, child_index
from ..common.spec.models import Workflow
from ..common.spec.placeholders import references
from ..common.state import fanouts, keys
from ..common.state.replies import as_mapping
from ..common.state.states import EXECUTION_TERMINAL, JOB_TERMINAL
from ..common.state.store import Store
from . import nodes, queues
from .audit import audit, repair
from .changes import Changes, Subscription
from .checks import checks
from .deadletter import dead_letters, redrive
from .engine.work import keep, over_of
from .insist import insist, retry
from .rows import (
    JOB_FIELDS,
    all_ended,
    execution_result,
    explain,
    job_result,
    job_row,
    jobs_in_order,
    loads,
    may_have_history,
    progress_of,
    result_jobs,
    result_of,
)
from .submitting import submit

if TYPE_CHECKING:
    from ..common.artifacts import Artifacts
    from ..common.bundles import Bundle

LAST = "last"
#: executions that are looked at in one round trip
PAGE = 100
StateT = TypeVar("StateT")

#: without a message from Redis, an execution is looked at this often, seconds
_LOOK_S = 5.0
#: a lost Redis is tried again this often, and given up after, seconds
_AGAIN_S = 0.2
_LOST_S = 30.0


class Service:
    """Questions and commands about executions, nodes and queues of one cluster."""

    #: a workflow is compiled by whoever submits it; after so long an orchestrator takes over, seconds
    #: (0: it is left to the orchestrators)
    compile_s = 2.0

    def __init__(self, store: Store, settings: Settings):
        self.store = store
        self.settings = settings
        self.changes = Changes(store.client)
        self._workflows: OrderedDict[str, Workflow] = OrderedDict()
        self._artifacts: Artifacts | None = None
        #: does this process start orchestrator and worker itself? Then nobody is told to.
        self.hosted: Callable[[], bool] = lambda: False
        # Any: redis-py types every reply as a union of all it might be.
        self._redis: Any = store.client

    def artifacts(self) -> Artifacts | None:
        """Where values are that do not travel inline. Raises InputError."""
        from ..common.artifacts import artifacts

        if self._artifacts is None:
            self._artifacts = artifacts(self.settings)
        return self._artifacts

    def close(self) -> None:
        """Gives up the connections; a later call makes new ones."""
        self.changes.close()
        self._redis.close()

    # -- executions

    def submit(
        self,
        workflow: Workflow,
        *,
        key: str | None = None,
        code: CodeRoot | None = None,
        bundle: Bundle | None = None,
    ) -> str:
        """Accepts a checked workflow and returns its execution's id; `code` may be in a `bundle`.

        The same `key` with the same workflow gives the same id again. Raises
        Conflict when the key was used for another workflow.
        """
        if bundle:
            self.keep(bundle)
        found = submit(self.store, self.settings, workflow, key or "", code, self.compile_s)
        keep(self._workflows, found, workflow)
        return found

    def keep(self, bundle: Bundle) -> None:
        """Keeps a bundle for as long as an execution is kept, from now on, and from each use."""
        from ..common.bundles import store  # slow to import, and most programs do without

        store(self._redis, bundle, max(1, int(self.settings.state_ttl_s)))
        nodes.tell_of_pythons(self._redis, bundle)

    def execution(self, id_: str) -> dict[str, Any]:
        """All about one execution. Raises NotFound."""
        fields = self._fields(id_)
        workflow = self._workflow(id_)
        # Before its jobs are read: one that is folded meanwhile then counts once at most.
        fan_outs = [name for name, job in workflow.jobs.items() if job.kind == "fan-out"]
        widths = fanouts.widths(self._redis, id_, fan_outs)
        names = self.store.job_names(id_)
        rows = dict(zip(names, self.store.jobs(id_, names, JOB_FIELDS), strict=True))
        ended = fields["status"] in EXECUTION_TERMINAL
        unmade = "canceled" if ended else "deferred"
        jobs = {name: job_row(name, row, unmade) for name, row in jobs_in_order(workflow, rows)}
        uneven = [name for name, row in rows.items() if may_have_history(row)]
        histories = self.store.histories([job_id(id_, name) for name in uneven])
        for name, history in zip(uneven, histories, strict=True):
            jobs[name]["history"] = history
        to_come = sum(width.total - width.made for width in widths if width.total is not None)
        for name, width in zip(fan_outs, widths, strict=True):
            jobs[name] |= {"total": width.total, "folded": width.folded}
        if not ended:
            settings = self.settings
            living = nodes.living(
                self._redis,
                settings.node_timeout_s,
                hosted=self.hosted(),
                embedded=settings.redis_url is None,
            )
            explain(jobs, fields["status"], living)
        return {
            "id": id_,
            "name": fields.get("name", ""),
            "status": fields["status"],
            "created_at": fields.get("created_at"),
            "started_at": fields.get("started_at"),
            "ended_at": fields.get("ended_at"),
            "error": loads(fields.get("error", "")),
            "progress": progress_of(fields, 0 if ended else to_come),
            "jobs": jobs,
            "result": execution_result(workflow, jobs),
        }

    def executions(self, limit: int = 20, inner: bool = False) -> list[dict[str, Any]]:
        """The latest executions, the newest first; with `inner` those too that belong to a job, its `parent`."""
        found = (one for one in self._latest() if inner or "parent" not in one)
        shown = ("id", "name", "status", "created_at", "ended_at", "parent")
        return [
            {**{name: fields.get(name) for name in shown}, "progress": progress_of(fields)}
            for fields in islice(found, limit)
        ]

    def _latest(self) -> Iterator[dict[str, str]]:
        """The fields of all executions, the newest first."""
        start = 0
        while page := self._redis.zrevrange(keys.executions(), start, start + PAGE - 1):
            start += PAGE
            with self._redis.pipeline(transaction=False) as pipe:
                for member in page:
                    pipe.hgetall(keys.execution(member.decode()))
                found = pipe.execute()
            yield from map(as_mapping, filter(None, found))

    def resolve(self, id_or_last: str) -> str:
        """The id itself, or that of the latest execution for `last`. Raises NotFound."""
        if id_or_last != LAST:
            self._fields(id_or_last)
            return id_or_last
        for newest in self.executions(limit=1):
            return str(newest["id"])
        raise NotFound("there is no execution yet; `penstock run FILE` starts one")

    def workflow(self, id_: str) -> Workflow:
        """The workflow of an execution as it was submitted. Raises NotFound."""
        self._fields(id_)
        return self._workflow(id_)

    def _workflow(self, id_: str) -> Workflow:
        workflow = self._workflows.get(id_)
        if workflow is None:
            workflow = Workflow.from_json(self.store.spec(id_))
            keep(self._workflows, id_, workflow)
        return workflow

    def result(self, id_: str, job: str | None = None) -> Any:
        """The result of the execution, or of one job. Raises NotFound, ExecutionFailed,
        ExecutionCanceled, or InputError before there is one."""
        if job is None:
            found = self.execution(id_)
            if found["status"] not in EXECUTION_TERMINAL:
                raise InputError(
                    f"execution {id_} is {found['status']}; `penstock wait {id_}` waits for it"
                )
            return result_of(found)
        self._fields(id_)
        row = self.store.jobs(id_, [job], JOB_FIELDS)[0]
        if not row["status"]:
            raise self._no_job(id_, job)
        if row["status"] != "finished":
            error = loads(row["error"])
            why = f"{error['type']}: {error['message']}" if error else row["reason"]
            text = f"job {job} has no result: it is {row['status']}" + (f" ({why})" if why else "")
            raise (ExecutionFailed if row["status"] in JOB_TERMINAL else InputError)(text)
        return json.loads(row["result"])

    def _no_job(self, id_: str, job: str) -> NotFound:
        for name, source in self._workflow(id_).jobs.items():
            index = child_index(name, job) if source.kind == "fan-out" else None
            if index is not None and "folds" in self.store.group(id_, name):
                return NotFound(
                    f"job {job} of execution {id_} was folded into the fan-ins of {name} when it had "
                    f"finished, or there is none; with `keep_results: true` {name} keeps its jobs"
                )
        return NotFound(f"execution {id_} has no job {job}; `penstock status {id_}` lists them")

    def child_ids(self, id_: str, fan_out: str, start: int, stop: int) -> list[str]:
        """Ids of a fan-out's jobs by index, made on demand. Raises NotFound."""
        job = self.workflow(id_).jobs.get(fan_out)
        if job is None or job.kind != "fan-out":
            raise NotFound(f"execution {id_} has no fan-out {fan_out}")
        over = None
        if job.over is not None:
            over = over_of(job, self.store.results(id_, references(job.over)), self.artifacts)
        # Where it was stopped early, those beyond were never made.
        total = int(self.store.group(id_, fan_out).get("total", stop))
        return Expansion(job, over).child_ids(start, min(stop, total))

    def logs(self, id_: str, job: str | None = None) -> list[tuple[str, str]]:
        """(job, captured output) of all jobs that printed, or of one; of a fan-out those of its jobs.
        Raises NotFound."""
        self._fields(id_)
        names = self.store.job_names(id_)
        if job is not None and job not in names:
            raise self._no_job(id_, job)
        wanted = names if job is None else self._with_children(id_, job, names)
        with self._redis.pipeline(transaction=False) as pipe:
            for name in wanted:
                pipe.get(keys.log(id_, name))
            texts = pipe.execute()
        return [
            (name, text.decode("utf-8", "replace"))
            for name, text in zip(wanted, texts, strict=True)
            if text
        ]

    def _with_children(self, id_: str, job: str, names: Sequence[str]) -> list[str]:
        if self.store.jobs(id_, [job], ("kind",))[0]["kind"] != "fan-out":
            return [job]
        rows = self.store.jobs(id_, names, ("group",))
        return [name for name, row in zip(names, rows, strict=True) if row["group"] == job]

    def log(self, id_: str, job: str) -> str:
        """What one job has printed; empty where there is no such job."""
        text = self._redis.get(keys.log(id_, job)) or b""
        return str(text.decode("utf-8", "replace"))

    def watch(self, id_: str, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Yields `execution(id_)` now and after each change, the terminal one last.

        Changes are told by Redis, never polled for. Raises NotFound, and
        WaitTimeout when `timeout_s` pass first.
        """

        def states(changes: Subscription, left_s: Callable[[], float]) -> Iterator[dict[str, Any]]:
            while True:
                yield self.execution(id_)
                changes.change(left_s())

        for found in self._heard(id_, timeout_s, states):
            yield found
            if found["status"] in EXECUTION_TERMINAL and all_ended(found):
                return

    def wait(self, id_: str, timeout_s: float | None = None) -> dict[str, Any]:
        """Waits for the end and returns `execution(id_)`. Raises as `watch`."""
        self.wait_status(id_, timeout_s)
        return self.execution(id_)

    def wait_status(self, id_: str, timeout_s: float | None = None) -> str:
        """Waits for the end and returns the status. Raises as `watch`."""
        with self._end(id_, timeout_s) as status:
            return status

    def wait_result(self, id_: str, timeout_s: float | None = None) -> Any:
        """Waits for the end and returns the result. Raises as `watch` and `result`."""
        with self._end(id_, timeout_s) as status:  # the result first, then the end of listening
            if status != "succeeded":
                return result_of(self.execution(id_))
            workflow = self._workflow(id_)
            names = result_jobs(workflow)
            rows = zip(names, self.store.jobs(id_, names, ("status", "result")), strict=True)
            results = {name: {"result": job_result(row)} for name, row in rows}
            return execution_result(workflow, results)

    @contextmanager
    def _end(self, id_: str, timeout_s: float | None) -> Iterator[str]:
        def ends(changes: Subscription, left_s: Callable[[], float]) -> Iterator[str]:
            while (status := self._status(id_)) not in EXECUTION_TERMINAL:
                if (told := changes.end(left_s())) is not None:
                    status = told
                    break
            yield status

        with closing(self._heard(id_, timeout_s, ends, keys.ended_channel)) as heard:
            yield next(heard)

    def _heard(
        self,
        id_: str,
        timeout_s: float | None,
        listen: Callable[[Subscription, Callable[[], float]], Iterator[StateT]],
        channel: Callable[[str], str] = keys.channel,
    ) -> Generator[StateT]:
        """Yields what `listen` does, which hears all that `channel` tells; a lost Redis is waited for."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        lost_since = math.inf

        def left_s() -> float:
            left = min(_LOOK_S, deadline - time.monotonic())
            if left <= 0:
                raise WaitTimeout(
                    f"execution {id_} has not ended yet; `penstock wait {id_}` waits on"
                )
            return left

        while True:
            try:
                with self.changes.of(channel(id_)) as changes:
                    for found in listen(changes, left_s):
                        lost_since = math.inf
                        yield found
                return
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                lost_since = min(lost_since, time.monotonic())
                if time.monotonic() >= min(deadline, lost_since + _LOST_S):
                    raise
                time.sleep(_AGAIN_S)

    def pause(self, id_: str) -> str:
        """No more of its jobs start; returns the status. Raises NotFound."""
        return self._control(id_, "pause")

    def resume(self, id_: str) -> str:
        """Undoes `pause`; returns the status. Raises NotFound."""
        return self._control(id_, "resume")

    def cancel(self, id_: str) -> str:
        """Ends it; running jobs are stopped. Returns the status. Raises NotFound."""
        return self._control(id_, "cancel")

    def _control(self, id_: str, verb: str) -> str:
        status = insist(lambda: self.store.control(id_, verb))
        if status == "GONE":
            raise _unknown(id_)
        return status

    def retry(self, id_: str, failed: bool) -> str:
        """With `failed`, runs again in place what did not succeed and returns the same id;
        else submits the same workflow anew and returns the new id. Raises NotFound,
        InputError when there is nothing to retry."""
        fields = self._fields(id_)
        if not failed and "session" in fields:
            raise InputError(
                f"execution {id_} is a session of a Python program: run that again; --failed runs again "
                "what did not succeed of it"
            )
        if not failed:
            code = CodeRoot(fields.get("root", ""), fields.get("digest", ""))
            return self.submit(self.workflow(id_), code=code)
        verdict = retry(self.store, id_, fields["status"])
        if verdict == "GONE":
            raise _unknown(id_)
        if verdict == "SUCCEEDED":
            raise InputError(
                f"execution {id_} succeeded: there is nothing to retry; without --failed it runs anew"
            )
        if verdict == "OPEN":
            raise InputError(
                f"execution {id_} is {fields['status']}: cancel it first, or wait for its end"
            )
        return id_

    def _fields(self, id_: str) -> dict[str, str]:
        fields = self.store.execution(id_)
        if "status" not in fields:
            raise _unknown(id_)
        return fields

    def _status(self, id_: str) -> str:
        status: Any = self._redis.hget(keys.execution(id_), "status")
        if status is None:
            raise _unknown(id_)
        return str(status.decode())

    # -- nodes and queues

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are registered, by name."""
        return nodes.rows(self._redis)

    def await_node(self, timeout_s: float, ask: Callable[[], object]) -> None:
        """Returns when some node is there to take jobs; calls `ask` meanwhile. Raises WaitTimeout."""
        nodes.await_one(self._redis, timeout_s, ask)

    def drain(self, node: str) -> None:
        """Tells a node to finish what runs and to take nothing more. Raises NotFound."""
        if self.store.drain(node) == "GONE":
            raise NotFound(f"there is no node {node}; `penstock worker ls` lists them")

    def queues(self) -> list[dict[str, Any]]:
        """The queues that were ever used, the highest priority first."""
        return queues.rows(self._redis)

    def pause_queues(self, names: Sequence[str] | None = None) -> None:
        """No claims from these queues, or from any (as `rq suspend`). Raises NotFound."""
        queues.pause(self.store, names)

    def resume_queues(self, names: Sequence[str] | None = None) -> None:
        """Undoes `pause_queues`; without names, all of it. Raises NotFound."""
        queues.resume(self.store, names)

    def dead_letter(self, limit: int = 100) -> list[dict[str, Any]]:
        """Jobs that used up their retries or were poison, the latest first, with their `history`."""
        return dead_letters(self.store, limit)

    def redrive(self, id_: str | None = None) -> dict[str, Any]:
        """Runs the dead-letter jobs of one execution again, or all, as `retry` with `failed` does.

        `{"redriven": [{"execution", "jobs"}], "skipped": [{"execution", "reason"}]}`. Raises NotFound.
        """
        if id_ is not None:
            self._fields(id_)
        return redrive(self.store, id_)

    def doctor(self) -> list[dict[str, Any]]:
        """What of the server and the cluster would break the promise; see docs/guarantees.md."""
        found = checks(self._redis, self.nodes(), lambda: audit(self.store))
        return [check.as_dict() for check in found]

    def repair(self) -> list[str]:
        """Mends what cannot go on by itself; returns what was mended, one line each."""
        return [str(finding) for finding in repair(self.store)]


def _unknown(id_: str) -> NotFound:
    return NotFound(f"there is no execution {id_}; `penstock ls` lists them")
