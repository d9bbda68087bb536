"""Who is silent, and who was away: nobody's work moves because Redis or everybody was."""  # Q5 Q6

from __future__ import annotations

import pytest

from penstock.common.jobs import NodeInfo
from penstock.common.state import keys
from support.scripted import Node, new_job


@pytest.mark.parametrize("count", [2, 10])
def test_when_all_are_cut_off_the_first_to_time_out_keeps_its_work(cluster, count):
    """Beats are spread over a second, so the last of the others was heard a second later."""
    names = [f"j{number}" for number in range(count)]
    cluster.submit(*[new_job(name) for name in names])
    nodes = [cluster.node(f"n{number}") for number in range(count)]
    held = {node.id: node.claim(1)[0].token for node in nodes}
    for _ in range(5):
        for node in nodes:
            cluster.pass_time(1 / count)
            node.beat(held[node.id])
        cluster.store.upkeep()
    for seconds in (1.6, 1.3, 2, 2, 2):  # the orchestrators are not cut off
        cluster.pass_time(seconds)
        cluster.store.upkeep()
    nodes[0].beat(held["n0"])
    cluster.keep_alive(nodes[0], seconds=2)
    assert set(cluster.statuses(*names)) == {"started"}


def test_a_redis_that_stands_still_for_most_of_a_time_out_moves_nothing(cluster):
    cluster.submit(new_job("a"))
    one, two = cluster.node("one"), cluster.node("two")
    (job,) = one.claim(1)
    for _ in range(4):
        cluster.pass_time(0.1)
        one.beat(job.token)
        cluster.pass_time(0.9)
        two.beat()
        cluster.store.upkeep()
    cluster.pass_time(2.4)
    cluster.store.upkeep()
    two.beat()
    assert cluster.statuses("a") == ["started"]
    one.beat(job.token)
    cluster.keep_alive(two, seconds=4)
    assert cluster.statuses("a") == ["queued"]


def test_a_forgotten_node_has_the_time_out_that_nodes_have(cluster):
    cluster.submit(new_job("a"))
    one, two = (registered(cluster, name, timeout_s=30.0) for name in ("one", "two"))
    (job,) = one.claim(1)
    one.beat(job.token)
    cluster.pass_time(70)
    cluster.client.delete(keys.node("one"), keys.node("two"))  # by their TTL
    assert two.beat().unknown
    registered(cluster, "two", timeout_s=30.0)
    cluster.keep_alive(two, seconds=25)
    assert cluster.statuses("a") == ["started"]
    cluster.keep_alive(two, seconds=10)
    assert cluster.statuses("a") == ["queued"]


def registered(cluster, name: str, timeout_s: float) -> Node:
    node = Node(cluster.store, name, f"{name}inc")
    info = NodeInfo(
        name, node.incarnation, "host", 1, ("cpu",), 2, {"cpus": 2.0}, timeout_s=timeout_s
    )
    assert cluster.store.register(info) == "OK"
    return node


def test_a_clock_that_goes_back_keeps_no_work_from_the_orchestrators(cluster):
    cluster.store.submit("early", "d", "", {"name": "t", "ttl_s": 99, "domain": "gpu"})
    cluster.store.upkeep()
    cluster.pass_time(-50)
    cluster.store.upkeep()
    assert cluster.take_agenda("gpu") == ["compile early"]
    cluster.store.submit("unserved", "d", "", {"name": "t", "ttl_s": 99, "domain": "rag"})
    cluster.pass_time(-50)
    cluster.store.upkeep()
    cluster.pass_time(3.1)
    assert "compile unserved" in cluster.take_agenda("gpu")


def test_the_upkeep_says_when_a_time_out_will_have_passed(cluster):
    """So an orchestrator moves the work of a dead node at its time-out, not at its own next look."""
    cluster.submit(new_job("a"))
    one, two = cluster.node("one"), cluster.node("two")
    (job,) = one.claim(1)
    one.beat(job.token)
    assert cluster.store.upkeep()[0] == -1, "all are heard"
    cluster.pass_time(1.2)
    two.beat()
    next_ms, now_ms = cluster.store.upkeep()
    assert 1700 <= next_ms - now_ms <= 1801
    cluster.pass_time((next_ms - now_ms) / 1000 - 1)
    two.beat()
    cluster.pass_time(0.3)
    two.beat()  # does the upkeep, a little early
    cluster.pass_time(0.71)  # each of these steps is cut to whole milliseconds
    cluster.store.upkeep()
    assert cluster.statuses("a") == ["queued"]


def test_an_upkeep_that_came_too_soon_before_a_time_out_is_made_again(cluster):
    """A beat did the upkeep just before; whoever asks then is told when the next one does anything."""
    alive, silent = cluster.node("alive"), cluster.node("silent")
    cluster.keep_alive(alive, silent, seconds=5)
    for seconds in (1.4, 1.4):
        cluster.pass_time(seconds)
        alive.beat()
    cluster.pass_time(0.25)
    next_ms, now_ms = cluster.store.upkeep()
    assert 0 < next_ms - now_ms <= 400
    cluster.pass_time((next_ms - now_ms) / 1000)
    cluster.store.upkeep()
    assert cluster.client.zscore(keys.nodes(), silent.id) is None
