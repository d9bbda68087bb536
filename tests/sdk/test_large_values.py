"""Results over the inline limit, and pickles, on a cluster that is set to have them."""  # W5 F4

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import Cluster
from penstock.common import pickles
from penstock.common.errors import JobFailed
from support.processes import Machines, as_yaml

KEY = "the key of this cluster"
SET = {"PENSTOCK_INLINE_LIMIT_BYTES": "200", "PENSTOCK_PICKLE_KEY": KEY}


@pytest.fixture(scope="module")
def machines(redis7: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A node and an orchestrator that share a folder for values."""
    redis7.client.flushall()
    folder = tmp_path_factory.mktemp("values")
    made = Machines(redis7.url, folder)
    made.environment |= {**SET, "PENSTOCK_ARTIFACTS": str(folder / "shared")}
    try:
        made.worker("n", concurrency=2)
        made.orchestrator()
        yield made
    finally:
        made.close()


@pytest.fixture
def cluster(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for name in (*SET, "PENSTOCK_ARTIFACTS"):
        monkeypatch.setenv(name, machines.environment[name])
    pickles._key.cache_clear()
    cluster = Cluster(machines.url)
    yield cluster
    cluster.close()
    pickles._key.cache_clear()


@pytest.fixture
def tasks(machines: Machines) -> Iterator[Any]:
    sys.path.insert(0, str(machines.code))
    yield importlib.import_module("value_tasks")
    sys.path.remove(str(machines.code))
    sys.modules.pop("value_tasks")


def workflow(machines: Machines) -> Path:
    """A list of 40 that is a file, looked into by a function, a command and a fan-out; all collected."""
    part = "${jobs.listed.result.rows[39]"
    template = {"run": "value_tasks:echoed", "config": {"value": "${item.text}"}}
    jobs = [
        {"id": "listed", "run": "value_tasks:listed", "config": {"count": 40}},
        {"id": "last", "run": "value_tasks:echoed", "config": {"value": part + ".n}"}},
        {"id": "said", "command": ["echo", part + ".text}"]},
        {"id": "beyond", "run": "value_tasks:echoed", "config": {"value": "${jobs.listed.result.rows[40]}"},
         "on_failure": "continue"},
        {"id": "each", "type": "fan-out", "over": "${jobs.listed.result.rows}", "template": template},
        {"id": "rows", "type": "fan-out", "over": [1, 2], "template": {"run": "value_tasks:listed", "config": {"count": 40}}},
        {"id": "both", "type": "fan-in", "fan_out_job_id": "rows", "aggregation": {"strategy": "collect-all"}},
        {"id": "inner", "type": "fan-out", "over": "${jobs.both.result.aggregated_result}",
         "template": {"run": "value_tasks:echoed", "config": {"value": "${item.rows[39].n}"}}},
        {"id": "all", "type": "fan-in", "fan_out_job_id": "each", "aggregation": {"strategy": "collect-all"}},
    ]  # fmt: skip
    return as_yaml(machines.code / "rows.json", {"jobs": jobs})


def test_a_result_that_is_a_file_is_looked_into_as_any_other(cluster, machines, tasks):
    execution = cluster.submit(workflow(machines))
    execution.wait(30)
    jobs = cluster.service.execution(execution.id)["jobs"]
    assert jobs["listed"]["result"]["$penstock"]["codec"] == "json"
    assert jobs["last"]["result"] == jobs["inner_0"]["result"] == jobs["inner_1"]["result"] == 39
    assert jobs["said"]["result"]["stdout"] == "row 39\n"
    assert jobs["beyond"]["attempt"] == 1
    error = jobs["beyond"]["error"]
    assert ("is a list of 40" in error["message"], error["traceback"]) == (True, "")
    assert jobs["all"]["result"]["$penstock"]["codec"] == "json"
    found = json.loads(machines.run("result", execution.id, "all", "--json").stdout)
    assert found["aggregated_result"] == [f"row {n}" for n in range(40)]
    shown = machines.run("result", execution.id, "all").stdout
    assert "row 39" in shown


def test_large_arguments_are_files_written_once(cluster, machines, tasks):
    rows = [f"${{row}} {n}" for n in range(40)]
    with cluster as session:
        jobs = tasks.echoed.map([(rows,), (rows,), (1,)])
        joined = tasks.echoed([jobs[0], rows])
    assert jobs.get_results(20) == [rows, rows, 1]
    assert joined.get_result(20) == [rows, rows]
    folder = Path(machines.environment["PENSTOCK_ARTIFACTS"], joined.session.id)
    text = json.dumps(rows)
    assert [one.read_text() for one in folder.iterdir()].count(text) == 3  # two results
    data = session.service.store.jobs(joined.session.id, [jobs[0].name], ("data",))[0]["data"]
    assert len(data) < 400


def test_values_of_any_type_travel_signed(cluster, tasks):
    with cluster:
        doubled = tasks.applied(lambda x: 2 * x, [1, 2])
        found = tasks.unfit()
    assert doubled.get_result(20) == [2, 4]
    assert found.get_result(20) == {"it": {1, 2}}


def test_a_pickle_of_another_key_is_not_read(cluster, tasks, monkeypatch):
    monkeypatch.setenv("PENSTOCK_PICKLE_KEY", "somebody else's key")
    pickles._key.cache_clear()
    with cluster:
        job = tasks.applied(len, [[1]])
    with pytest.raises(JobFailed, match="not signed with the PENSTOCK_PICKLE_KEY of this machine"):
        job.get_result(20)


def test_a_workflow_that_is_run_again_goes_on_with_its_pickles(cluster, tasks, tmp_path):
    """The same value is other bytes in another process."""
    with cluster:
        total = tasks.counts_twice(str(tmp_path / "died"))
    assert total.get_result(40) == 3


def test_a_value_that_cannot_be_pickled_is_told_once_and_where(cluster, tasks):
    with cluster:
        job = tasks.locked()
    with pytest.raises(
        JobFailed, match=r"result\.it\[0\]: lock could not be written .*cloudpickle"
    ):
        job.get_result(20)
    jobs = cluster.service.execution(job.session.id)["jobs"]
    assert jobs[job.name]["attempt"] == 1
