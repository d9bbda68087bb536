"""Which idle nodes are woken, and when."""  # Q3 Q4

from __future__ import annotations

import pytest

from penstock.common.state import keys
from support.scripted import done, names, new_job


def test_a_queued_job_wakes_one_idle_node_that_fits(cluster):
    cpu, gpu = cluster.node("cpu"), cluster.node("gpu", capabilities=("cpu", "gpu"))
    assert cpu.claim(1) == gpu.claim(1) == []
    cluster.submit(new_job("a", tags=("gpu",)))
    assert cluster.client.lrange(keys.node_inbox("gpu"), 0, -1) == [b"wake"]
    assert cluster.client.exists(keys.node_inbox("cpu")) == 0
    assert cluster.client.zrange(keys.idle(), 0, -1) == [b"cpu"]


def test_idle_nodes_are_woken_for_a_queue_that_is_resumed(cluster):
    one, two = cluster.node("one"), cluster.node("two")
    cluster.store.pause_queues("pause", ["any.p5", "any.p6"])
    cluster.submit(new_job("a"))
    for node in (one, two):
        cluster.client.delete(keys.node_inbox(node.id))
        assert node.claim(1) == []
    cluster.store.pause_queues("resume", ["any.p6"])
    assert not cluster.client.exists(keys.node_inbox("one"), keys.node_inbox("two"))
    cluster.store.pause_queues("resume", ["any.p5"])
    woken = [node for node in (one, two) if cluster.client.exists(keys.node_inbox(node.id))]
    assert len(woken) == 1, "one job waits"
    assert names(woken[0].claim(1)) == ["a"]


@pytest.mark.parametrize("how", ["by name", "suspended"])
def test_whatever_is_paused_is_resumed_at_once(cluster, service, how):
    node = cluster.node()
    cluster.submit(new_job("a"))
    service.pause_queues(["any.p5"] if how == "by name" else None)
    assert node.claim(1) == []
    cluster.client.delete(keys.node_inbox("n1"))
    cluster.client.zadd(keys.idle(), {"n1": 0})  # it was idle before
    service.resume_queues()
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == [b"wake"]
    assert names(node.claim(1)) == ["a"]


def test_only_a_node_with_free_lanes_counts_as_idle(cluster):
    node = cluster.node(slots=1)
    assert node.claim(1) == []
    assert cluster.client.zrange(keys.idle(), 0, -1) == [b"n1"]
    cluster.submit(new_job("a"), new_job("b"))
    cluster.client.zadd(keys.idle(), {"n1": 0})  # an advance came before the wake-up
    (a,) = node.claim(1)
    assert cluster.client.zcard(keys.idle()) == 0
    assert names(node.advance(done(a), lanes=1).claimed) == ["b"]


def test_a_lost_wake_up_costs_one_beat(cluster):
    node = cluster.node()
    assert node.claim(1) == []
    cluster.submit(new_job("a"))
    cluster.client.delete(keys.node_inbox("n1"))
    cluster.client.zadd(keys.idle(), {"n1": 0})
    cluster.pass_time(1)
    assert node.beat().work
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == [b"wake"]
