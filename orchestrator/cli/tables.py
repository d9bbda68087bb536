"""Tables of executions, nodes and queues, as several commands show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...common.jobs import split_job_id
from .output import clean
from .render import STYLES, status_text, table
from .view import Row, duration, error_line, parse_time, seconds, shorten

Line = Mapping[str, Any]

_UNITS = (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10))


def executions_table(found: Sequence[Line]) -> Table:
    """Executions, latest first."""
    now = datetime.now(UTC)
    lines = [
        (
            line["id"],
            _name(line),
            status_text(str(line["status"])),
            progress_text(line.get("progress") or {}),
            duration(seconds(line, now)),
            age(line.get("created_at")),
        )
        for line in found
    ]
    return table(["id", "name", "status", "jobs", "time", "created"], lines)


def _name(line: Line) -> str:
    """What an execution is called; of one that a job has made, in which one that job is."""
    parent, _ = split_job_id(line.get("parent") or "")
    return f"{line['name']} of {parent}" if parent else str(line["name"])


def progress_text(progress: Line) -> str:
    """`12/18, 2 failed`."""
    text = f"{progress.get('done') or 0}/{progress.get('total') or 0}"
    return f"{text}, {progress['failed']} failed" if progress.get("failed") else text


def nodes_table(nodes: Sequence[Line]) -> Table:
    """Worker nodes and their load."""
    lines = [
        (
            node["id"],
            node.get("hostname"),
            node.get("state"),
            ",".join(node.get("capabilities") or ()) or "-",
            f"{node.get('running') or 0}/{node.get('concurrency') or 0}",
            node.get("cpus"),
            node.get("gpus"),
            size(node.get("ram")),
            f"{float(node.get('last_beat_s') or 0):.1f}s ago",
        )
        for node in nodes
    ]
    columns = ["node", "host", "state", "capabilities", "slots", "cpus", "gpus", "ram", "beat"]
    return table(columns, lines, right="cpus gpus ram")


def queues_table(queues: Sequence[Line]) -> Table:
    """Queues, by class and priority."""
    counts = ["waiting", "running", "finished", "failed"]
    lines = [
        (
            queue["name"],
            queue.get("priority"),
            *(queue.get(count) or 0 for count in counts),
            Text("paused", style="yellow") if queue.get("paused") else "",
        )
        for queue in queues
    ]
    return table(["queue", "priority", *counts, ""], lines, right=" ".join(["priority", *counts]))


def dead_letters(jobs: Sequence[Line]) -> Group:
    """Dead-letter jobs: a line each, and below it one for each attempt that is on record."""
    parts: list[Text | Padding] = []
    attempts = [_attempt(one) for job in jobs for one in job.get("history") or ()]
    widths = [max((cell_len(line[at]) for line in attempts), default=0) for at in range(5)]
    for job in jobs:
        history = job.get("history") or ()
        parts.append(_dead_head(job, len(parts) > 0))
        shown = Table.grid(padding=(0, 2, 0, 0))
        for at, width in enumerate(widths):
            shown.add_column(min_width=width, no_wrap=True, justify="left" if at else "right")
        shown.add_column(no_wrap=True, overflow="ellipsis")
        for one in history:
            cells = [Text(cell) for cell in _attempt(one)]
            cells[2].stylize(STYLES.get(cells[2].plain, "red"))
            shown.add_row(*cells, _error_text(one))
        if history:
            parts.append(Padding(shown, (0, 0, 0, 2)))
        else:
            parts.append(Padding(_error_text(job), (0, 0, 0, 2)))
    return Group(*parts)


def _dead_head(job: Line, gap: bool) -> Text:
    count = int(job.get("attempt") or 0)
    known = len(job.get("history") or ())
    text = f"{count} attempt{'' if count == 1 else 's'}"
    if 0 < known < count:
        text += f", {known} on record"
    died = f", died {age(job['died_at'])}" if job.get("died_at") else ""
    return Text.assemble(
        "\n" if gap else "",
        (f"{job['execution']}  {clean(str(job['job']))}", "bold"),
        (f"  {text}{died}", "dim"),
    )


def _attempt(one: Line) -> tuple[str, str, str, str, str]:
    return (
        str(one["attempt"]),
        clean(str(one.get("node") or "-")),
        str(one["outcome"]),
        duration(seconds(one)),
        age(one.get("ended_at")),
    )


def _error_text(one: Line) -> Text:
    return Text(shorten(clean(error_line(one.get("error"))), 100))


def fan_counts(row: Row) -> str:
    """`12/18 jobs, 2 failed` of a fan-out; nothing of another job."""
    if not row.generates:
        return ""
    counts = row.counts
    text = f"{row.ran}/{row.total} jobs"
    for status in ("failed", "canceled"):
        if counts[status]:
            text += f", {counts[status]} {status}"
    if row.folded:
        text += f", {row.folded} folded"
    return text


def size(amount: Any) -> str:
    """Bytes as 15.5G."""
    value = float(amount or 0)
    for unit, factor in _UNITS:
        if value >= factor:
            return f"{value / factor:.1f}{unit}"
    return f"{value:.0f}"


def age(text: str | None) -> str:
    """How long ago a date was, in words a table has room for."""
    moment = parse_time(text)
    if moment is None:
        return ""
    passed = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if passed >= size:
            return f"{passed // size}{unit} ago"
    return f"{passed}s ago"
