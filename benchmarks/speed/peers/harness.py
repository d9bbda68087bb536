"""One repetition of each workload, for one system in one configuration.

`python peer_<name>.py --config C --workloads W1,W4 --out FILE` writes one JSON object a workload.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from machine import busy_s, clock, cpu_s, ping_us, quantile, send
from peer import CONFIG, PORT, SCALE, NotSupported, Peer

#: W4 is given so long, W6 waits so long for the second start; seconds.
TRIPS_S, RESTART_S = 15.0, 150.0
QUEUED_JOBS, ARGUMENT_BYTES = round(10_000 * SCALE), (40, 200)

Figures = dict[str, Any]


def w1(peer: Peer) -> Figures:
    """No-op jobs from the first enqueue to the last completion."""
    count, before = peer.w1_jobs, peer.done_so_far()
    costs = Costs(peer)
    began = clock()
    peer.enqueue(count)
    ended = peer.wait_done(count, before)
    return {"jobs": count, "jobs_per_s": count / (ended - began), **costs.per_job(count)}


def drain(peer: Peer) -> Figures:
    """The same from a full queue: workers stand still while it is filled."""
    if not peer.can_be_stopped:
        raise NotSupported("its workers cannot be stopped while it takes jobs")
    count, before = peer.w1_jobs, peer.done_so_far()
    pids = peer.runners()
    send(pids, signal.SIGSTOP)
    stopped = clock()
    try:
        peer.enqueue(count)
        peer.await_queued(count)
        costs = Costs(peer)
        began = clock()
    finally:
        send(pids, signal.SIGCONT)
    ended = peer.wait_done(count, before)
    return {
        "jobs": count,
        "jobs_per_s": count / (ended - began),
        "stopped_s": began - stopped,
        **costs.per_job(count),
    }


def w2(peer: Peer) -> Figures:
    """Fan-out and merge, seconds by width."""
    found: Figures = {}
    for width in peer.w2_widths:
        try:
            found[f"s_{width}"] = peer.fan(width)
        except NotSupported:
            raise
        except Exception as error:
            traceback.print_exc()
            return {**found, "error": f"{width:,} wide: {_described(error)}"}
    return found


def w3(peer: Peer) -> Figures:
    """A chain, ms a hop."""
    return {"hops": peer.w3_hops, "ms_a_hop": 1000 * peer.chain(peer.w3_hops) / peer.w3_hops}


def w4(peer: Peer) -> Figures:
    """One job there and back on an idle system, ms."""
    for number in range(5):
        peer.round_trip(number)
    time.sleep(0.5)
    taken, deadline = [], clock() + TRIPS_S
    for number in range(peer.w4_trips):
        began = clock()
        peer.round_trip(number)
        taken.append(1000 * (clock() - began))
        if clock() > deadline:
            break
    return {
        "trips": len(taken),
        "p50_ms": statistics.median(taken),
        "p99_ms": quantile(taken, 0.99),
    }


def w5(peer: Peer) -> Figures:
    """Bytes of Redis that a queued job takes, by the size of its argument; no workers run."""
    if not peer.uses_redis:
        raise NotSupported("no Redis")
    found: Figures = {"jobs": QUEUED_JOBS}
    for size in ARGUMENT_BYTES:
        peer.flush()
        peer.enqueue_sized(100, size)
        before = _memory(peer)
        peer.enqueue_sized(QUEUED_JOBS, size)
        found[f"bytes_{size}"] = (_memory(peer) - before) / QUEUED_JOBS
    peer.flush()
    return found


def _memory(peer: Peer) -> int:
    return int(peer.redis.info("memory")["used_memory"])


def w6(peer: Peer) -> Figures:
    """Seconds from the SIGKILL of a worker's processes until its job starts again."""
    marks = Path(os.environ["BENCH_MARKS"])
    marks.write_text("")
    peer.start_pair()
    peer.connect()
    peer.submit_slow()
    ((pid, began),) = _await_starts(marks, 1, 60.0)
    time.sleep(max(0.0, 1.0 - (clock() - began)))
    send(peer.victims(pid), signal.SIGKILL)
    killed, next_s = clock(), 1.0
    while clock() - killed < RESTART_S:
        starts = _starts(marks)
        if len(starts) > 1:
            return {"restart_s": starts[1][1] - killed}
        if clock() - killed > next_s:
            next_s += 1.0
            peer.trickle()
        time.sleep(0.05)
    return {"restart_s": None, "limit_s": RESTART_S}


def _starts(marks: Path) -> list[tuple[int, float]]:
    rows = [line.split() for line in marks.read_text().splitlines()]
    return [(int(pid), float(at)) for word, pid, at in rows if word == "start"]


def _await_starts(marks: Path, count: int, limit_s: float) -> list[tuple[int, float]]:
    deadline = clock() + limit_s
    while len(found := _starts(marks)) < count:
        if clock() > deadline:
            raise TimeoutError("the slow job never started")
        time.sleep(0.02)
    return found


class Costs:
    """Commands, round trips and CPU time of a workload, per job."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        peer = self._peer
        found = {
            "workers": cpu_s(peer.workers()),
            "client": time.process_time(),
            "all": busy_s(),
            "at": clock(),
        }
        if peer.uses_redis:
            stats = peer.redis.info("stats")
            found["commands"] = stats["total_commands_processed"] - peer.looks
            found["reads"] = stats["total_reads_processed"] - peer.looks
            found["redis"] = cpu_s([int(os.environ["BENCH_REDIS_PID"])])
        return found

    def per_job(self, count: int) -> Figures:
        """Since this was made. CPU in microseconds; `foreign_cpu`: cores that others kept busy."""
        after = self._read()
        spent = {name: after[name] - self._before[name] for name in after}
        ours = spent["workers"] + spent["client"] + spent.get("redis", 0.0)
        found = {
            f"{who}_cpu_us": 1e6 * spent[who] / count
            for who in ("workers", "client", "redis")
            if who in spent
        }
        if "commands" in spent:
            found["commands"] = spent["commands"] / count
            found["reads"] = spent["reads"] / count
        found["foreign_cpu"] = max(0.0, spent["all"] - ours) / max(spent["at"], 1e-3)
        return found


#: With workers, in this order: a Celery client keeps a subscription for each result of W1.
LIVE = {"W4": w4, "W3": w3, "W2": w2, "drain": drain, "W1": w1}
ALONE = {"W5": w5, "W6": w6}


def measure(peer: Peer, workloads: list[str], out: Path) -> None:
    """One repetition of each, written to `out` as they come.

    After an error nothing is measured any more, for what it left would be in the way: the caller
    asks for the others anew.
    """
    found: dict[str, Figures] = {}
    ping = {"ping_us": ping_us(PORT)} if peer.uses_redis else {}
    live = [name for name in LIVE if name in workloads]
    alone = [name for name in ALONE if name in workloads]
    peer.flush()
    if live:
        try:
            peer.start(2)
            peer.connect()
            peer.warm()
        except Exception as error:
            traceback.print_exc()
            failure = {"error": f"it did not start: {_described(error)}"}
            out.write_text(json.dumps(dict.fromkeys(live, failure)))
            return
    elif alone == ["W5"]:  # else the client is connected already; W6 needs its workers first
        peer.connect()
    for name in [*live, *alone]:
        if name in alone:
            peer.stop()
            peer.flush()
        found[name] = {**_attempt((LIVE | ALONE)[name], peer), **ping}
        out.write_text(json.dumps(found))
        if "error" in found[name]:
            return


def _attempt(workload: Callable[[Peer], Figures], peer: Peer) -> Figures:
    try:
        return workload(peer)
    except NotSupported as error:
        return {"not_supported": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"error": _described(error)}


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def main(cls: type[Peer], as_worker: Callable[..., None] | None = None) -> None:
    """The file's process: describes the system, works for it, or measures it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--as-worker", nargs="*")
    parser.add_argument("--config", default=CONFIG or next(iter(cls.configs)))
    parser.add_argument("--workloads", default="")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.describe:
        versions = {name: metadata.version(name) for name in cls.versions_of}
        print(
            json.dumps({"configs": cls.configs, "workloads": cls.workloads, "versions": versions})
        )
        return
    if asked.as_worker is not None:
        assert as_worker is not None
        as_worker(*asked.as_worker)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    peer = cls(asked.config)
    try:
        measure(peer, asked.workloads.split(","), asked.out)
    finally:
        peer.stop()
        peer.close()
    sys.stdout.flush()
    os._exit(0)  # whatever threads the system's client left
