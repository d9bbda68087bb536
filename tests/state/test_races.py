"""Orders of events that once went wrong, each in its smallest form."""  # Q5 Q6 Q8 W7

from __future__ import annotations

import math
from pathlib import Path

import pytest

from penstock.common.jobs import NodeInfo
from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys
from penstock.common.state.chunks import STATIC
from penstock.common.state.scripts import Scripts
from penstock.common.state.store import Store
from penstock.orchestrator.engine.roles import Agenda
from penstock.orchestrator.engine.work import Engine
from penstock.orchestrator.service import Service
from support.scripted import EXECUTION_ID, SHIFTED_NOW, Node, bad, done, new_job

FIELDS = {"name": "t", "ttl_s": 1000, "parallelism": 0}


def test_fail_fast_between_two_chunks_ends_the_execution(cluster):
    cluster.store.submit(EXECUTION_ID, "d", "{}", {**FIELDS, "policy": "fail_fast"})
    cluster.store.extend(EXECUTION_ID, STATIC, 0, False, [new_job("a"), new_job("b")])
    node = cluster.node()
    node.advance(bad(*node.claim(1)))
    assert cluster.store.extend(EXECUTION_ID, STATIC, 1, True, [new_job("c")]) == "CLOSED"
    assert cluster.status == "failed"


def test_a_chunk_that_comes_while_an_end_is_being_told(cluster):
    """`a` has ended, its long list of dependents is told bit by bit, and `late` is on it."""
    names = [f"d{i}" for i in range(700)]
    cluster.store.submit(EXECUTION_ID, "d", "{}", FIELDS)
    first = [new_job("a", dependents=" ".join([*names, "late"])), new_job("b", dependents="late")]
    cluster.store.extend(EXECUTION_ID, STATIC, 0, False, first)
    for chunk in range(4):
        part = names[chunk * 200 : chunk * 200 + 200]
        jobs = [new_job(name, ("a",), priority=1) for name in part]
        cluster.store.extend(EXECUTION_ID, STATIC, chunk + 1, False, jobs)
    node = cluster.node()
    a, b = node.claim(2)
    node.advance(done(a))
    assert cluster.client.llen(keys.outbox(EXECUTION_ID)) == 1
    cluster.store.extend(EXECUTION_ID, STATIC, 5, True, [new_job("late", ("a", "b"))])
    while cluster.store.drain_outbox():
        pass
    assert cluster.statuses("late") == ["deferred"]
    node.advance(done(b))
    assert cluster.statuses("late") == ["queued"]


def test_a_cancel_amid_the_telling_of_an_end_then_a_retry(cluster):
    """`a` has ended and has yet to tell the last of its dependents, `end`, of it."""
    names = [f"d{i}" for i in range(700)]
    cluster.store.submit(EXECUTION_ID, "d", "{}", FIELDS)
    first = [new_job("a", dependents=" ".join([*names, "end"])), new_job("b", dependents="end")]
    cluster.store.extend(EXECUTION_ID, STATIC, 0, False, first)
    for chunk in range(4):
        jobs = [new_job(name, ("a",)) for name in names[chunk * 200 : chunk * 200 + 200]]
        cluster.store.extend(EXECUTION_ID, STATIC, chunk + 1, False, jobs)
    cluster.store.extend(EXECUTION_ID, STATIC, 5, True, [new_job("end", ("a", "b"))])
    node = cluster.node()
    a, _ = node.claim(2)
    node.advance(done(a))
    assert cluster.client.llen(keys.outbox(EXECUTION_ID)) == 1
    cluster.store.control(EXECUTION_ID, "cancel")
    while cluster.store.drain_outbox():
        pass
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    while cluster.store.drain_outbox():
        pass
    assert cluster.job("end")["waits"] == "1"


def test_cancel_then_retry_of_many_runs_all_of_them(cluster):
    cluster.submit(*(new_job(f"x{i}") for i in range(100)), parallelism=5)
    for chunk in range(7):
        jobs = [new_job(f"j{chunk}_{i}") for i in range(200)]
        cluster.store.extend(EXECUTION_ID, STATIC, chunk + 1, True, jobs)
    cluster.store.control(EXECUTION_ID, "cancel")
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    while cluster.store.drain_outbox():
        pass
    node = cluster.node(slots=50, resources={"cpus": 50.0})
    ran = 0
    while claimed := node.claim(50):
        assert len(claimed) <= 5
        ran += len(claimed)
        node.advance(*(done(one) for one in claimed))
        node.beat()
    assert ran == 1500
    assert cluster.status == "succeeded"


def test_an_outage_just_longer_than_a_time_out_moves_nothing(cluster):
    cluster.submit(new_job("a"))
    one, two = cluster.node("one"), cluster.node("two")
    (job,) = one.claim(1)
    cluster.keep_alive(one, two, seconds=3)
    one.beat(job.token)
    cluster.pass_time(4)
    assert two.beat().unknown is False
    cluster.pass_time(1)
    two.beat()
    assert one.beat(job.token).stale == []


def test_slow_beats_are_no_outage(cluster):
    cluster.submit(new_job("a"))

    def slow(name):
        info = NodeInfo(name, f"{name}inc", "host", 1, ("cpu",), 1, {"cpus": 1.0}, timeout_s=30)
        cluster.store.register(info)
        return Node(cluster.store, name, f"{name}inc", slots=1, resources={"cpus": 1.0})

    silent, alive = slow("silent"), slow("alive")
    silent.claim(1)
    for _ in range(7):
        cluster.pass_time(10)
        alive.beat()
    assert cluster.statuses("a") == ["queued"]


def test_a_lost_claim_of_a_forgotten_node_is_given_back(cluster):
    cluster.submit(new_job("a"))
    node = cluster.node()
    node.claim(1)  # its reply is lost
    cluster.client.delete(keys.node("n1"))
    assert node.again(lanes=1).unknown
    node.register()
    node.beat()
    assert cluster.statuses("a") == ["queued"]


def test_a_late_copy_of_an_earlier_claim_takes_nothing(cluster):
    cluster.submit(new_job("a"))
    node = cluster.node()
    node.turn = 6
    assert node.again(lanes=0).claimed == []
    node.turn = 5
    assert node.again(lanes=1).claimed == []
    assert cluster.statuses("a") == ["queued"]


def test_a_fan_out_may_be_called_static(cluster):
    service = Service(cluster.store, Settings())
    axis = {"name": "p", "values": [1, 2]}
    job = {"id": "static", "type": "fan-out", "template": {"run": "m:f"}, "parameters": [axis]}
    id_ = service.submit(parse_workflow({"name": "w", "jobs": [job]}))
    Agenda(cluster.store, Engine(cluster.store, 1000, "o"), turn_s=math.inf).tick()
    node = cluster.node()
    node.advance(*(done(one) for one in node.claim(2)))
    assert service.execution(id_)["status"] == "succeeded"


def test_a_claim_parks_a_bounded_number_of_jobs(cluster):
    cluster.submit()
    cluster.store.submit("bbbbbbbbbbbb", "d", "{}", FIELDS)
    for chunk in range(5):
        jobs = [new_job(f"j{chunk}_{i}") for i in range(200)]
        cluster.store.extend("bbbbbbbbbbbb", STATIC, chunk, chunk == 4, jobs)
    cluster.store.control("bbbbbbbbbbbb", "pause")
    node = cluster.node()
    cluster.client.delete(keys.node_inbox("n1"))
    assert node.claim(1) == []
    assert 150 <= cluster.client.llen(keys.parked("bbbbbbbbbbbb")) <= 200
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == [b"wake"]


def test_a_pause_during_a_resume_stays_a_pause(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(5)))
    node = cluster.node()
    cluster.store.control(EXECUTION_ID, "pause")
    node.claim(1)
    cluster.client.rpush(keys.outbox(EXECUTION_ID), f"unpark {EXECUTION_ID}")
    cluster.client.sadd(keys.outboxes(), EXECUTION_ID)
    cluster.store.drain_outbox()
    assert cluster.client.llen(keys.parked(EXECUTION_ID)) == 5
    assert cluster.store.control(EXECUTION_ID, "resume") == "running"
    assert [one.name for one in node.claim(2)] == ["j0", "j1"]


@pytest.mark.parametrize("verbs", [("pause", "resume"), ("pause",)])
def test_pausing_before_it_is_compiled(cluster, verbs):
    cluster.store.submit(EXECUTION_ID, "d", "{}", FIELDS)
    for verb in verbs:
        cluster.store.control(EXECUTION_ID, verb)
    cluster.store.extend(EXECUTION_ID, STATIC, 0, True, [new_job("a")])
    assert cluster.store.execution(EXECUTION_ID)["started_at"]
    cluster.store.control(EXECUTION_ID, "resume")
    node = cluster.node()
    node.advance(done(*node.claim(1)))
    assert cluster.status == "succeeded"


def test_a_reservation_does_not_outlive_its_node(cluster):
    small = [new_job(f"s{i}", needs="cpus=1") for i in range(80)]
    cluster.submit(new_job("first", needs="cpus=1"), new_job("big", needs="cpus=2"), *small)

    def fill(node):
        (held,) = node.claim(1)
        while claimed := node.claim(1):
            node.advance(done(held))
            held = claimed[0]
        return held

    fill(cluster.node("n1", resources={"cpus": 2.0}))
    assert len(cluster.events("node_reserved")) == 1
    cluster.store.leave("n1", "n1inc", "died")
    other = cluster.node("n2", resources={"cpus": 2.0})
    held = fill(other)
    assert len(cluster.events("node_reserved")) == 2
    other.advance(done(held))
    assert [one.name for one in other.claim(1)] == ["big"]


def test_what_waits_for_a_node_that_never_comes_keeps_no_place(cluster):
    cluster.node()
    cluster.submit(new_job("gpu", tags=("gpu",)), new_job("a"), parallelism=1)
    assert cluster.statuses("gpu", "a") == ["deferred", "queued"]
    cluster.store.control(EXECUTION_ID, "cancel")
    cluster.pass_time(1)
    cluster.store.upkeep()
    assert list(cluster.client.scan_iter(f"{keys.unmet()}*")) == []


def test_a_retried_fan_out_keeps_its_result_and_waits_for_its_upstream(cluster):
    service = Service(cluster.store, Settings())
    jobs = [
        {"id": "u", "run": "m:u", "on_failure": "continue", "retry": 0},
        {"id": "f", "type": "fan-out", "depends_on": ["u"], "template": {"run": "m:f", "retry": 0},
         "parameters": [{"name": "p", "values": [1, 2, 3]}]},
        {"id": "all", "type": "fan-in", "fan_out_job_id": "f", "aggregation": {"strategy": "collect-all"}},
    ]  # fmt: skip
    id_ = service.submit(parse_workflow({"name": "w", "jobs": jobs}))
    agenda = Agenda(cluster.store, Engine(cluster.store, 1000, "o"), turn_s=math.inf)
    node = cluster.node(slots=3, resources={"cpus": 3.0})
    agenda.tick()
    node.advance(bad(*node.claim(1)))
    agenda.tick()
    one, two, three = node.claim(3)
    node.advance(done(one), done(two), bad(three))
    agenda.tick()
    assert service.execution(id_)["status"] == "failed"
    service.retry(id_, failed=True)
    agenda.tick()
    (again,) = node.claim(3)
    assert again.name == "u"
    node.advance(done(again))
    agenda.tick()
    node.advance(done(*node.claim(3), b"3"))
    agenda.tick()
    found = service.execution(id_)
    assert found["status"] == "succeeded"
    assert found["jobs"]["f"]["result"]["job_count"] == 3
    assert found["result"]["aggregated_result"] == [1, 1, 3]


def test_a_retry_opens_a_fan_out_again_whose_failed_children_did_not_matter(cluster):
    service = Service(cluster.store, Settings())
    jobs = [
        {"id": "f", "type": "fan-out", "template": {"run": "m:f", "retry": 0},
         "on_failure": "continue", "parameters": [{"name": "p", "values": [1]}]},
        {"id": "z", "run": "m:z", "depends_on": ["f"], "retry": 0},
    ]  # fmt: skip
    id_ = service.submit(parse_workflow({"name": "w", "jobs": jobs}))
    agenda = Agenda(cluster.store, Engine(cluster.store, 1000, "o"), turn_s=math.inf)
    node = cluster.node()
    agenda.tick()
    for _ in range(2):
        node.advance(bad(*node.claim(1)))
    assert service.execution(id_)["status"] == "failed"
    service.retry(id_, failed=True)
    agenda.tick()
    for _ in range(2):
        node.advance(done(*node.claim(1)))
    assert service.execution(id_)["status"] == "succeeded"


def test_a_claim_that_comes_again_to_a_node_that_was_forgotten(cluster):
    """It gives the job out anew, under the claim id of the attempt that was lost: the late settle of
    that one must not take the new one's lease with it."""
    cluster.submit(new_job("a"))
    node = cluster.node()
    (lost,) = node.claim(1)
    cluster.store.leave("n1", "n1inc", "died")
    node.register()
    (again,) = node.again(lanes=1).claimed
    assert again.token.claim == lost.token.claim
    assert node.advance(done(lost)).verdicts == ["STALE"]
    assert cluster.client.hlen(keys.node_leases("n1")) == 1
    node.advance()
    node.beat()
    assert cluster.statuses("a") == ["queued"]


def test_a_node_that_joins_again_gives_its_resources_out_once(cluster):
    cluster.submit(new_job("a", needs="cpus=2"), new_job("b", needs="cpus=2"))
    node = cluster.node()
    (job,) = node.claim(1)
    cluster.client.delete(keys.node("n1"))
    node.register()
    again = node.advance(bad(job, "crashed"), lanes=1).claimed
    assert [one.name for one in again] == ["a"]
    assert node.claim(1) == []


def test_a_fan_out_that_is_given_up_half_way_ends(cluster):
    """Its item failed again and again after some of its jobs were made."""
    service = Service(cluster.store, Settings())
    axis = {"name": "p", "values": [1, 2, 3]}
    job = {"id": "f", "type": "fan-out", "template": {"run": "m:f"}, "parameters": [axis]}
    id_ = service.submit(parse_workflow({"name": "w", "jobs": [job]}))
    engine = Engine(cluster.store, 1, "o")
    engine.perform(f"compile {id_}")
    engine.perform(f"expand {id_} f")
    node = cluster.node()
    (child,) = node.claim(1)
    engine.give_up(f"expand {id_} f", RuntimeError("no"))
    node.advance(done(child))
    assert service.execution(id_)["status"] == "failed"


def test_a_claim_amid_a_cancel_leaves_the_ends_to_it(cluster):
    """It met `a6` in its list, ended it, and left what is to be told of that behind the retry, which
    then canceled `d` anew. (With scripts that may touch three jobs, so that few are enough.)"""
    finish = (Path(__file__).parents[2] / "common/state/lua/lib/finish.lua").read_text()
    parts = {"now": SHIFTED_NOW, "finish": finish.replace("STEP_LIMIT = 200", "STEP_LIMIT = 3")}
    cluster.store = Store(cluster.client, scripts=Scripts(replace=parts))
    jobs = [new_job(f"a{i}", dependents="d" if i == 6 else "") for i in range(7)]
    cluster.submit(*jobs, new_job("d", ("a6",)))
    node = cluster.node(slots=9, resources={"cpus": 9.0})
    cluster.store.control(EXECUTION_ID, "cancel")
    cluster.store.retry(EXECUTION_ID)
    node.claim(9)
    while cluster.store.drain_outbox():
        pass
    while claimed := node.claim(9):
        node.advance(*(done(one) for one in claimed))
        while cluster.store.drain_outbox():
            pass
    assert cluster.statuses("a6", "d") == ["finished", "finished"]
    assert cluster.status == "succeeded"


def test_an_execution_that_cannot_be_compiled_to_its_end_cancels_what_it_has(cluster):
    cluster.store.submit(EXECUTION_ID, "digest", "", FIELDS)
    cluster.store.extend(EXECUTION_ID, STATIC, 0, False, [new_job("a"), new_job("b", ("a",))])
    assert cluster.node().claim(1)
    assert cluster.store.fail_control(EXECUTION_ID, "", '{"type": "E", "message": "no"}') == "OK"
    assert cluster.statuses("a", "b") == ["canceled", "canceled"]
    assert cluster.status == "failed"
    assert cluster.store.extend(EXECUTION_ID, STATIC, 1, True, [new_job("c")]) == "CLOSED"


def test_a_retry_forgets_why_an_execution_could_not_be_compiled(cluster):
    cluster.store.submit(EXECUTION_ID, "digest", "", FIELDS)
    cluster.store.fail_control(EXECUTION_ID, "", '{"type": "E", "message": "no"}')
    assert "error" in cluster.store.execution(EXECUTION_ID)
    cluster.store.retry(EXECUTION_ID)
    assert "error" not in cluster.store.execution(EXECUTION_ID)


def test_a_late_report_that_it_cannot_be_compiled_harms_nothing(cluster):
    """Another orchestrator compiled it meanwhile."""
    cluster.submit(new_job("a"))
    assert cluster.store.fail_control(EXECUTION_ID, "", "{}") == "ENDED"
    assert cluster.status == "running"


def test_what_a_node_leaves_behind_amid_a_cancel_is_canceled_and_no_dead_letter(cluster):
    """The cancel had come as far as its first 200 jobs when the node of the last one died."""
    cluster.submit(*[new_job(f"j{number}") for number in range(500)])
    node = cluster.node()
    (job,) = node.claim(1)
    cluster.client.hset(keys.job(job.token.job), "losses", 9)
    cluster.client.lrem(keys.jobs(EXECUTION_ID), 1, job.name)
    cluster.client.rpush(keys.jobs(EXECUTION_ID), job.name)
    cluster.store.control(EXECUTION_ID, "cancel")
    cluster.store.leave(node.id, node.incarnation, "it died")
    while cluster.store.drain_outbox():
        pass
    assert cluster.statuses(job.name) == ["canceled"]
    assert cluster.client.zcard(keys.dead()) == 0
