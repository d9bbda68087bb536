"""Fan-out: order, ids, substitution, and children found by their index."""

import itertools
import re
import time
import tracemalloc
from importlib import resources
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common.errors import InputError
from penstock.common.spec.expansion import (
    Expansion,
    generate_dynamic_jobs,
    generated_job_ids,
    is_fan_in_job,
    is_fan_out_job,
)
from penstock.common.spec.models import Job
from penstock.orchestrator.engine import compiler


def fan_out(axes: dict[str, list[Any]] | None = None, **fields: Any) -> Job:
    axes = axes or {}
    parameters = [{"name": name, "values": values} for name, values in axes.items()]
    template = {"run": "m:f"} | fields.pop("template", {})
    data = {"id": "test_fanout", "type": "fan-out", "template": template, "parameters": parameters}
    return Job.model_validate(data | fields)


def test_the_product_comes_in_order_with_the_first_axis_slowest() -> None:  # F2
    expansion = Expansion(fan_out({"lr": [0.001, 0.01, 0.1], "bs": [16, 32]}))
    assert [tuple(child.parameters.values()) for child in expansion] == [
        (0.001, 16),
        (0.001, 32),
        (0.01, 16),
        (0.01, 32),
        (0.1, 16),
        (0.1, 32),
    ]


def test_3_by_3_by_2_gives_18() -> None:  # F2 F9
    job = fan_out({"lr": [0.001, 0.01, 0.1], "bs": [16, 32, 64], "opt": ["adam", "sgd"]})
    expansion = Expansion(job)
    assert (len(expansion), expansion.parameter_count) == (18, 3)
    children = generate_dynamic_jobs(job)
    assert len({child.id for child in children}) == 18
    assert [child.index for child in children] == list(range(18))
    assert children[17].id == "test_fanout_17_lr_0_1_bs_64_opt_sgd"


def test_18_jobs_are_made_in_under_5_ms() -> None:
    job = fan_out(
        {"lr": [0.001, 0.01, 0.1], "bs": [16, 32, 64], "opt": ["adam", "sgd"]},
        template={"config": {"lr": "${lr}", "text": "bs=${bs}"}, "name_pattern": "${opt}"},
    )
    best = 1.0
    for _ in range(5):
        started = time.perf_counter()
        generate_dynamic_jobs(job)
        best = min(best, time.perf_counter() - started)
    assert best < 0.005


@pytest.mark.parametrize(
    ("axes", "index", "expected"),
    [
        ({"lr": [0.001, 0.01]}, 0, "test_fanout_0_lr_0_001"),
        ({"lr": [0.001, 0.01]}, 1, "test_fanout_1_lr_0_01"),
        ({"v": ["a b/ü:c"]}, 0, "test_fanout_0_v_a_b___c"),
        ({"v": [-1]}, 0, "test_fanout_0_v_-1"),
        ({"v": [True, None]}, 0, "test_fanout_0_v_true"),
        ({"v": [True, None]}, 1, "test_fanout_1_v_null"),
        ({"v": [{"a": 1}]}, 0, "test_fanout_0_v___a___1_"),
        ({"v": [""]}, 0, "test_fanout_0_v_"),
    ],
)
def test_generated_ids(axes: dict[str, list[Any]], index: int, expected: str) -> None:  # F3
    expansion = Expansion(fan_out(axes))
    assert expansion.child(index).id == expansion.id(index) == expected


def test_a_long_id_is_cut_and_ends_in_a_digest() -> None:  # F3
    fits = Expansion(fan_out({"v": ["x" * (128 - len("test_fanout_0_v_"))]})).id(0)
    assert (len(fits), fits[-1]) == (128, "x")
    cut = Expansion(fan_out({"v": ["x" * 500, "x" * 501]}))
    assert [len(name) for name in cut.child_ids(0, 2)] == [120, 120]
    assert re.fullmatch(r"test_fanout_0_v_x+_[0-9a-f]{12}", cut.id(0))


def test_a_long_id_always_holds_its_index() -> None:  # F3
    job = fan_out({"v": ["x" * 200]}, id="s" * 100)
    expansion = Expansion(job.model_copy(update={"parameters": job.parameters * 2}))
    assert expansion.id(0).startswith("s" * 100 + "_0_")


@given(
    st.lists(st.lists(st.text(max_size=30), max_size=4), max_size=3),
    st.integers(0, 63),
)
def test_ids_differ_and_are_plain(values: list[list[str]], index: int) -> None:  # F3
    axes = {f"a{place}": axis for place, axis in enumerate(values)}
    expansion = Expansion(fan_out(axes))
    assert len(expansion) == (prod(map(len, values)) if values else 0)
    names = expansion.child_ids(0, len(expansion))
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name) for name in names)
    if index < len(expansion):
        assert expansion.child(index).id == names[index]
        assert generated_job_ids("test_fanout", reversed(names)) == names


def test_config_name_and_command_are_filled_in() -> None:  # F1 F2
    job = fan_out(
        {"lr": [0.001], "shard": [3]},
        template={
            "name_pattern": "Train with lr=${lr} #${index}",
            "config": {
                "model": {"learningRate": "${lr}", "text": "lr=${lr}"},
                "file": "/data/shard_${shard}.csv",
                "data": "${jobs.load.result}",
                "literal": "$${lr}",
            },
        },
    )
    child = Expansion(job).child(0)
    assert child.name == "Train with lr=0.001 #0"
    assert child.run == "m:f"
    assert child.config == {
        "model": {"learningRate": 0.001, "text": "lr=0.001"},
        "file": "/data/shard_3.csv",
        "data": "${jobs.load.result}",
        "literal": "$${lr}",
    }
    assert child.metadata == {
        "source_job_id": "test_fanout",
        "index": 0,
        "parameters": {"lr": 0.001, "shard": 3},
    }
    argv = Expansion(fan_out({"n": [5]}, template={"run": None, "command": ["x", "${n}", "$$"]}))
    assert argv.child(0).command == ("x", "5", "$$")
    line = Expansion(fan_out({"n": [5]}, template={"run": None, "command": "${n}"}))
    assert line.child(0).command == "5"


@pytest.mark.parametrize("axes", [{}, {"lr": []}, {"lr": [1, 2], "bs": []}])
def test_no_axes_or_an_empty_one_give_no_jobs(axes: dict[str, list[Any]]) -> None:  # F2 F5
    expansion = Expansion(fan_out(axes))
    assert (len(expansion), list(expansion), expansion.child_ids(0, 5)) == (0, [], [])
    assert expansion.parameter_count == len(axes)


def test_a_list_of_an_earlier_job_is_fanned_out() -> None:  # F1
    config = {"path": "${item.path}", "n": "${index}", "all": "${item}"}
    job = fan_out(over="${jobs.split.result.chunks}", template={"config": config})
    assert len(Expansion(job)) == 0
    expansion = Expansion(job, [{"path": "a"}, {"path": "${jobs.evil.result}"}])
    assert expansion.child_ids(0, 9) == ["test_fanout_0", "test_fanout_1"]
    assert expansion.child(0).config == {"path": "a", "n": 0, "all": {"path": "a"}}
    assert expansion.child(1).config["path"] == '${"$"}{jobs.evil.result}'
    assert expansion.child(1).parameters == {"item": {"path": "${jobs.evil.result}"}}


def test_a_list_in_the_file_and_another_name_for_the_item() -> None:  # F1
    job = Job.model_validate(
        {
            "id": "s",
            "type": "fan-out",
            "over": [1, "$${x}"],
            "as": "shard",
            "template": {"run": "m:f", "config": {"s": "${shard}"}},
        }
    )
    assert [child.parameters for child in Expansion(job)] == [{"shard": 1}, {"shard": "${x}"}]


@pytest.mark.parametrize("over", [{"a": 1}, "text", 3])
def test_what_is_no_list_cannot_be_fanned_out(over: Any) -> None:  # F5
    with pytest.raises(InputError, match="needs a list"):
        Expansion(fan_out(over="${jobs.a.result}"), over)


def test_there_is_no_job_beyond_the_last() -> None:
    expansion = Expansion(fan_out({"a": [1, 2]}))
    for index in (-1, 2):
        with pytest.raises(IndexError):
            expansion.child(index)


def test_a_million_jobs_take_no_memory() -> None:  # F4
    job = fan_out({name: list(range(100)) for name in "abc"})
    tracemalloc.start()
    expansion = Expansion(job)
    child = expansion.child(999_999)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(expansion) == 1_000_000
    assert child.parameters == {"a": 99, "b": 99, "c": 99}
    assert expansion.child(123_456).parameters == {"a": 12, "b": 34, "c": 56}
    assert peak < 200_000


def test_helpers_tell_kinds_and_generated_ids() -> None:
    assert is_fan_out_job(fan_out())
    assert is_fan_out_job({"task_type": "FAN_OUT"})
    assert is_fan_in_job({"type": "fan-in"})
    assert not is_fan_in_job(fan_out())
    assert not is_fan_out_job({"type": 3})
    names = ["a_10_x_1", "a_2_x_1", "b_1", "a", "a_x_1", "ab_1", "a_01_x", "a_0"]
    assert generated_job_ids("a", names) == ["a_0", "a_2_x_1", "a_10_x_1"]


@pytest.mark.parametrize("template", [{"run": "m:f"}, {"run": None, "command": "true"}])
def test_a_chunk_of_children_is_alike_for_the_script_that_makes_it(
    template: dict[str, Any],
) -> None:
    """It takes the short way only where nothing that it decides by is a job's own."""
    job = fan_out({"i": [1, 2]}, template={**template, "name_pattern": "n ${i}"})
    extend = resources.files("penstock.common.state") / "lua" / "execution_extend.lua"
    (deciding,) = re.findall(r"local DECIDING = \{(.*)\}", extend.read_text())
    own = compiler.child_job(Expansion(job).child(0)).fields
    shared = compiler.shared_by_children(job, tolerated=False)
    assert not own.keys() & set(re.findall(r"\w+", deciding))
    assert shared["run"] == (template["run"] or compiler.SHELL)
    assert own.keys() | shared.keys() >= {"run", "data", "origin", "group", "meta", "description"}


def values_of(axes: list[dict[str, Any]], **fields: Any) -> list[tuple[Any, ...]]:
    expansion = Expansion(fan_out(parameters=axes, **fields))
    assert len(set(expansion.child_ids(0, len(expansion)))) == len(expansion)
    return [tuple(child.parameters.values()) for child in expansion]


AXES: list[dict[str, Any]] = [{"name": "C", "values": [1, 10, 100]}, {"name": "g", "range": [2]}]


def test_a_range_is_an_axis_of_whole_numbers() -> None:  # F4
    assert values_of([{"name": "i", "range": 3}]) == [(0,), (1,), (2,)]
    assert values_of([{"name": "i", "range": [5, 0, -2]}]) == [(5,), (3,), (1,)]
    assert values_of([{"name": "i", "range": [3, 3]}]) == []
    expansion = Expansion(fan_out(parameters=[{"name": "i", "range": 10**9}]))
    assert (len(expansion), expansion.id(10**9 - 1)) == (10**9, "test_fanout_999999999_i_999999999")


def test_zipped_axes_go_together() -> None:  # F4
    axes = [{"name": "a", "values": ["x", "y"]}, {"name": "b", "range": 2}]
    assert values_of(axes, combine="zip") == [("x", 0), ("y", 1)]
    assert values_of(axes, combine="zip", exclude=[{"a": "x", "b": 0}]) == [("y", 1)]
    assert len(values_of(axes, combine="product")) == 4


def test_combinations_are_taken_out_and_added() -> None:  # F4
    left = values_of(AXES, exclude=[{"C": 10}, {"C": 1, "g": 1}], include=[{"g": 7, "C": 5}])
    assert left == [(1, 0), (100, 0), (100, 1), (5, 7)]
    both = [{"name": "flag", "values": [True, 1, 1.5]}]
    assert values_of(both, exclude=[{"flag": 1}]) == [(True,), (1.5,)]
    lists = [{"name": "x", "values": [[1], [True], {"a": 1}, {"a": True}]}]
    assert values_of(lists, exclude=[{"x": [1]}, {"x": {"a": 1.0}}]) == [([True],), ({"a": True},)]
    assert values_of([{"name": "i", "range": 4}], exclude=[{"i": 2.0}]) == [(0,), (1,), (3,)]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.lists(st.lists(st.integers(0, 3) | st.none(), min_size=3, max_size=3), max_size=3),
)
def test_what_is_left_is_the_product_without_what_matches(sizes, patterns) -> None:  # F4
    axes = [{"name": f"a{place}", "range": size} for place, size in enumerate(sizes)]
    exclude = [
        {f"a{place}": value for place, value in enumerate(one[: len(sizes)]) if value is not None}
        for one in patterns
    ]
    exclude = [one for one in exclude if one]
    found = values_of(axes, exclude=exclude or None)
    assert found == [
        digits
        for digits in itertools.product(*map(range, sizes))
        if not any(all(digits[int(name[1:])] == v for name, v in one.items()) for one in exclude)
    ]
