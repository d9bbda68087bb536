"""Nodes that fall silent, and executions that are paused, canceled or expire."""  # Q4 Q5 Q7 Q8 W7

from __future__ import annotations

import pytest

from penstock.common.jobs import job_id
from penstock.common.settings import Settings
from penstock.common.state import keys
from penstock.common.state.chunks import STATIC
from penstock.common.state.scripts import Limits, Scripts
from penstock.common.state.store import Store
from support.scripted import (
    EXECUTION_ID,
    SHIFTED_NOW,
    TTL_S,
    Cluster,
    Node,
    bad,
    done,
    new_job,
)


def test_a_silent_nodes_job_moves_to_one_that_lives(cluster):
    cluster.submit(new_job("a"))
    silent, alive = cluster.node("silent"), cluster.node("alive")
    (job,) = silent.claim(1)
    cluster.keep_alive(alive, seconds=2)
    assert alive.claim(1) == []
    cluster.keep_alive(alive, seconds=3)
    (moved,) = alive.claim(1)
    assert moved.token.attempt == 2
    alive.advance(done(moved, b'"second"'))
    assert silent.advance(done(job, b'"late"')).verdicts == ["STALE"]
    assert cluster.store.results(EXECUTION_ID, ["a"]) == {"a": b'"second"'}
    assert silent.beat(job.token).stale == [job.token]
    assert silent.beat(job.token).unknown


def test_patience_grows_with_what_is_at_stake(cluster):
    cluster.submit(new_job("long"), new_job("short"))
    silent, alive = cluster.node("silent"), cluster.node("alive")
    (long,) = silent.claim(1)
    cluster.pass_time(3600)
    silent.beat(long.token)
    alive.beat()
    silent.claim(1)
    cluster.keep_alive(alive, seconds=6)
    assert cluster.statuses("long", "short") == ["started", "queued"]
    cluster.keep_alive(alive, seconds=21)
    assert cluster.statuses("long") == ["queued"]


def one_long_and_one_short(cluster):
    """A node with a job begun an hour ago and one begun a second ago, and another node."""
    cluster.submit(new_job("long"), new_job("short"))
    node, other = cluster.node("n1"), cluster.node("other")
    (long,) = node.claim(1)
    cluster.pass_time(3599)
    for one in (node, other):
        one.register()
        one.beat(*([long.token] if one is node else []))
    (short,) = node.claim(1)
    cluster.pass_time(1)
    node.beat(long.token, short.token)
    cluster.keep_alive(other, seconds=1)
    return node, other


def test_a_silence_of_five_seconds_moves_the_short_job_alone(cluster):  # DESIGN 5
    node, other = one_long_and_one_short(cluster)
    cluster.keep_alive(other, seconds=4)
    assert cluster.statuses("long", "short") == ["started", "queued"]


def test_a_known_death_moves_both_at_once(cluster):  # DESIGN 5
    node, other = one_long_and_one_short(cluster)
    cluster.store.leave(node.id, node.incarnation, "daemon died")
    assert cluster.statuses("long", "short") == ["queued", "queued"]


def test_patience_is_a_setting(server):  # DESIGN 5
    limits = Limits.of(Settings(patience_share=0.5, patience_max_s=8.0))
    store = Store(server.client, scripts=Scripts(limits, replace={"now": SHIFTED_NOW}))
    cluster = Cluster(store, server.client)
    cluster.submit(new_job("a"))
    silent, alive = cluster.node("silent"), cluster.node("alive")
    (job,) = silent.claim(1)
    for _ in range(12):
        cluster.pass_time(1)
        silent.beat(job.token)
        alive.beat()
    cluster.keep_alive(alive, seconds=5)
    assert cluster.statuses("a") == ["started"]
    cluster.keep_alive(alive, seconds=2)
    assert cluster.statuses("a") == ["queued"]


def test_nobody_reaps_for_a_time_out_after_the_server_was_started_again(cluster):
    cluster.submit(new_job("a"))
    one, two = cluster.node("one"), cluster.node("two")
    (job,) = one.claim(1)
    cluster.keep_alive(two, seconds=3)
    cluster.client.hset(keys.maintenance(), "run_id", "another")
    cluster.keep_alive(two, seconds=3)
    assert cluster.statuses("a") == ["started"]
    cluster.keep_alive(two, seconds=2)
    assert cluster.statuses("a") == ["queued"]
    assert one.beat(job.token).stale == [job.token]


def test_a_clock_that_goes_back_moves_nothing_and_hides_nobody(cluster):
    cluster.submit(new_job("a"), new_job("again", retries=1, priority=9))
    one, two = cluster.node("one"), cluster.node("two")
    failing, job = one.claim(2)
    one.advance(bad(failing, retry_ms=5000))
    two.beat()
    cluster.pass_time(-3600)
    two.beat()
    one.beat(job.token)
    cluster.keep_alive(two, seconds=2)
    assert cluster.statuses("a", "again") == ["started", "scheduled"]
    cluster.keep_alive(two, seconds=3)
    assert cluster.statuses("a", "again") == ["queued", "queued"]


def test_with_every_node_cut_off_none_moves(cluster):
    cluster.submit(new_job("a"))
    silent = cluster.node("silent")
    silent.claim(1)
    for _ in range(30):
        cluster.pass_time(1)
        cluster.store.upkeep()
    assert cluster.statuses("a") == ["started"]


def test_nodes_that_were_all_cut_off_may_come_back_one_after_the_other(cluster):  # Q5
    cluster.submit(new_job("a"), new_job("b"))
    first, second, third = (cluster.node(name) for name in ("first", "second", "third"))
    (a,), (b,) = second.claim(1), third.claim(1)
    for _ in range(10):
        cluster.pass_time(1)
        cluster.store.upkeep()
    cluster.keep_alive(first, seconds=2)
    second.beat(a.token)
    assert cluster.statuses("a", "b") == ["started", "started"]
    # a pause of this process of half a second looks as if all were cut off again
    for _ in range(20):
        cluster.pass_time(0.5)
        first.beat()
        second.beat(a.token)
        if cluster.statuses("b") == ["queued"]:
            break
    assert cluster.statuses("a", "b") == ["started", "queued"], "the third did not come back"
    assert third.beat(b.token).stale == [b.token]


def test_registering_again_keeps_the_messages(cluster):  # a lost reply is asked for again
    node = cluster.node()
    cluster.store.drain("n1")
    assert node.register() == "OK"
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == [b"drain"]
    assert len(cluster.events("node_registered")) == 1
    Node(cluster.store, "n1", "reborn").register()
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == []


def test_waiting_twice_is_told_once(cluster):
    cluster.submit(new_job("a"))
    node = cluster.node()
    (job,) = node.claim(1)
    for waiting in (True, True, False, False):
        assert cluster.store.wait("n1", "n1inc", job.token, waiting) == "OK"
    assert len(cluster.events("job_waits")) == len(cluster.events("job_goes_on")) == 1


def test_nobody_reaps_for_a_time_out_after_all_were_away(cluster):
    cluster.submit(new_job("a"))
    one, two = cluster.node("one"), cluster.node("two")
    (job,) = one.claim(1)
    cluster.keep_alive(one, two, seconds=2)
    cluster.pass_time(60)
    two.beat()
    cluster.keep_alive(two, seconds=2)
    assert cluster.statuses("a") == ["started"]
    one.register()
    assert one.beat(job.token).stale == []
    assert one.advance(done(job)).verdicts == ["OK"]


def test_leaving_moves_everything_at_once(cluster):
    cluster.submit(new_job("a"), new_job("b"))
    node, other = cluster.node(), cluster.node("n2")
    node.claim(2)
    assert cluster.store.leave("n1", "wrong", "x") == 0
    assert cluster.store.leave("n1", "n1inc", "daemon died") == 2
    assert cluster.store.leave("n1", "n1inc", "daemon died") == 0
    assert [one.name for one in other.claim(2)] == ["a", "b"]
    assert cluster.client.zscore(keys.nodes(), "n1") is None


def test_a_late_word_of_a_death_leaves_the_successor_alone(cluster):  # Q6
    cluster.submit(new_job("a"))
    cluster.node()
    reborn = Node(cluster.store, "n1", "reborn")
    reborn.register()
    (job,) = reborn.claim(1)
    cluster.client.delete(keys.node("n1"))  # forgotten in a long outage
    assert cluster.store.leave("n1", "n1inc", "daemon died") == 0
    assert cluster.store.leave("n1", "reb", "daemon died") == 0
    assert reborn.beat(job.token).stale == []
    assert reborn.register() == "OK"
    assert reborn.advance(done(job)).verdicts == ["OK"]


def test_a_node_that_was_forgotten_with_a_reply_under_way_keeps_its_claim(cluster):  # Q5 Q6
    cluster.submit(new_job("a"))
    node = cluster.node()
    (lost,) = node.claim(1)
    cluster.client.delete(keys.node("n1"))  # Redis stood still for longer than its hash lives
    again = node.again(lanes=1)
    assert again.unknown
    assert [one.token for one in again.claimed] == [lost.token]
    node.register()
    assert node.beat(lost.token).stale == []
    assert node.advance(done(lost)).verdicts == ["OK"]


def test_a_new_incarnation_takes_the_old_ones_place(cluster):
    cluster.submit(new_job("a"))
    node = cluster.node()
    (job,) = node.claim(1)
    assert node.register() == "OK"
    assert cluster.statuses("a") == ["started"]
    reborn = Node(cluster.store, "n1", "reborn")
    assert reborn.register() == "OK"
    assert cluster.statuses("a") == ["queued"]
    assert node.advance(done(job)).unknown
    assert reborn.claim(1)[0].token.attempt == 2


def test_a_name_in_use_on_another_host_is_refused(cluster):
    cluster.node()
    from penstock.common.jobs import NodeInfo

    other = NodeInfo("n1", "x", "elsewhere", 1, ("cpu",), 1, {"cpus": 1.0})
    assert cluster.store.register(other) == "TAKEN"
    cluster.pass_time(4)
    assert cluster.store.register(other) == "OK"


def test_a_lease_that_its_daemon_does_not_hold_is_given_back(cluster):
    cluster.submit(new_job("a"))
    node = cluster.node()
    node.claim(1)
    node.beat()
    assert cluster.statuses("a") == ["started"], "the last claim's reply may be on its way"
    node.advance()
    node.beat()
    assert cluster.statuses("a") == ["queued"]
    assert cluster.client.hget(keys.node("n1"), "used") == b""


def test_a_late_beat_drops_nothing_that_was_claimed_after_it(cluster):  # Q6
    """A beat that its daemon has sent again already may arrive once more, much later."""
    cluster.submit(new_job("a"), new_job("b"))
    node = cluster.node()
    (first,) = node.claim(1)
    known = node.turn
    (second,) = node.claim(1)
    node.advance()
    node.beat(first.token, answered=known)
    assert cluster.statuses("a", "b") == ["started", "started"]
    node.beat(second.token, answered=node.turn)
    assert cluster.statuses("a", "b") == ["queued", "started"]


def test_a_job_that_loses_its_node_again_and_again_is_dead_lettered(cluster):
    cluster.submit(new_job("a"))
    for turn in range(10):
        node = Node(cluster.store, "n1", f"inc{turn}")
        node.register()
        assert len(node.claim(1)) == 1
        cluster.store.leave("n1", f"inc{turn}", "died")
    assert cluster.statuses("a") == ["failed"]
    assert "lost too often" in cluster.job("a")["error"]


def test_pause_parks_and_resume_puts_back_in_order(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(4)))
    node = cluster.node(slots=4, resources={"cpus": 4.0})
    (running,) = node.claim(1)
    assert cluster.store.control(EXECUTION_ID, "pause") == "paused"
    assert cluster.store.control(EXECUTION_ID, "pause") == "paused"
    assert node.claim(2) == []
    assert cluster.statuses("j1", "j2", "j3") == ["deferred"] * 3
    assert cluster.client.llen("rq:queue:any.p5") == 0
    assert node.advance(done(running)).verdicts == ["OK"]
    other = new_job("x")
    cluster.store.submit("zzzzzzzzzzzz", "d", "{}", {"name": "o", "ttl_s": 9, "parallelism": 0})
    cluster.store.extend("zzzzzzzzzzzz", STATIC, 0, True, [other])
    assert cluster.store.control(EXECUTION_ID, "resume") == "running"
    assert [one.name for one in node.claim(4)] == ["j1", "j2", "j3", "x"]


def test_cancel_stops_running_jobs_and_drops_waiting_ones(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(4)), new_job("later", ("j0",)))
    node = cluster.node()
    running, failing = node.claim(2)
    node.advance(bad(failing, retry_ms=-1))
    assert cluster.store.control(EXECUTION_ID, "cancel") == "canceled"
    assert cluster.store.control(EXECUTION_ID, "resume") == "canceled"
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == [
        f"cancel {EXECUTION_ID}".encode()
    ]
    assert cluster.statuses("j0", "j1", "j2", "later") == [
        "canceled",
        "failed",
        "canceled",
        "canceled",
    ]
    assert node.claim(2) == []
    assert node.beat(running.token).stale == [running.token]
    assert node.advance(done(running)).verdicts == ["STALE"]
    assert cluster.client.hget(keys.node("n1"), "used") == b""
    assert cluster.status == "canceled"


def test_nothing_is_recorded_while_a_big_cancel_goes_on(cluster):
    cluster.submit(*(new_job(f"p{i}") for i in range(300)))
    chunk = [*(new_job(f"q{i}") for i in range(199)), new_job("last", priority=9)]
    cluster.store.extend(EXECUTION_ID, STATIC, 1, True, chunk)
    node = cluster.node()
    (running,) = node.claim(1)
    cluster.store.control(EXECUTION_ID, "cancel")
    assert cluster.statuses("last") == ["started"], "the cancel has yet to come to it"
    assert node.beat(running.token).stale == [running.token]
    assert node.advance(done(running), lanes=2).claimed == []
    while cluster.store.drain_outbox():
        pass
    assert cluster.statuses("last") == ["canceled"]
    assert cluster.store.results(EXECUTION_ID, ["last"]) == {}
    assert cluster.client.hlen(keys.node_leases("n1")) == 0


def test_failing_fast_records_no_more_results(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(3)), policy="fail_fast")
    node = cluster.node(slots=3, resources={"cpus": 3.0})
    one, two, three = node.claim(3)
    assert node.advance(bad(one), done(two)).verdicts == ["OK", "STALE"]
    assert node.advance(done(three)).verdicts == ["STALE"]
    assert cluster.statuses("j0", "j1", "j2") == ["failed", "canceled", "canceled"]
    assert cluster.status == "failed"


def test_a_pause_tells_the_nodes_that_hold_something(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(3)))
    node, idle = cluster.node(), cluster.node("idle")
    running, waiting = node.claim(2)
    for one in (node, idle):
        cluster.client.delete(keys.node_inbox(one.id))
    cluster.store.control(EXECUTION_ID, "pause")
    told = f"pause {EXECUTION_ID}".encode()
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == [told]
    assert cluster.client.exists(keys.node_inbox("idle")) == 0
    cluster.store.handback("n1", "n1inc", [waiting.token])
    assert node.claim(1) == []
    cluster.store.control(EXECUTION_ID, "resume")
    (again,) = node.claim(1)
    assert (again.name, again.token.attempt) == (waiting.name, 1)


def test_a_big_cancel_goes_in_chunks(cluster):
    cluster.submit(new_job("a"))
    for number in range(5):
        chunk = [new_job(f"d{number}_{i}", ("a",)) for i in range(300)]
        cluster.store.extend(EXECUTION_ID, STATIC, number + 1, number == 4, chunk)
    cluster.store.control(EXECUTION_ID, "cancel")
    assert 0 < int(cluster.store.execution(EXECUTION_ID)["canceled"]) <= 500
    while cluster.store.drain_outbox():
        pass
    assert cluster.store.execution(EXECUTION_ID)["canceled"] == "1501"


def test_unknown_executions_are_gone(cluster):
    assert cluster.store.control("nothing", "pause") == "GONE"
    assert cluster.store.retry("nothing") == "GONE"


def test_what_began_to_expire_before_a_retry_expires_from_the_first_job_on_after_it(cluster):
    jobs = [new_job(f"o{i}") for i in range(40)]
    cluster.submit(*jobs)
    node = cluster.node(slots=40, resources={"cpus": 40.0})
    *others, last = node.claim(40)
    node.advance(*(done(one) for one in others), bad(last))
    assert cluster.store.expire(EXECUTION_ID, 30)
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    while cluster.store.drain_outbox():
        pass
    (again,) = node.claim(1)
    node.advance(done(again))
    assert cluster.status == "succeeded"
    while cluster.store.expire(EXECUTION_ID, 30):
        pass
    ids = [job_id(EXECUTION_ID, f"o{i}") for i in range(40)]
    assert all(0 < cluster.client.ttl(keys.job(id_)) <= TTL_S for id_ in ids)


@pytest.mark.parametrize("more", [0, 40])
def test_after_its_ttl_nothing_of_an_execution_is_left(cluster, more):
    """The TTL begins with the end; for many jobs an orchestrator starts it, chunk by chunk."""
    node = cluster.node()
    before = {key.decode() for key in cluster.client.keys("*")}
    others = [new_job(f"o{i}") for i in range(more)]
    cluster.submit(new_job("a", dependents="b"), new_job("b", ("a",)), new_job("c"), *others)
    while claimed := node.claim(2):
        node.advance(*(done(one, log=b"text") for one in claimed))
    assert cluster.status == "succeeded"
    assert cluster.take_agenda() == ([f"expire {EXECUTION_ID}"] if more else [])
    if more:
        assert [cluster.store.expire(EXECUTION_ID, 30) for _ in range(2)] == [True, False]
        assert "expiring" not in cluster.store.execution(EXECUTION_ID)
    for key in cluster.client.keys("*"):
        mine = EXECUTION_ID in key.decode() or key.decode().startswith("rq:job:")
        if mine:
            assert 0 < cluster.client.ttl(key) <= TTL_S, key
        else:
            assert key.decode() in before or key.decode().split(":")[1] in {
                "finished", "queues", "executions", "agenda", "domains", "events", "test", "node", "maintenance", "idle",
            }, key  # fmt: skip


def test_a_drain_is_told_again_by_the_beat(cluster):  # Q10
    node = cluster.node()
    assert cluster.store.drain("n1") == cluster.store.drain("n1") == "OK"
    assert cluster.client.lpop(keys.node_inbox("n1")) == b"drain"  # and its reply is lost
    assert cluster.client.exists(keys.node_inbox("n1")) == 0
    assert node.beat().drain
    assert node.register() == "OK"
    assert node.beat().drain
    reborn = Node(cluster.store, "n1", "reborn")
    reborn.register()
    assert not reborn.beat().drain
    assert cluster.store.drain("nobody") == "GONE"
