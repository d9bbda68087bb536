"""Results, plans and graphs as people read them."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from penstock.common.errors import masked
from penstock.common.spec.models import Workflow
from penstock.orchestrator.cli import output, plan, tables
from penstock.orchestrator.cli.graph import Node, mermaid
from penstock.orchestrator.cli.loaded import slots
from penstock.orchestrator.cli.parameters import Assignment
from penstock.orchestrator.cli.render import Renderer, scalar
from penstock.orchestrator.rediscli import redis_cli_line


def drawn(value: Any, width: int = 80, more: str = "") -> list[str]:
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(Renderer(width, more).render(value))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("two\nlines", ["two", "lines"]),
        (0.1 + 0.2, ["0.3"]),
        (1e20, ["1e+20"]),
        (3.0, ["3.0"]),
        (True, ["true"]),
        ([], ["[]"]),
        ({}, ["{}"]),
        ([1, 2, 3], ["[1, 2, 3]"]),
        ("[bold]no markup[/bold]", ["[bold]no markup[/bold]"]),
        ("\x1b[2Jgone\x07", ["gone"]),
        ({"a": 1, "b": {"c": [1, 2]}}, ["a  1", "b:", "  c  [1, 2]"]),
        ({"names": ["a", "b c"]}, ['names  ["a", "b c"]']),
        (
            {"rows": ["  a  " * 9, "b" * 60]},
            ["rows:", "  " + ("  a  " * 9).rstrip(), "  " + "b" * 60],
        ),
        ([{"a": {"b": 1}}, 2], ["- a:", "    b  1", "- 2"]),
    ],
)
def test_values_are_written_as_what_they_are(value: Any, lines: list[str]) -> None:
    assert drawn(value) == lines


def test_flat_objects_are_a_table_with_the_columns_of_all() -> None:
    lines = drawn([{"C": 1, "accuracy": 0.9722222}, {"C": 10, "kernel": "rbf"}])
    assert [line.split() for line in lines] == [
        ["C", "accuracy", "kernel"],
        ["1", "0.972222", "-"],
        ["10", "-", "rbf"],
    ]


def test_a_table_of_18_rows_is_shown_whole() -> None:
    lines = drawn([{"C": i} for i in range(18)], more="penstock result x")
    assert len(lines) == 19


@pytest.mark.parametrize(
    "value",
    [
        "x\n" * 500,
        [{"i": i} for i in range(500)],
        {f"key-{i}": i for i in range(500)},
        {"long": "x" * 5000},
        [{f"column-{i}": "some words" for i in range(50)}],
        list(range(5000)),
    ],
    ids=["text", "rows", "keys", "word", "columns", "numbers"],
)
def test_long_values_are_cut_and_the_command_for_all_is_named(value: Any) -> None:
    lines = drawn(value, more="penstock result x")
    assert len(lines) < 50
    assert lines[-1] == "shortened; all of it: penstock result x"
    assert all(len(line) <= 80 for line in lines)
    whole = drawn(value, width=output.PIPE_COLUMNS)
    assert "shortened" not in whole[-1]


def test_scalars_lose_neither_sign_nor_size() -> None:
    values = [-0.5, 12345678.25, float("nan"), None, {"a": [1]}]
    assert [scalar(value) for value in values] == ["-0.5", "1.23457e+07", "nan", "-", '{"a": [1]}']


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr=0.001", 0.001),
        ("lr=1e-3", 0.001),
        ("n=3", 3),
        ("on=true", True),
        ("name=abc", "abc"),
        ('name="3"', "3"),
        ("list=[1, 2]", [1, 2]),
        ("empty=", ""),
        ("url=a=b", "a=b"),
        ("x=NaN", "NaN"),
    ],
)
def test_set_reads_json_and_else_text(text: str, value: Any) -> None:  # W1
    assert Assignment().convert(text, None, None)[1] == value


@pytest.mark.parametrize(
    ("declared", "in_file", "parallel", "workers", "cores", "expected"),
    [
        # A file without parallel_execution: one slot a core unless told otherwise.
        (None, None, None, None, 8, 8),
        (None, None, None, 3, 8, 3),
        (None, None, None, "auto", 8, 7),
        (None, None, None, "auto", 1, 1),
        (None, None, False, 3, 8, 1),
        (None, 5, None, None, 8, 5),
        # A file with it: serial unless it or --parallel says otherwise.
        (False, None, None, None, 8, 1),
        (False, None, None, 4, 8, 1),
        (False, 6, None, None, 8, 1),
        (False, None, True, None, 8, 7),
        (False, 6, True, None, 8, 6),
        (False, 6, True, 4, 8, 4),
        (True, None, None, None, 8, 7),
        (True, "auto", None, None, 1, 1),
        (True, 6, None, None, 8, 6),
        (True, 6, None, 2, 8, 2),
        (True, 6, False, 2, 8, 1),
    ],
)
def test_slots_follow_the_command_line_then_the_file(  # P1
    declared: Any, in_file: Any, *, parallel: Any, workers: Any, cores: int, expected: int
) -> None:  # fmt: skip
    assert slots(declared, in_file, parallel=parallel, workers=workers, cores=cores) == expected


def workflow() -> Workflow:
    axes = [{"name": "C", "values": [1, 2, 3]}, {"name": "g", "values": [1, 2]}]
    jobs = {
        "load": {"run": "digits:load"},
        "train": {"type": "fan-out", "depends_on": ["load"], "parameters": axes,
                  "template": {"run": "digits:train"}},
        "end": {"type": "fan-in", "fan_out_job_id": "train",
                "aggregation": {"strategy": "collect-all"}},
    }  # fmt: skip
    named = {id_: {"id": id_, "name": id_, **body} for id_, body in jobs.items()}
    return Workflow.model_validate({"id": "w", "name": "w", "jobs": named})


def test_the_number_of_jobs_is_known_before_they_run() -> None:  # W12
    assert plan.counted(workflow()) == "9 jobs"


def test_the_graph_is_mermaid_with_colours_by_state() -> None:  # W11
    text = mermaid(plan.nodes(workflow()), {"load": "finished", "train": "failed"})
    assert text.splitlines() == [
        "flowchart TD",
        '    j0["load"]',
        '    j1[["train<br/>fan-out of 6"]]',
        '    j2[/"end<br/>collect-all"\\]',
        "    j0 --> j1",
        "    j1 --> j2",
        "    classDef finished fill:#d7f2dc,stroke:#2e8b57",
        "    classDef failed fill:#fadbd8,stroke:#c0392b",
        "    class j0 finished",
        "    class j1 failed",
    ]


def test_names_cannot_break_the_graph() -> None:
    assert '["a#34;]#60;b#62;"]' in mermaid([Node('a"]<b>', "run", "", [])])


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("redis://host:6379/0", "redis-cli -u redis://host:6379/0"),
        ("rediss://host/1", "redis-cli --tls -u rediss://host/1"),
        ("redis://:pw@host/0", "redis-cli -u redis://default:pw@host/0"),
        ("rediss://:p:w@host/0", "redis-cli --tls -u rediss://default:p:w@host/0"),
        ("redis://me:pw@host/0", "redis-cli -u redis://me:pw@host/0"),
        ("unix:///tmp/a b.sock?db=2", "redis-cli -s '/tmp/a b.sock' -n 2"),
        ("unix:///tmp/s", "redis-cli -s /tmp/s"),
    ],
)
def test_the_redis_cli_line_reaches_the_url(url: str, line: str) -> None:
    assert redis_cli_line(url) == line


def test_passwords_are_not_shown() -> None:
    assert masked("at redis://u:p4ss@h/0 and redis://:x@h") == (
        "at redis://u:***@h/0 and redis://:***@h"
    )
    assert masked("as redis://:PASSWORD@host") == "as redis://:PASSWORD@host"
    assert masked("at redis://:p4/ss@h/0") == "at redis://:***@h/0"


def test_strict_json_has_no_nan_and_no_numbers_as_keys() -> None:
    assert output.strict({1: [float("nan"), (1, 2)]}) == {"1": [None, [1, 2]]}


@pytest.mark.parametrize(("amount", "text"), [(None, "0"), (512, "512"), (16 << 30, "16.0G")])
def test_sizes_are_short(amount: int | None, text: str) -> None:
    assert tables.size(amount) == text
