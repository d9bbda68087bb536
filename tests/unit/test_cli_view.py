"""What people see of an execution: rows, words, and the display itself.  # A2"""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from penstock.orchestrator.cli import plain, view
from penstock.orchestrator.cli.display import Display, choose, strip
from penstock.orchestrator.cli.tables import fan_counts

START = "2026-01-02T03:04:05Z"
GPU = "no live node has gpu: start a worker with --capabilities gpu"


def job(status: str, **fields: Any) -> dict[str, Any]:
    blank = dict.fromkeys(
        ("node", "result", "error", "started_at", "ended_at", "reason", "fan_out")
    )
    return {"status": status, "attempt": 0, "type": "run", **blank, **fields}


def sweep(statuses: str, **others: dict[str, Any]) -> dict[str, Any]:
    """An execution with a fan-out whose jobs have these statuses, one letter each."""
    words = {
        "f": "finished",
        "r": "started",
        "x": "failed",
        "q": "queued",
        "d": "deferred",
        "c": "canceled",
    }
    jobs = {"load": job("finished", started_at=START, ended_at="2026-01-02T03:04:05.500Z")}
    jobs["train"] = job("started", type="fan-out")
    for i, letter in enumerate(statuses):
        jobs[f"train_{i}_C_{i}"] = job(words[letter], fan_out="train")
    jobs["train_report"] = job("deferred")
    jobs |= others
    return {
        "id": "0mfk2v9qkabc123",
        "name": "digits-sweep",
        "status": "running",
        "created_at": START,
        "started_at": START,
        "ended_at": None,
        "progress": {"total": len(jobs), "done": statuses.count("f") + 1, "failed": 0},
        "jobs": jobs,
        "result": None,
    }


def drawn(execution: dict[str, Any], width: int = 80, height: int = 24) -> list[str]:
    console = Console(
        file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), width=width, height=height
    )
    display = Display(console)
    display.update(execution)
    with console.capture() as capture:
        console.print(display)
    return capture.get().splitlines()


def test_generated_jobs_belong_to_the_row_of_their_fan_out() -> None:
    names = [(row.name, len(row.children)) for row in view.rows(sweep("ffr"))]
    assert names == [("load", 0), ("train", 3), ("train_report", 0)]


@pytest.mark.parametrize(
    ("own", "children", "status"),
    [
        ("started", "fr", "started"),
        ("finished", "fr", "started"),
        ("finished", "qq", "queued"),
        ("finished", "ff", "finished"),
        ("finished", "fx", "failed"),
        ("finished", "fc", "finished"),
        ("canceled", "fc", "canceled"),
        ("canceled", "", "canceled"),
    ],
)
def test_a_fan_out_is_in_the_state_that_its_jobs_make(own: str, children: str, status: str) -> None:
    execution = sweep(children)
    execution["jobs"]["train"]["status"] = own
    assert view.rows(execution)[1].status == status


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.004, "0.00s"), (9.99, "9.99s"), (9.999, "10.0s"), (59.96, "1:00"),
     (245, "4:05"), (7390, "2:03:10")],
)  # fmt: skip
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert view.duration(seconds) == text


def test_an_error_is_told_by_its_last_lines_without_repeating_its_message() -> None:
    trace = 'Traceback:\n  File "a.py", line 3, in train\n    fit()\nValueError: two\nlines\n'
    error = {"type": "ValueError", "message": "two\nlines", "traceback": trace}
    assert view.error_line(error) == "ValueError: two lines"
    assert view.last_lines(error) == ['  File "a.py", line 3, in train', "    fit()"]
    assert view.last_lines({"type": "X", "message": "no traceback"}) == []


def test_time_runs_to_now_until_the_end_is_known() -> None:
    now = datetime(2026, 1, 2, 3, 4, 15, tzinfo=UTC)
    assert view.seconds({"started_at": START}, now) == 10
    assert view.seconds({"started_at": START, "ended_at": "2026-01-02T03:04:06Z"}, now) == 1
    assert view.seconds({"created_at": START}, now - timedelta(minutes=1)) == 0
    assert view.seconds({}) is None


def test_the_display_has_a_line_for_the_execution_and_one_for_each_job() -> None:
    lines = drawn(sweep("ffxr" + "q" * 14, gpu=job("queued", reason=GPU)), width=120)
    assert lines[0].startswith("digits-sweep  0mfk2v9qkabc123  running")
    assert "✔ load" in lines[1]
    assert "0.50s" in lines[1]
    assert "■■■▪" in lines[2]
    assert "3/18  1 running  1 failed" in lines[2]
    assert GPU in lines[4]
    assert len(lines) == 5


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (120, 40), (20, 4)])
def test_the_display_never_exceeds_the_terminal(width: int, height: int) -> None:
    many = {f"job-with-a-rather-long-name-{i}": job("queued", reason=GPU) for i in range(100)}
    lines = drawn(sweep("f" * 500, **many), width, height)
    assert len(lines) <= height - 1
    assert all(len(line) <= width for line in lines)
    assert "…" in lines[-1]


def test_what_failed_and_what_runs_is_shown_first_in_the_order_of_the_file() -> None:
    statuses = ["finished", "deferred", "started", "deferred", "failed"]
    every = [view.Row(str(i), job(status)) for i, status in enumerate(statuses)]
    shown, hidden = choose(every, 3)
    assert [row.name for row in shown] == ["2", "4"]
    assert [row.name for row in hidden] == ["0", "1", "3"]


def test_a_strip_of_many_jobs_shows_every_failure() -> None:
    row = view.rows(sweep("f" * 299 + "x"))[1]
    text = strip(row, 30)
    assert text.plain == "■" * 30
    assert [str(span.style) for span in text.spans].count("red") == 1


def test_without_unicode_the_display_is_ascii() -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=100, height=24)
    display = Display(console)
    display.update(sweep("fr"))
    with console.capture() as capture:
        console.print(display)
    assert capture.get().isascii()


def test_names_cannot_send_control_characters_to_the_terminal() -> None:
    execution = sweep("", **{"bad\x1b[2Jname\x07": job("failed", error={"type": "E\x1b]0;x\x07"})})
    assert not any(ord(c) < 32 for line in drawn(execution) for c in line)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_progress_tells_each_change_once_and_sums_fan_outs_up_by_the_second() -> None:
    told: list[str] = []
    clock = Clock()
    progress = plain.Plain(told.append, clock)
    progress.update(sweep("rqqq"))
    progress.update(sweep("rqqq"))
    clock.now = 0.5
    progress.update(sweep("frqq"))  # too soon for the fan-out
    clock.now = 1.1
    progress.update(sweep("ffrq"))
    clock.now = 1.2
    progress.update(sweep("ffff") | {"status": "succeeded"})  # the end is always told
    assert told == [
        "0mfk2v9qkabc123  digits-sweep  running",
        "load  finished  0.50s",
        "train  0/4  1 running",
        "train  2/4  1 running",
        "train  4/4",
        "0mfk2v9qkabc123  digits-sweep  succeeded",
    ]


def test_plain_progress_tells_why_a_job_waits_and_how_it_failed() -> None:
    told: list[str] = []
    progress = plain.Plain(told.append, Clock())
    error = {"type": "ValueError", "message": "no"}
    progress.update(sweep("", gpu=job("deferred", reason=GPU)))
    progress.update(sweep("", gpu=job("failed", error=error, node="n1", attempt=4)))
    assert [line for line in told if line.startswith("gpu")] == [
        f"gpu  deferred  {GPU}",
        "gpu  failed  on n1  attempt 4  ValueError: no",
    ]


@pytest.mark.parametrize(
    ("left", "marks"),
    [("", "########.."), ("r", "#######+.."), ("x", "########.."), ("rrff", "#######+..")],
)
def test_a_fan_out_whose_jobs_were_folded_shows_them_all(left: str, marks: str) -> None:  # F4
    """Of a million jobs few are there: first those that have finished, last those yet to be made."""
    state = sweep(left)
    state["jobs"]["train"] |= {"total": 1_000_000, "folded": 800_000 - len(left)}
    row = next(row for row in view.rows(state) if row.name == "train")
    assert row.generates
    assert row.total == 1_000_000
    assert row.ran == 800_000 - left.count("r")
    assert strip(row, 10, unicode=False).plain == marks
    assert f"{row.ran}/1000000 jobs" in fan_counts(row)
    assert f"{800_000 - len(left)} folded" in fan_counts(row)
