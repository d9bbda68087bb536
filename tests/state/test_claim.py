"""What a claim takes: priority, order, tags, resources, batches."""  # Q1 Q2 Q3

from __future__ import annotations

import pytest

from penstock.common.jobs import job_id, rq_data
from penstock.common.state import keys
from penstock.common.state.chunks import NewJob
from support.scripted import EXECUTION_ID, bad, done, new_job


def names(claimed):
    return [one.name for one in claimed]


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


def test_riders_only_where_asked_and_never_with_needs(cluster):
    quick = [new_job(f"q{i}") for i in range(6)]
    cluster.submit(*quick, new_job("ram", needs="ram=1"), new_job("last"))
    node = cluster.node(slots=1, resources={"cpus": 1.0, "ram": 8e9})
    claimed = node.claim(1, ahead={"||m:f": 100})
    assert names(claimed) == [f"q{i}" for i in range(6)]
    assert [one.rider for one in claimed] == [False] + [True] * 5
    assert node.claim(0, ahead={"||other:f": 100}) == []


def test_each_rider_comes_with_its_own_work(cluster):
    odd = [
        new_job("named", refs="x"), new_job("quick", timeout=7), new_job("exact", timeout_s=0.5),
        new_job("tried", retries=2), new_job("policy", retry='{"max": 1}'),
    ]  # fmt: skip
    others = [job for i, one in enumerate(odd) for job in (one, new_job(f"plain{i}"))]
    stays = [new_job("stays", run="m:g"), new_job("behind")]
    cluster.submit(new_job("head"), new_job("plain"), *others, *stays)
    node = cluster.node(slots=1)
    held = node.claim(1, ahead={"||m:f": 99})
    assert names(held) == ["head", "plain", *(one.name for one in others)]
    tried = next(one for one in held if one.name == "tried")
    assert tried.work.retries_left == 2
    back = [one for one in held if one.name != "tried"]
    node.advance(bad(tried, retry_ms=0))  # its next attempt is another than theirs
    cluster.store.handback("n1", "n1inc", [one.token for one in back])
    cluster.pass_time(1)
    cluster.store.promote_due()
    all_of_them = node.claim(1, ahead={"||m:f": 99, "||m:g": 1})
    assert names(all_of_them) == [*(one.name for one in back), "stays", "behind", "tried"]
    by_name = {one.name: one for one in all_of_them}
    attempts = {name: one.token.attempt for name, one in by_name.items() if one.token.attempt != 1}
    assert attempts == {"tried": 2}
    work = {name: one.work for name, one in by_name.items()}
    limits = {name: one.timeout_s for name, one in work.items() if one.timeout_s != 300}
    assert limits == {"quick": 7, "exact": 0.5}
    assert [name for name, one in work.items() if one.refs] == ["named"]
    assert [name for name, one in work.items() if one.retry] == ["policy"]
    assert [name for name, one in work.items() if one.retries_left == 1] == ["tried"]
    assert [name for name, one in work.items() if one.run != "m:f"] == ["stays"]


def test_a_rider_is_started_to_rq_once_it_takes_long(cluster):
    cluster.submit(*(new_job(f"q{i}") for i in range(3)))
    node = cluster.node(slots=1)
    head, *riders = node.claim(1, ahead={"||m:f": 9})

    def seen():
        return {
            member.decode().rpartition(":")[0]
            for member in cluster.client.zrange("rq:wip:any.p5", 0, -1)
        }

    ids = [one.token.job for one in (head, *riders)]
    assert seen() == {head.token.job}
    assert [cluster.job(name).get("started_at", "") != "" for name in ("q0", "q1", "q2")] == [
        True,
        False,
        False,
    ]
    node.beat(head.token, *(one.token for one in riders))
    assert seen() == {head.token.job}, "most have ended by now"
    cluster.pass_time(0.1)
    node.advance(done(head), done(riders[0]))
    cluster.pass_time(0.6)
    node.beat(riders[1].token)
    assert seen() == {ids[2]}
    assert cluster.job("q2")["started_at"] < cluster.job("q0")["ended_at"]
    node.advance(done(riders[1]))
    assert seen() == set()


def test_a_rider_that_is_lost_or_comes_again_has_its_own_start(cluster):
    cluster.submit(*(new_job(f"q{i}", retries=3) for i in range(2)))
    node = cluster.node(slots=1)
    first, rider = node.claim(1, ahead={"||m:f": 9})
    cluster.pass_time(1)
    node.beat(first.token, rider.token)
    was = cluster.job("q1")["started_at"]
    node.advance(done(first), bad(rider, retry_ms=0))
    cluster.pass_time(60)
    cluster.store.promote_due()
    node.beat()
    (again,) = node.claim(0, ahead={"||m:f": 9})
    assert (again.token.attempt, again.rider) == (2, True)
    assert "started_at" not in cluster.job("q1")
    cluster.store.leave(node.id, node.incarnation, "daemon died")
    (_, lost) = cluster.store.histories([rider.token.job])[0]
    assert lost["started_at"] > was


def test_settling_jobs_that_others_wait_for_leaves_room_for_claims(cluster):
    firsts = [new_job(f"a{i}", dependents=f"b{i} c{i}") for i in range(60)]
    seconds = [new_job(f"{letter}{i}", (f"a{i}",)) for i in range(60) for letter in "bc"]
    cluster.submit(*firsts, *seconds[:20])
    for number, start in enumerate(range(20, 120, 50), 1):
        assert (
            cluster.store.extend(cluster.id, ":static", number, False, seconds[start : start + 50])
            == "OK"
        )
    node = cluster.node(slots=60, resources={"cpus": 60.0})
    claimed = node.claim(60)
    assert len(node.advance(*(done(one) for one in claimed), lanes=60).claimed) == 60


def test_no_riders_while_another_node_idles(cluster):
    idle, node = cluster.node("idle"), cluster.node("busy", slots=1)
    assert idle.claim(2) == []
    cluster.submit(*(new_job(f"q{i}") for i in range(3)))
    cluster.client.delete(keys.node_inbox("idle"))
    cluster.client.zadd(keys.idle(), {"idle": 0})
    assert len(node.claim(1, ahead={"||m:f": 100})) == 1


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


def test_riders_are_for_a_node_that_no_other_could_help(cluster):
    one, other = cluster.node("one", slots=1), cluster.node("other", slots=1)
    assert one.claim(1) == []
    cluster.submit(*(new_job(f"q{i}") for i in range(4)))
    cluster.client.zadd(keys.idle(), {"one": 0})
    assert names(one.claim(1, ahead={"||m:f": 1})) == ["q0", "q1"], "it alone was idle"
    cluster.client.zadd(keys.idle(), {"other": 0})
    assert names(other.claim(1, ahead={"||m:f": 1})) == ["q2", "q3"]


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


def test_a_lost_wake_up_costs_one_beat(cluster):
    node = cluster.node()
    assert node.claim(1) == []
    cluster.submit(new_job("a"))
    cluster.client.delete(keys.node_inbox("n1"))
    cluster.client.zadd(keys.idle(), {"n1": 0})
    cluster.pass_time(1)
    assert node.beat().work
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == [b"wake"]


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
