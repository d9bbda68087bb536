"""What jobs mean to each other: kinds, sources, placeholders, cycles, generated ids."""

from typing import Any

import pytest

from penstock.common.errors import SpecError
from penstock.common.spec.loading import parse_workflow
from penstock.common.spec.models import Job, Workflow
from penstock.common.spec.validation import check_workflow

RUN = {"run": "m:f"}
FAN_OUT = {
    "type": "fan-out",
    "template": {"run": "m:f", "config": {"v": "${v}"}},
    "parameters": [{"name": "v", "values": [1, 2]}],
}
FAN_IN = {"type": "fan-in", "fan_out_job_id": "f", "aggregation": {"strategy": "collect-all"}}


def fan_out(**fields: Any) -> dict[str, Any]:
    return FAN_OUT | fields


def template(**fields: Any) -> dict[str, Any]:
    return FAN_OUT | {"template": fields}


def gather(**fields: Any) -> dict[str, Any]:
    return FAN_IN | {"aggregation": fields}


def problems(jobs: dict[str, Any], **top: Any) -> list[str]:
    try:
        parse_workflow({"jobs": jobs} | top, source="")
    except SpecError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    "jobs",
    [
        {"a": RUN},
        {"a": {"command": "echo $${HOME}"}, "b": {"command": ["echo", "${params.x}"]}},
        {"a": {"type": "train"}},
        {"a": {"type": "train", "run": "m:f"}},
        {"f": FAN_OUT, "g": FAN_IN},
        {"g": FAN_IN, "f": FAN_OUT},
        {"f": {"type": "fan-out", "template": RUN}},
        {"a": RUN, "f": {"type": "fan-out", "template": RUN, "over": "${jobs.a.result.items}"}},
        {
            "f": {
                "type": "fan-out",
                "template": {"run": "m:f", "config": {"i": "${item}"}},
                "over": [1],
            }
        },
        {"f": FAN_OUT, "a": {"run": "m:f", "config": {"r": "${jobs.f.result.generated_jobs}"}}},
        {"a": {"run": "m:f", "config": {"literal": "$${nope} $${jobs.x.result}"}}},
        {"f": template(run="m:f", name_pattern="${v} ${index} ${params.x}")},
        {"f": FAN_OUT | {"config": {}}},
        {"f": FAN_OUT, "f_0": RUN, "f_0_v_3": RUN, "f_9_v_1": RUN},
    ],
)
def test_good_workflows_have_no_faults(jobs: dict[str, Any]) -> None:
    assert problems(jobs, params={"x": 1}) == []


@pytest.mark.parametrize(
    ("jobs", "fault"),
    [
        ({"a": {}}, "jobs.a.run: is required: run: module:function, command:, or a type"),
        ({"a": {"run": "m:f", "command": "x"}}, "jobs.a.command: run and command exclude"),
        ({"a": {"type": "approval"}}, "jobs.a.type: jobs of type 'approval' are not run"),
        ({"a": {"type": "Sub_Workflow"}}, None),
        ({"a": {"type": "STUDY"}}, "jobs.a.type: jobs of type 'study' are not run"),
        ({"a": RUN | {"parameters": {}, "config": {}}}, "jobs.a.parameters: 'parameters' and"),
        ({"a": RUN | {"template": RUN}}, "jobs.a.template: belongs to a fan-out"),
        ({"a": RUN | {"over": [1]}}, "jobs.a.over: belongs to a fan-out"),
        ({"a": RUN | {"max_parallel_jobs": 1}}, "jobs.a.max_parallel_jobs: belongs to a fan-out"),
        ({"f": FAN_OUT | {"run": "m:f"}}, "jobs.f.run: a fan-out runs no code itself; put it"),
        ({"f": FAN_OUT | {"config": {"x": 1}}}, "jobs.f.config: belongs into the template"),
        ({"f": {"type": "fan-out"}}, "jobs.f.template: is required"),
        ({"f": template(config={})}, "jobs.f.template.run: is required"),
        ({"f": template(type="fan-out")}, "jobs.f.template.type: a fan-out makes jobs that run"),
        ({"f": template(run="m:f", priority=11)}, "jobs.f.template.priority: 11 is not between"),
        ({"f": template(run="m:f", colour=1)}, "jobs.f.template.colour: unknown key"),
        (
            {"f": {"run": "m:f", "cpus": 2}},
            "jobs.f.cpus: unknown key; write it into resources: {cpus: ...}",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="count", config={})},
            "jobs.g.aggregation.config: unknown key; it belongs beside the aggregation",
        ),
        ({"f": fan_out(over=[1])}, "jobs.f.over: parameters and over exclude each other"),
        ({"f": {"type": "fan-out", "template": RUN, "over": 5}}, "jobs.f.over: is neither a list"),
        (
            {"f": {"type": "fan-out", "template": RUN, "over": "x ${jobs.a.result}"}, "a": RUN},
            "jobs.f.over: is neither a list",
        ),
        (
            {"f": fan_out(parameters=[{"name": "v", "values": [1]}, {"name": "v", "values": [1]}])},
            "jobs.f.parameters[1].name: 'v' is there already",
        ),
        (
            {"f": fan_out(parameters=[{"name": "v", "values": 3}])},
            "jobs.f.parameters[0].values: 3 is not a list of values",
        ),
        (
            {"f": fan_out(parameters=[{"name": "jobs", "values": []}])},
            "jobs.f.parameters[0].name: 'jobs' cannot name a parameter",
        ),
        ({"f": fan_out(parameters={"v": [1]})}, "jobs.f.parameters: "),
        (
            {"f": fan_out(parameters=[{"name": n, "range": 1001} for n in ("v", "b", "c")])},
            "jobs.f.parameters: make 1,003,003,001 jobs; the most is 1,000,000,000",
        ),
        ({"f": fan_out(parameters=[{"name": "v", "range": 10**9}])}, None),
        (
            {"f": fan_out(parameters=[{"name": "v", "range": [1, 2, 0]}])},
            "jobs.f.parameters[0].range: [1, 2, 0] is no range; write 10, [0, 10] or [0, 10, 2]",
        ),
        (
            {"f": fan_out(parameters=[{"name": "v"}])},
            "jobs.f.parameters[0]: needs values: a list, or range",
        ),
        (
            {"f": fan_out(parameters=[{"name": "v", "range": 2, "values": [1]}])},
            "jobs.f.parameters[0]: 'values' and 'range' exclude each other",
        ),
        (
            {
                "f": fan_out(
                    combine="zip", parameters=[*FAN_OUT["parameters"], {"name": "b", "range": 3}]
                )
            },
            "jobs.f.parameters: zipped axes need as many values each: v has 2, b has 3",
        ),
        ({"f": fan_out(combine="sum")}, "jobs.f.combine: 'sum' is not one of product, zip"),
        (
            {"f": fan_out(include=[{"v": 5}, {"w": 5}])},
            "jobs.f.include[1]: names w; it needs a value for each axis: v",
        ),
        (
            {"f": fan_out(exclude=[{"v": 1}, {"w": 5}])},
            "jobs.f.exclude[1]: names w; it takes values of axes: v",
        ),
        (
            {"f": fan_out(exclude=[{"v": 3}])},
            "jobs.f.exclude[0]: {'v': 3} is no combination of the axes",
        ),
        (
            {"f": fan_out(parameters=[{"name": "v", "range": 10**7}], exclude=[{"v": 3}])},
            "jobs.f.exclude: goes through all combinations: these are 10,000,000, the most is 1,000,000",
        ),
        (
            {"f": fan_out(parameters=[], over=[1], combine="zip", template={"run": "m:f"})},
            "jobs.f.combine: belongs to parameters; over is one list",
        ),
        (
            {"f": fan_out(keep_results=False), "g": FAN_IN},
            "jobs.f.keep_results: 'g' needs all of them (collect-all)",
        ),
        (
            {"f": fan_out(parameters=[{"name": "v", "range": 10**20}])},
            "jobs.f.parameters[0].range: 100000000000000000000 is no range",
        ),
        (
            {"f": fan_out(parameters=[{"name": n, "range": 10**10} for n in ("v", "b")])},
            "jobs.f.parameters: make 100,000,000,000,000,000,000 jobs; the most is",
        ),
        (
            {"f": fan_out(parameters=[], include=[{}], template={"run": "m:f"})},
            "jobs.f.include[0]: names nothing; it needs a value for each axis: nothing",
        ),
        ({"a": {**RUN, "stop_when": "x >= 1"}}, "jobs.a.stop_when: belongs to a fan-out"),
        (
            {"f": fan_out(stop_when="accuracy > 0.9")},
            "jobs.f.stop_when: 'accuracy > 0.9' is not METRIC >= NUMBER or METRIC <= NUMBER",
        ),
        (
            {"f": fan_out(stop_when={"metric_name": "x", "at_least": "high"})},
            "jobs.f.stop_when.at_least: 'high' is not a number",
        ),
        (
            {"f": fan_out(stop_when={"metric_name": "x", "at_least": 1, "at_most": 2})},
            "jobs.f.stop_when: needs at_least or at_most, and not both",
        ),
        (
            {"f": fan_out(stop_when={"metric_name": "x"})},
            "jobs.f.stop_when: needs at_least or at_most, and not both",
        ),
        ({"f": fan_out(stop_when=0.9)}, "jobs.f.stop_when: 0.9 is not METRIC >= NUMBER"),
        (
            {"f": fan_out(stop_when="a >= 1 >= 2")},
            "jobs.f.stop_when: 'a >= 1 >= 2' is not METRIC >= NUMBER",
        ),
        (
            {"f": fan_out(stop_when={"metric_name": "a\ud800", "at_most": 2})},
            "jobs.f.stop_when.metric_name: 'a\\ud800' holds half a character",
        ),
        ({"f": fan_out(stop_when={"at_most": 2})}, "jobs.f.stop_when.metric_name: is required"),
        (
            {"f": fan_out(stop_when="loss <= nan")},
            "jobs.f.stop_when.at_most: 'nan' is not a number",
        ),
        ({"a": {**RUN, "keep_results": True}}, "jobs.a.keep_results: belongs to a fan-out"),
        ({"f": fan_out(max_parallel_jobs=0)}, "jobs.f.max_parallel_jobs: 0 is not a whole number"),
        (
            {"f": FAN_OUT, "g": {"type": "fan-in", "aggregation": {"strategy": "collect-all"}}},
            "jobs.g.fan_out_job_id: FANIN_MISSING_SOURCE: is required",
        ),
        (
            {"ff": FAN_OUT, "g": FAN_IN},
            "jobs.g.fan_out_job_id: FANIN_MISSING_SOURCE: no job 'f'; did you mean 'ff'?",
        ),
        ({"f": RUN, "g": FAN_IN}, "jobs.g.fan_out_job_id: TYPE_MISMATCH: 'f' is no fan-out"),
        (
            {"f": FAN_OUT, "g": {"type": "fan-in", "fan_out_job_id": "f"}},
            "jobs.g.aggregation: is required",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="best-metric")},
            "jobs.g.aggregation.metric_name: is required by best-metric",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="top-k", metric_name="acc")},
            "jobs.g.aggregation.k: is required by top-k",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="count", top_k=2)},
            "jobs.g.aggregation.k: is not used by count; set strategy: top-k",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="quantiles", metric_name="acc", quantiles=[2])},
            "jobs.g.aggregation.quantiles: 2 is not a number (0 to 1)",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="custom")},
            "jobs.g.aggregation.custom_aggregator: is required by custom",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="majority-vote", custom_aggregator="m:f")},
            "jobs.g.aggregation.custom_aggregator: is not used by majority-vote",
        ),
        (
            {"f": FAN_OUT, "g": {**gather(strategy="count"), "config": {"x": 1}}},
            "jobs.g.config: is not used by count; only a custom_aggregator gets it",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="mode")},
            "jobs.g.aggregation.strategy: 'mode' is not one of collect-all",
        ),
        (
            {"f": FAN_OUT, "g": gather(strategy="collect-all", min_success=1)},
            "jobs.g.aggregation.min_success: needs on_failed: skip",
        ),
        ({"f": FAN_OUT, "g": FAN_IN | {"run": "m:f"}}, "jobs.g.run: a fan-in runs no code itself"),
        (
            {"a": RUN | {"aggregation": {"strategy": "custom"}}},
            "jobs.a.aggregation: belongs to a fan-in",
        ),
        ({"a": RUN | {"depends_on": ["b"]}, "ab": RUN}, "jobs.a.depends_on[0]: no job 'b'"),
        ({"a": RUN | {"depends_on": ["a"]}}, "jobs.a.depends_on: jobs wait for each other: a -> a"),
        (
            {"a": RUN | {"depends_on": ["b"]}, "b": RUN | {"depends_on": ["a"]}},
            "jobs.a.depends_on: jobs wait for each other: a -> b -> a; take out one",
        ),
        (
            {
                "a": RUN | {"config": {"x": "${jobs.b.result}"}},
                "b": RUN | {"config": {"x": "${jobs.a.result}"}},
            },
            "jobs.a.depends_on: jobs wait for each other: a -> b -> a",
        ),
        (
            {"f": template(run="m:f", config={"x": "${jobs.g.result}"}), "g": FAN_IN},
            "jobs.f.depends_on: jobs wait for each other: f -> g -> f",
        ),
        (
            {"f": template(run="m:f", config={"x": "${jobs.f.result}"})},
            "jobs.f.depends_on: jobs wait for each other: f -> f",
        ),
        ({"a": RUN | {"config": {"x": "${nope}"}}}, "jobs.a.config.x: ${nope} names nothing"),
        (
            {"a": RUN | {"config": {"x": "${parms.x}"}}},
            "jobs.a.config.x: ${parms.x} names nothing;",
        ),
        (
            {"a": RUN | {"config": {"x": "${params.z}"}}},
            "jobs.a.config.x: ${params.z} names nothing",
        ),
        ({"a": RUN | {"config": {"${nope}": 1}}}, "jobs.a.config.${nope}: ${nope} names nothing"),
        ({"a": RUN | {"config": {"x": ["${v}"]}}}, "jobs.a.config.x[0]: ${v} names nothing"),
        ({"a": RUN | {"config": {"x": "${${a}}"}}}, "jobs.a.config.x: '${' is no placeholder"),
        ({"a": RUN | {"config": {"x": "${jobs.b}"}}}, "jobs.a.config.x: ${jobs.b} names nothing;"),
        (
            {"a": RUN | {"config": {"x": "${jobs.b.result.y}"}}},
            "jobs.a.config.x: ${jobs.b.result.y}: no job 'b'",
        ),
        (
            {"f": FAN_OUT, "a": RUN | {"config": {"x": "${jobs.f_0_v_1.result}"}}},
            "jobs.a.config.x: ${jobs.f_0_v_1.result}: no job 'f_0_v_1'",
        ),
        ({"a": {"command": "echo ${HOME}"}}, "jobs.a.command: ${HOME} cannot stand in a command"),
        (
            {"a": RUN | {"name": "${jobs.a.result}"}},
            "jobs.a.name: ${jobs.a.result} cannot stand here",
        ),
        ({"a": RUN | {"priority": "${v}"}}, "jobs.a.priority: ${v} cannot stand here"),
        (
            {"f": template(run="m:f", config={"x": "${w}"})},
            "jobs.f.template.config.x: ${w} names nothing",
        ),
        (
            {"f": template(run="m:f", name_pattern="${jobs.f.result}")},
            "jobs.f.template.name_pattern: ${jobs.f.result} cannot stand in a name",
        ),
        (
            {"f": fan_out(parameters=[{"name": "v", "values": ["${jobs.a.result}"]}])},
            "jobs.f.parameters[0].values[0]: ${jobs.a.result} cannot stand here",
        ),
        ({"f": FAN_OUT, "f_0_v_1": RUN}, "jobs.f_0_v_1.id: 'f' makes a job 'f_0_v_1' too"),
        (
            {
                "a": RUN,
                "o": {"type": "fan-out", "template": RUN, "over": "${jobs.a.result}"},
                "o_7": RUN,
            },
            "jobs.o_7.id: 'o' makes a job 'o_7' too",
        ),
        (
            {
                "a": {
                    "type": "fan-out",
                    "template": RUN,
                    "parameters": [{"name": "lr", "values": ["0_x_y"]}],
                },
                "a_0_lr": {
                    "type": "fan-out",
                    "template": RUN,
                    "parameters": [{"name": "x", "values": ["y"]}],
                },
            },
            "jobs.a_0_lr.id: 'a' makes a job 'a_0_lr_0_x_y' too",
        ),
    ],
)
def test_each_fault_is_named_with_its_field(jobs: dict[str, Any], fault: str | None) -> None:  # W3
    found = problems(jobs, params={"x": 1})
    if fault is None:
        assert found == []
        return
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_outputs_name_jobs() -> None:
    assert problems({"a": RUN}, outputs=["a"]) == []
    assert problems({"abc": RUN}, outputs="abd") == [
        "outputs[0]: no job 'abd'; did you mean 'abc'?"
    ]


def test_a_workflow_built_in_python_is_checked_the_same_way() -> None:
    jobs = {"a": Job(id="a", name="a", depends_on=("b",)), "b": Job(id="b", name="b", run="m:f")}
    (fault,) = check_workflow(Workflow(id="w", jobs=jobs))
    assert (fault.place, fault.message[:11]) == ("jobs.a.run", "is required")


def test_one_wrong_field_does_not_hide_or_make_others() -> None:  # W3
    found = problems(
        {"f": FAN_OUT | {"type": "fan-out", "priority": 11}, "g": FAN_IN, "h": {"run": 5}}
    )
    assert [line.split(": ")[0] for line in found] == ["jobs.f.priority", "jobs.h.run"]


def test_many_are_excluded_from_many() -> None:
    """A scan of the axis for each of them would not end within the test's time."""
    axis = {"name": "v", "range": 1_000_000}
    job = fan_out(parameters=[axis], exclude=[{"v": number} for number in range(5000)])
    assert problems({"f": job}) == []


def test_zipped_axes_without_any_are_no_fault_of_ours() -> None:
    found = problems({"f": fan_out(parameters=[], combine="zip", exclude=[{"x": 1}])})
    assert "takes values of axes: nothing" in "".join(found)
