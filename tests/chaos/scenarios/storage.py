"""What Redis keeps is cut short, gone, or has no room (F19, F20, F24, F25)."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Any

from penstock.common.errors import NotFound, PenstockError, RedisUnavailable
from penstock.common.state import keys
from support.processes import until

from ..lab import Lab
from ..load import Load
from ..recorder import Recorder
from ..redis_faults import Tmpfs, aof, forget, refuses_writes, why_no_tmpfs
from ..scenario import Run, scenario
from ..workflows import batch, chain, diamond, fan
from .outages import await_work, keep_busy, nothing_moved


@scenario("memory-full", row="F24", full=10, short=1, bound_s=3.0)
def memory_full(run: Run) -> None:
    """Redis is over its maxmemory: a submit is refused, what is there goes on when there is room."""
    with run.lab() as lab:
        lab.orchestrator()
        lab.nodes(3)
        load = Load(lab, batch(12, s=0.1), diamond(4, s=0.1), batch(1, s=2.0), ahead=3)
        while run.goes_on():
            keep_busy(run, load)
            used = int(lab.client.info("memory")["used_memory"])
            lab.fault("memory full", "redis")
            lab.client.config_set("maxmemory", used // 2)
            _submit_is_refused(run, lab)
            time.sleep(run.random.uniform(1, 4))
            since = time.time()
            lab.client.config_set("maxmemory", 0)
            run.hit()
            await_work(run, lab, load, since)
        lab.finish()
        nothing_moved(run, lab)


@scenario("disk-full", row="F25", full=10, short=1, bound_s=3.0)
def disk_full(run: Run) -> None:
    """The disk of the AOF is full: a submit is refused, what is there goes on when there is room."""
    with ExitStack() as before, run.lab() as lab, before:
        folder = lab.folder / "disk"
        folder.mkdir()
        if why := why_no_tmpfs(folder):
            run.skip(why)
            return
        lab.server.kill()
        disk = Tmpfs(folder, "64m")
        before.callback(disk.close)
        lab.server.folder = folder  # Redis moves files within its folder, so all of it is there
        lab.server.start()
        lab.orchestrator()
        lab.nodes(3)
        load = Load(lab, batch(12, s=0.1), diamond(4, s=0.1), batch(1, s=2.0), ahead=3)
        while run.goes_on():
            keep_busy(run, load)
            lab.fault("disk full", "redis")
            ballast = disk.fill()
            until(lambda: refuses_writes(lab.client, "MISCONF"), what="MISCONF")
            _submit_is_refused(run, lab)
            time.sleep(run.random.uniform(1, 4))
            since = time.time()
            ballast.unlink()
            run.hit()
            until(lambda: not refuses_writes(lab.client, "MISCONF"), what="there is room")
            await_work(run, lab, load, since)
        lab.finish()
        nothing_moved(run, lab)


def _submit_is_refused(run: Run, lab: Lab) -> None:
    """A client gets one error that says what is wrong, and nothing is left of its request."""
    before = lab.client.zcard(keys.executions())
    try:
        lab.service.submit(lab.prepare(batch(1)).workflow, code=lab.code)
    except RedisUnavailable as error:
        if "refuses" not in str(error):
            run.violated("error", f"the error does not say what is wrong: {error}")
    else:
        run.violated("error", "a submit was accepted")
    if lab.client.zcard(keys.executions()) != before:
        run.violated("I1", "an execution is there that was refused")


@scenario("data-gone", row="F19", full=10, short=1)
def data_gone(run: Run) -> None:
    """Redis comes back without its data: what ran is ended, who waits is told, and new work runs."""
    with run.lab() as lab:
        lab.orchestrator()
        nodes = lab.nodes(2)
        daemons = {node.name: node.daemon for node in nodes}
        workflow = lab.prepare(batch(8, s=20.0)).workflow
        while run.goes_on():
            lost = lab.service.submit(workflow, code=lab.code)  # not noted: it is to be lost
            until(lambda: len(lab.running()) == 4, what="all slots are busy")
            lab.fault("data gone", "redis")
            forget(lab.server)
            run.hit()
            _is_told(run, lab, lost)
            until(lambda: not lab.running(), 10, "what was lost is ended")
            lab.submit(batch(10, s=0.05))
            if left := lab.await_ends(timeout_s=30):
                run.violated("I7", f"new work does not run: {left}")
            for node in nodes:
                if node.daemon != daemons[node.name]:
                    run.violated("crash", f"the daemon of {node.name} was started anew")
            lab.finish()  # before the data goes again
            lab.accepted.clear()
        run.note(f"{_loud(lab)} nodes said so")


def _is_told(run: Run, lab: Lab, execution: str) -> None:
    try:
        lab.service.wait(execution, 10.0)
    except NotFound:
        return
    except PenstockError as error:
        run.violated("error", f"who waits for a lost execution hears {error}")
    else:
        run.violated("error", "a lost execution has ended")


def _loud(lab: Lab) -> int:
    """How many nodes logged that Redis has forgotten them."""
    logs = (path.read_text() for path in lab.folder.glob("*-n*.log"))
    return sum("event=node_joined_again" in text for text in logs)


@scenario("aof-truncated", row="F20", full=100, short=1)
def aof_truncated(run: Run) -> None:
    """A power cut: Redis comes back without up to two seconds of what it had acknowledged."""
    while run.goes_on():
        with run.lab() as lab:
            _cut_points(run, lab, min(run.left, 10))


def _cut_points(run: Run, lab: Lab, points: int) -> None:
    lab.orchestrator()
    lab.nodes(3)
    shapes = [lab.prepare(shape) for shape in (
        batch(20, s=0.1), diamond(5, s=0.1), chain(8, s=0.05), fan(12, s=0.05), batch(60, s=0.004)
    )]  # fmt: skip
    submitted: dict[str, tuple[float, Any]] = {}

    def work(seconds: float) -> None:
        till = time.monotonic() + seconds
        while time.monotonic() < till:
            if len(lab.open_executions(submitted)) < 4:
                shape = run.random.choice(shapes)
                submitted[lab.service.submit(shape.workflow, code=lab.code)] = (time.time(), shape)
            time.sleep(0.02)

    for _ in range(points):
        work(1.0)
        size = aof(lab.folder).stat().st_size
        work(run.random.uniform(0.1, 2.0))
        lab.fault("power cut", "redis")
        lab.server.kill()
        path = aof(lab.folder)
        lost = run.random.randint(1, max(1, path.stat().st_size - size))
        os.truncate(path, path.stat().st_size - lost)
        lab.server.start()
        _write_anew(lab)
        run.hit()
    there = [id_ for id_ in submitted if lab.store.execution(id_)]
    if left := lab.await_ends(there, timeout_s=90):
        run.violated("I7", f"{len(left)} executions hang: {left[:3]}")
    run.note(f"{len(submitted) - len(there)} of {len(submitted)} submits lost")
    for id_ in there:
        at, shape = submitted[id_]
        lab.journal.write("accepted", at, execution=id_, jobs=shape.jobs)
    lab.accepted += there
    _as_redis_tells_it(lab)
    lab.finish()


def _write_anew(lab: Lab) -> None:
    """What an operator does after a power cut. Redis 7.0 leaves an open MULTI behind where the file
    ends within a transaction, and would drop the next one at its next start."""
    lab.client.bgrewriteaof()

    def is_done() -> bool:
        state = lab.client.info("persistence")
        return not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])

    until(is_done, what="the AOF is written anew")


def _as_redis_tells_it(lab: Lab) -> None:
    """The history of what was not lost: read anew from Redis, without what lost attempts did."""
    lab.recorder.stop()
    (lab.history / "system.jsonl").unlink()
    lab.recorder = Recorder(lab.server.url, lab.history)
    lab.recorder.start()
    lab.recorder.catch_up(30)
    lab.recorder.stop()
    system = lab.history / "system.jsonl"
    # A lease that its daemon does not hold any more: its settle was lost.
    system.write_text(system.read_text().replace('"what": "not held"', '"what": "lost"'))
    (lab.history / "effects.jsonl").unlink()
