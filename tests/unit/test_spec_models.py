"""The models: aliases, units, short forms, and the stored form."""

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.common.errors import SpecError
from penstock.common.spec.loading import parse_workflow
from penstock.common.spec.models import (
    Aggregation,
    Job,
    Resources,
    Retry,
    StopWhen,
    Template,
    Workflow,
)


def job(**fields: Any) -> Job:
    return Job.model_validate({"id": "a", "run": "m:f"} | fields)


def test_what_a_job_is_by_default() -> None:  # W1 W6
    plain = job()
    assert (plain.name, plain.kind, plain.timeout_s, plain.priority) == ("a", "run", 300.0, 5)
    assert plain.retry == Retry(max=3, backoff_s=5, factor=2, max_delay_s=300, jitter=0.1)
    assert plain.resources.needs() == {}
    assert (plain.on_failure, plain.cache, plain.capabilities) == ("fail", "none", ())


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"dependsOn": ["b", "c"]}, "depends_on", ("b", "c")),
        ({"depends_on": "b"}, "depends_on", ("b",)),
        ({"dependencies": ["b", "b"]}, "depends_on", ("b",)),
        ({"task_type": "Model_Training"}, "type", "model-training"),
        ({"taskType": "train"}, "type", "train"),
        ({"timeout": "5m"}, "timeout_s", 300.0),
        ({"timeout": 7}, "timeout_s", 7.0),
        ({"timeoutMs": 1500}, "timeout_s", 1.5),
        ({"timeout_ms": "1500"}, "timeout_s", 1.5),
        ({"timeout": None}, "timeout_s", 300.0),
        ({"priority": "10"}, "priority", 10),
        ({"capabilities": ["ssd", "gpu"]}, "capabilities", ("gpu", "ssd")),
        ({"capabilities": "gpu"}, "capabilities", ("gpu",)),
        ({"parameters": {"x": 1}}, "config", {"x": 1}),
        ({"onFailure": "Continue"}, "on_failure", "continue"),
        ({"maxParallelJobs": 4}, "max_parallel_jobs", 4),
        ({"fanOutJobId": "f"}, "fan_out_job_id", "f"),
        ({"as": "shard"}, "as_", "shard"),
        ({"cache": "REDIS"}, "cache", "redis"),
        ({"cache": False}, "cache", "none"),
        ({"command": ["echo", 5]}, "command", ("echo", "5")),
        ({"name": 7}, "name", "7"),
        ({"retry": 5}, "retry", Retry(max=5)),
        (
            {"stop_when": "val acc>=.95"},
            "stop_when",
            StopWhen(metric_name="val acc", at_least=0.95),
        ),
        ({"stopWhen": "loss <= -1e-3"}, "stop_when", StopWhen(metric_name="loss", at_most=-0.001)),
        (
            {"stop_when": {"metricName": "loss", "atMost": "2"}},
            "stop_when",
            StopWhen(metric_name="loss", at_most=2),
        ),
        ({"retry": False}, "retry", Retry(max=0)),
        ({"maxRetries": 2}, "retry", Retry(max=2)),
        ({"retries": 1}, "retry", Retry(max=1)),
        ({"retryConfig": {"maxRetries": 1, "backoffS": 2}}, "retry", Retry(max=1, backoff_s=2)),
        (
            {"retry": {"backoff": "1m", "on": "OSError"}},
            "retry",
            Retry(backoff_s=60, on=("OSError",)),
        ),
    ],
)
def test_both_spellings_and_all_aliases_load(fields: Any, name: str, value: Any) -> None:  # W1
    assert getattr(job(**fields), name) == value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"priority": 11}, "11 is not between 1 and 10"),
        ({"priority": 0}, "0 is not between 1 and 10"),
        ({"priority": True}, "True is not between 1 and 10"),
        ({"timeout": -5}, "-5 is not a duration above zero"),
        ({"timeoutMs": 0}, "0 is not a number of milliseconds"),
        ({"timeout": 1, "timeoutMs": 1}, "keep one"),
        ({"dependsOn": [], "depends_on": []}, "same setting"),
        ({"capabilities": ["GPU"]}, "write 'gpu'"),
        ({"capabilities": [""]}, "is not a capability"),
        ({"run": "m.f"}, "write module:function"),
        ({"run": 5}, "write module:function"),
        ({"command": []}, "is not a command"),
        ({"id": "a:b"}, "is not an id"),
        ({"id": "a" * 101}, "is not an id"),
        ({"cache": "tape"}, "is not one of none, memory"),
        ({"on_failure": "explode"}, "is not one of fail, continue"),
        ({"retry": -1}, "at least 0"),
        ({"retry": {"factor": 0.5}}, "at least 1"),
        ({"retry": {"jitter": 2}}, "0 to 1"),
        ({"retry": "often"}, "valid dictionary"),
        ({"resources": {"gpus": 0.5}}, "whole number"),
        ({"resources": {"cpus": math.nan}}, "is not a number"),
        ({"resources": {"ram": "lots"}}, "is not a size"),
        ({"config": [1]}, "is not a mapping"),
        ({"config": {"when": object()}}, "which JSON cannot hold"),
        ({"config": {1: 2}}, "is not text, which JSON needs"),
        ({"config": {"x": {1, 2}}}, "a set, which JSON cannot hold"),
        ({"max_parallel_jobs": 0}, "at least 1"),
        ({"as": "jobs"}, "cannot name a parameter"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_bad_values_say_what_is_right(fields: Any, message: str) -> None:  # W3
    with pytest.raises(ValidationError, match=message):
        job(**fields)


def test_values_nested_without_end_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValidationError, match="100 deep"):
        job(config={"x": endless})


def test_resources_under_all_names() -> None:  # Q3
    asked = Resources.model_validate({"cpus_per_task": 2, "gpu": 1, "mem": "1K", "storage": 5})
    assert asked.needs() == {"cpus": 2.0, "gpus": 1.0, "ram": 1024.0, "disk": 5.0}
    other = Resources.model_validate({"cpu": 0.5, "memory": "1GB", "network": 10, "gpus": 0})
    assert other.needs() == {"cpus": 0.5, "ram": 1e9, "bandwidth": 10.0}
    with pytest.raises(ValidationError, match="same setting"):
        Resources.model_validate({"ram": 1, "mem": 1})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"strategy": "Best_Metric", "metricName": "acc"}, ("best-metric", "acc", None, "fail")),
        (
            {"strategy": "custom", "customAggregator": "m:f", "onFailed": "skip"},
            ("custom", None, "m:f", "skip"),
        ),
        ({"strategy": "collectAll", "failedChildren": "PASS"}, ("collect-all", None, None, "pass")),
    ],
)
def test_aggregations(fields: Any, expected: Any) -> None:  # F6 F8
    made = Aggregation.model_validate(fields)
    assert (made.strategy, made.metric_name, made.custom_aggregator, made.on_failed) == expected


@pytest.mark.parametrize("bad", [0, -1, 0.0, 1.5, True, "half"])
def test_min_success_is_a_count_or_a_fraction(bad: Any) -> None:  # F8
    for good in (1, 50, 0.5, 1.0):
        made = Aggregation(strategy="collect-all", min_success=good)
        assert type(made.min_success) is type(good)
    with pytest.raises(ValidationError, match="count from 1"):
        Aggregation(strategy="collect-all", min_success=bad)


def test_parameters_of_a_template_are_its_config() -> None:
    template = Template.model_validate({"run": "m:f", "parameters": {"x": 1}, "namePattern": "n"})
    assert (template.config, template.name_pattern) == ({"x": 1}, "n")


def test_upstreams_are_declared_named_or_gathered() -> None:  # W4
    named = job(depends_on=["x"], config={"a": "${jobs.y.result}", "b": "${jobs.x.result}"})
    assert named.upstreams == ("x", "y")
    fan_out = job(
        type="fan-out",
        run=None,
        over="${jobs.l.result}",
        template={"run": "m:f", "config": {"d": "${jobs.d.result}"}, "command": None},
    )
    assert fan_out.upstreams == ("l", "d")
    assert job(type="fan_in", run=None, fan_out_job_id="f").upstreams == ("f",)
    assert job(run=None, command="cat ${jobs.c.result}").upstreams == ("c",)


FULL: dict[str, Any] = {
    "id": "wf",
    "name": "Everything",
    "params": {"lr": 0.1, "nan": math.nan, "deep": [{"a": None}], "text": "${x} $${y} ü"},
    "parallelism": 3,
    "failurePolicy": "failFast",
    "outputs": ["b"],
    "parallel_execution": True,
    "num_workers": "auto",
    "jobs": {
        "a": {
            "run": "m:f",
            "config": {"lr": "${params.lr}", "t": "${params.text}", "inf": math.inf},
            "retry": {"max": 1, "not_on": ["ValueError"]},
            "timeoutMs": 1,
            "priority": 9,
            "resources": {"ram": "4GiB"},
            "capabilities": ["b", "a"],
            "cache": "disk",
            "on_failure": "continue",
            "metadata": {"k": [1]},
        },
        "f": {
            "type": "fan-out",
            "priority": 8,
            "template": {"command": ["x", "${lr}"], "priority": 5},
            "parameters": [{"name": "lr", "values": [1, "${params.lr}"]}],
        },
        "b": {
            "type": "fan-in",
            "fan_out_job_id": "f",
            "aggregation": {"strategy": "collect-all", "on_failed": "skip", "min_success": 0.5},
        },
    },
}


def test_the_stored_form_gives_the_same_workflow() -> None:  # W1
    workflow = parse_workflow(
        {key: value for key, value in FULL.items() if key != "params"}
        | {"params": {"lr": 0.1, "deep": [{"a": None}], "text": "${x} $${y} ü"}}
    )
    stored = workflow.to_json()
    again = Workflow.from_json(stored)
    assert again == workflow
    assert again.to_json() == stored
    assert list(again.jobs) == ["a", "f", "b"]
    assert again.jobs["f"].template is not None
    assert (again.jobs["f"].priority, again.jobs["f"].template.priority) == (8, 5)
    assert again.dependencies() == {"a": (), "f": (), "b": ("f",)}
    assert (again.failure_policy, again.num_workers, again.outputs) == ("fail_fast", "auto", ("b",))


def test_the_stored_form_holds_nan() -> None:
    workflow = parse_workflow(FULL)
    again = Workflow.from_json(workflow.to_json())
    assert math.isnan(again.params["nan"])
    assert again.jobs["a"].config["inf"] == math.inf


def test_the_stored_form_leaves_out_what_is_default() -> None:
    jobs = [{"id": "a", "run": "m:f"}, {"id": "b", "name": "the b", "run": "m:f"}]
    workflow = parse_workflow({"jobs": jobs})
    stored = json.loads(workflow.to_json())
    assert stored["jobs"] == {"a": {"run": "m:f"}, "b": {"name": "the b", "run": "m:f"}}
    again = Workflow.from_json(workflow.to_json())
    assert [(one.id, one.name) for one in again.jobs.values()] == [("a", "a"), ("b", "the b")]


def test_the_stored_form_holds_an_id_that_is_no_key() -> None:
    workflow = Workflow(id="w", jobs={"key": Job(id="a", name="a", run="m:f")})
    assert Workflow.from_json(workflow.to_json()) == workflow


def test_models_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        job().priority = 3


def test_a_workflow_has_a_domain() -> None:  # Q8
    assert parse_workflow(FULL).domain == "default"
    workflow = parse_workflow({**FULL, "domain": "vms.a-1"})
    assert Workflow.from_json(workflow.to_json()).domain == "vms.a-1"
    with pytest.raises(SpecError, match="is not a domain"):
        parse_workflow({**FULL, "domain": "GPU cards"})
