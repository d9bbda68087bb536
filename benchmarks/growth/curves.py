"""The curves. Each function gives its points as `{x: {figure: value}}`, x as text."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from penstock.common.jobs import Settlement
from penstock.worker.batches import MAX_BATCH

from .cluster import Cluster, cluster

Points = dict[str, dict[str, Any]]

NOOP = {"run": "work:noop"}
#: Jobs that a node claims and settles at once, and how often that is done for a figure.
BATCH, ADVANCES, RUNS = MAX_BATCH, 10, 5
KEY = "|work:noop"


def queue_length(lengths: Iterable[int]) -> Points:
    """Full advances beside a queue of some length (and up to a thousand more), the
    lengths in turn: time of the script by INFO commandstats, the medians of five runs; and what the
    jobs take of memory."""
    with ExitStack() as stack:
        queues = {length: Queue(stack.enter_context(cluster()), length) for length in lengths}
        found: dict[int, list[float]] = {length: [] for length in queues}
        for _ in range(RUNS):
            for length, queue in queues.items():
                found[length].append(queue.usec_a_call())
        return {
            str(length): {
                "usec_per_call": statistics.median(found[length]),
                "usec_min": min(found[length]),
                "usec_max": max(found[length]),
                "made_per_s": length / queue.made_s,
                "bytes_a_job": queue.memory / length,
            }
            for length, queue in queues.items()
        }


class Queue:
    """A queue that is kept at its length, and a node that works on it."""

    def __init__(self, on: Cluster, length: int) -> None:
        self.on, self.claims, self.executions = on, 0, 0
        on.register("n")
        before, began = on.used_memory(), time.monotonic()
        on.queue_jobs("e0000000000000000", length)
        self.made_s = time.monotonic() - began
        self.memory = on.used_memory() - before
        self.key = f"{on.code.root}|{on.code.digest}{KEY}"

    def usec_a_call(self) -> float:
        """Microseconds of the server's time for an advance."""
        self.executions += 1
        self.on.queue_jobs(f"f{self.executions:016}", (ADVANCES + 1) * BATCH)
        done = self._advance([])
        self.on.client.config_resetstat()
        for _ in range(ADVANCES):
            done = self._advance(done)
        stats = self.on.client.info("commandstats")["cmdstat_fcall"]
        usec = float(stats["usec_per_call"])
        self._advance(done, lanes=0)
        return usec

    def _advance(self, done: list[Any], lanes: int = 2) -> list[Any]:
        self.claims += 1
        ended = [Settlement(token, "finished", b"0", b"", {}, 0, 0, -1, b"") for token in done]
        ahead = {self.key: BATCH - lanes} if lanes else {}
        free = {"cpus": 2.0, "slots": 2.0}
        advanced = self.on.store.advance(
            "n", "n", f"n-{self.claims}", settlements=ended, lanes=lanes, free=free, ahead=ahead
        )
        assert len(advanced.claimed) == (BATCH if lanes else 0), len(advanced.claimed)
        return [one.token for one in advanced.claimed]


def width(widths: Iterable[int], started: Cluster) -> Points:
    """1 -> width -> 1, the last with all results: milliseconds a child."""

    def workflow(count: int) -> dict[str, Any]:
        axis = [{"name": "i", "values": list(range(count))}]
        template = {**NOOP, "config": {"i": "${i}"}}
        first = {"id": "first", **NOOP, "config": {"i": 0}}
        fan = {"id": "fan", "type": "fan-out", "template": template, "parameters": axis}
        last = {"id": "last", "type": "fan-in", "fan_out_job_id": "fan"}
        last["aggregation"] = {"strategy": "collect-all"}  # type: ignore[assignment]
        return {"jobs": [first, {**fan, "depends_on": ["first"]}, last]}

    return _timed(started, widths, workflow)


def chain(lengths: Iterable[int], started: Cluster) -> Points:
    """A chain: milliseconds a hop."""

    def workflow(count: int) -> dict[str, Any]:
        jobs: list[dict[str, Any]] = [{"id": "j0", **NOOP, "config": {"i": 0}}]
        for n in range(1, count):
            jobs.append({"id": f"j{n}", **NOOP, "config": {"i": n}, "depends_on": [f"j{n - 1}"]})
        return {"jobs": jobs}

    return _timed(started, lengths, workflow)


def _timed(
    started: Cluster, counts: Iterable[int], workflow: Callable[[int], dict[str, Any]]
) -> Points:
    started.run(workflow(2))
    points: Points = {}
    for count in counts:
        given, taken = workflow(count), []
        for _ in range(3):
            began = time.monotonic()
            started.run(given)
            taken.append(time.monotonic() - began)
            if sum(taken) > 60.0:
                break
        each = [1000 * one / count for one in taken]
        points[str(count)] = {
            "ms_each": statistics.median(each),
            "ms_min": min(each),
            "ms_max": max(each),
            "runs": len(each),
        }
    return points


def slots(counts: Iterable[int], jobs: int) -> Points:
    """No-op jobs a second of one node with so many slots, and jobs of 5 ms that wait."""
    points: Points = {}
    for count in counts:
        with cluster() as on:
            on.start(count)
            points[str(count)] = {
                "noop_per_s": _rate(on, "work:noop", jobs),
                "wait_per_s": _rate(on, "work:wait", jobs // 4),
            }
    return points


def _rate(on: Cluster, run: str, jobs: int) -> float:
    rates = []
    for number in range(4):  # the first one warms up
        axis = [{"name": "i", "values": list(range(jobs))}]
        template = {"run": run, "config": {"i": "${i}"}}
        fan = {"id": "fan", "type": "fan-out", "template": template, "parameters": axis}
        began = time.monotonic()
        on.run({"jobs": [fan]})
        if number:
            rates.append(jobs / (time.monotonic() - began))
    return statistics.median(rates)


def nodes(counts: Iterable[int], seconds: float) -> Points:
    """So many nodes, each of which beats once a second and finds nothing to do: the share of a core
    that the server spends on them, and that it spends on itself with none."""
    points: Points = {}
    with cluster() as on:
        idle_s = _spent(on, [], seconds)
        for count in counts:
            names = [f"node-{number}" for number in range(count)]
            for name in names:
                on.register(name)
            spent_s = _spent(on, names, seconds)
            points[str(count)] = {
                "core_share": (spent_s - idle_s) / seconds,
                "idle_share": idle_s / seconds,
            }
    return points


def _spent(on: Cluster, names: list[str], seconds: float) -> float:
    """CPU seconds of the server while each of these beats once a second, spread evenly."""
    before, began = on.cpu_s(), time.monotonic()
    for second in range(int(seconds)):
        for place, name in enumerate(names or [""]):
            due = began + second + place / max(len(names), 1)
            time.sleep(max(0.0, due - time.monotonic()))
            if name:
                on.store.beat(name, name)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    return on.cpu_s() - before


def slow_commands(started: Cluster) -> Callable[[], dict[str, Any]]:
    """Begins to look for commands over 10 ms; what it returns gives them, with the number of scripts, the
    microseconds of each on average, and what commands took in them."""
    started.client.config_set("slowlog-log-slower-than", 10_000)
    started.client.config_set("slowlog-max-len", 10_000)
    started.client.slowlog_reset()
    started.client.config_resetstat()

    def found() -> dict[str, Any]:
        by_command = started.client.info("commandstats")
        stats = by_command.pop("cmdstat_fcall")
        names = {script.function: name for name, script in started.store.scripts.items()}
        slow = [
            {"script": _named(entry["command"], names), "ms": entry["duration"] / 1000}
            for entry in started.client.slowlog_get(10_000)
        ]
        return {
            "scripts": stats["calls"],
            "usec_per_script": stats["usec_per_call"],
            "over_10_ms": sorted(slow, key=lambda one: -one["ms"]),
            "usec": stats["usec"],
            "by_command": by_command,
        }

    return found


def slow_scripts(started: Cluster, jobs: int) -> dict[str, Any]:
    """Commands over 10 ms while a fan-out of so many jobs runs, with all else on the same machine."""
    slow = slow_commands(started)
    axis = [{"name": "i", "values": list(range(jobs))}]
    template = {**NOOP, "config": {"i": "${i}"}}
    id_ = started.submit(
        {"jobs": [{"id": "fan", "type": "fan-out", "template": template, "parameters": axis}]}
    )
    while started.store.execution(id_)["status"] != "succeeded":
        time.sleep(0.05)  # waiting by the service would read all jobs, outside of scripts
    found = slow()
    by_command, usec = found.pop("by_command"), found.pop("usec")
    return {"jobs": jobs, **found, "in_scripts": _in_scripts(by_command, usec, jobs)}


def _in_scripts(
    by_command: dict[str, dict[str, float]], scripts_usec: float, jobs: int
) -> dict[str, dict[str, float]]:
    """Calls and microseconds a job of the commands that scripts make; `lua` is the rest of them."""
    # what only clients and daemons call, outside of scripts
    others = {"blpop", "subscribe", "ping", "info", "client", "config", "slowlog", "function"}
    inside = {
        name.removeprefix("cmdstat_"): {"calls": one["calls"] / jobs, "usec": one["usec"] / jobs}
        for name, one in by_command.items()
        if name.removeprefix("cmdstat_").partition("|")[0] not in others
    }
    commands_usec = sum(one["usec"] for one in inside.values())
    ordered = sorted(inside.items(), key=lambda pair: -pair[1]["usec"])
    lua = {"calls": 0.0, "usec": scripts_usec / jobs - commands_usec}
    return {"lua": lua, **dict(ordered)}


def _named(command: bytes, names: dict[str, str]) -> str:
    words = command.decode(errors="replace").split()
    return names.get(words[1], words[1]) if words[0].upper() == "FCALL" else words[0]
