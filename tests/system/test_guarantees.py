"""One result each, whatever is killed, stopped or sent twice."""  # Q5 Q6 Q10 Q11 W12

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise

import psutil

from support.processes import as_yaml, commands_processed, until


def job_started(machines, execution, name):
    return machines.service.execution(execution)["jobs"].get(name, {}).get("status") == "started"


def test_twice_under_one_key_is_one_execution(machines):
    file = as_yaml(
        machines.code / "key.json", {"name": "k", "jobs": [{"id": "a", "run": "flow:noop"}]}
    )
    first = machines.submit(file, "--key", "nightly")
    assert machines.submit(file, "--key", "nightly") == first
    assert len(machines.service.executions()) == 1
    other = as_yaml(
        machines.code / "key2.json", {"name": "k", "jobs": [{"id": "b", "run": "flow:noop"}]}
    )
    refused = machines.run("submit", str(other), "--key", "nightly")
    assert refused.returncode == 2
    assert first in refused.stderr


def test_a_node_stopped_past_its_time_out_settles_nothing(machines, figure, tmp_path):
    """Daemon, then slots are stopped with the result on its way; another node runs the job."""
    machines.orchestrator()
    stopped = machines.worker("stopped", concurrency=1)
    mark = tmp_path / "mark"
    jobs = [{"id": "a", "run": "flow:marked", "config": {"s": 1.0, "path": str(mark)}}]
    execution = machines.submit(
        as_yaml(machines.code / "stopped.json", {"name": "s", "jobs": jobs})
    )
    until(lambda: job_started(machines, execution, "a"))
    slots = stopped.children(recursive=True)
    stopped.suspend()
    until(lambda: mark.exists() and all(slot.status() == "sleeping" for slot in slots))
    for slot in slots:
        slot.suspend()
    machines.worker("other", concurrency=1)
    found = machines.wait(execution, 40)
    assert (found["jobs"]["a"]["node"], found["jobs"]["a"]["attempt"]) == ("other", 2)
    before = machines.client.hgetall(f"rq:job:{execution}-a")
    for process in (*slots, stopped):
        process.resume()
    (late,) = until(lambda: machines.events("settle_stale"), 20)
    assert (late["node"], late["id"], late["attempt"]) == ("stopped", f"{execution}-a", "1")
    assert machines.client.hgetall(f"rq:job:{execution}-a") == before
    finished = [event for event in machines.events("job_finished") if event["job"] == "a"]
    assert [event["attempt"] for event in finished] == ["2"]
    again = machines.submit(as_yaml(machines.code / "stopped.json", {"name": "s", "jobs": jobs}))
    assert machines.wait(again, 30)["status"] == "succeeded"
    figure("the late settle of attempt 1 was answered STALE, attempt 2's result stands")


def test_the_job_of_a_node_stopped_past_its_time_out_is_ended(machines, figure):
    """The whole node is stopped in the middle of the job, and goes on when it is too late."""
    machines.orchestrator()
    stopped = machines.worker("stopped", concurrency=1)
    jobs = [{"id": "a", "run": "flow:nap", "config": {"s": 6, "n": 1}}]
    execution = machines.submit(
        as_yaml(machines.code / "stopped2.json", {"name": "s", "jobs": jobs})
    )
    until(lambda: job_started(machines, execution, "a"))
    machines.worker("other", concurrency=1)
    tree = [stopped, *stopped.children(recursive=True)]
    for process in tree:
        process.suspend()
    until(lambda: machines.client.hget(f"rq:job:{execution}-a", "attempt") == b"2", 30)
    began = time.monotonic()
    for process in tree:
        process.resume()
    until(lambda: not any(_alive(slot) for slot in tree[1:]), 20, "the stale job's process to go")
    gone_s = time.monotonic() - began
    found = machines.wait(execution, 40)
    assert (found["jobs"]["a"]["node"], found["jobs"]["a"]["attempt"]) == ("other", 2)
    assert [event["attempt"] for event in machines.events("job_finished")] == ["2"]
    figure(f"the stale job's process was gone {gone_s:.2f} s after it went on")


def test_a_node_outlasts_a_redis_that_is_away(machines, figure):
    """Away for longer than the node's registration lives: its job goes on and counts once."""
    machines.orchestrator()
    machines.worker("n", concurrency=1)
    machines.worker("other", concurrency=1)
    jobs = [{"id": f"j{i}", "run": "flow:nap", "config": {"s": 9}} for i in range(2)]
    execution = machines.submit(as_yaml(machines.code / "away.json", {"name": "s", "jobs": jobs}))
    until(lambda: job_started(machines, execution, "j1"))
    server = psutil.Process(machines.client.info("server")["process_id"])
    server.suspend()
    away = time.monotonic()
    until(lambda: time.monotonic() - away > 7.5)
    server.resume()
    found = machines.wait(execution, 60)
    assert found["status"] == "succeeded"
    assert {job["attempt"] for job in found["jobs"].values()} == {1}
    figure("Redis away for 7.5 s, 0 failovers of 2 running jobs")


def test_a_stopped_slot_is_only_slow_until_its_time_out(machines):
    machines.orchestrator()
    machines.worker("n", concurrency=1)
    jobs = [
        {"id": "a", "run": "flow:nap", "config": {"s": 0.3}, "timeout": 6, "retry": 0},
        {"id": "b", "run": "flow:noop"},
    ]
    execution = machines.submit(as_yaml(machines.code / "slow.json", {"name": "s", "jobs": jobs}))
    until(lambda: job_started(machines, execution, "a"))
    (slot,) = machines.slots("n")
    slot.suspend()
    found = machines.wait(execution, 40)
    assert found["jobs"]["a"]["status"] == "failed"
    assert found["jobs"]["a"]["error"]["type"] == "JobTimeout"
    assert found["jobs"]["a"]["attempt"] == 1
    assert found["jobs"]["b"]["status"] == "finished"
    assert not slot.is_running() or slot.status() == psutil.STATUS_ZOMBIE


def test_one_long_job_among_many_short_ones_delays_nobody(machines, full, figure):
    """Every other result is there within 0.2 s of when it would be without the long one."""
    long_s, count = (60, 1000) if full else (4, 300)
    machines.orchestrator()
    machines.worker("n", concurrency=2, LONG_S=str(long_s))

    def sweep(first):
        jobs = [
            {
                "id": "each",
                "type": "fan-out",
                "template": {"run": "flow:maybe_long", "config": {"i": "${i}"}},
                "parameters": [{"name": "i", "values": list(range(first, first + count + 1))}],
            }
        ]
        return as_yaml(machines.code / "long.json", {"name": "long", "jobs": jobs})

    machines.wait(machines.submit(sweep(1)), 60)  # its run time is now known to be short
    with_long = _finish_times(machines, machines.submit(sweep(0)), long_s + 60)
    plain = _finish_times(machines, machines.submit(sweep(1)), 60)
    others = sorted(at for name, at in with_long.items() if not name.startswith("each_0_"))
    gap = max(later - earlier for earlier, later in pairwise(others))
    assert gap <= 0.2, f"a gap of {gap:.3f} s between results"
    slowest = max(others) - min(others)
    figure(
        f"{count} no-ops beside one of {long_s} s: last result after {slowest:.2f} s "
        f"(without it {max(plain.values()) - min(plain.values()):.2f} s), largest gap {gap:.3f} s"
    )


def _finish_times(machines, execution, timeout_s):
    assert machines.wait(execution, timeout_s)["status"] == "succeeded"
    rows = machines.events("job_finished")
    return {
        row["job"]: int(row["ms"]) / 1000
        for row in rows
        if row["execution"] == execution and row["job"] != "each"
    }


def test_a_job_that_waits_for_its_own_job_on_one_slot_ends(machines, figure):
    machines.orchestrator()
    machines.worker("n", concurrency=1)
    jobs = [{"id": "a", "run": "flow:outer", "config": {"url": machines.url}}]
    execution = machines.submit(as_yaml(machines.code / "outer.json", {"name": "o", "jobs": jobs}))
    began = time.monotonic()
    found = machines.wait(execution, 60)
    assert found["status"] == "succeeded", found["jobs"]["a"]["error"]
    assert found["result"] == {"inner": {"n": 7}}
    figure(f"ended in {time.monotonic() - began:.2f} s on one slot")


def test_an_idle_cluster_asks_little(machines, full, figure):
    seconds = 60 if full else 10
    machines.orchestrator()
    machines.worker("n", concurrency=4)
    file = as_yaml(
        machines.code / "idle.json", {"name": "i", "jobs": [{"id": "a", "run": "flow:noop"}]}
    )
    machines.wait(machines.submit(file), 30)
    until(lambda: machines.client.zcard("penstock:agenda:default") == 0)
    before, began = commands_processed(machines.client), time.monotonic()
    until(lambda: time.monotonic() - began >= seconds, seconds + 5)
    rate = (commands_processed(machines.client) - before - 1) / (time.monotonic() - began)
    figure(f"{rate:.1f} commands a second over {seconds} s")
    assert rate < 20


def test_no_process_outlives_a_killed_daemon_or_supervisor(machines):
    machines.orchestrator()
    daemon = machines.worker("n", concurrency=2)
    jobs = [{"id": "a", "run": "flow:nap", "config": {"s": 3}}]
    execution = machines.submit(as_yaml(machines.code / "killed.json", {"name": "k", "jobs": jobs}))
    until(lambda: job_started(machines, execution, "a"))
    slots = daemon.children(recursive=True)
    daemon.kill()
    until(lambda: not any(slot.is_running() for slot in slots), 10)
    again = machines.daemon("n", but=daemon.pid)
    until(lambda: job_started(machines, execution, "a"))
    tree = [again, *again.children(recursive=True)]
    os.kill(machines.started[1].pid, signal.SIGKILL)
    until(lambda: not any(_alive(process) for process in tree), 15)


def _alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
