"""Whatever is lost in Redis by somebody's hand is found, mended, and the execution ends well."""  # Q5 Q6 W6

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from penstock.common.jobs import job_id
from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys, repairs
from penstock.common.state.chunks import NewJob
from penstock.orchestrator.audit import audit, repair
from penstock.orchestrator.engine.roles import Agenda, Upkeep
from penstock.orchestrator.engine.work import Engine
from penstock.orchestrator.service import Service
from support.scripted import Cluster, Node, bad, done, new_job

FLOW = [
    {"id": "a", "run": "m:f", "retry": 2},
    {"id": "b", "run": "m:f", "depends_on": ["a"]},
    {"id": "c", "run": "m:f", "depends_on": ["a"]},
    {"id": "fan", "type": "fan-out", "depends_on": ["a"], "template": {"run": "m:f"},
     "parameters": [{"name": "p", "values": list(range(6))}], "max_parallel_jobs": 2},
    {"id": "in", "type": "fan-in", "fan_out_job_id": "fan", "aggregation": {"strategy": "collect-all"}},
    {"id": "last", "run": "m:f", "depends_on": ["b", "c", "in"]},
]  # fmt: skip


class Play:
    """A cluster with one node and one orchestrator, step by step."""

    def __init__(self, cluster: Cluster, jobs: Any = None, **rest: Any) -> None:
        self.cluster, self.store, self.client = cluster, cluster.store, cluster.client
        self.service = Service(cluster.store, Settings())
        self.service.compile_s = 0
        workflow = {"name": "w", "jobs": jobs or FLOW, **rest}
        self.id = cluster.id = self.service.submit(parse_workflow(workflow))
        self.agenda = Agenda(self.store, Engine(self.store, 4, "o"), turn_s=math.inf)
        self.node: Node = cluster.node(slots=4, resources={"cpus": 4.0})

    def key(self, name: str) -> str:
        return keys.job(job_id(self.id, name))

    def finish(self, *claimed: Any) -> None:
        self.node.advance(*(done(one) for one in claimed))

    def to_fan_out(self) -> list[Any]:
        """Until the fan-out is open: b, c and two of its jobs are claimed."""
        self.agenda.tick()
        self.finish(*self.node.claim(1))
        self.agenda.tick()
        return self.node.claim(4)

    def to_the_end(self) -> None:
        """Nothing bad happens any more."""
        for _ in range(40):
            self.cluster.pass_time(11)
            self.node.register()
            self.agenda.tick()
            Upkeep(self.store).tick()
            self.finish(*self.node.claim(4))
            self.node.beat()
            if self.cluster.status in ("succeeded", "failed", "canceled"):
                break
        assert self.cluster.status == "succeeded", self.service.execution(self.id)


Break = Callable[[Play], None]
BREAKS: dict[str, tuple[Break, str]] = {}


def breaks(what: str) -> Callable[[Break], Break]:
    """Registers a function that drives a play and then lays hands on Redis; `what` is to be found."""

    def register(function: Break) -> Break:
        BREAKS[function.__name__] = (function, what)
        return function

    return register


@breaks("it is in no queue")
def a_queue_is_deleted(play: Play) -> None:
    play.agenda.tick()
    play.client.delete(keys.queue("any.p5"))


@breaks("it holds jobs, but no claim looks at it")
def the_index_of_queues_is_deleted(play: Play) -> None:
    play.agenda.tick()
    play.client.delete(keys.ready())


@breaks("its node holds no lease for it")
def a_lease_is_deleted(play: Play) -> None:
    play.agenda.tick()
    play.node.claim(1)
    play.client.delete(keys.node_leases("n1"))


@breaks("its node holds no lease for it")
def a_lease_of_another_life_of_the_node_is_deleted(play: Play) -> None:
    play.agenda.tick()
    play.node.claim(1)
    play.client.delete(keys.node_leases("n1"))
    play.client.hset(keys.node("n1"), "incarnation", "another")


@breaks("its node is not registered")
def a_node_is_deleted(play: Play) -> None:
    play.to_fan_out()
    play.client.zrem(keys.nodes(), "n1")
    play.client.delete(keys.node("n1"))


@breaks("of a node that is not registered")
def leases_of_nobody_are_left(play: Play) -> None:
    play.agenda.tick()
    play.client.hset(keys.node_leases("gone"), job_id(play.id, "a"), "1 gonex.1 123 slots=1")


@breaks("counts as started, but is not")
def an_entry_of_a_started_job_is_left(play: Play) -> None:
    play.agenda.tick()
    play.client.zadd(keys.wip("any.p5"), {f"{job_id(play.id, 'a')}:other.3": "+inf"})


@breaks("nothing says when it is due")
def the_index_of_what_is_due_is_deleted(play: Play) -> None:
    play.agenda.tick()
    play.node.advance(bad(*play.node.claim(1), retry_ms=500))
    play.client.delete(keys.due())


@breaks("it waits for nothing")
def what_parallelism_holds_back_is_deleted(play: Play) -> None:
    play.client.hset(keys.execution(play.id), "parallelism", 1)
    play.agenda.tick()
    play.finish(*play.node.claim(1))
    assert play.client.delete(keys.held(play.id)) == 1


@breaks("held, but there is room for it")
def a_place_is_not_passed_on(play: Play) -> None:
    play.client.hset(keys.execution(play.id), "parallelism", 1)
    play.agenda.tick()
    play.finish(*play.node.claim(1))
    play.client.hset(keys.execution(play.id), "parallelism", 2)


@breaks("it waits for nothing")
def what_a_fan_out_holds_back_is_deleted(play: Play) -> None:
    play.to_fan_out()
    assert play.client.delete(keys.group_held(play.id, "fan")) == 1


@breaks("it waits for nothing")
def what_was_parked_is_deleted(play: Play) -> None:
    play.agenda.tick()
    play.store.control(play.id, "pause")
    play.node.claim(1)
    assert play.client.delete(keys.parked(play.id)) == 1
    play.store.control(play.id, "resume")


@breaks("parked, but its execution is not paused")
def an_execution_is_resumed_by_hand(play: Play) -> None:
    play.agenda.tick()
    play.store.control(play.id, "pause")
    play.node.claim(1)
    play.client.hset(keys.execution(play.id), "status", "running")


@breaks("it waits for nothing")
def what_no_node_could_run_is_deleted(play: Play) -> None:
    play.agenda.tick()
    play.client.hset(play.key("a"), "needs", "gpus=1")
    assert play.node.claim(1) == []
    assert play.client.delete(f"{keys.unmet()}:any|gpus=1") == 1
    play.client.hset(play.key("a"), "needs", "")


@breaks("it waits for 2 jobs, but 1 are open")
def a_job_waits_for_too_many(play: Play) -> None:
    play.agenda.tick()
    play.client.hincrby(play.key("b"), "waits", 1)


@breaks("it waits for 1 jobs, but 0 are open")
def a_job_was_not_told(play: Play) -> None:
    play.agenda.tick()
    play.client.hset(play.key("a"), "dependents", "c fan")
    play.finish(*play.node.claim(1))


@breaks("it waits for 1 jobs, but 0 are open")
def what_a_job_had_yet_to_tell_is_deleted(play: Play) -> None:
    a_job_was_not_told(play)
    play.client.hset(play.key("a"), mapping={"dependents": "b c fan", "fan_at": 1})


@breaks("no orchestrator is asked to compile it")
def the_agenda_is_deleted_before_compiling(play: Play) -> None:
    play.client.delete(keys.agenda("default"))


@breaks("no orchestrator is asked for it")
def the_agenda_is_deleted_before_expanding(play: Play) -> None:
    play.agenda.tick()
    play.finish(*play.node.claim(1))
    play.client.delete(keys.agenda("default"))


@breaks("no orchestrator is asked for the rest of its jobs")
def the_agenda_is_deleted_while_expanding(play: Play) -> None:
    play.finish(*play.to_fan_out())
    assert play.client.delete(keys.agenda("default")) == 1


@breaks("no orchestrator is asked for the rest of its jobs")
def a_fan_out_asked_for_more_in_vain(play: Play) -> None:
    play.to_fan_out()
    play.client.hset(keys.group(play.id, "fan"), "asked", 1)


@breaks("all its jobs have ended")
def a_fan_out_did_not_notice_its_end(play: Play) -> None:
    to_fan_in(play)
    play.client.delete(keys.agenda("default"))
    play.client.hset(play.key("fan"), "status", "started")
    play.client.hincrby(play.key("in"), "waits", 1)
    play.client.hincrby(keys.execution(play.id), "finished", -1)
    play.client.hincrby(keys.execution(play.id), "running", 1)


@breaks("no orchestrator is asked for it")
def the_agenda_is_deleted_before_the_fan_in(play: Play) -> None:
    to_fan_in(play)
    play.client.delete(keys.agenda("default"))


@breaks("no orchestrator has it")
def an_orchestrator_and_the_agenda_die_in_a_fan_in(play: Play) -> None:
    to_fan_in(play)
    assert play.store.start_control(play.id, "in", "o.1", "o")
    play.client.delete(keys.agenda("default"))


def to_fan_in(play: Play) -> None:
    claimed = play.to_fan_out()
    while claimed:
        play.finish(*claimed)
        if play.cluster.job("fan")["status"] == "finished":
            return
        play.agenda.tick()
        claimed = play.node.claim(4)
    raise AssertionError("the fan-out did not end")


@breaks("running 7, not 1")
def counts_are_wrong(play: Play) -> None:
    play.agenda.tick()
    play.node.claim(1)
    play.client.hset(keys.execution(play.id), mapping={"running": 7, "failed": 3, "faults": 1})


@breaks("admitted 5, not 2")
def counts_of_a_fan_out_are_wrong(play: Play) -> None:
    play.to_fan_out()
    play.client.hset(keys.group(play.id, "fan"), mapping={"admitted": 5, "settled": 1})


@breaks("unfinished 3, not 0")
def what_a_retry_of_a_fan_out_goes_by_is_wrong(play: Play) -> None:
    play.to_fan_out()
    play.client.hset(keys.group(play.id, "fan"), "unfinished", 3)


@breaks("finished 0, not 12")
def an_execution_did_not_notice_its_end(play: Play) -> None:
    play.to_the_end()
    fields = {"status": "running", "finished": 0}
    play.client.hset(keys.execution(play.id), mapping=fields)
    play.client.persist(keys.execution(play.id))


@breaks("all its jobs have ended, but it has not")
def an_execution_was_opened_by_hand(play: Play) -> None:
    play.to_the_end()
    play.client.hset(keys.execution(play.id), "status", "running")
    play.client.persist(keys.execution(play.id))


@breaks("it has ended, but will never expire")
def the_agenda_is_deleted_at_the_end(play: Play) -> None:
    play.to_the_end()
    play.client.persist(keys.execution(play.id))


@breaks("its retry stands still")
def what_a_retry_left_to_do_is_deleted(play: Play) -> None:
    play.agenda.tick()
    play.store.control(play.id, "cancel")
    play.client.hset(keys.execution(play.id), mapping={"status": "running", "retrying": 1})
    play.client.xadd(keys.events(), {"event": "execution_running", "execution": play.id})
    play.client.persist(keys.execution(play.id))


@pytest.mark.parametrize("server", ["redis7"], indirect=True)
@pytest.mark.parametrize("name", BREAKS)
def test_what_was_broken_is_found_and_mended(cluster, name):
    break_, what = BREAKS[name]
    play = Play(cluster)
    break_(play)
    found = audit(play.store)
    assert what in "\n".join(map(str, found))
    assert audit(play.store) == found, "a look changes nothing"
    assert repair(play.store)
    assert audit(play.store) == []
    assert repair(play.store) == []
    play.to_the_end()
    play.cluster.pass_time(11)
    play.agenda.tick()
    assert audit(play.store) == []


def test_what_a_cancel_left_to_do_is_found_and_mended(cluster):
    play = Play(cluster)
    play.agenda.tick()
    held = play.node.claim(1)
    closed = {"status": "canceled", "closing": "canceled"}
    play.client.hset(keys.execution(play.id), mapping=closed)
    assert "jobs of it have not ended" in str(audit(play.store)[0])
    repair(play.store)
    assert audit(play.store) == []
    assert play.node.advance(done(*held)).verdicts == ["STALE"]
    assert set(play.cluster.statuses(*play.store.job_names(play.id))) == {"canceled"}


def test_a_job_that_is_gone_is_not_called_mended(cluster):
    play = Play(cluster)
    play.agenda.tick()
    play.client.delete(play.key("b"))
    (finding,) = audit(play.store)
    assert "its hash is gone, which nothing can mend" in str(finding)
    assert repair(play.store) == []
    assert play.service.cancel(play.id) == "canceled"
    assert play.service.retry(play.id, failed=False) != play.id


def test_an_outbox_that_nobody_knows_of(cluster):
    play = Play(cluster)
    play.agenda.tick()
    play.client.rpush(keys.outbox(play.id), f"group {play.id} fan")
    assert "nobody knows of its outbox" in str(audit(play.store)[0])
    repair(play.store)
    assert play.client.exists(keys.outbox(play.id)) == 0
    assert audit(play.store) == []


def test_a_lease_that_is_restored_lets_the_running_attempt_finish(cluster):
    play = Play(cluster)
    play.agenda.tick()
    (job,) = play.node.claim(1)
    play.client.delete(keys.node_leases("n1"))
    repair(play.store)
    assert play.node.beat(job.token).stale == []
    assert play.node.advance(done(job)).verdicts == ["OK"]
    assert play.cluster.job("a")["attempt"] == "1"


def test_a_restored_lease_that_its_node_does_not_hold_goes_with_the_next_beat(cluster):
    play = Play(cluster)
    play.agenda.tick()
    play.node.claim(1)
    play.node.advance()
    play.client.delete(keys.node_leases("n1"))
    repair(play.store)
    play.node.beat()
    assert play.cluster.statuses("a") == ["queued"]


def test_an_attempt_that_was_lost_is_on_record(cluster):
    play = Play(cluster)
    play.agenda.tick()
    play.node.claim(1)
    play.client.delete(keys.node_leases("n1"), keys.node("n1"), keys.nodes())
    repair(play.store)
    (row,) = play.store.histories([job_id(play.id, "a")])[0]
    assert (row["attempt"], row["outcome"]) == (1, "lost")
    assert play.cluster.job("a")["losses"] == "1"


def test_counts_of_an_execution_that_moves_are_not_touched(cluster, monkeypatch):
    play = Play(cluster)
    play.agenda.tick()
    play.client.hset(keys.execution(play.id), "running", 7)
    (finding,) = audit(play.store)
    (job,) = play.node.claim(1)
    assert finding.mend() is False
    assert play.store.execution(play.id)["running"] == "8"
    play.node.advance(done(job))
    repair(play.store)
    assert play.store.execution(play.id)["running"] == "0"


def test_queues_of_others_are_left_alone(cluster):
    cluster.client.sadd(keys.queues(), keys.queue("default"), keys.queue("mine.p5"))
    cluster.client.rpush(keys.queue("mine.p5"), "theirs")
    cluster.client.hset(keys.job("theirs"), "status", "queued")
    assert audit(cluster.store) == []
    cluster.client.delete(keys.queue("mine.p5"), keys.job("theirs"))


def test_a_long_queue_and_many_jobs_are_read_in_pages(cluster):
    play = Play(cluster, [{"id": f"j{i}", "run": "m:f"} for i in range(1203)])
    play.agenda.tick()
    assert audit(play.store) == []
    play.client.lrem(keys.queue("any.p5"), 1, job_id(play.id, "j600"))
    (finding,) = audit(play.store)
    assert finding.subject == job_id(play.id, "j600")


def test_what_a_mended_job_sets_free_is_found_in_its_list(cluster):
    jobs = [new_job("c", ("s",)), new_job("d", ("s",))]
    cluster.submit(NewJob("s", (), {"kind": "fan-out", "dependents": "c d"}), *jobs)
    source, group = keys.job(job_id(cluster.id, "s")), keys.group(cluster.id, "s")
    cluster.client.hset(source, mapping={"status": "started", "attempt": 1})
    cluster.client.hset(group, mapping={"total": 0, "created": 0, "settled": 0})
    ids = [job_id(cluster.id, name) for name in "scd"]
    found = repairs.jobs(cluster.store, ids, mend=True)
    assert found == ["all its jobs have ended", "", ""]
    queued = cluster.client.lrange(keys.queue("any.p5"), 0, -1)
    assert [one.decode() for one in queued] == ids[1:]
    node = cluster.node()
    node.advance(*map(done, node.claim(2)))
