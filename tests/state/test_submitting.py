"""Whoever submits compiles as well; an orchestrator goes on for one that cannot."""  # Q1 Q8 C2

from __future__ import annotations

from itertools import islice

import pytest
import redis

from penstock.common.errors import WaitTimeout
from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys
from penstock.common.state.scripts import Request
from penstock.orchestrator.engine.agenda import Agenda
from penstock.orchestrator.engine.work import Engine
from penstock.orchestrator.service import Service
from support.scripted import done

MANY = 250  # three chunks


@pytest.fixture
def service(cluster):
    return Service(cluster.store, Settings())


def flow(count=1):
    return parse_workflow({"jobs": [{"id": f"j{i}", "run": "m:f"} for i in range(count)]})


def orchestrate(cluster):
    Agenda(cluster.store, Engine(cluster.store, 10, "o")).tick()


def test_a_job_starts_without_an_orchestrator(cluster, service):
    cluster.id = service.submit(flow())
    (job,) = cluster.node().claim(1)
    assert job.name == "j0"
    assert cluster.take_agenda() == []
    assert cluster.client.zcard(keys.agenda("default")) == 0


def test_an_orchestrator_leaves_a_client_that_is_at_it_alone(cluster, service, monkeypatch):
    taken = []

    def slowly(id_, chunks):
        for chunk in chunks:
            cluster.pass_time(service.compile_s / 3)
            taken.append(cluster.take_agenda())
            yield service.store.extend(id_, *chunk)

    monkeypatch.setattr(service.store, "extend_each", slowly)
    service.submit(flow(MANY))
    assert taken == [[], []]


@pytest.mark.parametrize("sent", [0, 1])
def test_an_orchestrator_goes_on_for_a_client_that_died(cluster, service, monkeypatch, sent):
    def dies(id_, chunks):
        for chunk in islice(chunks, sent):
            yield service.store.extend(id_, *chunk)
        raise redis.exceptions.ConnectionError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(service.store, "extend_each", dies)
        cluster.id = service.submit(flow(MANY))
    orchestrate(cluster)
    assert len(cluster.store.job_names(cluster.id)) == 100 * (1 + sent)
    cluster.pass_time(service.compile_s + 0.1)
    orchestrate(cluster)
    assert cluster.store.job_names(cluster.id) == [f"j{i}" for i in range(MANY)]
    assert cluster.client.llen(keys.queue("any.p5")) == MANY
    assert cluster.store.execution(cluster.id)["compiled"] == "1"


def test_an_orchestrator_goes_on_for_a_client_that_died_at_once(cluster):
    fields = {"name": "t", "policy": "continue", "ttl_s": 99, "parallelism": 0}
    cluster.store.submit(cluster.id, "d", flow().to_json(), fields, compile_s=2.0)
    assert cluster.take_agenda() == []
    cluster.pass_time(2.1)
    orchestrate(cluster)
    assert cluster.statuses("j0") == ["queued"]


def test_a_chunk_that_is_refused_is_made_by_an_orchestrator(cluster, service, monkeypatch):
    """As where memory is full after the submission itself."""
    extend = service.store.scripts["execution_extend"]
    refused = lambda id_, *chunk: Request(extend, [id_, ":static", "no number"])  # noqa: E731
    with monkeypatch.context() as broken:
        broken.setattr(service.store, "_extend_request", refused)
        cluster.id = service.submit(flow())
    assert cluster.status == "pending"
    cluster.pass_time(service.compile_s + 0.1)
    orchestrate(cluster)
    assert cluster.statuses("j0") == ["queued"]


def test_a_submission_whose_reply_was_lost_is_compiled_once(cluster, service, monkeypatch):
    submit, asked = service.store.submit, []

    def loses_the_reply(*what):
        answer = submit(*what)
        asked.append(answer)
        if len(asked) == 1:
            raise redis.exceptions.ConnectionError("gone")
        return answer

    monkeypatch.setattr(service.store, "submit", loses_the_reply)
    cluster.id = service.submit(flow(MANY))
    assert [verdict for verdict, _ in asked] == ["OK", "EXISTS"]
    cluster.pass_time(service.compile_s + 0.1)
    orchestrate(cluster)
    assert cluster.store.job_names(cluster.id) == [f"j{i}" for i in range(MANY)]
    assert cluster.client.zcard(keys.agenda("default")) == 0


def test_a_key_is_compiled_once(cluster, service):
    cluster.id = service.submit(flow(), key="k")
    assert service.submit(flow(), key="k") == cluster.id
    assert cluster.client.llen(keys.queue("any.p5")) == 1


def test_the_result_is_that_of_the_last_job(cluster, service):
    cluster.id = service.submit(flow(2))
    node = cluster.node()
    for job in node.claim(2):
        node.advance(done(job, b"%d" % (41 + int(job.name[1:]))))
    assert service.wait_status(cluster.id, 5) == "succeeded"
    assert service.wait_result(cluster.id, 5) == 42
    elsewhere = Service(cluster.store, Settings())
    assert elsewhere.wait_result(cluster.id, 5) == 42


def test_a_result_is_kept_when_the_connection_is_lost_after_it(cluster, service, monkeypatch):
    cluster.id = service.submit(flow(1))
    node = cluster.node()
    node.advance(done(*node.claim(), b"42"))

    def lost(*_):
        raise redis.exceptions.ConnectionError("the server is gone")

    monkeypatch.setattr(redis.client.PubSub, "unsubscribe", lost)
    assert service.wait_result(cluster.id, 5) == 42
    monkeypatch.undo()
    assert service.wait_result(cluster.id, 5) == 42, "over another connection"


@pytest.mark.parametrize("end", ["succeeded", "canceled"])
def test_whoever_waits_for_the_end_is_told_of_nothing_else(cluster, service, end):
    cluster.id = service.submit(flow(3))
    told = cluster.client.pubsub()
    told.subscribe(keys.channel(cluster.id), keys.ended_channel(cluster.id))
    node = cluster.node()
    node.advance(done(*node.claim()))
    if end == "canceled":
        service.cancel(cluster.id)
    while claimed := node.claim():
        node.advance(done(*claimed))
    heard: dict[bytes, set[bytes]] = {}
    while message := told.get_message(timeout=0.2):
        if message["type"] == "message":
            heard.setdefault(message["channel"], set()).add(message["data"])
    told.close()
    assert heard[keys.channel(cluster.id).encode()] == {b"running", end.encode()}
    assert heard[keys.ended_channel(cluster.id).encode()] == {end.encode()}


def test_a_wait_ends_at_its_time(service):
    id_ = service.submit(flow())
    with pytest.raises(WaitTimeout, match=f"penstock wait {id_}"):
        service.wait_status(id_, 0.05)
