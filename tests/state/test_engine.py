"""Whole executions, the engine and the service on real scripts; only the daemon's part is by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from penstock.common.code import CodeRoot
from penstock.common.errors import (
    Conflict,
    ExecutionCanceled,
    ExecutionFailed,
    InputError,
    NotFound,
)
from penstock.common.jobs import split_job_id
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys
from penstock.orchestrator.engine.roles import Agenda, Leader
from penstock.orchestrator.engine.verdicts import TurnOver
from penstock.orchestrator.engine.work import Engine

GRID = [{"name": "lr", "values": [0.001, 0.01, 0.1]}, {"name": "bs", "values": [16, 32, 64]},
        {"name": "opt", "values": ["adam", "sgd"]}]  # fmt: skip


def sweep(strategy: dict[str, Any], **fan_out: Any) -> list[dict[str, Any]]:
    template = {"run": "m:train", "config": {"lr": "${lr}", "bs": "${bs}", "opt": "${opt}"}}
    return [
        {"id": "train", "type": "fan-out", "template": template, "parameters": GRID, **fan_out},
        {"id": "best", "type": "fan-in", "fan_out_job_id": "train", "aggregation": strategy},
    ]


def accuracy(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"accuracy": config["lr"] * config["bs"], **config}


def test_a_sweep_of_18_gives_the_best(drive):  # F1 F2 F6
    found = drive(sweep({"strategy": "best-metric", "metric_name": "accuracy"}), accuracy)
    assert found["status"] == "succeeded"
    assert found["result"]["input_count"] == 18
    assert found["result"]["aggregated_result"] == {
        "accuracy": 6.4,
        "lr": 0.1,
        "bs": 64,
        "opt": "adam",
    }
    (chosen,) = found["result"]["chosen"]
    assert chosen["id"] == "train_16_lr_0_1_bs_64_opt_adam"
    assert chosen["parameters"] == {"lr": 0.1, "bs": 64, "opt": "adam"}
    assert found["progress"] == {
        "total": 20, "done": 20, "failed": 0, "running": 0, "canceled": 0, "fraction": 1.0,
    }  # fmt: skip
    fan_out = found["jobs"]["train"]["result"]
    assert fan_out["parameter_count"] == 3
    assert fan_out["generated_job_ids"][0] == "train_0_lr_0_001_bs_16_opt_adam"
    assert len(fan_out["generated_jobs"]) == 18
    assert list(found["jobs"])[1] == "train_0_lr_0_001_bs_16_opt_adam"


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"strategy": "worst-metric", "metric_name": "accuracy"}, 0.016),
        ({"strategy": "best-metric", "metric_name": "accuracy", "ascending": True}, 0.016),
    ],
)
def test_the_worst(drive, strategy, expected):  # F6
    found = drive(sweep(strategy), accuracy)
    assert found["result"]["aggregated_result"]["accuracy"] == expected


def test_collect_average_and_vote(drive):  # F6
    found = drive(sweep({"strategy": "collect-all"}), accuracy)
    assert [one["opt"] for one in found["result"]["aggregated_result"]] == ["adam", "sgd"] * 9
    found = drive(
        sweep({"strategy": "average-metrics"}), lambda name, config: {"x": config["bs"], "t": True}
    )
    assert found["result"]["aggregated_result"] == {"x": pytest.approx(112 / 3)}
    found = drive(
        sweep({"strategy": "majority-vote"}), lambda name, config: {"class": int(config["bs"] > 16)}
    )
    assert found["result"]["aggregated_result"] == {"class": 1}
    assert found["result"]["votes"] == 12


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"strategy": "top-k", "metric_name": "accuracy", "k": 3}, [(6.4, "adam"), (6.4, "sgd"), (3.2, "adam")]),
        ({"strategy": "quantiles", "metric_name": "bs", "quantiles": [0, 0.5, 1]}, {"0": 16, "0.5": 32, "1": 64}),
        ({"strategy": "count"}, 18),
    ],
)  # fmt: skip
def test_top_k_quantiles_and_count(drive, strategy, expected):  # F7
    found = drive(sweep(strategy), accuracy)["result"]["aggregated_result"]
    if strategy["strategy"] == "top-k":
        found = [(one["accuracy"], one["opt"]) for one in found]
    assert found == expected


def test_a_custom_aggregator_runs_on_a_worker(drive):  # F6
    def work(name: str, config: dict[str, Any]) -> Any:
        return config["bs"] if name != "best" else [config["function"], sum(config["outputs"])]

    found = drive(sweep({"strategy": "custom", "custom_aggregator": "m:add"}), work)
    assert found["result"] == ["m:add", 672]
    assert found["jobs"]["best"]["node"] == "n1"


def fails_for_sgd(name: str, config: dict[str, Any]) -> Any:
    return 1 / 0 if config["opt"] == "sgd" else accuracy(name, config)


@pytest.mark.parametrize(
    ("on_failed", "min_success", "status"),
    [("fail", None, "failed"), ("skip", None, "succeeded"), ("skip", 9, "succeeded"), ("skip", 10, "failed"),
     ("pass", None, "succeeded")],
)  # fmt: skip
def test_failed_children(drive, on_failed, min_success, status):  # F8
    strategy = {"strategy": "collect-all", "on_failed": on_failed}
    if min_success:
        strategy["min_success"] = min_success
    retry = {
        "run": "m:train",
        "retry": 0,
        "config": {"opt": "${opt}", "lr": "${lr}", "bs": "${bs}"},
    }
    found = drive(sweep(strategy, template=retry), fails_for_sgd)
    assert found["status"] == status
    assert found["progress"]["failed"] >= 9
    if status == "succeeded":
        outputs = found["result"]["aggregated_result"]
        assert len(outputs) == (18 if on_failed == "pass" else 9)
    else:
        assert found["jobs"]["best"]["status"] == "failed"
        message = found["jobs"]["best"]["error"]["message"]
        assert "9" in message
        if on_failed == "fail":
            assert "the first is 1 " in message
            assert message.endswith("; child 1 is train_1_lr_0_001_bs_16_opt_sgd")


def test_a_missing_metric_is_a_clear_error(drive):  # F8
    found = drive(sweep({"strategy": "best-metric", "metric_name": "f1"}), accuracy)
    assert found["status"] == "failed"
    assert "f1" in found["jobs"]["best"]["error"]["message"]
    assert "accuracy" in found["jobs"]["best"]["error"]["message"]


def test_results_that_cannot_be_aggregated_end_the_fan_in(drive):  # F8
    nested: Any = 1
    for _ in range(800):
        nested = [nested]
    found = drive(sweep({"strategy": "majority-vote"}), lambda name, config: nested)
    assert found["status"] == "failed"
    assert found["jobs"]["best"]["status"] == "failed"
    assert found["jobs"]["best"]["error"]["type"] == "RecursionError"


def test_a_fan_in_that_another_took_before_it_died_comes_up_again(
    drive, cluster, monkeypatch
):  # Q8
    settle, taken = cluster.store.settle_control, []

    def after_another(token, *rest):
        if not taken:
            id_, name = split_job_id(token.job)
            taken.append(cluster.store.start_control(id_, name, "other.1", "o2"))
        return settle(token, *rest)

    monkeypatch.setattr(cluster.store, "settle_control", after_another)
    found = drive(sweep({"strategy": "best-metric", "metric_name": "accuracy"}), accuracy)
    assert found["jobs"]["best"]["status"] == "started"
    cluster.pass_time(5)
    Agenda(cluster.store, Engine(cluster.store, 1000, "o3"), turn_s=math.inf).tick()
    ended = cluster.store.jobs(found["id"], ["best"], ("status", "attempt"))[0]
    assert ended == {"status": "finished", "attempt": "3"}


def test_a_fan_out_over_a_result_of_unknown_length(drive):  # F1 F5
    jobs = [
        {"id": "split", "run": "m:split"},
        {"id": "each", "type": "fan-out", "over": "${jobs.split.result.chunks}",
         "template": {"run": "m:each", "config": {"n": "${item.n}", "i": "${index}"}}},
        {"id": "all", "type": "fan-in", "fan_out_job_id": "each", "aggregation": {"strategy": "collect-all"}},
        {"id": "end", "run": "m:end", "config": {"total": "${jobs.all.result.aggregated_result}"}},
    ]  # fmt: skip

    def work(name: str, config: dict[str, Any]) -> Any:
        if name == "split":
            return {"chunks": [{"n": 3 * i} for i in range(5)]}
        return (
            config["refs"]["all"]["aggregated_result"]
            if name == "end"
            else config["n"] + config["i"]
        )

    found = drive(jobs, work)
    assert found["result"] == [0, 4, 8, 12, 16]
    assert "each_4" in found["jobs"]


def test_no_jobs_is_a_clear_outcome(drive):  # F5 F8
    jobs = sweep(
        {"strategy": "collect-all"},
        parameters=[{"name": "lr", "values": []}],
        template={"run": "m:f"},
    )
    found = drive(
        [*jobs, {"id": "after", "run": "m:f", "depends_on": ["train"]}], lambda name, config: 1
    )
    assert found["jobs"]["train"]["status"] == "finished"
    assert found["jobs"]["best"]["error"]["type"] == "FANIN_NO_RESULTS"
    assert found["status"] == "failed"


def test_a_narrow_window_still_makes_all_jobs_once(drive, cluster):  # F4
    jobs = sweep({"strategy": "collect-all"}, parameters=[{"name": "i", "values": list(range(777))}],
                 template={"run": "m:f", "config": {"i": "${i}"}}, max_parallel_jobs=7)  # fmt: skip
    found = drive(jobs, lambda name, config: config["i"], window=50, slots=16)
    assert found["result"]["aggregated_result"] == list(range(777))
    assert found["progress"]["total"] == 779
    starts = [event for event in cluster.events("job_started") if event.get("node")]
    assert len(starts) == 777


def test_a_large_fan_out_is_made_turn_by_turn(cluster, service):
    """After each chunk another item may have its turn; nothing is made twice, or left out."""
    values = [{"name": "i", "values": list(range(450))}]
    job = {"id": "fan", "type": "fan-out", "parameters": values, "template": {"run": "m:f"}}
    id_ = service.submit(parse_workflow({"name": "flow", "jobs": [job]}))
    engine, item = Engine(cluster.store, 1000, "o1"), f"expand {id_} fan"
    for made in (100, 200, 300, 400):
        with pytest.raises(TurnOver):
            engine.perform(item, is_turn_over=lambda preparing_s: True)
        assert cluster.client.llen(keys.queue("any.p5")) == made
    engine.perform(item, is_turn_over=lambda preparing_s: True)
    assert cluster.client.llen(keys.queue("any.p5")) == 450


def test_chunks_that_another_orchestrator_made_first_are_left_to_it(
    drive, cluster, monkeypatch
):  # F4
    extend_each, verdicts = cluster.store.extend_each, []

    def after_another(execution, chunks, shared=None):
        def others_first():
            for chunk in chunks:
                if chunk.stage == "train" and chunk.number % 2:
                    while cluster.store.extend(execution, *chunk, shared) == "AHEAD":
                        pass  # the one before is under way
                yield chunk

        for verdict in extend_each(execution, others_first(), shared):
            verdicts.append(verdict)
            yield verdict

    monkeypatch.setattr(cluster.store, "extend_each", after_another)
    jobs = sweep({"strategy": "collect-all"}, parameters=[{"name": "i", "values": list(range(450))}],
                 template={"run": "m:f", "config": {"i": "${i}"}})  # fmt: skip
    found = drive(jobs, lambda name, config: config["i"], slots=16)
    assert found["result"]["aggregated_result"] == list(range(450))
    assert verdicts.count("DONE") == 2


def test_a_fan_out_that_cannot_be_expanded_fails_clearly(drive):
    jobs = [
        {"id": "split", "run": "m:split"},
        {
            "id": "each",
            "type": "fan-out",
            "over": "${jobs.split.result.chunks}",
            "template": {"run": "m:each"},
        },
        {"id": "end", "run": "m:end", "depends_on": ["each"]},
    ]
    found = drive(jobs, lambda name, config: {"chunks": "no list"})
    assert found["status"] == "failed"
    assert "each" in found["jobs"]["each"]["error"]["message"]
    assert found["jobs"]["end"]["status"] == "canceled"


def test_submitting_twice_under_one_key(service):  # W12
    one = parse_workflow({"name": "a", "jobs": [{"id": "x", "run": "m:f"}]})
    other = parse_workflow({"name": "b", "jobs": [{"id": "y", "run": "m:f"}]})
    first = service.submit(one, key="k")
    assert service.submit(one, key="k") == first
    with pytest.raises(Conflict, match=first):
        service.submit(other, key="k")
    assert service.resolve("last") == first


def test_questions_about_nothing(service):
    with pytest.raises(NotFound, match="penstock ls"):
        service.execution("nothing")
    with pytest.raises(NotFound, match="penstock run"):
        service.resolve("last")
    with pytest.raises(NotFound, match="none yet"):
        service.pause_queues(["any.p5"])
    with pytest.raises(NotFound):
        service.drain("nobody")


def test_results_before_there_are_any(service):
    service.compile_s = 0  # nobody has yet
    id_ = service.submit(parse_workflow({"name": "a", "jobs": [{"id": "x", "run": "m:f"}]}))
    with pytest.raises(InputError, match="pending"):
        service.result(id_)
    with pytest.raises(NotFound, match="no job x"):
        service.result(id_, "x")


def test_what_did_not_succeed_has_no_result(drive, service):
    found = drive([{"id": "x", "run": "m:f", "retry": 0}], lambda name, config: 1 / 0)
    with pytest.raises(ExecutionFailed, match="failed: x: "):
        service.result(found["id"])
    id_ = service.submit(parse_workflow({"name": "a", "jobs": [{"id": "x", "run": "m:f"}]}))
    service.cancel(id_)
    with pytest.raises(ExecutionCanceled, match="was canceled"):
        service.result(id_)


def test_retry_of_all_is_a_new_execution(drive, service):
    found = drive([{"id": "x", "run": "m:f"}], lambda name, config: 1)
    again = service.retry(found["id"], failed=False)
    assert again != found["id"]
    with pytest.raises(InputError, match="nothing to retry"):
        service.retry(found["id"], failed=True)


def test_dead_letter_queues_and_nodes(drive, service):
    found = drive(
        [{"id": "x", "run": "m:f", "retry": 0, "priority": 9}], lambda name, config: 1 / 0
    )
    assert found["status"] == "failed"
    (dead,) = service.dead_letter()
    assert (dead["job"], dead["attempt"], dead["error"]["type"]) == ("x", 1, "E")
    (queue,) = service.queues()
    assert (queue["name"], queue["failed"], queue["paused"]) == ("any.p9", 1, False)
    service.pause_queues()
    assert service.queues()[0]["paused"]
    service.resume_queues()
    (node,) = service.nodes()
    assert (node["id"], node["concurrency"], node["capabilities"]) == ("n1", 4, ["cpu"])


def test_the_leader_is_one_and_trims(cluster, service):
    service.compile_s = 0
    one, two = Leader(cluster.store, "one", 30), Leader(cluster.store, "two", 30)
    one.tick()
    two.tick()
    first = one.lock.fence
    assert first > 0
    assert two.lock.fence == 0
    id_ = service.submit(parse_workflow({"name": "a", "jobs": [{"id": "x", "run": "m:f"}]}))
    cluster.client.delete(f"penstock:exec:{id_}", f"penstock:exec:{id_}:spec")
    one.trim()
    assert service.executions() == []
    one.stop()
    two.lock.acquire()
    assert two.lock.fence > first


def test_a_fan_in_says_why_its_fan_out_made_no_jobs(drive):
    jobs = sweep({"strategy": "count"}, depends_on=["before"])
    found = drive([{"id": "before", "run": "m:f", "retry": 0}, *jobs], lambda name, config: 1 / 0)
    assert found["jobs"]["train"]["status"] == "canceled"
    message = found["jobs"]["best"]["error"]["message"]
    assert message == "train made no jobs: upstream before did not succeed"


def test_the_leader_keeps_the_bundles_of_executions_that_have_not_ended(cluster, service):
    digests = ["0" * 32, "1" * 32]
    ids = []
    for digest in digests:
        cluster.client.hset(keys.bundle(digest), "data", "zip")
        cluster.client.expire(keys.bundle(digest), 5)
        workflow = parse_workflow({"name": digest, "jobs": [{"id": "x", "run": "m:f"}]})
        ids.append(service.submit(workflow, code=CodeRoot(f"bundle:{digest}/src", digest)))
    service.cancel(ids[1])
    while cluster.store.drain_outbox():
        pass
    Leader(cluster.store, "one", 30).trim()
    assert cluster.client.ttl(keys.bundle(digests[0])) > 5
    assert cluster.client.ttl(keys.bundle(digests[1])) <= 5
    service.cancel(ids[0])
