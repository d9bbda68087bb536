"""What the scripts promise, in plain Python: executions, jobs, fan-outs, and what follows from
an end. `reference_nodes.py` goes on with nodes, leases and the queue lists.

Each public method is one request and returns the answer that the scripts must give. The model
does at once what the scripts may leave to an outbox, knows no keys and no limits of a script,
and is given the time (`now`, ms).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .shapes import Shape, Spec, dependents

ENDED = ("finished", "failed", "stopped", "canceled")
EXECUTION_ENDED = ("succeeded", "failed", "canceled")
#: so many jobs begin to expire with the end of their execution
EXPIRED_AT_ONCE = 32


@dataclass(eq=False)
class Job:
    """A job. `waits`: upstreams that have not ended; None while a retry has yet to count them.

    `entered` is when it joined its list (microseconds), which it keeps when it comes back to the front.
    `places`: the gates that it has passed (`g`: its fan-out's, `x`: its execution's).
    """

    x: Execution
    spec: Spec
    retries_left: int
    waits: int | None = 0
    status: str = "deferred"
    attempt: int = 0
    claim: str = ""
    node: str = ""
    crashes: int = 0
    losses: int = 0
    entered: int = 0
    places: str = ""
    unmet: bool = False
    handed_over: bool = False

    @property
    def id(self) -> str:
        return f"{self.x.id}-{self.spec.name}"

    @property
    def ok(self) -> bool:
        """Its dependents may go on."""
        return self.status == "finished" or self.spec.on_failure == "continue"

    def holds(self, attempt: int, claim: str) -> bool:
        """Is this the token of the attempt that runs now?"""
        return self.status == "started" and (self.attempt, self.claim) == (attempt, claim)


@dataclass(eq=False)
class Group:
    """The children of a fan-out: how many there will be, are, have ended, ended badly; how often some
    were folded, and how many; the child for which the others need not run."""

    total: int | None = None
    limit: int = 0
    chunks: int = 0
    created: int = 0
    settled: int = 0
    bad: int = 0
    admitted: int = 0
    folds: int = 0
    folded: int = 0
    stopped_by: str = ""
    held: list[Job] = field(default_factory=list)


@dataclass(eq=False)
class Execution:
    """`closing`: nothing of it may start any more, and why. `faults`: ends that make it fail."""

    id: str
    shape: Shape
    policy: str = "continue"
    parallelism: int = 0
    status: str = "pending"
    closing: str = ""
    chunks: int = 0
    compiled: bool = False
    over: bool = False
    faults: int = 0
    admitted: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    held: list[Job] = field(default_factory=list)
    parked: list[Job] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        return bool(self.closing) or self.status in EXECUTION_ENDED

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group())


class Reference:
    """All executions, and what orchestrators have yet to do (`agenda`)."""

    def __init__(self) -> None:
        self.now = 0
        self.executions: dict[str, Execution] = {}
        self.agenda: set[str] = set()
        self.dead: list[Job] = []
        self.due: dict[Job, int] = {}
        self.todo: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()

    # -- requests about executions

    def submit(self, id: str, shape: Shape, policy: str, parallelism: int) -> str:
        """An execution is accepted once."""
        if id in self.executions:
            return "EXISTS"
        self.executions[id] = Execution(id, shape, policy, parallelism)
        self.agenda.add(f"compile {id}")
        return "OK"

    def extend(self, id: str, stage: str, chunk: int, last: bool, specs: Shape) -> str:
        """Chunks come in order, each once; who has nothing to wait for goes on."""
        x = self.executions[id]
        if x.closed:
            return "CLOSED"
        group = None if stage == ":static" else x.group(stage)
        if group and group.stopped_by:
            return "CLOSED"
        expected = group.chunks if group else x.chunks
        if chunk != expected:
            return "DONE" if chunk < expected else "AHEAD"
        if x.status == "pending":
            x.status = "running"
        if group:
            group.chunks, group.created = chunk + 1, group.created + len(specs)
        else:
            x.chunks, x.compiled = chunk + 1, x.compiled or last
            if last:
                self.agenda.discard(f"compile {x.id}")
        told = {one.name: self._upstreams(x, one) for one in specs}
        for one in specs:
            x.jobs[one.name] = Job(x, one, one.retries, told[one.name][0])
        for one in specs:
            self._begin(x.jobs[one.name], bad=told[one.name][1])
        return self._done("OK")

    def control(self, id: str, verb: str) -> str:
        """pause, resume, cancel; what has ended stays as it is."""
        x = self.executions[id]
        if x.status in EXECUTION_ENDED:
            return x.status
        if verb == "pause":
            x.status = "paused"
        elif verb == "cancel":
            x.status = x.closing = "canceled"
            self._cancel_all(x)
        elif x.status == "paused":
            x.status = "running" if x.chunks else "pending"
            while x.parked:
                self.enqueue(x.parked.pop(), front=True)
        return self._done(x)

    def retry(self, id: str) -> str:
        """What did not succeed is as new; what finished keeps its result."""
        x = self.executions[id]
        if x.status not in EXECUTION_ENDED:
            return "OPEN"
        if x.status == "succeeded":
            return "SUCCEEDED"
        x.status, x.closing, x.admitted = "running" if x.compiled else "pending", "", 0
        x.held, x.parked, x.over = [], [], False
        self.agenda.discard(f"expire {id}")
        if not x.compiled:
            self.agenda.add(f"compile {id}")
        reopened = [job for job in x.jobs.values() if self._opens_again(job)]
        for job in x.jobs.values():
            if job.spec.kind == "fan-out":
                x.group(job.spec.name).held, x.group(job.spec.name).admitted = [], 0
            if (job.status != "finished" or job in reopened) and not self._is_left_out(job):
                self._reset(job)
        for job in [job for job in x.jobs.values() if job.waits is None and not job.spec.group]:
            job.waits, bad = self._upstreams(x, job.spec)
            self._begin(job, bad)
        return self._done("RUNNING")

    # -- requests of orchestrators

    def open_group(self, id: str, name: str) -> tuple[str, int, int, int]:
        """A fan-out opens; (OK or ENDED, children created, chunks, children ended)."""
        x = self.executions[id]
        job = self._startable(x, name)
        if not job:
            return "ENDED", 0, 0, 0
        group = x.group(name)
        again = group.total is not None
        if not again:
            group.total, group.limit = job.spec.size, job.spec.limit
        if job.status == "deferred":
            job.status, job.attempt = "started", job.attempt + 1
            self.todo.append((self._check_group, (job,)))
            if again:
                self.todo.append((self._begin_children, (job,)))
        self._done("OK")
        return "OK", group.created, group.chunks, group.settled

    def fold(self, id: str, name: str, folds: int, children: list[str], busy: bool) -> bool:
        """Children that have finished are gone, and count as before. `busy`: the scripts have left
        something to do for the execution."""
        x = self.executions[id]
        group = x.group(name)
        if x.closed or busy or x.jobs[name].status != "started" or group.folds != folds:
            return False
        group.folds, group.folded = folds + 1, group.folded + len(children)
        for child in children:
            assert x.jobs.pop(child).status == "finished", child
        return True

    def start_control(self, id: str, name: str, claim: str) -> int:
        """An orchestrator takes a fan-in: its attempt, 0 for no. A later taker supersedes it; the
        same claim again gets the same attempt."""
        job = self._startable(self.executions[id], name)
        if not job:
            return 0
        if not job.holds(job.attempt, claim):
            job.status, job.attempt, job.claim = "started", job.attempt + 1, claim
        return job.attempt

    def settle_control(self, id: str, name: str, attempt: int, claim: str, outcome: str) -> str:
        job = self.executions[id].jobs[name]
        if job.x.closed or not job.holds(attempt, claim):
            return "STALE"
        self.end(job, outcome)
        return self._done("OK")

    def enqueue_control(self, id: str, name: str) -> str:
        """A fan-in with a function of the user's goes to the workers, once."""
        job = self._startable(self.executions[id], name)
        if not job or job.status != "deferred" or job.handed_over:
            return "ENDED"
        job.handed_over = True
        self.admit(job)
        return self._done("OK")

    def fail_control(self, id: str, name: str) -> str:
        """A control job cannot be carried out; of a fan-out that has begun, the jobs that are there
        run to their end."""
        job = self._startable(self.executions[id], name)
        if not job or not (job.status == "deferred" or job.spec.kind == "fan-out"):
            return "ENDED"
        if job.x.group(name).stopped_by:
            return "ENDED"
        self.end(job, "failed")
        if job.spec.kind == "fan-out":
            self.todo.append((self._begin_children, (job,)))
        return self._done("OK")

    def fail_execution(self, id: str) -> str:
        """An execution cannot be compiled."""
        x = self.executions[id]
        if x.closed or x.compiled:
            return "ENDED"
        x.status = x.closing = "failed"
        self._cancel_all(x)
        return self._done("OK")

    @staticmethod
    def _startable(x: Execution, name: str) -> Job | None:
        job = x.jobs.get(name)
        return None if not job or job.status in ENDED or job.waits or x.closed else job

    # -- beginning

    def _upstreams(self, x: Execution, spec: Spec) -> tuple[int, bool]:
        """How many have not ended, and whether one ended so that this job cannot run."""
        jobs = [(x.jobs.get(up.removesuffix("?")), up[-1] == "?") for up in spec.after]
        still = sum(job is None or job.status not in ENDED for job, _ in jobs)
        bad = any(job and job.status in ENDED and not (job.ok or any_end) for job, any_end in jobs)
        return still, bad

    def _begin(self, job: Job, bad: bool = False) -> None:
        if bad:
            self.end(job, "canceled")
        elif job.waits == 0:
            self._ready(job)

    def _ready(self, job: Job) -> None:
        """All its upstreams are done: it is admitted, or an orchestrator is asked."""
        if job.x.closed:
            return
        if job.spec.kind == "run":
            self.admit(job)
        else:
            verb = "expand" if job.spec.kind == "fan-out" else "fanin"
            self.agenda.add(f"{verb} {job.x.id} {job.spec.name}")

    def admit(self, job: Job) -> None:
        """Past the gate of its fan-out, then of its execution, into its list."""
        group = job.x.group(job.spec.group) if job.spec.group else None
        if group and group.limit and not job.places:
            if group.admitted >= group.limit:
                group.held.append(job)
                return
            group.admitted += 1
            job.places = "g"
            self._pass_execution(job)
        elif job.places:
            self.enqueue(job)
        else:
            self._pass_execution(job)

    def _pass_execution(self, job: Job) -> None:
        x = job.x
        if x.parallelism and x.admitted >= x.parallelism:
            x.held.append(job)
            return
        if x.parallelism:
            x.admitted += 1
            job.places += "x"
        self.enqueue(job)

    def give_places_back(self, job: Job, later: bool = False) -> None:
        """The next ones that wait at the gates pass: at once, or (`later`) when all else is done."""
        places, job.places = job.places, ""
        x, group = job.x, job.x.group(job.spec.group)
        x.admitted -= "x" in places
        group.admitted -= "g" in places
        if later:
            self.todo += [(self._let_all_pass, (x, group if place == "g" else None))
                          for place in places[::-1]]  # fmt: skip
            return
        if "x" in places:
            self._let_pass(x, x.held, self._pass_execution)
        if "g" in places:
            self._let_pass(x, group.held, self.admit)

    def _let_all_pass(self, x: Execution, group: Group | None) -> None:
        """What is held at a fan-out's gate, or at that of its execution, while there is room."""
        if group:
            while group.admitted < group.limit and self._let_pass(x, group.held, self.admit):
                pass
        else:
            while x.admitted < x.parallelism and self._let_pass(x, x.held, self._pass_execution):
                pass

    @staticmethod
    def _let_pass(x: Execution, held: list[Job], into: Callable[[Job], None]) -> bool:
        while held and not x.closed:
            job = held.pop(0)
            if job.status == "deferred":
                into(job)
                return True
        return False

    # -- ending

    def end(self, job: Job, status: str) -> None:
        """A job has its outcome. Whoever waits for it is told afterwards, first come first served."""
        x, spec = job.x, job.spec
        job.status = status
        fault = not job.ok and status != "canceled" and not spec.tolerated
        x.faults += fault
        self.give_places_back(job)
        if spec.group:
            group = x.group(spec.group)
            group.settled += 1
            well = status == "finished" or self._is_left_out(job)
            group.bad += not well and spec.on_failure != "continue"
            self.todo.append((self._check_group, (x.jobs[spec.group],)))
        self.todo.append((self._tell, (job, job.ok)))
        if fault and x.policy == "fail_fast" and not x.closing:
            x.closing = "failed"
            self.todo.append((self._cancel_all, (x,)))

    def _tell(self, job: Job, ok: bool) -> None:
        if job.spec.group:
            return
        for name in dependents(job.x.shape, job.spec.name):
            other = job.x.jobs.get(name.removesuffix("?"))
            if not other or other.status != "deferred":
                continue
            if not ok and not name.endswith("?"):
                self.end(other, "canceled")
            elif other.waits is not None:
                other.waits -= 1
                if other.waits == 0:
                    self._ready(other)

    def _check_group(self, source: Job) -> None:
        """A fan-out is done when all its children were made and have ended."""
        group = source.x.group(source.spec.name)
        if group.total is None or source.status != "started" or group.settled < group.total:
            return
        good = group.bad == 0 or source.spec.tolerated
        self.end(source, "finished" if good else "failed")

    @staticmethod
    def need_not_run(job: Job) -> bool:
        """Its fan-out was stopped early."""
        group = job.spec.group
        return bool(group and job.x.group(group).stopped_by)

    @staticmethod
    def _is_left_out(job: Job) -> bool:
        return job.status == "canceled" and Reference.need_not_run(job)

    def look_at(self, job: Job) -> None:
        """A child gave what its fan-out looks for: the others end, and no more are made."""
        x, spec = job.x, job.spec
        group, source = x.group(spec.group), x.jobs[spec.group]
        if not source.spec.stops or group.stopped_by or source.status != "started":
            return
        group.stopped_by, group.total, group.held = spec.name, group.created, []
        self.todo.append((self._stop, (source,)))

    def _stop(self, source: Job) -> None:
        for job in source.x.jobs.values():
            if job.spec.group == source.spec.name and job.status not in ENDED:
                self.take_out(job)
                self.end(job, "canceled")

    def _cancel_all(self, x: Execution) -> None:
        for job in x.jobs.values():
            if job.status not in ENDED:
                self.take_out(job)
                self.end(job, "canceled")
            if job.spec.kind == "fan-out" and job.status == "canceled":
                x.group(job.spec.name).held = []
        x.held, x.parked = [], []

    # -- retry

    @staticmethod
    def _opens_again(job: Job) -> bool:
        """A fan-out that ended well opens again with its children that did not finish."""
        children = [one for one in job.x.jobs.values() if one.spec.group == job.spec.name]
        return job.status == "finished" and any(
            one.status != "finished" and not Reference._is_left_out(one) for one in children
        )

    def _reset(self, job: Job) -> None:
        spec, x = job.spec, job.x
        bad = job.status not in ("finished", "canceled")
        x.faults -= bad and spec.on_failure != "continue" and not spec.tolerated
        if job in self.dead:
            self.dead.remove(job)
        if spec.group:
            x.group(spec.group).settled -= 1
            x.group(spec.group).bad -= spec.on_failure != "continue"
        self.agenda -= {f"{verb} {x.id} {spec.name}" for verb in ("expand", "fanin")}
        job.status, job.waits, job.retries_left = "deferred", None, spec.retries
        job.crashes = job.losses = 0
        job.places, job.unmet, job.handed_over = "", False, False

    def _begin_children(self, source: Job) -> None:
        """A fan-out has opened again: its children that were reset go on; if it could not, they end."""
        if source.x.group(source.spec.name).stopped_by:
            return self._stop(source)
        for job in source.x.jobs.values():
            if (
                job.spec.group != source.spec.name
                or job.waits is not None
                or job.status != "deferred"
            ):
                continue
            if source.status in ENDED:
                self.end(job, "canceled")
            else:
                job.waits = 0
                self._ready(job)

    # -- the end of a request

    def _done(self, answer):  # type: ignore[no-untyped-def]
        """Does what follows, and ends the executions that are through; returns `answer`."""
        while self.todo:
            act, args = self.todo.popleft()
            act(*args)
        for x in self.executions.values():
            through = x.compiled or x.closing
            if through and not x.over and all(job.status in ENDED for job in x.jobs.values()):
                x.over = True
                if x.status not in EXECUTION_ENDED:
                    x.status = "failed" if x.faults else "succeeded"
                if len(x.jobs) > EXPIRED_AT_ONCE:
                    self.agenda.add(f"expire {x.id}")
        return answer.status if isinstance(answer, Execution) else answer

    # -- what the nodes' part adds

    def enqueue(self, job: Job, front: bool = False) -> None:
        raise AssertionError("see reference_nodes.py")

    def take_out(self, job: Job) -> None:
        raise AssertionError("see reference_nodes.py")
