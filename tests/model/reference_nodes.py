"""The reference model's nodes: registration, leases and tokens, claims, beats, and the upkeep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .reference import Execution, Job, Reference

Token = tuple[str, int, str]
Amounts = dict[str, float]


@dataclass
class Lease:
    """A node's claim on an attempt, and since when (ms). `charge`: what it takes of the node."""

    attempt: int
    claim: str
    since: int
    charge: Amounts


@dataclass(eq=False)
class Node:
    """A node. `taken`: charges by job and claim, brought in line with the leases by each beat and when it joins.

    `last_claim` and `verdicts` answer the last advance when it is sent again.
    """

    id: str
    incarnation: str = ""
    host: str = ""
    tags: frozenset[str] = frozenset()
    total: Amounts = field(default_factory=dict)
    beat: int | None = None
    leases: dict[str, Lease] = field(default_factory=dict)
    taken: dict[tuple[str, str], Amounts] = field(default_factory=dict)
    last_claim: str = ""
    verdicts: tuple[str, ...] = ()

    def charge(self, job: Job) -> Amounts:
        """A slot, and the cpus that the job names; else its share of them."""
        share = min(1.0, self.total["cpus"] / self.total["slots"])
        return {"cpus": job.spec.cpus or share, "slots": 1}

    def free(self) -> Amounts:
        used = list(self.taken.values())
        return {name: have - sum(one[name] for one in used) for name, have in self.total.items()}

    def could(self, job: Job) -> bool:
        """Could it run this job if it had nothing else to do?"""
        if not self.incarnation or not self.tags.issuperset(job.spec.tags):
            return False
        return within(self.charge(job), self.total)


def within(needs: Amounts, free: Amounts) -> bool:
    return all(amount <= free.get(name, 0) for name, amount in needs.items())


class ReferenceCluster(Reference):
    """The whole model. Times in ms."""

    timeout = 3000
    max_crashes = 3
    max_losses = 10
    #: what a long run adds to a node's patience: at most so much, and this share of the run
    patience_max, patience_share = 25000, 0.02
    #: a node that was silent for longer gets no work of another's
    late = 1500
    #: the upkeep is done so often at most
    upkeep_every = 400

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, Node] = {}
        self.queues: dict[tuple[int, str], list[Job]] = {}
        self.unmet: dict[tuple[str, str], list[Job]] = {}
        self.upkept, self.steady_since = 0, 0
        self.run_id, self._known_run = 0, -1
        self._stamp = 0
        self._alive: list[Node] | None = None

    def begin(self, now: int, us: int = 0) -> None:
        """A request arrives at this time (ms, and microseconds beyond)."""
        self.now, self._stamp, self._alive = now, now * 1000 + us, None

    def job(self, id: str) -> Job | None:
        x, _, name = id.partition("-")
        return self.executions[x].jobs.get(name) if x in self.executions else None

    def node(self, id: str) -> Node:
        return self.nodes.setdefault(id, Node(id))

    # -- requests of nodes

    def register(
        self, id: str, incarnation: str, host: str, tags: Iterable[str], total: Amounts
    ) -> str:
        """Leases of another incarnation move; its own survive registering again."""
        node = self.node(id)
        other = node.incarnation not in ("", incarnation)
        if other and node.host != host and self.now - (node.beat or 0) <= self.timeout:
            return "TAKEN"
        held = self._leased(node)
        if not held or other:
            node.last_claim, node.verdicts = "", ()
        node.incarnation, node.host, node.tags, node.total = (
            incarnation,
            host,
            frozenset(tags),
            total,
        )
        self._heard(node)
        self._alive = None
        for job in held:
            if turn_of(job.claim, incarnation) is None:
                self._lost(job, "losses")
        self._recount(node)
        return self._done("OK")

    def leave(self, id: str, incarnation: str) -> int:
        """This incarnation is known to be gone: all its jobs move at once."""
        node = self.node(id)
        if node.incarnation not in ("", incarnation):
            return 0
        held = self._leased(node)
        its = [job for job in held if turn_of(job.claim, incarnation) is not None]
        for job in its:
            self._lost(job, "losses")
        if its == held:
            self.nodes[id] = Node(id)
        return self._done(len(its))

    def forget(self, id: str) -> None:
        """A node that was silent for two time-outs is forgotten; its leases stay until reaped."""
        node = self.node(id)
        self.nodes[id] = Node(id, beat=node.beat, leases=node.leases)

    def advance(
        self, id: str, incarnation: str, claim: str, ends: list[tuple[Token, str, int]], lanes: int,
        free: Amounts, draining: bool = False,
    ) -> tuple[str, list[str], list[Token]]:  # fmt: skip
        """Settles, then claims. The same claim id again gives the same answer, as far as its
        tokens still hold; an earlier one that comes late settles and claims nothing. So does one
        of a node that was forgotten, which is told what this claim gave it before."""
        node = self.node(id)
        known = node.incarnation == incarnation
        if known and node.last_claim == claim:
            return "OK", list(node.verdicts), self._still_held(node, claim)
        late = known and (turn_of(claim, incarnation) or 0) < (
            turn_of(node.last_claim, incarnation) or 0
        )
        verdicts = [self._settle(node, token, outcome, retry) for token, outcome, retry in ends]
        self._done("")
        claimed = [] if known else self._still_held(node, claim)
        if known and not late:
            if not draining:
                have = {name: min(have, free.get(name, have)) for name, have in node.free().items()}
                claimed = self._claim(node, claim, lanes, have)
            node.last_claim, node.verdicts = claim, tuple(verdicts)
        return self._done(("OK" if known else "UNKNOWN", verdicts, claimed))

    def beat(
        self, id: str, incarnation: str, held: list[Token], answered: int
    ) -> tuple[str, list[Token]]:
        """A sign of life; which of its tokens are to end. A lease that the daemon does not name is
        dropped and its job queued again, but for those of claims after the last one that was
        `answered`: their answers are on their way."""
        node = self.node(id)
        stale = [token for token in held if not self._holds(token) or self._job(token[0]).x.closed]
        if node.incarnation != incarnation:
            return "UNKNOWN", stale
        self._heard(node)
        named = {job: claim for job, _, claim in held}
        for job_id, lease in list(node.leases.items()):
            turn = turn_of(lease.claim, incarnation)
            if lease.claim == named.get(job_id) or (turn is not None and turn > answered):
                continue
            del node.leases[job_id]
            if self._holds((job_id, lease.attempt, lease.claim)):
                self._requeue(self._job(job_id))
        self._recount(node)
        self._done("")
        self._upkeep(max(1500, self.timeout * 2 // 3))
        return self._done(("OK", stale))

    def handback(self, id: str, tokens: list[Token]) -> list[str]:
        """Claimed but not begun: back to the head of its list, with its attempt."""
        node = self.node(id)
        verdicts = []
        for token in reversed(tokens):
            self._drop_lease(node, token)
            holds = self._holds(token)
            if holds:
                self._job(token[0]).attempt -= 1
                self._requeue(self._job(token[0]))
            verdicts.insert(0, "OK" if holds else "STALE")
        return self._done(verdicts)

    def upkeep(self) -> None:
        self._upkeep(2500)
        self._done("")

    def promote_due(self) -> None:
        """What has waited for its retry is admitted again."""
        self._promote()
        self._done("")

    def _promote(self) -> None:
        ripe = [job for job, at in self.due.items() if at <= self.now]
        for job in sorted(ripe, key=lambda job: (self.due[job], job.id)):
            del self.due[job]
            job.status = "deferred"
            self.admit(job)

    def _heard(self, node: Node) -> None:
        """The first one after a time in which none was heard gives the others a time-out to come
        back as well: then it was the network between them and Redis that was away."""
        beats = [one.beat for one in self.nodes.values() if one.beat is not None]
        if beats and self.now - max(beats) > self.late:
            self.steady_since = self.now
        node.beat = self.now

    # -- the end of an attempt

    def _job(self, id: str) -> Job:
        job = self.job(id)
        assert job is not None, id
        return job

    def _holds(self, token: Token) -> bool:
        job = self.job(token[0])
        return job is not None and job.holds(token[1], token[2])

    def _settle(self, node: Node, token: Token, outcome: str, retry: int) -> str:
        """Only the attempt that holds the token may settle, and so only once."""
        self._drop_lease(node, token)
        if not self._holds(token):
            return "STALE"
        job = self._job(token[0])
        if job.x.closed:  # what runs in it is canceled, whatever comes of it
            return "STALE"
        if outcome == "crashed":
            self._lost(job, "crashes")
        elif outcome == "met":
            if job.spec.group:
                self.look_at(job)
            self.end(job, "finished")
        elif outcome == "finished":
            self.end(job, outcome)
        elif self.need_not_run(job):
            self.end(job, "canceled")
        elif outcome == "stopped":
            self.end(job, outcome)
        elif retry >= 0 and job.retries_left > 0:
            job.retries_left -= 1
            job.status = "scheduled"
            self.due[job] = self.now + retry
            self.give_places_back(job)
        else:
            self._bury(job)
        return "OK"

    def _bury(self, job: Job) -> None:
        self.dead.append(job)
        self.end(job, "failed")

    def _lost(self, job: Job, counter: str) -> None:
        """The attempt is lost with its process or node: again, unless that happens too often.
        (Where one that was lost with it has closed the execution, it is canceled instead.)"""
        self.node(job.node).leases.pop(job.id, None)
        if job.x.closed:
            return
        if self.need_not_run(job):
            self.end(job, "canceled")
            return
        times = getattr(job, counter) + 1
        setattr(job, counter, times)
        if times >= (self.max_crashes if counter == "crashes" else self.max_losses):
            self._bury(job)
        else:
            self._requeue(job)

    def _requeue(self, job: Job) -> None:
        if job.x.closed:
            return
        job.status = "deferred"
        self.enqueue(job, front=True)

    def _drop_lease(self, node: Node, token: Token) -> None:
        lease = node.leases.get(token[0])
        if lease and (lease.attempt, lease.claim) == token[1:]:
            del node.leases[token[0]]
            node.taken.pop((token[0], token[2]), None)

    @staticmethod
    def _recount(node: Node) -> None:
        node.taken = {(id, lease.claim): lease.charge for id, lease in node.leases.items()}

    def _leased(self, node: Node) -> list[Job]:
        """The jobs that a node holds, the last comer first: put to the front of their lists one
        by one, they stand in order again. Leases whose token is void are dropped."""
        void = [id for id, lease in node.leases.items()
                if not self._holds((id, lease.attempt, lease.claim))]  # fmt: skip
        for id in void:
            del node.leases[id]
        return sorted(
            (self._job(id) for id in node.leases), key=lambda job: job.entered, reverse=True
        )

    def _still_held(self, node: Node, claim: str) -> list[Token]:
        tokens = [(id, lease.attempt, lease.claim) for id, lease in node.leases.items()]
        return [token for token in tokens if token[2] == claim and self._holds(token)]

    # -- the queue lists

    def alive(self) -> list[Node]:
        """Heard of within a time-out; after a time without upkeep all count as heard of."""
        if self._alive is None:
            known = [node for node in self.nodes.values() if node.beat is not None]
            heard = [(max(node.beat or 0, self.steady_since), node) for node in known]
            self._alive = [node for at, node in heard if self.now - at <= self.timeout]
        return self._alive

    def _could_any(self, job: Job, but: str = "") -> bool:
        """Could a live node run it? While there is none, yes: one will come."""
        if not job.spec.tags and not job.spec.cpus and not but:
            return True
        others = [node for node in self.alive() if not but or self._may_take_over(node, but)]
        return any(node.could(job) for node in others) or (not others and not but)

    def _may_take_over(self, node: Node, of: str) -> bool:
        return node.id != of and self.now - (node.beat or 0) <= self.late

    def enqueue(self, job: Job, front: bool = False) -> None:
        """Into its list, at the end or back to the front; aside if no live node could run it."""
        if not self._could_any(job):
            self._set_aside(job)
            return
        if not front:
            job.entered, self._stamp = self._stamp, self._stamp + 1
        queue = self.queues.setdefault((job.spec.priority, job.spec.class_), [])
        queue.insert(0 if front else len(queue), job)
        job.status, job.unmet = "queued", False

    def _set_aside(self, job: Job) -> None:
        job.status, job.unmet = "deferred", True
        needs = f"cpus={job.spec.cpus}" if job.spec.cpus else ""
        self.unmet.setdefault((job.spec.class_, needs), []).append(job)
        self.give_places_back(job, later=True)

    def take_out(self, job: Job) -> None:
        """A job that is to be canceled leaves where it waits."""
        if job.status == "scheduled":
            del self.due[job]
        elif job.status == "queued":
            self.queues[job.spec.priority, job.spec.class_].remove(job)
        elif job.unmet:
            next(jobs for jobs in self.unmet.values() if job in jobs).remove(job)

    def _claim(self, node: Node, claim: str, lanes: int, free: Amounts) -> list[Token]:
        """The highest priority first, then the one that has waited longest; what does not fit
        is looked past."""
        claimed: list[Token] = []
        for priority in sorted({priority for priority, _ in self.queues}, reverse=True):
            queues = [
                queue for (level, class_), queue in list(self.queues.items())
                if level == priority and (class_ == "any" or node.tags.issuperset(class_.split("+")))
            ]  # fmt: skip
            passed: set[str] = set()
            while lanes and (heads := [job for queue in queues for job in _first(queue, passed)]):
                job = min(heads, key=lambda job: job.entered)
                if self._dismiss(job, node):
                    continue
                if within(node.charge(job), free):
                    claimed.append(self._take(node, job, claim, free))
                    lanes -= 1
                else:
                    passed.add(job.id)
        return claimed

    def _dismiss(self, job: Job, node: Node) -> bool:
        """Of a paused execution, or such as no live node could run: aside with it."""
        queue = self.queues[job.spec.priority, job.spec.class_]
        if job.x.status == "paused":
            queue.remove(job)
            job.status = "deferred"
            job.x.parked.append(job)
        elif not node.could(job) and not self._could_any(job):
            queue.remove(job)
            self._set_aside(job)
        else:
            return False
        return True

    def _take(self, node: Node, job: Job, claim: str, free: Amounts) -> Token:
        self.queues[job.spec.priority, job.spec.class_].remove(job)
        charge = node.charge(job)
        job.status, job.attempt, job.claim, job.node = "started", job.attempt + 1, claim, node.id
        node.leases[job.id] = Lease(job.attempt, claim, self.now, charge)
        node.taken[job.id, claim] = charge
        for name, amount in charge.items():
            free[name] -= amount
        return job.id, job.attempt, claim

    # -- the upkeep

    def _upkeep(self, away: int) -> None:
        """What anybody's beat does now and then. After a time in which nobody did it, a restart of
        Redis or a step back of its clock, nobody is reaped for one whole time-out: then it was
        Redis, or all of us, that was away."""
        gap = self.now - self.upkept
        if 0 <= gap < self.upkeep_every:
            return
        if gap < 0:
            self._set_back(-gap)
        if gap < 0 or gap > away or self.run_id != self._known_run:
            self.steady_since = self.now
        self._known_run = self.run_id
        self.upkept = self.now
        silent = [node for node in self.nodes.values()
                  if node.beat is not None and self.now - node.beat > self.timeout]  # fmt: skip
        if self.now - self.steady_since > self.timeout:
            for node in sorted(silent, key=lambda node: (node.beat, node.id)):
                self._reap(node)
        self._done("")
        self._promote()
        self._bring_back()
        self._look_at_heads()
        self._done("")

    def _set_back(self, by: int) -> None:
        """The clock went back: nothing may count as heard of, or be due, that much too late."""
        for node in self.nodes.values():
            if node.beat is not None:
                node.beat = min(node.beat, self.now)
        for job in self.due:
            self.due[job] -= by

    def _reap(self, node: Node) -> None:
        """A silent node's jobs move, the later the longer they have run, and only where another
        live node could run them. With its last lease the node goes."""
        assert node.beat is not None
        silent = self.now - node.beat
        for job in self._leased(node):
            ran = node.beat - node.leases[job.id].since
            patience = max(self.timeout, min(self.patience_max, self.patience_share * ran))
            if silent >= patience and self._could_any(job, but=node.id):
                self._lost(job, "losses")
        if not node.leases:
            del self.nodes[node.id]

    def _bring_back(self) -> None:
        """What was set aside because no node could run it, where one could now."""
        for kind, jobs in list(self.unmet.items()):
            while jobs:
                waits = jobs[0].status == "deferred" and jobs[0].unmet
                if waits and not self._could_any(jobs[0]):
                    break
                job = jobs.pop(0)
                if waits:
                    job.unmet = False
                    self.admit(job)
            if not jobs:  # it has its turn anew when there are some again
                del self.unmet[kind]

    def _look_at_heads(self) -> None:
        for priority, class_ in sorted(self.queues, reverse=True):
            queue = self.queues[priority, class_]
            while queue and not self._could_any(queue[0]):
                self._set_aside(queue.pop(0))


def _first(queue: list[Job], passed: set[str]) -> list[Job]:
    """The first one that was not passed, if any."""
    return next(([job] for job in queue if job.id not in passed), [])


def turn_of(claim: str, incarnation: str) -> int | None:
    """The number of an advance, which its claim id ends with; None if it is another incarnation's."""
    head, _, number = claim.rpartition(".")
    return int(number) if head == incarnation else None


__all__ = ["Execution", "ReferenceCluster", "Token"]
