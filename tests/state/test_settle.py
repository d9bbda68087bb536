"""How attempts end, and what follows."""  # Q5 Q6 W6

from __future__ import annotations

import pytest

from penstock.common.jobs import Settlement, Token, job_id
from penstock.common.state import keys
from penstock.common.state.chunks import STATIC
from support.scripted import EXECUTION_ID, bad, done, new_job


def test_results_are_kept_to_the_letter(cluster):
    cluster.submit(new_job("a", dependents="b"), new_job("b", ("a",)))
    text = b'{"x": 0.1234567890123456789, "empty": [], "big": 9007199254740993, "nan": NaN}'
    node = cluster.node()
    (job,) = node.claim(1)
    node.advance(done(job, text, metrics={"x": 0.1}, started_ms=1000, ended_ms=3500))
    assert cluster.store.results(EXECUTION_ID, ["a", "b"]) == {"a": text}
    assert cluster.statuses("a", "b") == ["finished", "queued"]
    assert cluster.client.zscore(keys.finished("any.p5"), job_id(EXECUTION_ID, "a"))


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
@pytest.mark.parametrize("change", ["attempt", "claim", "settled", "canceled", "given away"])
def test_a_stale_token_changes_nothing(cluster, change, beside):
    cluster.submit(new_job("a", retries=1), new_job("other"))
    node = cluster.node()
    job, other = node.claim(2)
    token = job.token
    if change == "attempt":
        token = Token(token.job, 2, token.claim)
    elif change == "claim":
        token = Token(token.job, 1, "another.1")
    elif change == "settled":
        node.advance(done(job))
    elif change == "canceled":
        cluster.store.control(EXECUTION_ID, "cancel")
    else:
        cluster.store.handback("n1", "n1inc", [token])
    before = cluster.job("a")
    more = [done(other)] if beside else []
    found = node.advance(*more, Settlement(token, "finished", b'"late"')).verdicts
    assert found == [*(["STALE" if change == "canceled" else "OK"] * beside), "STALE"]
    assert cluster.job("a") == before


def test_what_ends_after_the_failure_that_ends_its_execution_is_not_recorded(cluster):
    cluster.submit(*(new_job(name) for name in "abcde"), policy="fail_fast")
    node = cluster.node(slots=5, resources={"cpus": 5.0})
    a, b, c, d, e = node.claim(5)
    found = node.advance(done(a), done(b), bad(c), done(d), done(e))
    assert found.verdicts == ["OK", "OK", "OK", "STALE", "STALE"]
    ends = ["finished", "finished", "failed", "canceled", "canceled"]
    assert cluster.statuses(*"abcde") == ends


def test_jobs_that_end_together_end_each_as_it_would_alone(cluster):  # Q5 W6
    plain = [new_job(f"p{i}") for i in range(3)]
    more = [new_job("up", dependents="down"), new_job("down", ("up",)), new_job("low", priority=1)]
    cluster.submit(*plain, *more)
    node = cluster.node(slots=5)
    claimed = {one.name: one for one in node.claim(5)}
    ends = [
        done(claimed[name], b'"%s"' % name.encode()) for name in ("p0", "p1", "up", "p2", "low")
    ]
    assert node.advance(*ends).verdicts == ["OK"] * 5
    for name in ("p0", "p1", "p2", "up", "low"):
        found = cluster.job(name)
        assert (found["status"], found["result"]) == ("finished", f'"{name}"')
        queue = "any.p1" if name == "low" else "any.p5"
        assert cluster.client.zscore(keys.finished(queue), job_id(EXECUTION_ID, name))
        assert cluster.client.zcard(keys.wip(queue)) == 0
    assert cluster.statuses("down") == ["queued"]
    assert cluster.client.hlen(keys.node_leases("n1")) == 0
    assert cluster.store.execution(EXECUTION_ID)["finished"] == "5"
    assert cluster.client.hget(keys.node("n1"), "used") == b""


def test_a_failed_attempt_is_retried_when_its_time_has_come(cluster):
    cluster.submit(new_job("a", retries=1, dependents="b"), new_job("b", ("a",)))
    node = cluster.node()
    (job,) = node.claim(1)
    node.advance(bad(job, retry_ms=5000))
    assert cluster.statuses("a") == ["scheduled"]
    cluster.keep_alive(node, seconds=4)
    assert node.claim(1) == []
    cluster.keep_alive(node, seconds=2)
    (again,) = node.claim(1)
    assert again.token.attempt == 2
    node.advance(bad(again, retry_ms=5000))
    assert cluster.statuses("a", "b") == ["failed", "canceled"]
    assert cluster.status == "failed"
    assert cluster.client.zscore(keys.dead(), job_id(EXECUTION_ID, "a"))
    assert cluster.client.zscore(keys.failed("any.p5"), job_id(EXECUTION_ID, "a"))
    assert "upstream a" in cluster.job("b")["reason"]


def test_poison_is_counted_apart_from_retries(cluster):
    cluster.submit(new_job("a", retries=5))
    node = cluster.node()
    for attempt in (1, 2, 3):
        (job,) = node.claim(1)
        assert job.token.attempt == attempt
        node.advance(bad(job, "crashed", retry_ms=0))
    assert cluster.statuses("a") == ["failed"]
    assert "retries_left" not in cluster.job("a"), "none was made"
    assert node.claim(1) == []


def test_a_crashed_job_is_first_in_line_again(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(3)))
    node = cluster.node()
    (job,) = node.claim(1)
    node.advance(bad(job, "crashed"))
    assert [one.name for one in node.claim(2)] == ["j0", "j1"]


def test_a_handed_back_job_keeps_its_attempt_and_its_place(cluster):
    cluster.submit(*(new_job(f"j{i}") for i in range(4)))
    node = cluster.node(slots=1)
    first, *riders = node.claim(1, ahead={"||m:f": 10})
    assert cluster.store.handback("n1", "n1inc", [one.token for one in riders]) == ["OK"] * 3
    assert cluster.store.handback("n1", "n1inc", [one.token for one in riders]) == ["STALE"] * 3
    again = cluster.node("n2", slots=3, resources={"cpus": 3.0}).claim(3)
    assert [(one.name, one.token.attempt) for one in again] == [("j1", 1), ("j2", 1), ("j3", 1)]
    assert node.advance(done(riders[0])).verdicts == ["STALE"]
    assert node.advance(done(first)).verdicts == ["OK"]


def test_a_diamond_waits_for_both_sides(cluster):
    cluster.submit(
        new_job("a", dependents="b c"), new_job("b", ("a",), dependents="d"),
        new_job("c", ("a",), dependents="d"), new_job("d", ("b", "c")),
    )  # fmt: skip
    node = cluster.node()
    order = []
    while claimed := node.claim(2):
        order.append({one.name for one in claimed})
        node.advance(*(done(one) for one in claimed))
    assert order == [{"a"}, {"b", "c"}, {"d"}]
    assert cluster.status == "succeeded"


def test_on_failure_continue_lets_dependents_run(cluster):
    cluster.submit(new_job("a", on_failure="continue", dependents="b"), new_job("b", ("a",)))
    node = cluster.node()
    node.advance(bad(*node.claim(1)))
    assert cluster.statuses("a", "b") == ["failed", "queued"]
    assert cluster.store.results(EXECUTION_ID, ["a"]) == {"a": b"null"}
    node.advance(done(*node.claim(1)))
    assert cluster.status == "succeeded"


def test_continue_runs_the_other_branches(cluster):
    cluster.submit(new_job("a", dependents="b"), new_job("b", ("a",)), new_job("c", dependents="d"),
                   new_job("d", ("c",)))  # fmt: skip
    node = cluster.node()
    a, c = node.claim(2)
    node.advance(bad(a), done(c))
    node.advance(done(*node.claim(1)))
    assert cluster.statuses("a", "b", "c", "d") == ["failed", "canceled", "finished", "finished"]
    assert cluster.status == "failed"


def test_fail_fast_ends_everything(cluster):
    cluster.submit(
        new_job("a"), new_job("b"), new_job("c"), new_job("d", ("c",)), policy="fail_fast"
    )
    node = cluster.node()
    a, b = node.claim(2)
    node.advance(bad(a))
    assert cluster.statuses("a", "b", "c", "d") == ["failed", "canceled", "canceled", "canceled"]
    assert cluster.status == "failed"
    told = f"cancel {EXECUTION_ID}".encode()
    assert cluster.client.lrange(keys.node_inbox("n1"), 0, -1) == [told]
    assert node.beat(b.token).stale == [b.token]
    assert cluster.client.llen("rq:queue:any.p5") == 0


def test_a_script_touches_at_most_200_jobs(cluster):
    names = [f"d{i}" for i in range(1500)]
    cluster.submit(new_job("a", dependents=" ".join(names)))
    # further chunks come while the execution is still open
    for number in range(5):
        chunk = [new_job(name, ("a",)) for name in names[number * 300 : number * 300 + 300]]
        cluster.store.extend(EXECUTION_ID, STATIC, number + 1, number == 4, chunk)
    node = cluster.node()
    node.advance(done(*node.claim(1)))
    queued = cluster.client.llen("rq:queue:any.p5")
    assert 150 <= queued <= 200
    assert cluster.client.llen(keys.outbox(EXECUTION_ID)) == 1
    rounds = 0
    while cluster.store.drain_outbox():
        rounds += 1
    assert rounds <= 10
    assert cluster.client.llen("rq:queue:any.p5") == 1500
    assert cluster.client.lrange("rq:queue:any.p5", 0, -1)[700].decode() == job_id(
        EXECUTION_ID, "d700"
    )


def test_a_long_chain_of_skipped_jobs(cluster):
    jobs = [new_job("j0", dependents="j1")]
    jobs += [new_job(f"j{i}", (f"j{i - 1}",), dependents=f"j{i + 1}") for i in range(1, 150)]
    cluster.submit(*jobs, new_job("j150", ("j149",)))
    node = cluster.node()
    node.advance(bad(*node.claim(1)))
    while cluster.store.drain_outbox():
        pass
    assert cluster.status == "failed"
    assert cluster.store.execution(EXECUTION_ID)["canceled"] == "150"


def test_output_of_each_attempt_is_kept_up_to_its_limit(cluster):
    cluster.submit(new_job("a", retries=1))
    node = cluster.node()
    (job,) = node.claim(1)
    from penstock.common.state.scripts import run

    for sent, part in ((0, b"hel"), (0, b"hel"), (3, b"lo\n"), (0, b"hel")):  # twice, and late
        request = cluster.store.log_request(job.token, "n1", part, sent)
        assert run(cluster.client, request) == b"OK"
    node.advance(bad(job, log=b"bye\n", retry_ms=0))
    assert run(cluster.client, cluster.store.log_request(job.token, "n1", b"late\n", 6)) == b"STALE"
    cluster.store.promote_due()
    (again,) = node.claim(1)
    node.advance(done(again, log=b"x" * 2_000_000))
    text = cluster.client.get(keys.log(EXECUTION_ID, "a"))
    assert text.startswith(b"hello\nbye\n--- attempt 2 on n1 ---\nxxx")
    assert len(text) == len(b"hello\nbye\n") + 1_048_576


def test_waiting_inside_gives_slot_and_cpu_back(cluster):
    cluster.submit(new_job("outer", needs="cpus=1 gpus=1"), new_job("inner"))
    node = cluster.node(slots=1, resources={"cpus": 1.0, "gpus": 1.0})
    (outer,) = node.claim(1)
    assert cluster.store.wait("n1", "n1inc", outer.token, True) == "OK"
    free = {"cpus": 1.0, "slots": 1.0, "gpus": 0.0}
    (inner,) = node.claim(1, free=free)
    assert inner.name == "inner"
    assert cluster.client.hget(keys.node("n1"), "used") == b"cpus=1 gpus=1 slots=1"
    node.advance(done(inner))
    assert cluster.store.wait("n1", "n1inc", outer.token, False) == "OK"
    assert node.advance(done(outer)).verdicts == ["OK"]
    assert cluster.client.hget(keys.node("n1"), "used") == b""
    assert cluster.store.wait("n1", "n1inc", outer.token, True) == "STALE"
