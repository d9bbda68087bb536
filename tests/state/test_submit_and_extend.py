"""Executions come to be once, whole and in order."""  # W3, Q6, W12

from __future__ import annotations

from penstock.common.state import keys
from penstock.common.state.chunks import STATIC
from penstock.common.state.store import Store
from support.scripted import EXECUTION_ID, Cluster, bad, done, new_job
from support.transitions import decoded

FIELDS = {"name": "t", "ttl_s": 100, "policy": "continue", "parallelism": 0}


def test_submit_is_idempotent_by_id_and_by_key(cluster):
    store = cluster.store
    assert store.submit("aaaaaaaaaaaa", "d1", "{}", FIELDS, "key") == ("OK", "aaaaaaaaaaaa")
    assert store.submit("aaaaaaaaaaaa", "d1", "{}", FIELDS, "key") == ("EXISTS", "aaaaaaaaaaaa")
    assert store.submit("bbbbbbbbbbbb", "d1", "{}", FIELDS, "key") == ("EXISTS", "aaaaaaaaaaaa")
    assert store.submit("bbbbbbbbbbbb", "d2", "{}", FIELDS, "key") == ("CONFLICT", "aaaaaaaaaaaa")
    assert store.execution("bbbbbbbbbbbb") == {}
    assert store.control("aaaaaaaaaaaa", "cancel") == "canceled"
    assert not store.expire("aaaaaaaaaaaa")


def test_chunks_apply_once_and_in_order(cluster):
    store = cluster.store
    store.submit(EXECUTION_ID, "d", "{}", FIELDS)
    assert store.extend(EXECUTION_ID, STATIC, 1, True, [new_job("b")]) == "AHEAD"
    assert store.extend(EXECUTION_ID, STATIC, 0, False, [new_job("a")]) == "OK"
    assert store.extend(EXECUTION_ID, STATIC, 0, False, [new_job("a")]) == "DONE"
    assert store.extend(EXECUTION_ID, STATIC, 1, True, [new_job("b")]) == "OK"
    assert store.job_names(EXECUTION_ID) == ["a", "b"]
    assert store.execution(EXECUTION_ID)["jobs"] == "2"


def test_a_later_chunk_sees_what_ended_before_it(cluster):
    store, node = cluster.store, cluster.node()
    store.submit(EXECUTION_ID, "d", "{}", FIELDS)
    jobs = [new_job("good", dependents="c d"), new_job("bad", dependents="d")]
    store.extend(EXECUTION_ID, STATIC, 0, False, jobs)
    good, failing = node.claim(2)
    node.advance(done(good), bad(failing))
    assert cluster.status == "running"
    later = [
        new_job("c", ("good",)),
        new_job("d", ("good", "bad"), dependents="e"),
        new_job("e", ("d",)),
    ]
    store.extend(EXECUTION_ID, STATIC, 1, True, later)
    assert cluster.statuses("c", "d", "e") == ["queued", "canceled", "canceled"]
    node.advance(done(*node.claim()))
    assert cluster.status == "failed"


def test_nothing_is_added_to_an_ended_execution(cluster):
    cluster.submit(new_job("a"))
    cluster.store.control(EXECUTION_ID, "cancel")
    assert cluster.store.extend(EXECUTION_ID, STATIC, 1, True, [new_job("b")]) == "CLOSED"
    assert cluster.statuses("a", "b") == ["canceled", ""]


def test_nothing_is_added_while_a_retry_is_under_way(cluster):  # Q8
    """It empties the gates: what came in between would wait there for ever."""
    store, jobs = cluster.store, [new_job(f"j{n}") for n in range(250)]
    store.submit(EXECUTION_ID, "d", "{}", FIELDS)
    for number, start in enumerate((0, 100, 200)):
        store.extend(EXECUTION_ID, STATIC, number, False, jobs[start : start + 100])
    store.control(EXECUTION_ID, "cancel")
    while store.drain_outbox():
        pass
    assert store.retry(EXECUTION_ID) == "RUNNING"
    assert store.extend(EXECUTION_ID, STATIC, 3, True, [new_job("late")]) == "RETRYING"
    while store.drain_outbox():
        pass
    assert store.extend(EXECUTION_ID, STATIC, 3, True, [new_job("late")]) == "OK"
    assert cluster.statuses("j0", "j249", "late") == ["queued"] * 3


def test_an_execution_without_jobs_succeeds(cluster):
    cluster.submit()
    assert cluster.status == "succeeded"


def test_the_stream_of_events_forgets_the_oldest(redis7):  # Q9
    redis7.client.flushall()
    old = "for _ = 1, 2000 do redis.call('XADD', KEYS[1], '*', 'event', 'old') end"
    for _ in range(26):
        redis7.client.eval(old, 1, keys.events())
    Cluster(Store(redis7.client), redis7.client).submit(new_job("a"))
    # Redis drops them by the hundred.
    assert 50_000 <= redis7.client.xlen(keys.events()) < 50_200
    redis7.client.flushall()


def entries(cluster, *names):
    """The entries of the stream by these names, as they stand in it: name and jobs."""
    rows = [decoded(raw) for _, raw in cluster.client.xrange(keys.events())]
    return [(row["event"], row["job"]) for row in rows if row["event"] in names]


def test_jobs_that_do_the_same_one_after_another_are_one_event(cluster):  # Q9
    names = [f"j{n}" for n in range(20)]
    cluster.submit(*[new_job(name) for name in names])
    assert entries(cluster, "job_queued") == [
        ("job_queued", " ".join(names[:16])),
        ("job_queued", " ".join(names[16:])),
    ]
    node = cluster.node(slots=4, resources={"cpus": 4.0})
    first, *others = node.claim(4)
    node.advance(done(first), bad(others[0]), done(others[1]), done(others[2]))
    assert entries(cluster, "job_finished", "job_failed") == [
        ("job_finished", "j0"),
        ("job_failed", "j1"),
        ("job_finished", "j2 j3"),
    ]


def test_events_are_in_the_order_in_which_things_came_to_be(cluster):  # Q9
    cluster.submit(new_job("a", dependents="c"), new_job("b"), new_job("c", ("a",)), parallelism=2)
    node = cluster.node()
    claimed = node.claim(2)
    node.advance(*map(done, claimed), lanes=2)
    assert entries(cluster, "job_queued", "job_started", "job_finished") == [
        ("job_queued", "a b"),
        ("job_started", "a"),
        ("job_started", "b"),
        ("job_finished", "a b"),
        ("job_queued", "c"),
        ("job_started", "c"),
    ]
