"""Attempts that did not end well are on record, and dead letters run again."""  # Q5 Q6 W6

from __future__ import annotations

import json

import pytest
import redis

from penstock.common.errors import NotFound, RedisUnavailable
from penstock.common.jobs import Settlement, job_id
from penstock.common.settings import Settings
from penstock.common.state import keys
from penstock.orchestrator.service import Service
from support.scripted import EXECUTION_ID, TTL_S, Cluster, bad, done, new_job

NAME = "a"


@pytest.fixture
def service(cluster):
    return Service(cluster.store, Settings())


def history(cluster: Cluster, name: str = NAME) -> list[dict]:
    return cluster.store.histories([job_id(EXECUTION_ID, name)])[0]


def fail(cluster: Cluster, node, times: int, **rest) -> None:
    for _ in range(times):
        (job,) = node.claim(1)
        node.advance(bad(job, retry_ms=0, **rest))
        cluster.store.promote_due()


def error(message: str, **rest: str) -> bytes:
    return json.dumps({"type": "E", "message": message, "traceback": "t" * 900, **rest}).encode()


def test_each_way_to_end_badly_is_on_record(cluster):
    cluster.submit(new_job("a", retries=1))
    first, second = cluster.node("n1"), cluster.node("n2")
    (job,) = first.claim(1)
    first.advance(bad(job, started_ms=1000, ended_ms=3500, retry_ms=0))  # a time-out is one, too
    cluster.store.promote_due()
    (job,) = second.claim(1)
    second.advance(bad(job, "crashed"))
    first.claim(1)
    cluster.store.leave("n1", "n1inc", "died")
    second.claim(1)
    second.advance()  # the next claim; the beat does not name what the last one gave
    second.beat()
    (job,) = second.claim(1)
    second.advance(bad(job, "stopped"))
    rows = history(cluster)
    assert [(row["attempt"], row["node"], row["outcome"]) for row in rows] == [
        (1, "n1", "failed"), (2, "n2", "crashed"), (3, "n1", "lost"), (4, "n2", "lost"), (5, "n2", "stopped"),
    ]  # fmt: skip
    assert [row["error"]["type"] for row in rows] == ["E", "E", "NodeLost", "NodeLost", "E"]
    assert all(row["started_at"] <= row["ended_at"] for row in rows)
    assert rows[0]["started_at"] < rows[0]["ended_at"]
    assert cluster.job("a")["crashes"] == cluster.job("a")["losses"] == "1"


def test_one_lost_node_is_not_told_as_too_many(cluster):
    cluster.submit(new_job("a"))
    first = cluster.node("n1")
    first.claim(1)
    cluster.store.leave("n1", "n1inc", "died")
    told = json.loads(cluster.job("a")["error"])
    assert told["message"] == "the node was lost while it held the attempt"
    second = cluster.node("n2")
    second.advance(done(*second.claim(1)))
    assert "error" not in cluster.job("a")


def test_a_good_end_and_a_hand_back_leave_nothing(cluster):
    cluster.submit(new_job("a"))
    node = cluster.node()
    (job,) = node.claim(1)
    cluster.store.handback("n1", "n1inc", [job.token])
    node.advance(done(*node.claim(1)))
    assert history(cluster) == []
    assert not cluster.client.exists(keys.history(EXECUTION_ID, "a"))


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("x" * 2000, "x" * 500),
        ("short", "short"),
        ("", ""),
        ('quotes " \\ and "message": "no"', 'quotes " \\ and "message": "no"'),
        ("ünï" * 400, ("ünï" * 400)[:500]),
        ("\U0001f600" * 600, "\U0001f600" * 500),
        ("a" * 499 + '"b', "a" * 499 + '"'),
        ("\n\t\x1b[1m", "\n\t\x1b[1m"),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_message_is_cut_to_500_characters(cluster, message, kept, ascii_only):
    cluster.submit(new_job("a"))
    node = cluster.node()
    (job,) = node.claim(1)
    text = json.dumps({"type": "E", "message": message, "traceback": ""}, ensure_ascii=ascii_only)
    node.advance(Settlement(job.token, "failed", error=text.encode()))
    (row,) = history(cluster)
    assert row["error"] == {"type": "E", "message": kept}


@pytest.mark.parametrize("text", [b"", b"{}", b"no JSON", b'{"type": 3}', b'{"message": "cut'])
def test_an_error_of_any_form_leaves_a_line_that_can_be_read(cluster, text):
    cluster.submit(new_job("a"))
    node = cluster.node()
    (job,) = node.claim(1)
    node.advance(Settlement(job.token, "failed", error=text))
    assert history(cluster)[0]["error"]["type"] == ""


def test_the_last_20_are_kept_over_retries_and_expire_with_the_execution(cluster):
    cluster.submit(new_job("a", retries=22))
    node = cluster.node()
    fail(cluster, node, 23)
    assert [row["attempt"] for row in history(cluster)] == list(range(4, 24))
    key = keys.history(EXECUTION_ID, "a")
    cluster.store.expire(EXECUTION_ID)
    assert 0 < cluster.client.ttl(key) <= TTL_S
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    assert cluster.client.ttl(key) == -1
    fail(cluster, node, 1)
    assert [row["attempt"] for row in history(cluster)][-2:] == [23, 24]


def test_status_and_dead_letters_tell_it(cluster, service):
    cluster.submit(new_job("a", retries=1), new_job("b"))
    spec = {"id": "w", "jobs": {n: {"id": n, "run": "m:f"} for n in "ab"}}
    cluster.client.set(keys.spec(EXECUTION_ID), json.dumps(spec))
    node = cluster.node()
    _, other = node.claim(2)
    node.advance(done(other))
    cluster.store.leave("n1", "n1inc", "died")
    node.register()
    fail(cluster, node, 2)
    (dead,) = service.dead_letter()
    assert [row["outcome"] for row in dead["history"]] == ["lost", "failed", "failed"]
    assert (dead["attempt"], dead["losses"], dead["crashes"]) == (3, 1, 0)
    jobs = service.execution(EXECUTION_ID)["jobs"]
    assert jobs["a"]["history"] == dead["history"]
    assert jobs["b"]["history"] == []


def test_redrive_runs_dead_letters_again(cluster, service):
    cluster.submit(new_job("a"), new_job("b", dependents="c"), new_job("c", ("b",)), new_job("d"))
    node = cluster.node(slots=3, resources={"cpus": 3.0})
    a, b, d = node.claim(3)
    node.advance(bad(a), bad(b))
    open_ = service.redrive(EXECUTION_ID)
    assert open_["redriven"] == []
    assert "running" in open_["skipped"][0]["reason"]
    assert service.redrive() == open_
    node.advance(done(d))
    assert cluster.status == "failed"
    assert service.redrive() == {
        "redriven": [{"execution": EXECUTION_ID, "jobs": ["a", "b"]}],
        "skipped": [],
    }
    assert cluster.statuses("a", "b", "c", "d") == ["queued", "queued", "deferred", "finished"]
    node.advance(*(done(one) for one in node.claim(2)))
    node.advance(done(*node.claim(1)))
    assert cluster.status == "succeeded"
    assert service.redrive() == {"redriven": [], "skipped": []}
    assert "no dead-letter jobs" in service.redrive(EXECUTION_ID)["skipped"][0]["reason"]
    with pytest.raises(NotFound):
        service.redrive("nosuchexecution")


RETRIES = {
    "redrive": lambda service: service.redrive()["redriven"],
    "retry": lambda service: service.retry(EXECUTION_ID, failed=True),
}


def dead_and_lossy(cluster, monkeypatch, error, after):
    """One execution with a dead letter; the next retry raises, after it was done or instead of it."""
    cluster.submit(new_job("a"))
    node = cluster.node()
    node.advance(bad(*node.claim(1)))
    really, errors = cluster.store.retry, [error]

    def retry(execution):
        if errors and after:
            really(execution)
        if errors:
            raise errors.pop()
        return really(execution)

    monkeypatch.setattr(cluster.store, "retry", retry)


@pytest.mark.parametrize("command", RETRIES)
@pytest.mark.parametrize("arrived", [True, False])
def test_a_retry_whose_reply_is_lost_is_sent_again(cluster, service, monkeypatch, command, arrived):
    dead_and_lossy(cluster, monkeypatch, redis.exceptions.TimeoutError(), arrived)
    assert RETRIES[command](service)
    assert cluster.status == "running"
    assert len(cluster.events("execution_running")) == 2


@pytest.mark.parametrize("command", RETRIES)
def test_a_retry_that_redis_refuses_to_write_says_so(cluster, service, monkeypatch, command):
    dead_and_lossy(cluster, monkeypatch, redis.exceptions.OutOfMemoryError("command not"), False)
    with pytest.raises(RedisUnavailable, match="Nothing was changed"):
        RETRIES[command](service)


def test_dead_letters_of_an_execution_that_succeeded_stay(cluster, service):
    cluster.submit(new_job("a", on_failure="continue"))
    node = cluster.node()
    node.advance(bad(*node.claim(1)))
    assert cluster.status == "succeeded"
    (skipped,) = service.redrive()["skipped"]
    assert "succeeded" in skipped["reason"]
    assert len(service.dead_letter()) == 1
