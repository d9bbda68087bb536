"""SIGSTOP past the time-out, then SIGCONT: a node that comes back when it was given up."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from penstock.worker.isolation import descendants
from support.processes import until

from ..lab import Lab
from ..load import Load
from ..node import Node
from ..scenario import Run, scenario
from ..workflows import batch
from .kills import until_recovered


@scenario("stop-node", row="F05", full=200, short=4, delays_s={"stale": 1.0})
def stop_node(run: Run) -> None:
    """Half of the nodes at a time. With some, results are on their way when they are stopped,
    and settle late; with others, jobs are in the middle of their run, and must go."""
    with run.lab() as lab:
        lab.orchestrator()
        nodes = lab.nodes(4 if run.short else 8)
        load = Load(lab, batch(40, s=0.25), batch(2, s=6.0), ahead=4)
        late = 0
        while run.goes_on():
            load.keep_up()
            chosen = run.random.sample(nodes, min(run.left, len(nodes) // 2))
            stopped = []
            for node in chosen:
                load.await_work(node)
                stopped.append(Stopped(run, lab, node, run.random.random() < 0.5))
            run.hit(len(stopped))
            until_recovered(lab, load, [one.fault for one in stopped])
            for one in stopped:
                one.go_on()
                late += len(one.late)
            _settle_down(lab, load, stopped)
        lab.finish()
        run.note(f"{late} late settles")


class Stopped:
    """A node with work, from its SIGSTOP to its SIGCONT. With `late`, jobs end between the daemon's and theirs."""

    def __init__(self, run: Run, lab: Lab, node: Node, late: bool) -> None:
        self.lab = lab
        self.node = node
        time.sleep(run.random.uniform(0, 0.2))
        self.late: list[dict] = []
        self.pids = [node.daemon, *descendants(node.daemon)]
        held = node.held()
        self.fault = lab.fault("stop node", node.name, held)
        os.kill(self.pids[0], signal.SIGSTOP)
        if late:
            self._await_ends(held)
        for pid in self.pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def _await_ends(self, held: list[dict]) -> None:
        """Lets short jobs end while nobody hears of it."""
        running = {(one.execution, one.job, one.attempt) for one in self.lab.running()}
        mine = [hit for hit in held if _key(hit) in running]
        deadline = time.monotonic() + 1.0
        while mine and time.monotonic() < deadline:
            running = {(one.execution, one.job, one.attempt) for one in self.lab.running()}
            self.late += [hit for hit in mine if _key(hit) not in running]
            mine = [hit for hit in mine if _key(hit) in running]
            time.sleep(0.01)

    def go_on(self) -> None:
        """SIGCONT of all, with what was held and is late in the history."""
        fields = {"target": self.node.name, "jobs": self.fault["jobs"], "late": self.late}
        self.lab.journal.write("continued", **fields)
        self.node.go_on(self.pids)


def _key(hit: dict) -> tuple[str, str, int]:
    return hit["execution"], hit["job"], hit["attempt"]


def _settle_down(lab: Lab, load: Load, stopped: list[Stopped]) -> None:
    """Waits until each node is registered again and holds nothing of before."""
    for one in stopped:
        old = {_key(hit) for hit in one.fault["jobs"]}

        def is_back(node: Node = one.node, old: set = old) -> bool:
            load.keep_up()
            return bool(node.registered()) and not old & {_key(hit) for hit in node.held()}

        until(is_back, what=f"{one.node.name} is back")
