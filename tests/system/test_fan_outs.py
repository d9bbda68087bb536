"""Fan-outs of any width: in order, within their limit, and folded exactly once each."""  # F4 F6 F7

from __future__ import annotations

import math
import runpy

import pytest

from penstock.common.state import keys
from support.processes import CODE, as_yaml, until
from support.working import is_gone

LIMIT = 7


def wide(machines, name, width, fan_ins, run="flow:measured", **fan_out):
    """A fan-out over a range, and fan-ins by name."""
    fan = {
        "id": "fan", "type": "fan-out", "template": {"run": run, "config": {"i": "${i}"}},
        "parameters": [{"name": "i", "range": width}], **fan_out,
    }  # fmt: skip
    jobs = [fan]
    for id_, aggregation in fan_ins.items():
        jobs.append(
            {"id": id_, "type": "fan-in", "fan_out_job_id": "fan", "aggregation": aggregation}
        )
    return machines.submit(as_yaml(machines.code / f"{name}.json", {"name": name, "jobs": jobs}))


@pytest.fixture
def node(machines):
    machines.orchestrator()
    return machines.worker("n", concurrency=2)


def test_all_results_are_collected_in_the_order_of_their_index(machines, node, full, figure):
    width = 100_000 if full else 5000
    collect = {"all": {"strategy": "collect-all"}}
    execution = wide(machines, "collect", width, collect, run="flow:noop")
    machines.service.wait_status(execution, 300)
    found = machines.service.result(execution, "all")["aggregated_result"]
    assert found == [{"i": i} for i in range(width)]
    figure(f"{len(found):,} results in the order of their index")


def test_no_more_run_at_once_than_may(machines, node, figure):
    width = 10_000
    execution = wide(machines, "limited", width, {}, run="flow:noop", max_parallel_jobs=LIMIT)
    machines.service.wait_status(execution, 300)
    now = most = started = 0
    for event in machines.events():
        if event.get("execution") != execution or not event.get("job", "").startswith("fan_"):
            continue
        now += (event["event"] == "job_started") - (event["event"] == "job_finished")
        started += event["event"] == "job_started"
        most = max(most, now)
    assert (started, now) == (width, 0)
    assert most <= LIMIT
    figure(
        f"{started:,} jobs with max_parallel_jobs: {LIMIT}, at most {most} of them started at once"
    )


def test_a_search_stops_early_and_what_runs_is_ended(machines, node, tmp_path, figure):
    width, enough = 5000, 700
    template = {
        "run": "flow:searched",
        "config": {"i": "${i}", "enough": enough, "folder": str(tmp_path)},
    }
    best = {"best": {"strategy": "best-metric", "metric_name": "accuracy"}}
    execution = wide(
        machines, "search", width, best, template=template, stop_when="accuracy >= 0.9"
    )
    assert machines.service.wait_status(execution, 50) == "succeeded"
    result = machines.service.result(execution, "best")
    assert result["aggregated_result"]["i"] == enough
    assert enough < result["input_count"] < width
    pid = int((tmp_path / "long").read_text())
    until(lambda: is_gone(pid), what="the one that would take a minute is ended")
    counts = machines.service.execution(execution)["progress"]
    assert counts["failed"] == 0
    assert counts["canceled"] > 0
    assert machines.client.hget(keys.group(execution, "fan"), "created").decode() != str(width)
    figure(
        f"{result['input_count']:,} of {width:,} ran, {counts['canceled']:,} that were made did not"
    )


FOLDED = {
    "mean": {"strategy": "average-metrics"},
    "best": {"strategy": "best-metric", "metric_name": "x"},
    "spread": {"strategy": "quantiles", "metric_name": "x", "quantiles": [0, 1]},
    "number": {"strategy": "count"},
}


def test_folds_are_exact_though_orchestrators_and_daemons_are_killed(machines, node, full, figure):
    """Those that have finished leave Redis while it goes on, each counts once, and the memory stays small."""
    width, kills = (200_000, 20) if full else (15_000, 3)
    base = machines.client.info("memory")["used_memory"]
    execution = wide(machines, "folded", width, FOLDED)
    group, peak = keys.group(execution, "fan"), 0
    orchestrator = machines.started[0]
    for kill in range(1, kills + 1):
        enough = width * kill // (kills + 1)
        until(lambda enough=enough: int(machines.client.hget(group, "settled") or 0) > enough, 60)
        node.kill()
        orchestrator.kill()
        orchestrator.wait()
        orchestrator, node = machines.orchestrator(), machines.daemon("n", but=node.pid)
        peak = max(peak, machines.client.info("memory")["used_memory"] - base)
    assert machines.service.wait_status(execution, 300) == "succeeded"
    measured = runpy.run_path(str(CODE / "flow.py"))["measured"]
    values = [measured(i)["x"] for i in range(width)]
    found = {id_: machines.service.result(execution, id_) for id_ in FOLDED}
    assert {one["input_count"] for one in found.values()} == {width}
    assert found["mean"]["aggregated_result"]["x"] == math.fsum(values) / width
    assert found["best"]["aggregated_result"]["i"] == values.index(max(values))
    assert found["spread"]["aggregated_result"] == {"0": min(values), "1": max(values)}
    assert found["number"]["aggregated_result"] == width
    row = machines.service.execution(execution)["jobs"]["fan"]
    assert row["total"] == width
    assert row["folded"] > width - 3000
    lost = [row for row in machines.events("job_requeued") if row["execution"] == execution]
    assert lost or full, "the events of a wide one are trimmed"
    figure(
        f"{width:,} children folded, {row['folded']:,} of them before the end, {kills} orchestrators and "
        f"{kills} daemons killed, {len(lost)} attempts lost; at most {peak / 1e6:.0f} MB of Redis"
    )
