"""Faults of every kind in a random mix. A fault is a function of the nemesis, registered by name:

    @fault("stop node")
    def stop_node(nemesis: Nemesis) -> None: ...

It does its harm and returns at once; what mends it is done `later`.
"""

from __future__ import annotations

import heapq
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import redis

from .history import Record
from .lab import Lab
from .load import Load
from .node import Node
from .scenario import Run

Fault = Callable[["Nemesis"], None]
#: All kinds of faults by name, with how often each comes beside the others.
FAULTS: dict[str, tuple[Fault, int]] = {}


def fault(name: str, weight: int = 1) -> Callable[[Fault], Fault]:
    """Registers a kind of fault."""

    def register(function: Fault) -> Fault:
        FAULTS[name] = (function, weight)
        return function

    return register


class Nemesis:
    """Does one fault after another to a lab under load. `healthy` are the nodes that are up."""

    def __init__(self, run: Run, lab: Lab, load: Load) -> None:
        self.run, self.lab, self.load = run, lab, load
        self.random = run.random
        self.healthy: list[Node] = list(lab.by_node.values())
        self.done: Counter[str] = Counter()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._looked = 0.0

    def strike(self) -> None:
        """One fault of a random kind."""
        kinds = list(FAULTS)
        weights = [FAULTS[kind][1] for kind in kinds]
        (kind,) = self.random.choices(kinds, weights)
        FAULTS[kind][0](self)
        self.done[kind] += 1

    def note(self, kind: str, target: str, jobs: list[Record] | None = None) -> Record:
        """Writes the injection into the history and counts it."""
        self.run.hit()
        return self.lab.fault(kind, target, jobs or [])

    def later(self, seconds: float, mend: Callable[[], None]) -> None:
        """Calls `mend` in so many seconds, from `turn`."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._number), mend))

    def turn(self, seconds: float) -> None:
        """Lets time pass: keeps the load up, and mends what is due."""
        till = time.monotonic() + seconds
        while True:
            while self._later and self._later[0][0] <= time.monotonic():
                heapq.heappop(self._later)[2]()
            with suppress(redis.RedisError):  # Redis was away, and a connection is broken
                self.load.keep_up()
            self._stand_up()
            if time.monotonic() >= till:
                return
            time.sleep(min(0.02, max(0.0, till - time.monotonic())))

    def mend(self) -> None:
        """Does at once all that was to be mended later."""
        while self._later:
            heapq.heappop(self._later)[2]()
        self._looked = 0.0
        self._stand_up()

    def _stand_up(self) -> None:
        """Starts again, as a service manager would, what ended because Redis was away as it began."""
        if time.monotonic() - self._looked < 1.0:
            return
        self._looked = time.monotonic()
        for node in self.healthy:
            if node.supervisor.poll() is not None:
                node.again()
        if all(one.poll() is not None for one in self.lab.orchestrators):
            self.lab.orchestrator()

    def take_node(self) -> Node | None:
        """A node that is up, to do harm to; at least one other stays. `give_back` when it is well."""
        up = [node for node in self.healthy if node.is_up()]
        if len(up) < 2:
            return None
        node = self.random.choice(up)
        self.healthy.remove(node)
        return node

    def give_back(self, node: Node) -> None:
        """A node is well again."""
        self.healthy.append(node)


@fault("kill job", weight=6)
def kill_job(nemesis: Nemesis) -> None:
    running = nemesis.lab.running()
    if running:
        one = nemesis.random.choice(running)
        nemesis.note("kill job", str(one.pid))
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)


@fault("kill daemon", weight=3)
def kill_daemon(nemesis: Nemesis) -> None:
    node = nemesis.take_node()
    if node is not None:
        nemesis.note("kill daemon", node.name, node.held())
        node.kill_daemon()
        nemesis.later(1.0, lambda: nemesis.give_back(node))


@fault("kill node", weight=1)
def kill_node(nemesis: Nemesis) -> None:
    node = nemesis.take_node()
    if node is not None:
        nemesis.note("kill node", node.name, node.held())
        node.kill()
        nemesis.later(nemesis.random.uniform(0, 5), lambda: _start_again(nemesis, node))


def _start_again(nemesis: Nemesis, node: Node) -> None:
    node.again()
    nemesis.give_back(node)


@fault("stop node", weight=2)
def stop_node(nemesis: Nemesis) -> None:
    node = nemesis.take_node()
    if node is not None:
        held = node.held()
        nemesis.note("stop node", node.name)
        pids = node.stop()

        def go_on() -> None:
            nemesis.lab.journal.write("continued", target=node.name, jobs=held)
            node.go_on(pids)
            nemesis.later(1.0, lambda: nemesis.give_back(node))

        nemesis.later(nemesis.random.choice([0.5, 2, 5]), go_on)


@fault("kill orchestrator", weight=2)
def kill_orchestrator(nemesis: Nemesis) -> None:
    alive = [one for one in nemesis.lab.orchestrators if one.poll() is None]
    if alive:
        victim: subprocess.Popen[bytes] = nemesis.random.choice(alive)
        nemesis.note("kill orchestrator", str(victim.pid))
        victim.send_signal(signal.SIGKILL)
        victim.wait(10)
        nemesis.later(nemesis.random.uniform(0, 3), nemesis.lab.orchestrator)


@fault("cancel", weight=2)
def cancel(nemesis: Nemesis) -> None:
    if nemesis.load.open:
        execution = nemesis.random.choice(nemesis.load.open)
        nemesis.note("cancel", execution)
        nemesis.lab.cancel(execution)


@fault("flush scripts", weight=2)
def flush_scripts(nemesis: Nemesis) -> None:
    nemesis.note("flush scripts", "redis")
    nemesis.lab.client.function_flush()


@fault("kill redis", weight=1)
def kill_redis(nemesis: Nemesis) -> None:
    nemesis.note("kill redis", "redis")
    nemesis.lab.server.kill()
    time.sleep(nemesis.random.uniform(0, 1))
    nemesis.lab.server.start()


@fault("stop redis", weight=1)
def stop_redis(nemesis: Nemesis) -> None:
    nemesis.note("stop redis", "redis")
    nemesis.lab.server.kill(signal.SIGSTOP)
    time.sleep(nemesis.random.uniform(0.2, 4))
    nemesis.lab.server.kill(signal.SIGCONT)
