"""A dependent that the same advance queues and claims, in place of a list that would hold it for a moment."""  # Q3 W3

from __future__ import annotations

import pytest

from penstock.common.jobs import job_id
from penstock.common.state import keys
from penstock.common.state.chunks import NewJob
from support.scripted import EXECUTION_ID, Cluster, done, names, new_job

PLAIN = "any.p5"


def chain(cluster: Cluster, **of_the_second: object) -> None:
    """`a`, then `b`, then `c`."""
    first = new_job("a", dependents="b")
    second = new_job("b", ("a",), dependents="c", **of_the_second)
    cluster.submit(first, second, new_job("c", ("b",)))


def queued(cluster: Cluster, queue: str = PLAIN) -> list[str]:
    ids = cluster.client.lrange(keys.queue(queue), 0, -1)
    return [id_.decode().removeprefix(f"{EXECUTION_ID}-") for id_ in ids]


def test_it_is_claimed_with_the_settlement_before_it(cluster):
    chain(cluster)
    node = cluster.node()
    (a,) = node.claim(2)
    (b,) = node.advance(done(a), lanes=2).claimed
    job = cluster.job("b")
    assert (job["status"], job["attempt"], job["waits"]) == ("started", "1", "0")
    assert job["created_at"] <= job["enqueued_at"] <= job["started_at"].replace("000Z", "999Z")
    assert (b.work.timeout_s, b.work.retries_left, b.config) == (300, 0, b"{}")
    assert queued(cluster) == []
    assert not cluster.client.exists(keys.ready())
    about_b = [one["event"] for one in cluster.events_of("b")]
    assert about_b == ["job_queued", "job_started"]
    (c,) = node.advance(done(b), lanes=2).claimed
    node.advance(done(c))
    assert cluster.status == "succeeded"


def test_the_same_claim_again_gives_it_again(cluster):
    chain(cluster)
    node = cluster.node()
    (a,) = node.claim(2)
    first = node.advance(done(a), lanes=2).claimed
    assert node.again(done(a), lanes=2).claimed == first


def test_its_queue_is_known_to_rq(cluster):
    chain(cluster, priority=8)
    node = cluster.node()
    (a,) = node.claim(1)
    cluster.client.delete("rq:queues")
    node.advance(done(a), lanes=1)
    assert cluster.client.smembers("rq:queues") == {b"rq:queue:any.p8"}


def test_what_waits_already_goes_before_it(cluster):
    first, second = new_job("a", dependents="b"), new_job("b", ("a",))
    cluster.submit(first, new_job("waits"), second)
    node = cluster.node(slots=1)
    (a,) = node.claim(1)
    (other,) = node.advance(done(a), lanes=1).claimed
    assert other.name == "waits"
    assert queued(cluster) == ["b"]


def test_several_are_queued_in_their_order(cluster):
    others = [new_job(name, ("a",)) for name in ("b", "c", "d")]
    cluster.submit(new_job("a", dependents="b c d"), *others)
    node = cluster.node()
    (a,) = node.claim(1)
    assert names(node.advance(done(a), lanes=2).claimed) == ["b", "c"]
    assert queued(cluster) == ["d"]


@pytest.mark.parametrize(
    ("why", "lanes", "needs"),
    [
        ("no lane", 0, ""),
        ("no room", 1, "cpus=2"),
        ("queue paused", 1, ""),
        ("suspended", 1, ""),
        ("draining", 1, ""),
    ],
)
def test_where_the_node_may_not_run_it_it_waits_in_its_list(cluster, why, lanes, needs):
    cluster.submit(
        new_job("long", needs="cpus=1"),
        new_job("a", dependents="b"),
        new_job("b", ("a",), needs=needs),
    )
    node = cluster.node()
    _, a = node.claim(2)
    if why == "queue paused":
        cluster.store.pause_queues("pause", [PLAIN])
    elif why == "suspended":
        cluster.client.set("rq:suspended", 1)
    assert node.advance(done(a), lanes=lanes, draining=why == "draining").claimed == []
    job = cluster.job("b")
    assert (job["status"], job["waits"]) == ("queued", "0")
    assert queued(cluster) == ["b"]
    assert cluster.client.zscore(keys.ready(), PLAIN) == 5


def test_of_a_paused_execution_it_is_put_aside(cluster):
    chain(cluster)
    node = cluster.node()
    (a,) = node.claim(1)
    assert cluster.store.control(cluster.id, "pause") == "paused"
    assert node.advance(done(a), lanes=1).claimed == []
    assert cluster.statuses("b") == ["deferred"]
    assert cluster.client.lrange(keys.parked(cluster.id), 0, -1) == [
        job_id(cluster.id, "b").encode()
    ]


def test_one_that_fits_another_node_only_wakes_that(cluster):
    chain(cluster, tags=("gpu",))
    cpu, gpu = cluster.node("cpu"), cluster.node("gpu", capabilities=("gpu",))
    (a,) = cpu.claim(1)
    assert gpu.claim(1) == []
    assert cpu.advance(done(a), lanes=1).claimed == []
    assert cluster.client.lrange(keys.node_inbox("gpu"), 0, -1) == [b"wake"]
    assert names(gpu.claim(1)) == ["b"]


def test_one_that_a_stopped_fan_out_leaves_out_is_in_no_list(cluster):
    """The fan-out is stopped by the same advance that makes it ready."""
    cluster.submit(NewJob("fan", (), {"kind": "fan-out", "run": "penstock:fan-out", "data": "x"}))
    when = '{"metric_name": "m", "at_least": 1}'
    cluster.store.open_group(cluster.id, "fan", 3, 0, 10, "{}", stop_when=when)
    first, other = new_job("a", group="fan", dependents="b"), new_job("c", group="fan")
    second = new_job("b", ("a",), group="fan", tags=("gpu",))
    assert cluster.store.extend(cluster.id, "fan", 0, True, [first, second, other]) == "OK"
    node = cluster.node("cpu")
    cluster.node("gpu", capabilities=("gpu",))
    a, c = node.claim(2)
    node.advance(done(a), done(c, metrics={"m": 2.0}), lanes=2)
    assert cluster.statuses("b") == ["canceled"]
    assert queued(cluster, "gpu.p5") == []
