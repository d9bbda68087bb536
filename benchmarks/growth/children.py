"""A fan-out of very many children into two fan-ins that fold: what it costs, and that it adds up."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from penstock.common.state import keys

from ..speed.peers.work import measured
from .cluster import Cluster
from .curves import Points, slow_commands

#: one axis; the other one makes up the number of children
ACROSS = 1000
#: from this child on the memory of our processes is to stay as it is
SETTLED_IN = 10_000
MB = 1e6


def children(counts: Iterable[int], started: Cluster) -> Points:
    """Each count in turn, on the same cluster: time, memory of Redis and of our processes."""
    _run(started, 2 * ACROSS)
    return {str(count): _run(started, count) for count in counts}


def _run(on: Cluster, count: int) -> dict[str, Any]:
    axes = [range(ACROSS), range(count // ACROSS)]
    base, slow = on.used_memory(), slow_commands(on)
    began = time.monotonic()
    id_ = on.submit(_workflow([list(axis) for axis in axes]))
    peak, early, open_status = 0, {}, ("pending", "running")
    while (fields := on.store.execution(id_))["status"] in open_status:
        peak = max(peak, on.used_memory())
        early = early or (_rss(on) if int(fields.get("finished", 0)) >= SETTLED_IN else {})
        time.sleep(0.05)
    took_s, late = time.monotonic() - began, _rss(on)
    assert fields["status"] == "succeeded", fields
    _check(on, id_, [measured(i, j)["x"] for i in axes[0] for j in axes[1]])
    early, over = early or late, slow()
    stream = int(on.client.memory_usage(keys.events(), samples=0) or 0)
    return {
        "s": took_s,
        "ms_each": 1000 * took_s / count,
        "redis_peak_mb": (peak - base) / MB,
        "events_mb": stream / MB,
        **{f"{name}_mb_early": rss / MB for name, rss in early.items()},
        **{f"{name}_mb_end": rss / MB for name, rss in late.items()},
        "scripts": over["scripts"],
        "over_10_ms": len(over["over_10_ms"]),
        "slowest_ms": over["over_10_ms"][0]["ms"] if over["over_10_ms"] else 0.0,
    }


def _workflow(axes: list[list[int]]) -> dict[str, Any]:
    parameters = [{"name": name, "values": axis} for name, axis in zip("ij", axes, strict=True)]
    template = {"run": "work:measured", "config": {"i": "${i}", "j": "${j}"}}
    fan_in = {"type": "fan-in", "fan_out_job_id": "fan"}
    best = {"strategy": "best-metric", "metric_name": "x"}
    return {
        "jobs": [
            {"id": "fan", "type": "fan-out", "template": template, "parameters": parameters,
             "keep_results": False},
            {"id": "mean", **fan_in, "aggregation": {"strategy": "average-metrics"}},
            {"id": "best", **fan_in, "aggregation": best},
        ]
    }  # fmt: skip


def _check(on: Cluster, id_: str, values: list[float]) -> None:
    """The mean is exact whatever the order was, the best is the first of the highest."""
    mean, best = (on.service.result(id_, job) for job in ("mean", "best"))
    assert mean["aggregated_result"]["x"] == math.fsum(values) / len(values), mean
    assert (mean["input_count"], best["input_count"]) == (len(values), len(values))
    first = divmod(values.index(max(values)), len(values) // ACROSS)
    assert tuple(best["chosen"][0]["parameters"].values()) == first, best


def _rss(on: Cluster) -> dict[str, int]:
    return {name: int(process.memory_info().rss) for name, process in on.processes.items()}
