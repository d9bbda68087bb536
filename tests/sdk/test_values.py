"""Arrays, bytes, models and large results between tasks, and back to the program."""  # W5

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from penstock import Cluster
from penstock.common.artifacts import Artifacts
from penstock.common.errors import InputError, JobFailed, NotFound
from penstock.orchestrator.engine.process import Orchestrator
from support.processes import as_yaml, until


@pytest.fixture
def cluster(sdk_machines, home, monkeypatch):
    """Without PENSTOCK_ARTIFACTS: Redis is on this machine. The worker's data folder is the default one."""
    cluster = Cluster(sdk_machines.url)
    yield cluster
    cluster.close()


@pytest.fixture
def tasks(sdk_machines):
    sys.path.insert(0, str(sdk_machines.code))
    yield importlib.import_module("value_tasks")
    sys.path.remove(str(sdk_machines.code))
    sys.modules.pop("value_tasks")


def test_arrays_travel_as_results_as_arguments_and_back(cluster, tasks):
    with cluster:
        parts = tasks.made.map([1, 2, 3])
        total = tasks.summed(parts, np.array([0.5, 0.5]))
        model = tasks.fitted(np.array([[1.0, 2.0], [3.0, 4.0]]))
        predicted = tasks.predicted(model)
    assert total.get_result(20) == 28.0
    assert [one["array"].shape for one in parts.get_results(20)] == [(1, 2), (2, 2), (3, 2)]
    assert parts[0].get_result(20)["raw"] == b"x"
    assert model.get_result(20) == tasks.Model([2.0, 3.0])
    assert predicted.get_result(20) == ["Model", [2.0, 3.0]]


def test_a_result_beyond_the_limit_is_a_file_and_its_metrics_are_not(cluster, tasks):
    with cluster as session:
        job = tasks.large(5)
        size = tasks.length(job)
    assert size.get_result(30) == 5 * 2**20
    assert len(job.get_result(30)["text"]) == 5 * 2**20
    raw = session.service.result(job.session.id, job.name)
    assert raw["metrics"] == {"score": 5}


def test_a_type_without_a_codec_is_told_on_both_sides(cluster, tasks):
    with cluster:
        with pytest.raises(
            InputError, match=r"argument 'array' of fitted\(\): a set cannot travel"
        ):
            tasks.fitted({1, 2})
        job = tasks.unfit()
    with pytest.raises(JobFailed, match=r"result\.it: set is not JSON, and no codec"):
        job.get_result(20)


async def _awaited(job):
    return await job


def test_a_value_that_cannot_be_read_is_its_own_job_s_error_alone(
    cluster, tasks, tmp_path, monkeypatch
):
    """This machine has another place for values than the workers."""
    monkeypatch.setattr(cluster.service, "artifacts", lambda: Artifacts(str(tmp_path)))
    with cluster:
        broken, good = tasks.made(1), tasks.echoed(7)
    with pytest.raises(NotFound, match="does not share that place"):
        broken.get_result(20)
    with pytest.raises(NotFound):
        asyncio.run(asyncio.wait_for(_awaited(broken), 10))
    assert isinstance(broken.exception(1), NotFound)
    assert good.get_result(20) == asyncio.run(_awaited(good)) == 7


def test_a_workflow_that_is_run_again_goes_on_with_its_arrays(cluster, tasks, tmp_path):
    """Its process died after it had submitted a task: the same array is the same argument."""
    with cluster:
        total = tasks.twice(str(tmp_path / "died"))
    assert total.get_result(40) == 12.0


def test_equal_arrays_are_one_vote(cluster, tasks, sdk_machines):
    sdk_machines.orchestrator()
    axis = {"name": "i", "range": 5}
    template = {"run": "value_tasks:pair", "config": {"i": "${i}"}}
    jobs = [
        {"id": "v", "type": "fan-out", "template": template, "parameters": [axis]},
        {"id": "most", "type": "fan-in", "fan_out_job_id": "v", "aggregation": {"strategy": "majority-vote"}},
    ]  # fmt: skip
    file = as_yaml(Path(tasks.__file__).with_name("votes.json"), {"jobs": jobs})
    found = cluster.submit(file).result(30)
    assert (found["votes"], found["aggregated_result"].tolist()) == (4, [1.0, 2.0])


def test_the_files_of_an_execution_go_with_it(cluster, tasks, sdk_machines):
    with cluster:
        job = tasks.made(1)
    job.get_result(20)
    service = cluster.service
    until(lambda: service.store.execution(job.session.id)["status"] == "succeeded")
    store = service.artifacts()
    (folder,) = (path for path in store._files._folder.iterdir() if path.name == job.session.id)
    assert len(list(folder.iterdir())) == 2
    orchestrator = Orchestrator(sdk_machines.client, service.settings)
    orchestrator.leader.trim()
    assert folder.exists()
    service.store.client.delete(f"penstock:exec:{job.session.id}")
    orchestrator.leader.trim()
    assert not folder.exists()
