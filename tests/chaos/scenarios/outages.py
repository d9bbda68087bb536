"""Redis is away, stands still, forgets its scripts or jumps in time: nobody's work may move (F16-F18, F22)."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.common.state import keys
from penstock.common.state.scripts import NOT_FOUND

from .. import skew
from ..history import read
from ..lab import Lab
from ..load import Load
from ..scenario import Run, scenario
from ..undone import undone
from ..workflows import batch, diamond, fan

#: Records that say that work was taken from a node.
MOVED = ("lost", "node_lost", "node_reaped", "node_left")
#: By so much later than it happened an event is surely read, seconds.
LAG_S = 1.0


@scenario("redis-restart", row="F17", full=50, short=3, bound_s=3.0)
def redis_restart(run: Run) -> None:
    """SIGKILL under load and a new server on its AOF; measured from its PONG to the next claim."""
    with run.lab() as lab:
        load = _loaded(lab)
        delayed = 0
        while run.goes_on():
            keep_busy(run, load)
            delayed += int(lab.client.info("persistence").get("aof_delayed_fsync", 0))
            lab.fault("redis killed", "redis")
            lab.server.kill()
            time.sleep(run.random.choice([0, 0.5, 2, 0 if run.short else 6]))
            pong = lab.server.start()
            run.hit()
            await_work(run, lab, load, pong)
        lab.finish()
        nothing_moved(run, lab)
        run.note(f"aof_delayed_fsync {delayed}")


@scenario("redis-paused", row="F18", full=10, short=1, bound_s=3.0)
def redis_paused(run: Run) -> None:
    """SIGSTOP for 1 to 10 s, then SIGCONT; measured from there to the next claim."""
    with run.lab() as lab:
        load = _loaded(lab)
        while run.goes_on():
            keep_busy(run, load)
            lab.fault("redis stopped", "redis")
            lab.server.kill(signal.SIGSTOP)
            time.sleep(4.0 if run.short else run.random.uniform(1, 10))
            went_on = time.time()
            lab.server.kill(signal.SIGCONT)
            run.hit()
            await_work(run, lab, load, went_on)
        lab.finish()
        nothing_moved(run, lab)


@scenario("script-flush", row="F16", full=3000, short=20)
def script_flush(run: Run) -> None:
    """FUNCTION FLUSH every 100 ms under load: no caller sees an error."""
    with run.lab() as lab:
        load = _loaded(lab)
        while run.goes_on():
            load.keep_up()
            lab.client.function_flush()
            run.hit()
            time.sleep(0.1)
        lab.finish()
        nothing_moved(run, lab)
        if NOT_FOUND in lab.logs():
            run.violated("error", "a process complains of a library that is not there")


@scenario("clock-step", row="F22", full=80, short=2)
def clock_step(run: Run) -> None:
    """The server's clock jumps by 10 s or an hour, ahead or back."""
    with shim(run) as folder:
        if folder is None:
            return
        clock = skew.Clock(skew.build(folder))
        server = {"environment": {**os.environ, **clock.environment}}
        with run.lab(server=server, by_arrival=True) as lab:
            load = _loaded(lab)
            offset = 0.0
            steps = [3600.0, -3600.0, 10.0, -10.0]
            while run.goes_on():
                keep_busy(run, load)
                offset += steps[run.count % len(steps)]
                lab.fault("clock step", "redis")
                clock.set(offset)
                run.hit()
                busy_until = time.monotonic() + 3.5  # longer than a node's time-out
                while time.monotonic() < busy_until:
                    load.keep_up()
                    time.sleep(0.05)
            lab.finish()
            # What the server tells is timed by its arrival here, a little late.
            _set_right(lab.history / "effects.jsonl", dict.fromkeys(lab.by_node, LAG_S))
            nothing_moved(run, lab)


@scenario("clock-worker", row="F22", full=40, short=1)
def clock_worker(run: Run) -> None:
    """Nodes whose clocks are an hour ahead or behind: an injection is a second of their work."""
    with shim(run) as folder:
        if folder is None:
            return
        library = skew.build(folder)
        clocks = {name: skew.Clock(library, name) for name in ("ahead", "behind")}
        offsets = {"ahead": 3600.0, "behind": -3600.0}
        with run.lab() as lab:
            lab.orchestrator()
            for name, clock in clocks.items():
                clock.set(offsets[name])
                lab.node(name, **clock.environment)
            lab.node("right")
            load = Load(lab, batch(12, s=0.1), diamond(4, s=0.1), ahead=2)
            while run.goes_on():
                keep_busy(run, load, 1.0)
                run.hit()
            lab.finish()
            _set_right(lab.history / "effects.jsonl", {name: -at for name, at in offsets.items()})
            nothing_moved(run, lab)


def _set_right(effects: Path, by_node: dict[str, float]) -> None:
    """Adds seconds to the times that the jobs of a node wrote."""
    records = [json.loads(line) for line in effects.read_text().splitlines()]
    for record in records:
        record["at"] += by_node.get(record["node"], 0.0)
    effects.write_text("".join(json.dumps(record) + "\n" for record in records))


@contextmanager
def shim(run: Run) -> Iterator[Path | None]:
    """A folder to build the clock's shim in; None, with the reason noted, without a compiler."""
    if skew.compiler() is None:
        run.skip("there is no C compiler to build the clock's shim with")
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


def _loaded(lab: Lab) -> Load:
    """Three nodes with long, short and very short jobs, and fan-outs."""
    lab.orchestrator()
    lab.nodes(3)
    shapes = [batch(12, s=0.1), batch(1, s=2.0), diamond(4, s=0.1), fan(8, s=0.05)]
    return Load(lab, *shapes, batch(60, s=0.004), ahead=3)


def keep_busy(run: Run, load: Load, seconds: float | None = None) -> None:
    """Lets the cluster work for a while, of any length if none is given."""
    till = time.monotonic() + (run.random.uniform(0.3, 1.5) if seconds is None else seconds)
    while time.monotonic() < till:
        load.keep_up()
        time.sleep(0.02)


def await_work(run: Run, lab: Lab, load: Load, since: float, timeout_s: float = 20.0) -> None:
    """Measures how long after `since` (time.time() of a server that is back) a job is claimed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        load.keep_up()
        for id_, event in lab.client.xrange(keys.events(), f"{int(since * 1000)}-0"):
            if event[b"event"] == b"job_started" and b"node" in event:
                run.measured(max(0.0, int(id_.split(b"-")[0]) / 1000 - since))
                return
        time.sleep(0.01)
    run.violated("stuck", f"no job was claimed for {timeout_s:g} s after Redis was back")


def nothing_moved(run: Run, lab: Lab, what: tuple[str, ...] = MOVED) -> None:
    """No attempt was taken from its node, and no node was given up. After `lab.finish()`.

    One whose end was lost with Redis is no such: its node does not hold it, so it is done again.
    """
    history = read(lab.history)
    again = {(r["execution"], r.get("job")) for r in undone(history) if "execution" in r}
    moved = [
        record
        for record in history
        if record["what"] in what and (record.get("execution"), record.get("job")) not in again
    ]
    for record in moved:
        run.violated("failover", f"{record}")
    run.note(f"{len(moved)} false failovers")
