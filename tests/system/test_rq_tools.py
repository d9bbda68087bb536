"""Stock RQ tools read our queues, and change nothing."""  # Q1

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from support.processes import as_yaml, until

RQ = str(Path(sys.executable).with_name("rq"))
RQ_DASHBOARD = str(Path(sys.executable).with_name("rq-dashboard"))


def rq_info(url: str) -> str:
    done = subprocess.run(
        [RQ, "info", "--url", url], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def snapshot(machines, execution):
    rows = machines.service.execution(execution)["jobs"]
    return {name: (job["status"], job["attempt"]) for name, job in rows.items()}


def ended_there(client, how):
    """Jobs that RQ's tools show as ended on both workers."""
    return sum(
        int(client.hget(f"rq:worker:{name}", f"{how}_job_count") or 0) for name in ("one", "two")
    )


def test_rq_info_reads_and_changes_nothing(machines, full, figure):
    times, nap_s = (100, 130.0) if full else (6, 6.0)
    machines.orchestrator()
    machines.worker("one", "--capabilities", "cpu", concurrency=1)
    machines.worker("two", "--capabilities", "cpu,gpu", concurrency=1)
    jobs = [{"id": f"nap{i}", "run": "flow:nap", "config": {"s": nap_s}} for i in range(2)]
    jobs += [{"id": f"wait{i}", "run": "flow:noop", "priority": 2} for i in range(5)]
    jobs += [{"id": "gpu", "run": "flow:noop", "priority": 1, "capabilities": ["gpu"]}]
    execution = machines.submit(
        as_yaml(machines.code / "rq_tools.json", {"name": "rq", "jobs": jobs})
    )
    until(lambda: snapshot(machines, execution)["nap1"][0] == "started")
    until(lambda: machines.client.llen("rq:queue:any.p2") == 5)
    before, began = snapshot(machines, execution), time.monotonic()
    for turn in range(times):
        text = rq_info(machines.url)
        next_at = began + (turn + 1) * (nap_s - 3) / times
        until(lambda at=next_at: time.monotonic() >= at, timeout_s=60)
    lasted = time.monotonic() - began
    assert snapshot(machines, execution) == before
    lines = text.splitlines()
    assert any(line.startswith("any.p2") and " 5, 0 executing" in line for line in lines), text
    assert any(line.startswith("any.p5") and " 0, 2 executing" in line for line in lines), text
    assert any(line.startswith("gpu.p1") and " 1, " in line for line in lines), text
    workers = {line.split()[0] for line in lines if ": busy" in line or ": idle" in line}
    assert workers == {"one", "two"}, text
    found = machines.wait(execution, 120)
    assert found["status"] == "succeeded"
    assert {job["attempt"] for job in found["jobs"].values()} == {1}
    until(lambda: ended_there(machines.client, "successful") == len(jobs))
    assert ended_there(machines.client, "failed") == 0
    figure(f"rq info run {times} times over {lasted:.0f} s of running jobs, 0 changes")


@pytest.fixture
def port(machines):
    """The test's Redis listens on this port of the loopback as well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    machines.client.config_set("bind", "127.0.0.1")
    machines.client.config_set("port", number)
    yield number
    machines.client.config_set("port", 0)


@pytest.fixture
def dashboard(port, machines):
    """The address of a stock `rq-dashboard --json` on the test's Redis."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        web = free.getsockname()[1]
    command = [
        RQ_DASHBOARD,
        "--json",
        "-u",
        f"redis://127.0.0.1:{port}",
        "-b",
        "127.0.0.1",
        "-p",
        str(web),
    ]
    with (machines.folder / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{web}"
    until(lambda: _answer(address + "/0/data/queues.json")[0] == 200)
    yield address
    process.terminate()
    process.wait(10)


def _answer(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def test_every_page_of_rq_dashboard_answers(machines, dashboard, figure):
    machines.orchestrator()
    machines.worker("one", concurrency=1)
    machines.worker("two", concurrency=1)
    jobs = [
        {"id": "done", "run": "flow:noop"},
        {"id": "bad", "run": "flow:fails", "retry": 0},
        {"id": "again", "run": "flow:fails", "retry": {"max": 1, "backoff": 60}},
        {"id": "long", "run": "flow:nap", "config": {"s": 60}, "priority": 4},
        {"id": "long2", "run": "flow:nap", "config": {"s": 60}, "priority": 4},
        {"id": "waiting", "run": "flow:noop", "priority": 3},
        {"id": "later", "run": "flow:noop", "priority": 3, "depends_on": ["long"]},
    ]
    execution = machines.submit(
        as_yaml(machines.code / "dashboard.json", {"name": "d", "jobs": jobs})
    )
    until(lambda: snapshot(machines, execution)["long2"][0] == "started")
    registries = ("queued", "finished", "failed", "scheduled", "started", "deferred", "canceled")
    pages = [
        "/",
        "/0/data/queues.json",
        "/0/data/workers.json",
        "/0/view/workers",
        "/0/view/queues",
    ]
    for queue in ("any.p5", "any.p4", "any.p3"):
        for registry in registries:
            pages.append(f"/0/view/jobs/{queue}/{registry}/8/asc/1")
            pages.append(f"/0/data/jobs/{queue}/{registry}/8/asc/1.json")
    for job in jobs:
        pages += [
            f"/0/view/job/{execution}-{job['id']}",
            f"/0/data/job/{execution}-{job['id']}.json",
        ]
    answers = {page: _answer(dashboard + page)[0] for page in pages}
    assert {page: code for page, code in answers.items() if code != 200} == {}
    workers = json.loads(_answer(dashboard + "/0/data/workers.json")[1])["workers"]
    assert sorted(worker["name"] for worker in workers) == ["one", "two"]
    queues = json.loads(_answer(dashboard + "/0/data/queues.json")[1])["queues"]
    counts = {row["name"]: row["count"] for row in queues}
    assert counts == {"any.p5": 0, "any.p4": 0, "any.p3": 1}
    statuses = {name: status for name, (status, _) in snapshot(machines, execution).items()}
    assert statuses == {
        "done": "finished", "bad": "failed", "again": "scheduled", "long": "started",
        "long2": "started", "waiting": "queued", "later": "deferred",
    }  # fmt: skip
    figure(f"{len(pages)} pages of rq-dashboard, each answered 200")
    machines.service.cancel(execution)
