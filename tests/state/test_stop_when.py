"""A fan-out that is stopped early: a child gave what it looks for."""  # F7

from __future__ import annotations

import pytest

from penstock.common.state import keys
from penstock.orchestrator.audit import audit, repair
from support.scripted import EXECUTION_ID, bad, done, new_job

WHEN = '{"metric_name":"acc","at_least":0.9}'


def open_fan_out(cluster, total=6, limit=0, when=WHEN, folds=False, **fields):
    source = new_job("src", kind="fan-out", dependents="best? after", **fields)
    del source.fields["origin"]
    cluster.submit(source, new_job("best", ("src?",), kind="fan-in"), new_job("after", ("src",)))
    cluster.store.open_group(
        EXECUTION_ID, "src", total, limit, 1000, "{}", folds=folds, stop_when=when
    )


def add(cluster, chunk, start, stop, **fields):
    jobs = [new_job(f"src_{i}", group="src", **fields) for i in range(start, stop)]
    return cluster.store.extend(EXECUTION_ID, "src", chunk, False, jobs)


def children(cluster, count):
    return cluster.statuses(*(f"src_{index}" for index in range(count)))


def node_of(cluster, slots=4, id_="n1"):
    return cluster.node(id_, slots=slots, resources={"cpus": float(slots)})


def met(one, value=0.95):
    return done(one, metrics={"acc": value, "loss": 9.0})


def drain(cluster):
    while cluster.store.drain_outbox():
        pass


def stop_in_part(cluster):
    """Of 400 that are there the first meets the bound; one script cannot cancel all others."""
    open_fan_out(cluster, total=500)
    for chunk in range(2):
        add(cluster, chunk, 200 * chunk, 200 * chunk + 200)
    node = node_of(cluster)
    first, *_ = node.claim(4)
    node.advance(met(first))


def test_the_others_end_and_no_more_are_made(cluster):
    open_fan_out(cluster)
    assert add(cluster, 0, 0, 4) == "OK"
    node = node_of(cluster, slots=2)
    first, second = node.claim(2)
    node.advance(met(first))
    assert children(cluster, 4) == ["finished", "canceled", "canceled", "canceled"]
    assert cluster.statuses("src", "after") == ["finished", "queued"]
    assert add(cluster, 1, 4, 6) == "CLOSED"
    assert node.advance(done(second)).verdicts == ["STALE"]
    group = cluster.store.group(EXECUTION_ID, "src")
    counts = {name: group.get(name) for name in ("total", "settled", "bad", "stopped_by")}
    assert counts == {"total": "4", "settled": "4", "bad": None, "stopped_by": "src_0"}
    assert cluster.store.execution(EXECUTION_ID).get("faults", "0") == "0"
    assert cluster.job("src_1")["reason"] == "src_0 met stop_when"
    assert cluster.job("src")["reason"] == "src_0 met stop_when"
    assert f"fanin {EXECUTION_ID} best" in cluster.take_agenda()
    assert audit(cluster.store) == []


@pytest.mark.parametrize(
    ("when", "value", "stops"),
    [
        ('{"metric_name":"acc","at_least":0.9}', 0.9, True),
        ('{"metric_name":"acc","at_least":0.9}', 0.8999999999999999, False),
        ('{"metric_name":"acc","at_most":0.1}', 0.1, True),
        ('{"metric_name":"acc","at_most":0.1}', 0.10000000000000002, False),
        ('{"metric_name":"acc","at_most":-1e300}', -1.1e300, True),
        ('{"metric_name":"f1","at_least":0}', 0.9, False),
        ("", 0.9, False),
    ],
)
def test_the_bound_counts_and_is_compared_as_floats(cluster, when, value, stops):
    open_fan_out(cluster, when=when)
    add(cluster, 0, 0, 2)
    node = node_of(cluster)
    first, _ = node.claim(4)
    node.advance(met(first, value))
    assert children(cluster, 2)[1] == ("canceled" if stops else "started")


def test_a_failed_attempt_stops_nothing_and_a_stale_one_neither(cluster):
    open_fan_out(cluster)
    add(cluster, 0, 0, 3, retries=1)
    node, other = node_of(cluster, slots=3), node_of(cluster, id_="n2")
    first, second, third = node.claim(3)
    node.advance(bad(first, metrics={"acc": 1.0}, retry_ms=0))
    cluster.store.handback(node.id, node.incarnation, [second.token])
    cluster.store.promote_due()
    assert {one.name for one in other.claim(4)} == {"src_0", "src_1"}
    assert node.advance(met(second)).verdicts == ["STALE"]
    assert cluster.store.group(EXECUTION_ID, "src").get("stopped_by") is None
    node.advance(met(third))
    assert children(cluster, 3) == ["canceled", "canceled", "finished"]


def test_of_many_that_wait_none_begins_and_all_end(cluster):
    """More than one script may cancel; those that wait at the gate too."""
    open_fan_out(cluster, total=900, limit=3)
    for chunk in range(4):
        add(cluster, chunk, 200 * chunk, 200 * chunk + 200)
    node = node_of(cluster)
    first, *_ = node.claim(4)
    node.advance(met(first))
    drain(cluster)
    assert children(cluster, 800) == ["finished"] + ["canceled"] * 799
    assert cluster.statuses("src") == ["finished"]
    assert not cluster.client.exists(keys.group_held(EXECUTION_ID, "src"))
    assert [one.name for one in node.claim(4)] == ["after"]
    assert audit(cluster.store) == []


@pytest.mark.parametrize("outcome", ["failed", "crashed", "stopped"])
def test_what_ends_badly_after_it_counts_no_more(cluster, outcome):
    open_fan_out(cluster)
    add(cluster, 0, 0, 3, retries=3)
    node = node_of(cluster)
    first, second, _ = node.claim(3)
    node.advance(met(first), bad(second, outcome, retry_ms=0))
    assert children(cluster, 3) == ["finished", "canceled", "canceled"]
    assert cluster.statuses("src", "after") == ["finished", "queued"]
    assert cluster.store.execution(EXECUTION_ID).get("faults", "0") == "0"
    assert cluster.store.fail_control(EXECUTION_ID, "src", "{}") == "ENDED"
    assert audit(cluster.store) == []


def test_it_cannot_fail_for_what_is_not_made_any_more(cluster):
    stop_in_part(cluster)
    assert cluster.statuses("src") == ["started"], "more than one script can cancel"
    assert cluster.store.fail_control(EXECUTION_ID, "src", "{}") == "ENDED"
    drain(cluster)
    assert cluster.statuses("src", "after") == ["finished", "queued"]


def test_others_that_wait_behind_them_at_the_execution_s_gate_go_on(cluster):
    source = new_job("src", kind="fan-out")
    other = new_job("two", kind="fan-out")
    for one in (source, other):
        del one.fields["origin"]
    cluster.submit(source, other, parallelism=1)
    cluster.store.open_group(EXECUTION_ID, "src", 1000, 0, 1000, "{}", stop_when=WHEN)
    for chunk in range(5):
        add(cluster, chunk, 200 * chunk, 200 * chunk + 200, retries=1)
    node = node_of(cluster, slots=1)
    for _ in range(210):
        (one,) = node.claim(1)
        node.advance(bad(one, retry_ms=0))
        cluster.store.promote_due()
        node.beat()
    cluster.store.open_group(EXECUTION_ID, "two", 3, 0, 1000, "{}")
    jobs = [new_job(f"two_{i}", group="two") for i in range(3)]
    assert cluster.store.extend(EXECUTION_ID, "two", 0, True, jobs) == "OK"
    (one,) = node.claim(1)
    node.advance(met(one))
    drain(cluster)
    for _ in range(3):
        (one,) = node.claim(1)
        node.advance(done(one))
    assert cluster.statuses("src", "two") == ["finished", "finished"]
    assert cluster.status == "succeeded"


def test_those_that_failed_before_count_until_a_retry_leaves_them_out(cluster):
    open_fan_out(cluster)
    add(cluster, 0, 0, 4)
    node = node_of(cluster)
    first, second, *_ = node.claim(4)
    node.advance(bad(first))
    node.advance(met(second))
    assert cluster.statuses("src", "after") == ["failed", "canceled"]
    token = cluster.store.start_control(EXECUTION_ID, "best", "o.1", "o")
    cluster.store.settle_control(token, "finished", "1")
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    drain(cluster)
    assert children(cluster, 4) == ["deferred", "finished", "canceled", "canceled"]
    cluster.store.open_group(EXECUTION_ID, "src", 6, 0, 1000, "{}", stop_when=WHEN)
    assert children(cluster, 4) == ["canceled", "finished", "canceled", "canceled"]
    assert cluster.statuses("src", "after") == ["finished", "queued"]
    assert cluster.store.group(EXECUTION_ID, "src")["bad"] == "0"
    assert audit(cluster.store) == []


def test_a_cancel_amid_the_stop_then_a_retry(cluster):
    stop_in_part(cluster)
    assert "canceled" in children(cluster, 400)
    cluster.store.control(EXECUTION_ID, "cancel")
    drain(cluster)
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    drain(cluster)
    opened = cluster.store.open_group(EXECUTION_ID, "src", 500, 0, 1000, "{}", stop_when=WHEN)
    assert opened == ("OK", 400, 2, 400)
    drain(cluster)
    assert children(cluster, 400) == ["finished"] + ["canceled"] * 399
    assert cluster.statuses("src", "after") == ["finished", "queued"]
    assert audit(cluster.store) == []


def test_counts_that_are_wrong_are_mended_as_they_should_be(cluster):
    open_fan_out(cluster)
    cluster.store.extend(EXECUTION_ID, ":static", 1, True, [new_job("other")])
    add(cluster, 0, 0, 3)
    node = node_of(cluster)
    first, *_ = node.claim(3)
    node.advance(met(first))
    cluster.client.hset(keys.group(EXECUTION_ID, "src"), "bad", 2)
    assert [str(one) for one in audit(cluster.store)] == [
        f"counts {EXECUTION_ID}-src: bad 2, not 0"
    ]
    repair(cluster.store)
    assert audit(cluster.store) == []


# -- whole workflows


def sweep(strategy, count=40, **fan_out):
    fan_out = {"stop_when": "acc >= 0.9", "max_parallel_jobs": 4, **fan_out}
    return [
        {
            "id": "train", "type": "fan-out", "template": {"run": "m:f", "retry": 0, "config": {"n": "${n}"}},
            "parameters": [{"name": "n", "range": count}], **fan_out,
        },
        {"id": "best", "type": "fan-in", "fan_out_job_id": "train", "aggregation": strategy},
    ]  # fmt: skip


def accuracy(name, config):
    return {"acc": config["n"] / 10, "n": config["n"]}


@pytest.mark.parametrize("fields", [{}, {"keep_results": False}])
@pytest.mark.parametrize("window", [1000, 6])
def test_a_search_ends_with_the_first_that_is_good_enough(drive, window, fields):
    strategy = {"strategy": "best-metric", "metric_name": "acc"}
    found = drive(sweep(strategy, **fields), accuracy, window=window)
    assert found["status"] == "succeeded"
    result = found["result"]
    assert 0.9 <= result["aggregated_result"]["acc"] <= 1.2, "one of the four that ran beside"
    assert 10 <= result["input_count"] <= 12
    assert found["progress"]["failed"] == 0


def test_what_failed_before_is_told_as_ever(drive):
    def work(name, config):
        return 1 / 0 if config["n"] == 2 else accuracy(name, config)

    strategy = {"strategy": "count"}
    found = drive(sweep(strategy), work)
    assert found["jobs"]["best"]["status"] == "failed"
    assert "child" in found["jobs"]["best"]["error"]["message"]
    found = drive(sweep({**strategy, "on_failed": "skip", "min_success": 0.9}), work)
    assert found["status"] == "succeeded", "9 of the 10 that ran, not of 40"


def test_a_bound_that_nobody_meets_changes_nothing(drive):
    found = drive(sweep({"strategy": "count"}, stop_when="acc <= -1"), accuracy)
    assert found["result"]["aggregated_result"] == 40
    assert found["jobs"]["train"]["reason"] is None


def test_a_metric_that_nobody_has_is_told(drive):
    found = drive(sweep({"strategy": "count"}, stop_when="acuracy >= 0.9"), accuracy)
    assert found["status"] == "succeeded"
    assert found["jobs"]["train"]["reason"] == "stop_when: no job had a metric acuracy"
