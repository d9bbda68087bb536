"""An execution that a program adds to while it runs."""  # S2, S3, Q6

from __future__ import annotations

from penstock.common.state.chunks import STATIC, NewJob
from support.scripted import EXECUTION_ID, TTL_S, Cluster, bad, done, new_job

HOLD_S = 30


class Session:
    """A program's part in the protocol."""

    def __init__(self, cluster: Cluster) -> None:
        self._store, self._chunks = cluster.store, 0
        fields = {"name": "s", "policy": "continue", "ttl_s": TTL_S, "session": 1}
        self._store.submit(EXECUTION_ID, "d", "{}", fields, compile_s=HOLD_S)

    def add(self, *jobs: NewJob, last: bool = False) -> str:
        self._chunks += 1
        return self._store.extend(EXECUTION_ID, STATIC, self._chunks - 1, last, jobs)


def test_a_job_that_was_added_later_is_told_of_the_end_of_its_upstream(cluster):
    session, node = Session(cluster), cluster.node()
    session.add(new_job("a"))
    (a,) = node.claim()
    session.add(new_job("b", ("a",)))
    session.add(new_job("c", ("a", "b")))
    assert cluster.statuses("a", "b", "c") == ["started", "deferred", "deferred"]
    node.advance(done(a))
    assert cluster.statuses("b", "c") == ["queued", "deferred"]
    node.advance(done(*node.claim()))
    assert cluster.statuses("c") == ["queued"]


def test_a_job_added_after_the_end_of_its_upstream_does_not_wait(cluster):
    session, node = Session(cluster), cluster.node()
    session.add(new_job("a"))
    node.advance(done(*node.claim()))
    session.add(new_job("b", ("a",)))
    assert cluster.statuses("b") == ["queued"]


def test_a_job_whose_upstream_failed_before_runs_with_it_when_that_is_retried(cluster):
    session, node = Session(cluster), cluster.node()
    session.add(new_job("a"))
    node.advance(bad(*node.claim()))
    session.add(new_job("b", ("a",)))
    assert cluster.statuses("b") == ["canceled"]
    session.add(last=True)
    assert cluster.status == "failed"
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    for _ in range(2):
        node.advance(done(*node.claim()))
    assert cluster.statuses("a", "b") == ["finished", "finished"]
    assert cluster.status == "succeeded"


def test_jobs_of_one_chunk_may_wait_for_each_other(cluster):
    session, node = Session(cluster), cluster.node()
    session.add(new_job("a"), new_job("b", ("a",)), new_job("c", ("b",)))
    for name in "abc":
        (claimed,) = node.claim()
        assert claimed.name == name
        node.advance(done(claimed))
    session.add(last=True)
    assert cluster.status == "succeeded"


def test_a_chunk_that_comes_twice_is_told_of_once(cluster):
    session, node = Session(cluster), cluster.node()
    session.add(new_job("a"))
    for _ in range(2):
        cluster.store.extend(EXECUTION_ID, STATIC, 1, False, [new_job("b", ("a",))])
    assert cluster.job("a")["dependents"] == "b"
    node.advance(done(*node.claim()))
    assert cluster.job("b")["waits"] == "0"


def test_many_may_wait_for_one(cluster):
    session, node = Session(cluster), cluster.node()
    session.add(new_job("a"))
    names = [f"b{n}" for n in range(250)]
    for start in (0, 100, 200):
        session.add(*(new_job(name, ("a",)) for name in names[start : start + 100]))
    node.advance(done(*node.claim()))
    while cluster.store.drain_outbox():
        pass
    assert set(cluster.statuses(*names)) == {"queued"}


def test_one_that_is_added_while_others_are_still_told_is_told_once(cluster):
    session, node = Session(cluster), cluster.node()
    session.add(new_job("a"), new_job("z"))
    a, z = node.claim(2)
    for start in (0, 100, 200):
        session.add(*(new_job(f"b{start + n}", ("a",)) for n in range(100)))
    node.advance(done(a))  # 200 of them have been told
    assert cluster.job("a")["fan_at"]
    session.add(new_job("c", ("a", "z")))
    while cluster.store.drain_outbox():
        pass
    assert cluster.statuses("b299", "c") == ["queued", "deferred"]
    node.advance(done(z))
    assert cluster.statuses("c") == ["queued"]


def test_it_ends_when_it_is_closed_and_not_before(cluster):
    session, node = Session(cluster), cluster.node()
    session.add(new_job("a"))
    node.advance(done(*node.claim()))
    assert cluster.status == "running"
    assert session.add(last=True) == "OK"
    assert cluster.status == "succeeded"
    assert session.add(new_job("b")) == "CLOSED"
    assert cluster.store.renew_session(EXECUTION_ID, "default", HOLD_S) == "CLOSED"


def test_orchestrators_are_asked_for_one_whose_program_is_not_heard_of(cluster):
    session = Session(cluster)
    session.add(new_job("a"))
    cluster.pass_time(HOLD_S - 5)
    assert cluster.store.renew_session(EXECUTION_ID, "default", HOLD_S) == "OK"
    cluster.pass_time(HOLD_S - 5)
    assert cluster.take_agenda() == []
    cluster.pass_time(10)
    assert cluster.take_agenda() == [f"compile {EXECUTION_ID}"]
