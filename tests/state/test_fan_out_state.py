"""Fan-outs: the window, the limit, the end."""  # F4 F5

from __future__ import annotations

from penstock.common.state import keys, repairs
from penstock.common.state.store import Item
from support.scripted import EXECUTION_ID, bad, done, new_job


def open_fan_out(cluster, total, limit=0, window=1000, **fields):
    source = new_job("src", kind="fan-out", dependents="best? after", **fields)
    del source.fields["origin"]
    best = new_job("best", ("src?",), kind="fan-in")
    cluster.submit(source, best, new_job("after", ("src",)))
    assert cluster.take_agenda()[-1] == f"expand {EXECUTION_ID} src"
    return cluster.store.open_group(EXECUTION_ID, "src", total, limit, window, "{}")


def add(cluster, chunk, start, stop, last=False, **fields):
    jobs = [new_job(f"src_{i}", group="src", **fields) for i in range(start, stop)]
    return cluster.store.extend(EXECUTION_ID, "src", chunk, last, jobs)


def test_children_run_and_the_fan_out_ends_with_the_last(cluster):
    assert open_fan_out(cluster, 4) == ("OK", 0, 0, 0)
    assert cluster.statuses("src", "after") == ["started", "deferred"]
    add(cluster, 0, 0, 4, last=True)
    assert add(cluster, 0, 0, 4, last=True) == "DONE"
    node = cluster.node(slots=4, resources={"cpus": 4.0})
    children = node.claim(4)
    node.advance(*(done(one) for one in children[:3]))
    assert cluster.statuses("src", "best") == ["started", "deferred"]
    node.advance(done(children[3]))
    assert cluster.statuses("src", "after") == ["finished", "queued"]
    assert f"fanin {EXECUTION_ID} best" in cluster.take_agenda()


def test_an_opened_fan_out_keeps_its_size(cluster):
    open_fan_out(cluster, 4)
    add(cluster, 0, 0, 2)
    assert cluster.store.open_group(EXECUTION_ID, "src", 9, 9, 9, "{}") == ("OK", 2, 1, 0)
    assert cluster.store.group(EXECUTION_ID, "src")["total"] == "4"


def test_a_fan_out_without_jobs_ends_at_once(cluster):
    open_fan_out(cluster, 0)
    assert cluster.statuses("src", "after") == ["finished", "queued"]


def test_the_limit_is_kept_exactly(cluster):
    open_fan_out(cluster, 10, limit=3)
    add(cluster, 0, 0, 10, last=True, retries=1)
    node = cluster.node(slots=10, resources={"cpus": 10.0})
    held, ran, failed_once = node.claim(10), 0, False
    while held:
        assert len(held) <= 3
        if not failed_once:
            failed_once = True
            node.advance(bad(held[0], retry_ms=0), *(done(one) for one in held[1:]))
            ran -= 1
        else:
            node.advance(*(done(one) for one in held))
        ran += len(held)
        cluster.store.promote_due()
        held = [one for one in node.claim(10) if one.name != "after"]
    assert ran == 10
    assert cluster.statuses("src") == ["finished"]


def test_more_is_asked_for_when_half_the_window_is_used_up(cluster):
    open_fan_out(cluster, 100, window=10)
    cluster.store.finish_agenda(Item("default", f"expand {EXECUTION_ID} src"), "0")
    cluster.client.delete(keys.agenda("default"))
    add(cluster, 0, 0, 10)
    node = cluster.node(slots=10, resources={"cpus": 10.0})
    children = node.claim(10)
    node.advance(*(done(one) for one in children[:4]))
    assert cluster.take_agenda() == []
    node.advance(done(children[4]))
    assert cluster.take_agenda() == [f"expand {EXECUTION_ID} src"]


def test_failed_children_fail_the_fan_out_and_its_dependents_but_not_the_fan_in(cluster):
    open_fan_out(cluster, 2)
    add(cluster, 0, 0, 2, last=True)
    node = cluster.node()
    one, two = node.claim(2)
    node.advance(bad(one), done(two))
    assert cluster.statuses("src", "after", "best") == ["failed", "canceled", "deferred"]
    assert "1 of 2" in cluster.job("src")["error"]
    assert f"fanin {EXECUTION_ID} best" in cluster.take_agenda()


def test_tolerated_children_fail_nothing(cluster):
    open_fan_out(cluster, 2, tolerated=1)
    add(cluster, 0, 0, 2, last=True, tolerated=1)
    node = cluster.node()
    one, two = node.claim(2)
    node.advance(bad(one), done(two))
    assert cluster.statuses("src", "after") == ["finished", "queued"]
    assert cluster.store.execution(EXECUTION_ID).get("faults", "0") == "0"


def test_a_control_job_is_settled_under_its_token(cluster):
    open_fan_out(cluster, 0)
    first = cluster.store.start_control(EXECUTION_ID, "best", "o1.1", "o1")
    second = cluster.store.start_control(EXECUTION_ID, "best", "o2.1", "o2")
    assert first is not None
    assert second is not None
    assert cluster.store.settle_control(first, "finished", "1") == "STALE"
    assert cluster.store.settle_control(second, "finished", "2") == "OK"
    assert cluster.store.settle_control(second, "finished", "3") == "STALE"
    assert cluster.store.results(EXECUTION_ID, ["best"]) == {"best": b"2"}
    assert cluster.store.start_control(EXECUTION_ID, "best", "o1.2", "o1") is None


def test_a_control_job_taken_twice_under_one_claim_has_one_attempt(cluster):
    open_fan_out(cluster, 0)
    first = cluster.store.start_control(EXECUTION_ID, "best", "o1.1", "o1")
    assert cluster.store.start_control(EXECUTION_ID, "best", "o1.1", "o1") == first
    started = [row for row in cluster.events("job_started") if row["job"] == "best"]
    assert len(started) == 1


def test_a_fan_out_that_cannot_open_again_ends_its_children(cluster):
    open_fan_out(cluster, 2, window=1)
    add(cluster, 0, 0, 2, last=True)
    cluster.store.control(EXECUTION_ID, "cancel")
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    assert cluster.statuses("src", "src_0", "src_1") == ["deferred"] * 3
    assert cluster.store.fail_control(EXECUTION_ID, "src", '{"type": "E"}') == "OK"
    assert cluster.statuses("src", "src_0", "src_1") == ["failed", "canceled", "canceled"]


def test_a_custom_fan_in_is_handed_to_the_workers_once(cluster):
    open_fan_out(cluster, 0)
    assert cluster.store.enqueue_control(EXECUTION_ID, "best", "[1]") == "OK"
    assert cluster.store.enqueue_control(EXECUTION_ID, "best", "[2]") == "ENDED"
    assert cluster.job("best")["data"] == "[1]"
    assert cluster.statuses("best") == ["queued"]


def test_an_agenda_item_posted_again_while_leased_stays(cluster):
    open_fan_out(cluster, 4)
    item = Item("default", f"expand {EXECUTION_ID} src")
    cluster.client.zadd(keys.agenda("default"), {item.text: 0})
    mark, items, _ = cluster.store.take_agenda((), 10, 9)
    assert item in items
    assert cluster.take_agenda() == []
    cluster.client.zadd(keys.agenda("default"), {item.text: 5})
    assert cluster.store.finish_agenda(item, mark) == "AGAIN"
    mark, items, _ = cluster.store.take_agenda((), 10, 9)
    assert cluster.store.finish_agenda(item, mark) == "OK"
    assert cluster.client.zscore(keys.agenda("default"), item.text) is None


def test_retry_runs_only_what_did_not_succeed(cluster):
    open_fan_out(cluster, 3)
    add(cluster, 0, 0, 3, last=True)
    node = cluster.node(slots=3, resources={"cpus": 3.0})
    children = node.claim(3)
    node.advance(bad(children[0]), done(children[1]), done(children[2]))
    cluster.store.fail_control(EXECUTION_ID, "best", '{"type": "X", "message": "1 of 3 failed"}')
    assert cluster.status == "failed"
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    assert cluster.store.retry(EXECUTION_ID) == "OPEN"
    assert cluster.statuses("src", "src_0") == ["deferred", "deferred"]
    assert cluster.store.open_group(EXECUTION_ID, "src", 3, 0, 1000, "{}") == ("OK", 3, 1, 2)
    assert cluster.statuses("src", "src_0", "src_1", "after", "best") == [
        "started", "queued", "finished", "deferred", "deferred",
    ]  # fmt: skip
    (again,) = node.claim(3)
    assert (again.name, again.token.attempt) == ("src_0", 2)
    node.advance(done(again))
    assert cluster.statuses("src", "after") == ["finished", "queued"]
    token = cluster.store.start_control(EXECUTION_ID, "best", "o.1", "o")
    cluster.store.settle_control(token, "finished", "1")
    node.advance(done(*node.claim(1)))
    assert cluster.status == "succeeded"
    assert cluster.store.retry(EXECUTION_ID) == "SUCCEEDED"


def test_a_child_that_is_mended_still_waits_for_a_place_of_its_execution(cluster):
    """It had passed its fan-out's gate, and got lost before its execution's."""
    open_fan_out(cluster, 2, limit=2)
    cluster.client.hset(keys.execution(EXECUTION_ID), "parallelism", 1)
    add(cluster, 0, 0, 2, last=True)
    cluster.client.delete(keys.held(EXECUTION_ID))
    assert repairs.jobs(cluster.store, [f"{EXECUTION_ID}-src_1"], mend=True) == [
        "it waits for nothing"
    ]
    node = cluster.node()
    (first,) = node.claim(2)
    (second,) = node.advance(done(first), lanes=2).claimed
    assert (first.name, second.name) == ("src_0", "src_1")
