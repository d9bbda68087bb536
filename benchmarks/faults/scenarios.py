"""The faults: a worker killed, a worker stopped and continued, replies lost."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chaos.history import Record

from .system import Lossy, System, Worker

#: Jobs of this length are killed, or stopped, seconds.
JOB_S, STOPPED_JOB_S = 1.5, 5.0
#: Between two kinds of request: second copies of what was sent are run by then, seconds.
CALM_S = 3.0


@dataclass
class Run:
    """One scenario on one system. `limit_s`: how long after the last fault everything may take."""

    system: System
    injections: int
    limit_s: float
    random: random.Random
    count: int = 0
    hits: list[tuple[Record, Record]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: how often the caller got an error, by kind of request
    refused: dict[str, int] = field(default_factory=dict)
    #: how many replies were lost, by kind of request
    losses: Counter[str] = field(default_factory=Counter)

    def hit(self, fault: Record) -> None:
        """An injection was made."""
        self.count += 1
        self.hits += [(fault, hit) for hit in fault["jobs"]]

    def missing(self) -> list[tuple[Record, Record]]:
        """What was hit and has not started again, nor ended all the same."""
        self.system.log.look()
        return [
            (fault, hit)
            for fault, hit in self.hits
            if self.system.log.again(hit) is None
            and not self.system.log.ended(hit["execution"], hit["job"])
        ]


def kill_worker(run: Run) -> None:
    """SIGKILL of a worker with all its processes while it runs a job; the others live, one is
    started in its place, and there is always work."""
    system = run.system
    workers = [system.worker() for _ in range(4)]
    system.await_workers(workers)
    while run.count < run.injections:
        _keep_up(system, 8)
        known = {worker.name: worker for worker in workers}
        running = [one for one in system.log.running() if one["node"] in known]
        ripe = [one for one in running if 0.2 < time.time() - one["at"] < 0.8 * JOB_S]
        if len({one["node"] for one in running}) < 3 or not ripe:
            time.sleep(0.02)
            continue
        victim = known[run.random.choice(ripe)["node"]]
        victim.kill()
        cut = [one for one in system.log.running() if one["node"] == victim.name]
        cut = cut or [one for one in running if one["node"] == victim.name]
        run.hit(system.fault("kill worker", victim.name, _not_ended(system, cut)))
        workers.remove(victim)
        workers.append(system.worker())
    await_all(run, trickle=True)


def _not_ended(system: System, starts: Iterable[Record]) -> list[Record]:
    system.log.look()
    return [one for one in starts if _key(one) not in system.log.ends]


def _key(start: Record) -> tuple[str, str, int]:
    return start["execution"], start["job"], start["attempt"]


def _keep_up(system: System, ahead: int) -> None:
    while system.at_work() < ahead:
        system.submit("job", JOB_S)


def stopped_worker(run: Run) -> None:
    """SIGSTOP of workers, each in the middle of a job that another job waits for, until another
    worker has run into the same job; then SIGCONT, while that one runs."""
    system = run.system
    at_once = min(4, run.injections)
    # Half of them are stopped; two more than take over, for what waits for these jobs.
    workers = [system.worker() for _ in range(2 * at_once + 2)]
    system.await_workers(workers)
    while run.count < run.injections:
        wait_for(lambda: not system.log.running() and system.at_work() == 0, 30.0)
        stopped = _stop_some(run, workers, min(at_once, run.injections - run.count))
        _continue_all(run, stopped)
        _trickle_until(run, lambda: not system.log.running(), 15.0)
        wait_for(lambda: not system.log.running(), 15.0)
    await_all(run, trickle=True)


def _stop_some(run: Run, workers: list[Worker], number: int) -> dict[str, tuple[Worker, Record]]:
    """Stops so many workers, each a second into a job of its own; by name, with their faults."""
    system = run.system
    units = {system.submit("pair", STOPPED_JOB_S) for _ in range(number)}
    wait_for(lambda: len(_first_jobs(system, units)) == number, 20.0)
    time.sleep(1.0)
    known = {worker.name: worker for worker in workers}
    stopped = {}
    for start in _first_jobs(system, units):
        worker = known[start["node"]]
        worker.stop()
        fault = system.fault("stop worker", worker.name, [start])
        run.hit(fault)
        stopped[worker.name] = (worker, fault)
    return stopped


def _first_jobs(system: System, units: set[str | None]) -> list[Record]:
    return [one for one in system.log.running() if one["execution"] in units and one["job"] == "c0"]


def _continue_all(run: Run, stopped: dict[str, tuple[Worker, Record]]) -> None:
    """Continues each half a second after its job was started again, or when the limit is over."""
    system = run.system
    deadline = time.time() + run.limit_s

    def look() -> bool:
        for name, (worker, fault) in list(stopped.items()):
            again = [system.log.again(hit) for hit in fault["jobs"]]
            begun = all(one is not None and time.time() > one["at"] + 0.5 for one in again)
            if begun or time.time() > deadline:
                system.journal.write("continued", target=name, jobs=fault["jobs"])
                worker.go_on()
                del stopped[name]
        return not stopped

    _trickle_until(run, look, run.limit_s + 5)


def lost_reply(run: Run) -> None:
    """The reply to a request of a client or a worker is swallowed and the connection closed, so
    many times for each kind of request; each library does what it does by default."""
    system = run.system
    workers = [system.worker() for _ in range(2)]
    system.await_workers(workers)
    for kind in system.lossy:
        if kind.kind == "count":
            continue
        system.label, system.way = kind.kind, kind.way
        for number in range(run.injections):
            if not _lose(run, kind, lambda: system.submit("job", 0.05)):
                run.notes.append(f"{kind.kind}: no worker took jobs any more after {number} losses")
                break
            wait_for(lambda: system.at_work() == 0, 1.5)
        wait_for(lambda: not system.unfinished(), 10.0)
        time.sleep(CALM_S)
        run.refused[kind.kind] = system.refused - sum(run.refused.values())
    system.label, system.way = "", "host"
    await_all(run, trickle=True, at_least_s=15.0)


def fan_in(run: Run) -> None:
    """Eight jobs and a merge that waits for all of them; meanwhile the reply is lost to the request
    that stores the result of one of them, or that counts it as done."""
    system = run.system
    workers = [system.worker() for _ in range(4)]
    system.await_workers(workers)
    kinds = [kind for kind in system.lossy if kind.kind in ("complete", "count")]
    for number in range(run.injections):
        kind = kinds[number % len(kinds)]
        system.label = kind.kind
        if not _lose(run, kind, lambda: system.submit("merge", 0.1, 8), again=False):
            run.notes.append(f"{kind.kind}: no worker took jobs any more after {number} losses")
            break
        wait_for(lambda: system.at_work() == 0, 5.0)
    system.label = ""
    await_all(run, trickle=True, at_least_s=15.0)


def _lose(run: Run, kind: Lossy, submit: Callable[[], object], again: bool = True) -> bool:
    """Arms the relay and sends work until a reply of interest was swallowed; False: none came."""
    system, relay = run.system, run.system.relays[kind.side]
    swallowed: list[float] = []

    def take(reply: object) -> None:
        if not swallowed and kind.counts(reply):
            swallowed.append(time.time())

    deadline = time.monotonic() + 20.0
    before, sent = system.at_work(), False
    while not swallowed and time.monotonic() < deadline:
        rule = relay.drop_replies(kind.matching, 1, swallowed=take)
        if not sent or (again and system.at_work() < before + 4):
            submit()
            sent = True
        wait_for(lambda: rule.done or swallowed, 1.0)  # noqa: B023
        relay.normal()
    if swallowed:
        run.hit(system.fault(f"lose reply to {kind.kind}", kind.side, []))
        run.losses[kind.kind] += 1
    return bool(swallowed)


def await_all(run: Run, trickle: bool, at_least_s: float = 0.0) -> None:
    """Waits until all that was accepted has ended, or the limit is over; short jobs go on coming,
    so that no worker is idle for long."""
    system = run.system
    began = time.monotonic()
    label, system.label = system.label, "trickle"

    due = 0.0

    def over() -> bool:
        nonlocal due
        if time.monotonic() < due:
            return False
        due = time.monotonic() + 0.5
        waited = due - began
        return waited >= at_least_s and not run.missing() and not _old(run)

    _trickle_until(run, over, run.limit_s)
    system.label = label
    wait_for(lambda: not system.unfinished(), 10.0)


def _old(run: Run) -> set[str]:
    """What has not ended of all but the trickle."""
    return {unit for unit in run.system.unfinished() if run.system.labels[unit] != "trickle"}


def _trickle_until(run: Run, fact: Callable[[], object], timeout_s: float) -> bool:
    """Sends a short job a second until something is true."""
    deadline, due = time.monotonic() + timeout_s, 0.0
    while not fact():
        now = time.monotonic()
        if now > deadline:
            return False
        if now > due and run.system.at_work() < 10:
            label, run.system.label = run.system.label, "trickle"
            run.system.submit("job", 0.02)
            run.system.label = label
            due = now + 1.0
        time.sleep(0.05)
    return True


def wait_for(fact: Callable[[], object], timeout_s: float) -> bool:
    """Waits for something to be true; False when it does not come in time."""
    deadline = time.monotonic() + timeout_s
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True


#: By name, with how many injections each makes by default, and whether it needs the relays.
SCENARIOS: dict[str, tuple[Callable[[Run], None], int, bool]] = {
    "kill-worker": (kill_worker, 10, False),
    "stopped-worker": (stopped_worker, 12, False),
    "lost-reply": (lost_reply, 10, True),
    "fan-in": (fan_in, 16, True),
}
