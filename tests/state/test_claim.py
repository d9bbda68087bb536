"""What a claim takes: priority, order, tags, resources, batches."""  # Q1 Q2 Q3

from __future__ import annotations

import pytest

from penstock.common.jobs import job_id, rq_data
from penstock.common.state import keys
from penstock.common.state.chunks import NewJob
from support.scripted import EXECUTION_ID, bad, done, names, new_job


def test_highest_priority_first_then_first_come(cluster):
    cluster.submit(
        new_job("low", priority=1), new_job("one", priority=5), new_job("two", priority=5),
        new_job("top", priority=10), new_job("gpu", priority=5, tags=("gpu",)),
    )  # fmt: skip
    node = cluster.node(capabilities=("cpu", "gpu"), slots=5, resources={"cpus": 5.0})
    assert names(node.claim(3)) == ["top", "one", "two"]
    assert names(node.claim(5)) == ["gpu", "low"]


def test_queues_are_rqs_lists(cluster):
    cluster.submit(*(new_job(f"j{i}", priority=7, tags=("gpu", "ssd")) for i in range(3)))
    assert cluster.client.llen("rq:queue:gpu+ssd.p7") == 3
    assert cluster.client.sismember("rq:queues", "rq:queue:gpu+ssd.p7")


def test_a_job_runs_only_where_all_its_tags_are(cluster):
    cluster.submit(new_job("both", tags=("gpu", "ssd")), new_job("plain"))
    cpu, gpu = cluster.node("cpu"), cluster.node("gpu", capabilities=("cpu", "gpu"))
    full = cluster.node("full", capabilities=("cpu", "gpu", "ssd"))
    assert names(cpu.claim(2)) == ["plain"]
    assert names(gpu.claim(2)) == []
    assert names(full.claim(2)) == ["both"]


def test_resources_are_never_over_committed(cluster):
    cluster.submit(*(new_job(f"j{i}", needs="ram=3000000000") for i in range(4)))
    node = cluster.node(slots=4, resources={"cpus": 4.0, "ram": 8e9})
    assert names(node.claim(4)) == ["j0", "j1"]
    assert names(node.claim(2)) == []
    (first,) = cluster.events("job_started")[:1]
    assert first["free"] == "cpus=4 ram=8000000000 slots=4"


def test_what_the_daemon_says_is_free_counts_too(cluster):
    cluster.submit(new_job("a", needs="gpus=1"))
    node = cluster.node(resources={"cpus": 2.0, "gpus": 2.0})
    assert names(node.claim(1, free={"cpus": 2, "gpus": 0, "slots": 1})) == []
    assert names(node.claim(1, free={"cpus": 2, "gpus": 1, "slots": 1})) == ["a"]


def test_a_claim_looks_past_what_does_not_fit(cluster):
    big = [new_job(f"big{i}", needs="ram=7000000000") for i in range(31)]
    cluster.submit(new_job("taken", needs="ram=5000000000"), *big, new_job("small"))
    node = cluster.node(slots=4, resources={"cpus": 4.0, "ram": 8e9})
    assert names(node.claim(1)) == ["taken"]
    assert names(node.claim(1)) == ["small"]


def test_a_claim_looks_past_32_at_most(cluster):
    big = [new_job(f"big{i}", needs="ram=7000000000") for i in range(33)]
    cluster.submit(new_job("taken", needs="ram=5000000000"), *big, new_job("small"))
    node = cluster.node(slots=4, resources={"cpus": 4.0, "ram": 8e9})
    assert names(node.claim(1)) == ["taken"]
    assert names(node.claim(1)) == []


def test_a_big_job_passed_over_20_times_reserves_a_node(cluster):
    small = [new_job(f"s{i}", needs="cpus=1") for i in range(40)]
    cluster.submit(new_job("first", needs="cpus=1"), new_job("big", needs="cpus=2"), *small)
    node = cluster.node(slots=2, resources={"cpus": 2.0})
    (held,) = node.claim(1)
    ran = []
    for _ in range(30):
        claimed = node.claim(1)
        if not claimed:
            break
        ran.append(claimed[0].name)
        node.advance(done(held))
        held = claimed[0]
    assert len(ran) == 20
    assert cluster.events("node_reserved")[0]["job"] == "big"
    node.advance(done(held))
    assert names(node.claim(1)) == ["big"]


@pytest.mark.parametrize("count", [20, 40])  # in the end the whole list is read, or its first page
def test_what_was_held_back_is_taken_beside_the_big_job(cluster, count):
    small = [new_job(f"s{i}", needs="cpus=1") for i in range(count)]
    cluster.submit(new_job("ahead", needs="cpus=1"), new_job("big", needs="cpus=3"), *small)
    node = cluster.node(slots=4, resources={"cpus": 4.0})
    held = node.claim(4)
    assert names(held) == ["ahead", "big"]
    cluster.store.handback("n1", "n1inc", [one.token for one in reversed(held)])
    (ahead, *others) = node.claim(2, free={"cpus": 2, "slots": 4})
    while not cluster.events("node_reserved"):
        node.advance(*map(done, others))
        others = node.claim(1, free={"cpus": 2, "slots": 4})
    node.advance(*map(done, others))
    cluster.store.handback("n1", "n1inc", [ahead.token])
    assert names(node.claim(4)) == ["big", "ahead"]


def test_a_reservation_ends_after_a_minute(cluster):
    cluster.submit(new_job("first", needs="cpus=1"), new_job("big", needs="cpus=2"),
                   *(new_job(f"s{i}", needs="cpus=1") for i in range(40)))  # fmt: skip
    node = cluster.node(slots=2, resources={"cpus": 2.0})
    (held,) = node.claim(1)
    while claimed := node.claim(1):
        node.advance(done(held))
        held = claimed[0]
    for _ in range(61):
        cluster.pass_time(1)
        node.beat(held.token)
    assert len(node.claim(1)) == 1


def test_the_same_claim_id_gives_the_same_answer(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(5)))
    node = cluster.node()
    first = node.advance(lanes=2)
    again = node.again(lanes=2)
    assert (again, again.claimed) == (first, first.claimed)
    one, two = first.claimed
    second = node.advance(done(one), done(two), lanes=1)
    repeated = node.again(done(one), done(two), lanes=1)
    assert repeated.verdicts == second.verdicts == ["OK", "OK"]
    assert repeated.claimed == second.claimed
    assert cluster.store.execution(cluster.id)["finished"] == "2"
    assert cluster.client.llen("rq:queue:any.p5") == 2


def test_a_repeated_claim_leaves_out_what_was_lost_meanwhile(cluster):
    cluster.submit(new_job("a"))
    node = cluster.node()
    (job,) = node.claim()
    cluster.store.control(cluster.id, "cancel")
    assert node.again(lanes=1).claimed == []
    assert cluster.statuses("a") == ["canceled"]
    assert job.token.attempt == 1


def test_an_unregistered_node_gets_nothing(cluster):
    cluster.submit(new_job("a"))
    stranger = cluster.node("n1")
    stranger.incarnation = "another"
    assert stranger.advance(lanes=1).unknown


def test_rq_suspend_and_paused_queues_are_honoured(cluster):
    cluster.submit(new_job("a", priority=9), new_job("b", priority=2))
    node = cluster.node()
    cluster.client.set("rq:suspended", 1)
    answer = node.advance(lanes=1)
    assert answer.suspended
    assert answer.claimed == []
    cluster.client.delete("rq:suspended")
    assert cluster.store.pause_queues("pause", ["any.p9"]) == 1
    assert names(node.claim(2)) == ["b"]
    cluster.store.pause_queues("resume", ["any.p9"])
    assert names(node.claim(1)) == ["a"]


def test_what_names_no_limits_has_the_usual_ones(cluster):
    cluster.submit(
        NewJob("a", (), {"run": "m:f", "data": rq_data("m:f", "{}"), "origin": "any.p5"})
    )
    node = cluster.node()
    (a,) = node.claim(1)
    assert (a.work.timeout_s, a.work.retries_left) == (300, 3)
    for left in (2, 1, 0):
        node.advance(bad(a, retry_ms=0))
        assert (cluster.job("a")["status"], cluster.job("a")["retries_left"]) == (
            "scheduled",
            str(left),
        )
        cluster.pass_time(1)
        cluster.store.promote_due()
        (a,) = node.claim(1)
        assert a.work.retries_left == left
    node.advance(bad(a, retry_ms=0))
    assert (cluster.job("a")["status"], cluster.status) == ("failed", "failed")
    cluster.store.retry(cluster.id)
    assert cluster.job("a")["retries_left"] == "3"


def test_what_comes_back_keeps_its_place_and_its_date(cluster):
    in_order = ["lint", "unit", "docs", "b", "sync"]
    cluster.submit(*map(new_job, in_order))
    made = {name: cluster.job(name)["created_at"] for name in in_order}
    assert len(set(made.values())) == len(in_order)
    node = cluster.node(slots=5, resources={"cpus": 5.0})
    first, *others = node.claim(5)
    node.advance(bad(first, "crashed", retry_ms=0))
    cluster.store.handback("n1", "n1inc", [others[0].token])
    cluster.store.leave("n1", "n1inc", "left")
    waiting = [
        id_.decode().partition("-")[2] for id_ in cluster.client.lrange("rq:queue:any.p5", 0, -1)
    ]
    assert waiting == ["docs", "b", "sync", "unit", "lint"]
    assert {name: cluster.job(name)["enqueued_at"] for name in in_order} == made


def test_what_no_live_node_could_ever_run_is_parked_and_told(cluster):
    cpu = cluster.node("cpu")
    cluster.submit(new_job("a", tags=("gpu",)), new_job("b", needs="ram=99000000000"), new_job("c"))
    assert cluster.statuses("a", "b", "c") == ["deferred", "deferred", "queued"]
    assert cluster.job("a")["reason"] == "no live node offers gpu"
    assert "ram=99000000000" in cluster.job("b")["reason"]
    assert cluster.client.llen("rq:queue:gpu.p5") == 0
    gpu = cluster.node("gpu", capabilities=("gpu",))
    cluster.pass_time(1)
    gpu.beat()
    assert cluster.statuses("a", "b") == ["queued", "deferred"]
    assert "reason" not in cluster.job("a")
    assert names(gpu.claim(2)) == ["c", "a"]
    assert cpu.claim(2) == []


def test_before_the_first_node_comes_jobs_wait_in_their_lists(cluster):
    big = new_job("big", needs="ram=99000000000")
    cluster.submit(new_job("a", tags=("gpu",)), new_job("first"), big, new_job("last"))
    assert cluster.statuses("a", "big") == ["queued", "queued"]
    node = cluster.node()
    assert names(node.claim(1)) == ["first"]
    assert names(node.claim(2)) == ["last"]
    assert cluster.statuses("big") == ["deferred"]
    cluster.pass_time(1)
    node.beat()
    assert cluster.statuses("a") == ["deferred"]
    assert "no live node" in cluster.job("a")["reason"]
    assert cluster.client.zscore(keys.ready(), "gpu.p5") is None


def test_parallelism_is_kept_exactly(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(7)), parallelism=3)
    node = cluster.node(slots=8, resources={"cpus": 8.0})
    ran = 0
    held = node.claim(8)
    while held:
        assert len(held) <= 3
        ran += len(held)
        node.advance(*(done(one) for one in held))
        held = node.claim(8)
    assert ran == 7
    assert cluster.status == "succeeded"


def test_a_second_entry_of_a_job_takes_nothing_else_off_its_list(cluster):
    """A cancel leaves the entries of a long list; a retry adds to them."""
    cluster.submit(new_job("a"), new_job("big", needs="cpus=4"))
    cluster.client.rpush("rq:queue:any.p5", job_id(EXECUTION_ID, "a"))
    cluster.node("large", slots=4, resources={"cpus": 4.0})
    assert names(cluster.node(slots=2).claim(3)) == ["a"]
    assert cluster.client.lrange("rq:queue:any.p5", 0, -1) == [f"{EXECUTION_ID}-big".encode()]


def test_jobs_of_one_claim_keep_what_is_theirs(cluster):
    """What many jobs have in common is sent once; what one of them has otherwise is its own."""
    ways = {
        "plain": {},
        "again": {},
        "refs": {"refs": "plain"},
        "timeout": {"timeout": 7},
        "needs": {"needs": "cpus=0.5"},
        "retry": {"retry": '{"max": 1}'},
        "retries": {"retries": 1},
        "run": {"run": "m:g", "data": rq_data("m:g", '{"x": 1}')},
        "priority": {"priority": 3},
    }
    cluster.submit(*(new_job(name, **fields) for name, fields in ways.items()))
    claimed = cluster.node(slots=10, resources={"cpus": 10.0}).claim(10)
    usual = {
        "refs": (),
        "timeout_s": 300.0,
        "needs": {},
        "retry": {},
        "retries_left": 0,
        "run": "m:f",
        "priority": 5,
    }
    told = {
        "refs": {"refs": ("plain",)},
        "timeout": {"timeout_s": 7.0},
        "needs": {"needs": {"cpus": 0.5}},
        "retry": {"retry": {"max": 1}},
        "retries": {"retries_left": 1},
        "run": {"run": "m:g"},
        "priority": {"priority": 3},
    }
    for one in claimed:
        wanted = {**usual, **told.get(one.name, {})}
        assert {name: getattr(one.work, name) for name in usual} == wanted, one.name
        assert one.config == (b'{"x": 1}' if one.name == "run" else b"{}")
    assert len(claimed) == len(ways)
    by_name = {one.name: one.work for one in claimed}
    assert by_name["plain"] is by_name["again"]


def test_claims_carry_what_a_slot_needs(cluster):
    cluster.submit(
        new_job("a", refs="x y", retry='{"max": 1}', retries=1, timeout_s=2.5, needs="gpus=1"),
        root="/code", digest="d1",
    )  # fmt: skip
    (job,) = cluster.node(resources={"cpus": 1.0, "gpus": 1.0}).claim(1)
    assert (job.name, job.config, job.rider) == ("a", b"{}", False)
    work = job.work
    assert (work.root, work.digest, work.refs, work.timeout_s) == ("/code", "d1", ("x", "y"), 2.5)
    assert (work.retry, work.retries_left, work.needs) == ({"max": 1}, 1, {"gpus": 1.0})
    assert (work.priority, work.queue) == (5, "any.p5")
    assert cluster.client.zscore(
        "rq:wip:any.p5", f"{job_id(cluster.id, 'a')}:{job.token.claim}"
    ) == float("inf")
