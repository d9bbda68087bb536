"""SIGKILL: of a job's process, of a daemon, of a whole node."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress

from penstock.worker.isolation import descendants, is_alive
from support.processes import until

from ..lab import Lab
from ..load import Load
from ..node import Node
from ..scenario import Run, scenario
from ..workflows import batch

#: After the kill of a daemon nothing of it runs any more after this, seconds.
ORPHANED_S = 1.5
#: A supervisor sees its daemon die so often, then it is replaced.
RESTARTS = 4
#: After a node has come back, nothing of its earlier life runs any more after this, seconds.
SWEPT_S = 5.0


@scenario("kill-job", row="F01", full=300, short=12, bound_s=0.5)
def kill_job(run: Run) -> None:
    """A slot at a time, in a long job or amid a batch; the rest of the batch keeps its attempts (I9)."""
    with run.lab() as lab:
        lab.orchestrator()
        nodes = lab.nodes(2, concurrency=3)
        load = Load(lab, batch(30, s=0.3), batch(300, s=0.004))
        hit: set[tuple[str, str]] = set()
        while run.goes_on():
            load.keep_up()
            time.sleep(run.random.uniform(0, 0.03))
            slot = run.random.choice([*run.random.choice(nodes).slots(), 0])
            doomed = lab.effects.cut_off(slot)
            known = slot in lab.effects.pids  # one that is killed as it starts delays its node
            if not known or (doomed and (doomed.execution, doomed.job) in hit):
                continue  # a job that takes its process down three times is poison
            at = time.time()
            with suppress(ProcessLookupError):
                os.kill(slot, signal.SIGKILL)
            until(lambda: not is_alive(slot), what="a killed process ends")  # noqa: B023
            victim = lab.effects.cut_off(slot)
            if victim is None:
                continue  # between two jobs
            hit.add((victim.execution, victim.job))
            fault = lab.fault("kill job", str(slot), [victim.as_hit()], at)
            run.hit()
            lab.await_recovery(fault, timeout_s=10)
        lab.finish()


@scenario("kill-daemon", row="F02", full=300, short=6, bound_s=1.5)
def kill_daemon(run: Run) -> None:
    """One daemon at a time among several nodes; its supervisor starts it anew."""
    with run.lab() as lab:
        lab.orchestrator()
        nodes = lab.nodes(3 if run.short else 5)
        load = Load(lab, batch(30, s=0.25), batch(10, s=0.3, family=True))
        kills: Counter[str] = Counter()
        while run.goes_on():
            load.keep_up()
            up = [node for node in nodes if node.registered()]
            busy = [node for node in up if node.held()]
            if len(up) < len(nodes) - 1 or not busy:
                time.sleep(0.01)
                continue
            node = run.random.choice(busy)
            time.sleep(run.random.uniform(0, 0.2))
            below = [node.daemon, *descendants(node.daemon)]
            held = node.held()
            fault = lab.fault("kill daemon", node.name, held)
            with suppress(ProcessLookupError):
                os.kill(below[0], signal.SIGKILL)
            run.hit()
            lab.await_recovery(fault)
            _all_gone(run, below, fault["at"] + ORPHANED_S)
            kills[node.name] += 1
            if kills[node.name] % RESTARTS == 0:
                _start_anew(node)
        lab.finish()


def _start_anew(node: Node) -> None:
    """A supervisor waits longer each time that its daemon has died soon; a new one does not."""
    node.supervisor.terminate()
    node.supervisor.wait(20)
    node.again()
    node.ready()


def _all_gone(run: Run, pids: list[int], by: float) -> None:
    while alive := [pid for pid in pids if is_alive(pid)]:
        if time.time() > by:
            run.violated("orphan", f"{len(alive)} processes of {len(pids)} live on: {alive}")
            return
        time.sleep(0.005)


@scenario("kill-node", row="F03", full=100, short=4, bound_s=4.0)
def kill_node(run: Run) -> None:
    """Supervisor, daemon and slots at once, of two nodes at a time; each comes back afterwards."""
    with run.lab() as lab:
        lab.orchestrator()
        nodes = lab.nodes(4 if run.short else 8)
        load = Load(lab, batch(30, s=0.25), batch(10, s=0.3, family=True))
        while run.goes_on():
            load.keep_up()
            chosen = run.random.sample(nodes, min(run.left, 2))
            killed = []
            for node in chosen:
                load.await_work(node)
                killed.append(_kill(run, lab, node))
            until_recovered(lab, load, [fault for _, fault, _ in killed])
            for node, _, left in killed:
                node.again()
                node.ready()
                _all_gone(run, left, time.time() + SWEPT_S)
        lab.finish()


def _kill(run: Run, lab: Lab, node: Node) -> tuple[Node, dict, list[int]]:
    """Kills it; what of it may yet live are what its jobs started."""
    time.sleep(run.random.uniform(0, 0.5))
    below = descendants(node.supervisor.pid)
    fault = lab.fault("kill node", node.name, node.held())
    node.kill()
    run.hit()
    return node, fault, below


def until_recovered(lab: Lab, load: Load, faults: list[dict], timeout_s: float = 30.0) -> None:
    """Waits until all that these faults hit is claimed again, with work for the others meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not lab.recovered(*faults) and time.monotonic() < deadline:
        load.keep_up()
        time.sleep(0.02)
