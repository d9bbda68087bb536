"""A cluster of real processes as its user sees it."""  # F6 Q10 A2

from __future__ import annotations

import json

import psutil
import pytest

import penstock
from penstock.common.errors import SpecError
from penstock.common.spec import importer
from support.processes import as_yaml, until


def test_a_custom_aggregator_gets_the_outputs_in_order(machines):
    machines.orchestrator()
    machines.worker("n")
    template = {"run": "flow:activation", "config": {"function": "${x}"}}
    jobs = [
        {"id": "v", "type": "fan-out", "template": template,
         "parameters": [{"name": "x", "values": [1, 2, 3]}]},
        {"id": "c", "type": "fan-in", "fan_out_job_id": "v",
         "aggregation": {"strategy": "custom", "custom_aggregator": "flow:total"}},
    ]  # fmt: skip
    file = as_yaml(machines.code / "custom.json", {"name": "c", "jobs": jobs})
    assert machines.wait(machines.submit(file))["result"] == {
        "aggregated_result": 6,
        "strategy": "custom",
        "input_count": 3,
        "source_job_id": "v",
    }


def test_a_custom_aggregator_gets_its_config_and_outputs_are_never_filled_in(machines):  # F6 W4
    machines.orchestrator()
    machines.worker("n")
    template = {"run": "flow:activation", "config": {"function": "${x}"}}
    custom = {"strategy": "custom", "custom_aggregator": "flow:described"}
    text = "${jobs.before.result.s}"
    jobs = [
        {"id": "before", "run": "flow:noop", "config": {"s": 0}},
        {"id": "v", "type": "fan-out", "template": template,
         "parameters": [{"name": "x", "values": ["$" + text, 2]}]},
        {"id": "filled", "type": "fan-in", "fan_out_job_id": "v", "aggregation": custom,
         "config": {"first": text, "label": "$" + text}},
        {"id": "plain", "type": "fan-in", "fan_out_job_id": "v", "aggregation": custom,
         "config": {"first": "$" + text, "more": [1]}},
    ]  # fmt: skip
    file = as_yaml(machines.code / "config.json", {"name": "c", "jobs": jobs})
    found = machines.wait(machines.submit(file))["jobs"]
    results = {name: found[name]["result"]["aggregated_result"] for name in ("filled", "plain")}
    assert results["filled"] == {"outputs": [text, 2], "first": 0, "label": text}
    assert results["plain"] == {"outputs": [text, 2], "first": text, "label": "", "more": [1]}


def test_a_drained_node_finishes_its_job_and_ends(machines):
    machines.orchestrator()
    machines.worker("n", concurrency=1)
    jobs = [{"id": f"j{i}", "run": "flow:nap", "config": {"s": 1.5}} for i in range(2)]
    execution = machines.submit(as_yaml(machines.code / "drain.json", {"name": "d", "jobs": jobs}))
    until(lambda: machines.service.execution(execution)["jobs"]["j0"]["status"] == "started")
    assert machines.run("worker", "drain", "n").returncode == 0
    worker = machines.started[1]
    assert worker.wait(20) == 0
    found = machines.service.execution(execution)["jobs"]
    assert (found["j0"]["status"], found["j1"]["status"]) == ("finished", "queued")
    assert machines.service.nodes() == []
    assert "no live worker" in found["j1"]["reason"]
    machines.worker("m", concurrency=1)
    assert machines.wait(execution)["status"] == "succeeded"


def test_without_an_orchestrator_the_status_says_so(machines):
    machines.worker("n")
    file = as_yaml(
        machines.code / "alone.json", {"name": "a", "jobs": [{"id": "a", "run": "flow:noop"}]}
    )
    execution = machines.submit(file)
    shown = machines.run("status", execution)
    assert "penstock orchestrator start" in shown.stdout + machines.run("doctor").stdout
    machines.orchestrator()
    assert machines.wait(execution)["status"] == "succeeded"


def test_a_run_outlasts_a_restart_of_redis(machines, home):
    """The command goes on watching; the private server is brought back by its keeper."""
    environment = {"PENSTOCK_HOME": str(home), "PENSTOCK_REDIS_URL": ""}
    jobs = [{"id": "a", "run": "flow:nap", "config": {"s": 3}}]
    file = as_yaml(machines.code / "restart.json", {"name": "r", "jobs": jobs})
    run = machines.start("run", str(file), "--json", **environment)

    def servers():
        return [one for one in psutil.process_iter(["name", "cwd"])
                if one.info["name"] == "valkey-server" and str(home) in (one.info["cwd"] or "")]  # fmt: skip

    def daemons():
        return [one for one in psutil.Process(run.pid).children(recursive=True)
                if "penstock.worker.slot" in " ".join(one.cmdline())]  # fmt: skip

    until(lambda: servers() and daemons())
    servers()[0].kill()
    assert run.wait(60) == 0
    log = next(machines.folder.glob("0-run.log")).read_text()
    assert '"status": "succeeded"' in log


def test_up_for_a_cluster_and_a_run_here_are_apart(machines, home):
    environment = {"PENSTOCK_HOME": str(home)}
    assert machines.run("up", "-w", "1", **environment).returncode == 0
    try:
        assert [node["state"] for node in machines.service.nodes()] != []
        jobs = {"name": "a", "jobs": [{"id": "a", "run": "flow:noop"}]}
        file = as_yaml(machines.code / "here.json", jobs)
        here = machines.run("run", str(file), "--json", **environment, PENSTOCK_REDIS_URL="")
        assert json.loads(here.stdout)["status"] == "succeeded"
        assert machines.service.executions() == []
    finally:
        assert machines.run("down", **environment).returncode == 0
    assert machines.service.nodes() == []


def test_functions_are_imported_again_only_when_their_code_has_changed(machines, monkeypatch):
    monkeypatch.chdir(machines.code)
    asked: list[list[str]] = []
    ask = importer.ask
    monkeypatch.setattr(
        importer, "ask", lambda root, names, *rest, **more: asked.append(names) or ask(root, names, *rest, **more)
    )  # fmt: skip
    cluster = penstock.Cluster(machines.url)
    one = {"jobs": [{"id": "a", "run": "flow:nap", "config": {"s": 0}}]}
    for _ in range(3):
        cluster.submit(one)
    two = {"jobs": [*one["jobs"], {"id": "b", "run": "flow:total", "config": {"outputs": []}}]}
    cluster.submit(two)
    assert asked == [["flow:nap"]]
    (machines.code / "flow.py").write_text("def nap(s): ...\n")
    with pytest.raises(SpecError, match="has no function 'total'"):
        cluster.submit(two)
    assert asked[1:] == [["flow:nap", "flow:total"]]
