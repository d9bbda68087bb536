"""What `status` says of jobs that do not go on, and of what is gone."""  # W8

from __future__ import annotations

import pytest

from penstock.common.errors import InputError
from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys
from penstock.orchestrator.audit import repair
from penstock.orchestrator.engine.work import Engine
from penstock.orchestrator.service import Service
from support.scripted import EXECUTION_ID, done, new_job

WORKFLOW = {"name": "w", "jobs": [{"id": "a", "run": "m:f"}]}


@pytest.fixture
def service(cluster):
    return Service(cluster.store, Settings())


def submitted(service) -> str:
    return service.submit(parse_workflow(WORKFLOW))


def reason(service, id_) -> str | None:
    return service.execution(id_)["jobs"]["a"]["reason"]


def test_a_paused_queue_and_nodes_that_end_are_named(cluster, service):
    node = cluster.node()
    id_ = submitted(service)
    Engine(cluster.store, 1, "o").perform(f"compile {id_}")
    assert reason(service, id_) is None
    service.pause_queues(["any.p5"])
    assert reason(service, id_).startswith("its queue is paused")
    service.pause_queues(None)
    with pytest.raises(InputError, match="all queues are paused"):
        service.resume_queues(["any.p5"])
    service.resume_queues(None)
    assert reason(service, id_) is None
    cluster.store.drain(node.id)
    assert reason(service, id_).startswith("all live workers were told to end")


def test_what_was_canceled_before_it_was_compiled_waits_for_nothing(service):
    id_ = submitted(service)
    service.cancel(id_)
    assert service.execution(id_)["jobs"]["a"]["status"] == "canceled"


def test_counting_leaves_nothing_behind_of_an_execution_that_is_gone(cluster):
    cluster.submit(new_job("a"), new_job("b"), parallelism=1)
    node = cluster.node()
    (job,) = node.claim(1)
    cluster.client.delete(keys.execution(EXECUTION_ID))
    node.advance(done(job))
    cluster.store.leave(node.id, node.incarnation, "it died")
    repair(cluster.store)
    assert cluster.client.exists(keys.execution(EXECUTION_ID)) == 0
    cluster.client.flushall()


def test_who_starts_orchestrator_and_worker_itself_is_not_told_to(cluster, service):
    service.compile_s = 0
    id_ = submitted(service)
    assert "start one" in reason(service, id_)
    service.hosted = lambda: True
    assert reason(service, id_) == "an orchestrator is starting"
    Engine(cluster.store, 1, "o").perform(f"compile {id_}")
    assert reason(service, id_) == "a worker is starting"
    service.hosted = lambda: False
    assert reason(service, id_).startswith("no live worker; start one: ")
