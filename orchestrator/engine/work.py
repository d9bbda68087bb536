"""What an orchestrator does for one item of the agenda: compile, expand, fan in, expire.

Every one may be done twice, by two orchestrators, or be cut off anywhere: chunks
are numbered, fan-ins settle under a token, and an item stays on the agenda until
it is reported done.
"""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

import redis

from ...common.aggregation import aggregate, collect_outputs
from ...common.errors import AggregationError, InputError, ValueFailed
from ...common.jobs import Token, rq_data
from ...common.outcomes import FINISHED, ChildOutcome
from ...common.spec.expansion import Expansion
from ...common.spec.models import Aggregation, Job, Workflow
from ...common.spec.placeholders import Opened, as_it_is, escape, references, resolve, unescape
from ...common.state.chunks import CHUNK, STATIC, Chunk, NewJob
from ...common.state.store import Store
from ...common.values import Where, keep_json, opened
from . import compiler, folding, sessions
from .verdicts import NotNow, TurnOver, goes_on

log = logging.getLogger("penstock.orchestrator")
KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

#: children whose results are read in one round trip
PAGE = 500
#: jobs of a fan-out named in its result; beyond, its ids are read by page
NAMED_JOBS = 1000
#: executions whose workflow is kept, and fan-outs whose expansion is: a large one is worked on often,
#: and takes some 20 MiB at the limit of a specification
KEPT = 4


class FanOut:
    """A fan-out's jobs, and its result (JSON), which is made when it is asked for first."""

    def __init__(self, job: Job, over: Any = None, opened: Opened = as_it_is):
        self._job = job
        #: when it was first worked on here
        self.began = time.monotonic()
        self.expansion = Expansion(job, over, opened)

    @cached_property
    def output(self) -> str:
        return json.dumps(fan_out_output(self._job, self.expansion))


class Engine:
    """Carries out agenda items against one store. `window` is the most jobs of a fan-out
    that exist and have not ended; `name` is who takes a fan-in, for the events. `files` has what is too
    large for Redis: results of more than `inline_limit` bytes."""

    def __init__(
        self,
        store: Store,
        window: int,
        name: str,
        files: Where = lambda: None,
        inline_limit: int = 0,
    ):
        self._files, self._inline_limit = files, inline_limit
        self._store = store
        self._window = window
        self._chunk = min(CHUNK, window)  # jobs of a fan-out that are made at a time
        self._fold_after = max(1, window // self._chunk // 2)  # so many chunks
        self._name = name
        self._begun = 0.0
        self._workflows: OrderedDict[str, Workflow] = OrderedDict()
        self._last_over: tuple[tuple[str, str, dict[str, bytes]], FanOut] | None = None
        self._fan_outs: OrderedDict[tuple[str, str], FanOut] = OrderedDict()

    def perform(
        self,
        item: str,
        go_on: Callable[[], None] = lambda: None,
        is_turn_over: Callable[[float], bool] = lambda preparing_s: False,
    ) -> None:
        """Does one item to its end, or as far as it can be done now.

        Calls `go_on` now and then, to show that it is still at it. Faults of the
        user's end its job. Raises NotNow, and TurnOver where there is more to do when
        `is_turn_over`, which is told how many seconds it took to prepare the item.
        """
        self._begun = time.monotonic()
        verb, execution, job = _parts(item)
        if verb == "expire":
            return self._expire(execution, go_on, is_turn_over)
        workflow = self._workflow(execution)
        go_on()
        try:
            if workflow is None:
                return
            elif verb == "compile":
                self._compile(execution, workflow, go_on)
            elif job not in workflow.jobs:
                sessions.open_array(self._store, execution, job)
            elif verb == "expand":
                self._expand(execution, workflow.jobs[job], workflow, go_on, is_turn_over)
            else:
                self._fan_in(execution, workflow.jobs[job], workflow, go_on)
        except (InputError, AggregationError) as error:
            self.give_up(item, error)

    def give_up(self, item: str, error: Exception) -> None:
        """Ends the job (or, before it is compiled, the execution) that an item cannot be done for."""
        verb, execution, job = _parts(item)
        if verb != "expire":
            self._store.fail_control(execution, "" if verb == "compile" else job, _as_json(error))

    def _workflow(self, execution: str) -> Workflow | None:
        if execution not in self._workflows:
            text = self._store.spec(execution)
            if not text:
                return None
            keep(self._workflows, execution, Workflow.from_json(text))
        return self._workflows[execution]

    def _compile(self, execution: str, workflow: Workflow, go_on: Callable[[], None]) -> None:
        if not workflow.jobs:
            return sessions.close(self._store, execution, go_on)
        with closing(
            self._store.extend_each(execution, static_chunks(execution, workflow))
        ) as verdicts:
            for verdict in verdicts:
                if not goes_on(verdict):
                    return
                go_on()

    # -- fan-out

    def _fan_out(self, execution: str, job: Job) -> FanOut:
        if job.over is not None:
            return self._fan_out_over(execution, job)
        place = (execution, job.id)
        if place not in self._fan_outs:
            keep(self._fan_outs, place, FanOut(job))
        return self._fan_outs[place]

    def _fan_out_over(self, execution: str, job: Job) -> FanOut:
        """The last one stays, while the results that it runs over do: its list may be a large file."""
        found = self._store.results(execution, references(job.over))
        place = (execution, job.id, found)
        if self._last_over is None or self._last_over[0] != place:
            over = over_of(job, found, self._files)
            made = FanOut(job, over, lambda one: opened(one, self._files))
            self._last_over = (place, made)
        return self._last_over[1]

    def _expand(
        self,
        execution: str,
        job: Job,
        workflow: Workflow,
        go_on: Callable[[], None],
        is_turn_over: Callable[[float], bool],
    ) -> None:
        fan_out = self._fan_out(execution, job)
        expansion, limit = fan_out.expansion, job.max_parallel_jobs or 0
        tolerated = compiler.tolerates_failures(workflow, job.id)
        shared = compiler.shared_by_children(job, tolerated)
        readers = folding.folding_readers(workflow, job, len(expansion))
        verdict, created, chunk, settled = self._store.open_group(
            execution,
            job.id,
            len(expansion),
            limit,
            self._window,
            fan_out.output,
            folds=readers is not None,
            stop_when=job.stop_when.to_json() if job.stop_when else "",
        )
        if verdict != "OK":
            return
        preparing_s = time.monotonic() - self._begun
        if created == 0:
            outcome = "FANOUT_START" if len(expansion) else "FANOUT_NO_JOBS"
            _tell("FAN-OUT", execution, job, outcome, jobs=len(expansion))

        def fold(number: int) -> None:
            if readers is not None and number and number % self._fold_after == 0:
                folding.fold(self._store, execution, job, readers, go_on)

        while created < len(expansion) and created - settled < self._window:
            chunks = self._child_chunks(expansion, created, settled + self._window, chunk, fold)
            with closing(self._store.extend_each(execution, chunks, shared)) as verdicts:
                for verdict in verdicts:
                    if not goes_on(verdict):
                        return
                    go_on()
                    if verdict != "OK":  # another made this chunk
                        break
                    created += self._chunk
                    if created < len(expansion) and is_turn_over(preparing_s):
                        raise TurnOver
            group = self._store.group(execution, job.id)
            created, chunk = int(group["created"]), int(group["created_chunks"])
            settled = int(group["settled"])
        if created == len(expansion):
            _tell(
                "FAN-OUT",
                execution,
                job,
                "FANOUT_COMPLETE",
                jobs=created,
                ms=_ms_since(fan_out.began),
            )

    def _child_chunks(
        self,
        expansion: Expansion,
        start: int,
        stop: int,
        number: int,
        before: Callable[[int], None],
    ) -> Iterator[Chunk]:
        """Children from `start` until `stop` is reached, chunk by chunk; `before` is called with the number of each."""
        stop = min(stop, len(expansion))
        while start < stop:
            before(number)
            end = min(start + self._chunk, len(expansion))
            jobs = list(_children(expansion, start, end))
            yield Chunk(expansion.source, number, end == len(expansion), jobs)
            start, number = end, number + 1

    # -- fan-in

    def _fan_in(
        self, execution: str, job: Job, workflow: Workflow, go_on: Callable[[], None]
    ) -> None:
        assert job.aggregation is not None
        assert job.fan_out_job_id is not None
        began = time.monotonic()
        total = int(self._store.group(execution, job.fan_out_job_id).get("total", 0))
        _tell("FAN-IN", execution, job, "FANIN_START", jobs=total)
        expansion: Expansion | None = None
        children: Iterator[ChildOutcome] = iter(())
        if total:
            expansion = self._fan_out(execution, workflow.jobs[job.fan_out_job_id]).expansion
            children = self._outcomes(execution, expansion, go_on)
        else:
            self._check_it_ran(execution, job.fan_out_job_id)
        if job.aggregation.strategy == "custom":
            with _naming(expansion):
                self._hand_over(execution, job, job.aggregation, children)
        elif not self._aggregate(execution, job, expansion, children, go_on):
            return
        _tell("FAN-IN", execution, job, "FANIN_COMPLETE", jobs=total, ms=_ms_since(began))

    def _check_it_ran(self, execution: str, fan_out: str) -> None:
        """Raises AggregationError where a fan-out has no jobs because something before it went wrong."""
        (row,) = self._store.jobs(execution, [fan_out], ("status", "reason", "error"))
        if row["status"] != FINISHED:
            error = json.loads(row["error"]) if row["error"] else {}
            why = row["reason"] or error.get("message") or row["status"]
            raise AggregationError("FANIN_NO_RESULTS", f"{fan_out} made no jobs: {why}")

    def _aggregate(
        self,
        execution: str,
        job: Job,
        expansion: Expansion | None,
        children: Iterator[ChildOutcome],
        go_on: Callable[[], None],
    ) -> bool:
        """Did it go well? False, too, where another takes it."""
        how = job.aggregation
        assert how is not None
        token = self._store.start_control(execution, job.id, f"{uuid4().hex}.0", self._name)
        if token is None:
            return False
        try:
            with _naming(expansion):
                result = aggregate(
                    how.strategy,
                    children,
                    source_job_id=job.fan_out_job_id or "",
                    metric_name=how.metric_name,
                    ascending=how.ascending,
                    k=how.k,
                    quantiles=how.quantiles,
                    on_failed=how.on_failed,
                    min_success=how.min_success,
                    folded=folding.folded_for(self._store, execution, job),
                )
            if expansion is not None and "chosen" in result:
                result["chosen"] = [expansion.named(index) for index in result["chosen"]]
            text = self._kept(json.dumps(result), execution, job.id)
            go_on()
        except redis.exceptions.RedisError:
            raise
        except Exception as error:
            # It has started, so `give_up` could not end it: whatever it is, it ends here.
            if not isinstance(error, AggregationError):
                log.exception("event=fan_in_failed execution=%s job=%s", execution, job.id)
            _tell("FAN-IN", execution, job, f"failed, {type(error).__name__}: {error}")
            self._settle(token, "failed", error=_as_json(error))
            return False
        self._settle(token, "finished", text)
        return True

    def _kept(self, text: str, execution: str, job: str) -> str:
        """The result as Redis keeps it: what stands for it where it is a file."""
        files = self._files() if len(text) > self._inline_limit else None
        if files is None or not files.shared:
            return text
        try:
            return json.dumps(keep_json(text.encode(), {}, files, execution, job))
        except ValueFailed as error:  # the place for files is away, and Redis is not
            log.warning(
                "event=result_stays_in_redis execution=%s job=%s error=%s", execution, job, error
            )
            return text

    def _settle(self, token: Token, outcome: str, result: str = "", error: str = "") -> None:
        if self._store.settle_control(token, outcome, result, error) == "STALE":
            raise NotNow

    def _hand_over(
        self,
        execution: str,
        job: Job,
        how: Aggregation,
        children: Iterator[ChildOutcome],
    ) -> None:
        outputs = collect_outputs(children, on_failed=how.on_failed, min_success=how.min_success)
        given = {
            "function": how.custom_aggregator,
            "outputs": outputs,
            "strategy": "custom",
            "source_job_id": job.fan_out_job_id,
        }
        if references(job.config):  # to be filled in by a node, which leaves the outputs alone
            config = {**escape(given), "config": job.config}
        else:
            config = {**given, "config": unescape(job.config)}
        data = rq_data(compiler.CUSTOM_FAN_IN, json.dumps(config))
        self._store.enqueue_control(execution, job.id, data)

    def _outcomes(
        self, execution: str, expansion: Expansion, go_on: Callable[[], None]
    ) -> Iterator[ChildOutcome]:
        """How the children ended, but for those that were folded, or need not run (`stop_when`)."""
        stopped = "stopped_by" in self._store.group(execution, expansion.source)
        names = folding.children_left(self._store, execution, expansion)
        while page := list(islice(names, PAGE)):
            found = self._store.outcomes(execution, [name for _, name in page])
            for (index, _), (status, text) in zip(page, found, strict=True):
                if not (stopped and status == "canceled"):
                    yield _outcome(index, status, text)
            go_on()

    # -- the end

    def _expire(
        self, execution: str, go_on: Callable[[], None], is_turn_over: Callable[[float], bool]
    ) -> None:
        while self._store.expire(execution):
            go_on()
            if is_turn_over(0.0):
                raise TurnOver


def _tell(prefix: str, execution: str, job: Job, outcome: str, **counts: int) -> None:
    numbers = "".join(f" {name}={count}" for name, count in counts.items())
    log.info("[%s] [Job: %s] %s execution=%s%s", prefix, job.id, outcome, execution, numbers)


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _children(expansion: Expansion, start: int, stop: int) -> Iterator[NewJob]:
    tells = log.isEnabledFor(logging.DEBUG)
    for index in range(start, stop):
        child = expansion.child(index)
        if tells:
            log.debug("[FAN-OUT] [Job: %s] makes %s", expansion.source, child.id)
        yield compiler.child_job(child)


def static_chunks(execution: str, workflow: Workflow) -> Iterator[Chunk]:
    """The jobs that a workflow names, chunk by chunk; one without any when it names none."""
    jobs = compiler.static_jobs(execution, workflow)
    count = len(workflow.jobs)
    for number, start in enumerate(range(0, max(count, 1), CHUNK)):
        yield Chunk(STATIC, number, start + CHUNK >= count, list(islice(jobs, CHUNK)))


def over_of(job: Job, found: Mapping[str, bytes], files: Where) -> Any:
    """The list that a fan-out runs over, out of the results (JSON by job) that it names.

    Raises InputError, and ValueFailed or NotFound where a result is a file that cannot be read here.
    """
    results = {name: json.loads(text) for name, text in found.items()}
    return opened(resolve(job.over, results, lambda one: opened(one, files)), files)


def fan_out_output(job: Job, expansion: Expansion) -> dict[str, Any]:
    """A fan-out's result: its jobs by id (the first 1,000 of them), and how many axes it has."""
    jobs = [expansion.named(index) for index in range(min(NAMED_JOBS, len(expansion)))]
    return {
        "generated_jobs": jobs,
        "generated_job_ids": [one["id"] for one in jobs],
        "job_count": len(expansion),
        "parameter_count": expansion.parameter_count,
        "source_job_id": job.id,
    }


def keep(kept: OrderedDict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    """Notes what never changes, in place of what was noted longest ago."""
    kept[key] = value
    if len(kept) > KEPT:
        kept.popitem(last=False)


def _parts(item: str) -> tuple[str, str, str]:
    """(verb, execution, job or '') of an agenda item."""
    verb, execution, job = [*item.split(" "), "", ""][:3]
    return verb, execution, job


def _as_json(error: Exception) -> str:
    kind = getattr(error, "code", type(error).__name__)
    message = str(error).removeprefix(f"{kind}: ")
    return json.dumps({"type": kind, "message": message, "traceback": ""})


@contextmanager
def _naming(expansion: Expansion | None) -> Iterator[None]:
    """Of a fan-in's error about a child by its index, says which job that is."""
    try:
        yield
    except AggregationError as error:
        index = error.about.get("index")
        if expansion is None or not isinstance(index, int):
            raise
        said = f"{error.args[1]}; child {index} is {expansion.id(index)}"
        raise AggregationError(error.code, said, index=index) from None


def _outcome(index: int, status: str, text: bytes) -> ChildOutcome:
    said = json.loads(text) if text else None
    if status == FINISHED:
        return ChildOutcome(index, status, output=said)
    return ChildOutcome(index, status, error=said)
