"""Whole files: the promised inputs, parameters, and every bad file with one clear message."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.common.errors import SpecError
from penstock.common.spec.expansion import Expansion
from penstock.common.spec.loading import load_workflow, parse_workflow
from penstock.common.spec.models import Workflow
from penstock.common.spec.spelling import AXIS, JOB, RETRY, TEMPLATE, WORKFLOW

TRAINING = """{workflow_id: training_pipeline_v1, name: Model Training Pipeline, tasks: [
  {task_id: preprocess_data, task_type: data_preprocessing, dependencies: [],
   parameters: {dataset_path: /data/training.csv}},
  {task_id: train_model, task_type: model_training, dependencies: [preprocess_data],
   parameters: {algorithm: random_forest}}]}"""
CAMEL = """{workflowId: training-pipeline-1, jobs: [{id: job-1, name: Data Preprocessing,
  type: preprocessing, dependsOn: [], config: {}}], parallelism: 10}"""
DIGITS = """name: digits-sweep
params: {test_size: 0.25}
jobs:
  - {id: load, run: "digits:load", config: {test_size: "${params.test_size}"}}
  - id: train
    type: fan-out
    depends_on: [load]
    template:
      run: "digits:train"
      name_pattern: "train C=${C} gamma=${gamma}"
      config: {data: "${jobs.load.result}", C: "${C}", gamma: "${gamma}"}
    parameters: [{name: C, values: [1, 10, 100]}, {name: gamma, values: [0.0005, 0.001]}]
    max_parallel_jobs: 4
  - {id: best, type: fan-in, fan_out_job_id: train,
     aggregation: {strategy: best-metric, metric_name: accuracy}}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: str | bytes, name: str = "flow.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def faults(raised: pytest.ExceptionInfo[SpecError], path: Path) -> list[str]:
    return [line.replace(str(path), path.name) for line in str(raised.value).splitlines()]


def as_json(text: str) -> str:
    return json.dumps(yaml.safe_load(text), indent=1)


@pytest.mark.parametrize("form", [str, as_json])
def test_the_first_promised_input_loads_unchanged(write: Any, form: Any) -> None:  # W1
    workflow = load_workflow(write(form(TRAINING)))
    assert (workflow.id, workflow.name) == ("training_pipeline_v1", "Model Training Pipeline")
    assert workflow.dependencies() == {"preprocess_data": (), "train_model": ("preprocess_data",)}
    first = workflow.jobs["preprocess_data"]
    assert (first.type, first.config) == (
        "data-preprocessing",
        {"dataset_path": "/data/training.csv"},
    )


@pytest.mark.parametrize("form", [str, as_json])
def test_the_second_promised_input_loads_unchanged(write: Any, form: Any) -> None:  # W1
    workflow = load_workflow(write(form(CAMEL)))
    assert (workflow.id, workflow.parallelism) == ("training-pipeline-1", 10)
    assert workflow.jobs["job-1"].name == "Data Preprocessing"


@pytest.mark.parametrize("name", ["flow.yaml", "flow.json", "flow"])
def test_the_format_is_told_by_content(write: Any, name: str) -> None:  # W1
    from_yaml = load_workflow(write(DIGITS, name))
    assert load_workflow(write(as_json(DIGITS), name)) == from_yaml
    assert Workflow.from_json(from_yaml.to_json()) == from_yaml


def test_jobs_may_be_a_mapping() -> None:
    listed = parse_workflow(
        {"id": "w", "jobs": [{"id": "b", "run": "m:f"}, {"id": "a", "run": "m:g"}]}
    )
    mapped = parse_workflow(
        {"id": "w", "jobs": {"b": {"run": "m:f"}, "a": {"id": "a", "run": "m:g"}}}
    )
    assert mapped == listed
    assert list(mapped.jobs) == ["b", "a"]


def test_the_id_comes_from_the_name_or_the_file(write: Any) -> None:
    assert load_workflow(write("jobs: {a: {run: 'm:f'}}", "my flow.yml")).id == "my-flow"
    assert (
        parse_workflow({"name": "Hello, World!", "jobs": {"a": {"run": "m:f"}}}).id == "Hello-World"
    )


def test_parameters_are_filled_in_and_can_be_overridden(write: Any) -> None:  # W1 W4
    path = write(DIGITS)
    assert load_workflow(path).jobs["load"].config == {"test_size": 0.25}
    over = load_workflow(path, {"test_size": 0.5})
    assert (over.params, over.jobs["load"].config) == ({"test_size": 0.5}, {"test_size": 0.5})
    with pytest.raises(SpecError) as raised:
        load_workflow(path, {"testsize": 1})
    assert faults(raised, path) == [
        "flow.yaml:2: params: the workflow has no parameter 'testsize'; did you mean 'test_size'?"
    ]


def test_parameters_may_stand_in_any_field() -> None:  # W4
    workflow = parse_workflow(
        {
            "params": {"p": 7, "values": [1, 2], "fn": "m:f", "evil": "${jobs.b.result}"},
            "jobs": {
                "a": {
                    "run": "${params.fn}",
                    "priority": "${params.p}",
                    "name": "$${x} ${params.p}",
                },
                "f": {
                    "type": "fan-out",
                    "parameters": [{"name": "v", "values": "${params.values}"}],
                    "template": {"run": "${params.fn}", "config": {"v": "${v}"}},
                },
                "b": {"run": "m:f", "config": {"text": "${params.evil}", "n": "$${params.p}"}},
            },
        }
    )
    first = workflow.jobs["a"]
    assert (first.run, first.priority, first.name) == ("m:f", 7, "${x} 7")
    assert workflow.jobs["f"].parameters[0].values == [1, 2]
    assert workflow.jobs["b"].upstreams == ()
    assert workflow.jobs["b"].config == {"text": '${"$"}{jobs.b.result}', "n": "$${params.p}"}


def test_a_template_takes_what_it_does_not_say_from_its_fan_out() -> None:
    fan_out = {"type": "fan-out", "priority": 8, "capabilities": ["gpu"], "timeoutMs": 5000}
    template = {"run": "m:f", "priority": 3}
    made = parse_workflow({"jobs": {"f": fan_out | {"template": template}}}).jobs["f"].template
    assert made is not None
    assert (made.priority, made.capabilities, made.timeout_s) == (3, ("gpu",), 5.0)


BROKEN = """name: x
params: {a: 1}
jobs:
  - id: load
    run: "digits.load"
    priority: 11
    timout: 5
    config:
      x: ${params.b}
      y: ${nope}
      z: ${jobs.trin.result}
  - id: train
    run: a:b
    dependsOn: [lod, best]
    timeout: -5
  - id: best
    type: fan-in
    depends_on: [train]
    fanOutJobId: train
    aggregation: {strategy: best-metric, metricNme: a}
  - {id: load, run: a:b}
  - {id: ask, type: approval}
  - 17
  - {run: a:b}
paralelism: 3
outputs: [bst]
"""


def test_all_faults_are_reported_at_once_each_with_its_place(write: Any) -> None:  # W3
    path = write(BROKEN)
    with pytest.raises(SpecError) as raised:
        load_workflow(path)
    shown = faults(raised, path)
    expected = [
        "flow.yaml:5: jobs.load.run: 'digits.load' is not a function; write module:function",
        "flow.yaml:6: jobs.load.priority: 11 is not between 1 and 10",
        "flow.yaml:7: jobs.load.timout: unknown key; did you mean 'timeout'?",
        "flow.yaml:9: jobs.load.config.x: ${params.b} names nothing: params holds a",
        "flow.yaml:10: jobs.load.config.y: ${nope} names nothing",
        "flow.yaml:11: jobs.load.config.z: ${jobs.trin.result}: no job 'trin'; did you mean 'train'?",
        "flow.yaml:14: jobs.train.dependsOn[0]: no job 'lod'; did you mean 'load'?",
        "flow.yaml:14: jobs.train.dependsOn: jobs wait for each other: train -> best -> train;",
        "flow.yaml:15: jobs.train.timeout: -5 is not a duration above zero",
        "flow.yaml:19: jobs.best.fanOutJobId: TYPE_MISMATCH: 'train' is no fan-out",
        "flow.yaml:20: jobs.best.aggregation.metricNme: unknown key; did you mean 'metricName'?",
        "flow.yaml:21: jobs[3].id: the id 'load' is there already, in line 4",
        "flow.yaml:22: jobs.ask.type: jobs of type 'approval' are not run by this version yet",
        "flow.yaml:23: jobs[5]: 17 is not a mapping that describes a job",
        "flow.yaml:24: jobs[6].id: is required",
        "flow.yaml:25: paralelism: unknown key; did you mean 'parallelism'?",
        "flow.yaml:26: outputs[0]: no job 'bst'; did you mean 'best'?",
    ]
    assert len(shown) == len(expected)
    for line, wanted in zip(shown, expected, strict=True):
        assert line.startswith(wanted)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "flow.yaml:1: is empty; begin with"),
        ("- a\n- b", "flow.yaml:1: is no mapping but ['a', 'b']"),
        ("just text", "flow.yaml:1: is no mapping but 'just text'"),
        ("name: x", "flow.yaml:1: jobs: is required"),
        ("jobs: []", "flow.yaml:1: jobs: is empty"),
        ("jobs: 5", "flow.yaml:1: jobs: 5 is not a list or a mapping"),
        ("jobs: {a b: {run: 'm:f'}}", "flow.yaml:1: jobs.a b.id: 'a b' is not an id"),
        ("jobs: {a: {id: b, run: 'm:f'}}", "flow.yaml:1: jobs.a.id: 'b' differs from the key 'a'"),
        ("a: [1", "flow.yaml:1: not valid YAML"),
        (b"name: \xff\xfe", "flow.yaml:1: is not UTF-8 text"),
        ("a: &a [*a]", "flow.yaml:1: the alias *a stands inside what it names"),
        ("params: 5\njobs: {a: {run: 'm:f'}}", "flow.yaml:1: params: 5 is not a mapping"),
        ("name: [x]\njobs: {a: {run: 'm:f'}}", "flow.yaml:1: name: ['x'] is not text"),
        ("id: a b\njobs: {a: {run: 'm:f'}}", "flow.yaml:1: id: 'a b' is not an id"),
        ("parallelism: 0\njobs: {a: {run: 'm:f'}}", "flow.yaml:1: parallelism: 0 is not a whole"),
        (
            "parallelism: 1\nmaxParallelJobs: 2\njobs: {a: {run: 'm:f'}}",
            "flow.yaml:1: 'parallelism' and 'maxParallelJobs' are the same setting",
        ),
        ("x" * 2_000_000, "flow.yaml: is larger than 1,048,576 bytes"),
    ],
)
def test_a_bad_file_gets_one_clear_message(write: Any, content: Any, fault: str) -> None:  # W3
    path = write(content)
    with pytest.raises(SpecError) as raised:
        load_workflow(path)
    (only,) = faults(raised, path)
    assert only.startswith(fault)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:  # W3
    with pytest.raises(SpecError, match="does not exist"):
        load_workflow(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="is not a file"):
        load_workflow(tmp_path)


def test_the_limit_can_be_set(write: Any) -> None:
    path = write("jobs: {a: {run: 'm:f'}}")
    assert load_workflow(path, limit_bytes=100)
    with pytest.raises(SpecError, match="larger than 10 bytes"):
        load_workflow(path, limit_bytes=10)


def test_a_byte_order_mark_is_no_fault(write: Any) -> None:
    assert load_workflow(write("\ufeffjobs: {a: {run: 'm:f'}}")).jobs


def test_a_mapping_in_python_has_places_without_lines() -> None:
    with pytest.raises(SpecError, match=r"^<workflow>: jobs\.a\.priority: 99 is not between"):
        parse_workflow({"jobs": {"a": {"run": "m:f", "priority": 99}}})


def test_values_that_json_cannot_hold_are_faults() -> None:  # W3
    with pytest.raises(SpecError, match=r"jobs\.a\.config: .* is a object, which JSON cannot hold"):
        parse_workflow({"jobs": {"a": {"run": "m:f", "config": {"x": object()}}}})


def test_a_value_that_holds_itself_is_a_fault() -> None:  # W3
    endless: dict[str, Any] = {}
    endless["x"] = [endless]
    with pytest.raises(SpecError, match="hold themselves"):
        parse_workflow({"jobs": {"a": {"run": "m:f", "config": endless}}})


WORDS = st.sampled_from(
    ["a", "fan-out", "fan-in", "m:f", "${v}", "${params.a}", "${jobs.a.result}", "${", "$${", "x y"]
)
KEYS = st.sampled_from([*JOB.known(), *TEMPLATE.known(), *RETRY.known(), *AXIS.known(), "colour"])
VALUES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(-2, 20) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(
    st.dictionaries(st.sampled_from(list(WORKFLOW.known())), VALUES, max_size=3),
    st.lists(st.dictionaries(KEYS, VALUES, max_size=5), max_size=3) | VALUES,
)
def test_no_mapping_breaks_the_parser(top: dict[str, Any], jobs: Any) -> None:  # W3
    if isinstance(jobs, list):
        jobs = [
            job | {"id": f"j{index}"} if isinstance(job, dict) and index else job
            for index, job in enumerate(jobs)
        ]
    try:
        workflow = parse_workflow(top | {"jobs": jobs})
    except SpecError:
        return
    assert Workflow.from_json(workflow.to_json()).to_json() == workflow.to_json()
    for job in workflow.jobs.values():
        if job.kind == "fan-out":
            assert len(Expansion(job).child_ids(0, 3)) <= 3


def test_keys_that_are_no_text_are_faults() -> None:  # W3
    with pytest.raises(SpecError):
        parse_workflow({1: 2, "jobs": {3: {4: 5, "run": "m:f", "config": {6: 7}}}})


def test_thousands_of_jobs_and_of_faults_are_read_at_once() -> None:
    jobs = [{"id": f"j{n}", "run": "m:f", "depends_on": [f"j{n - 1}"]} for n in range(3000)]
    with pytest.raises(SpecError) as raised:
        parse_workflow({"jobs": jobs})
    assert len(raised.value.faults) == 1
    with pytest.raises(SpecError) as raised:
        parse_workflow({"jobs": [dict(job, depends_on=["nope"]) for job in jobs]})
    assert len(raised.value.faults) == 3000
