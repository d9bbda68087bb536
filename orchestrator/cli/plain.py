"""Progress as plain lines: one at each change of a job, no control characters.

What `run` and `wait` write to stderr when it is not a terminal. A fan-out's
generated jobs are summed up, at most once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .output import clean, say
from .view import ENDED, TERMINAL, Row, duration, rows, seconds

#: Seconds between two lines about one fan-out.
FAN_INTERVAL_S = 1.0


class Plain:
    """Tells an execution's changes line by line."""

    def __init__(
        self, tell: Callable[[str], None] = say, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._seen: dict[str, str] = {}
        self._fan_told: dict[str, float] = {}

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put away: each line is complete."""

    def update(self, execution: Mapping[str, Any]) -> None:
        """Tells what has changed since the last state."""
        over = execution.get("status") in TERMINAL
        head = f"{execution['id']}  {execution['name']}  {execution['status']}"
        if not over:
            self._change("", head)
        for row in rows(execution):
            if row.generates:
                self._fan(row, over)
            else:
                self._change(row.name, _line(row))
        if over:
            self._change("", head)

    def note(self, text: str) -> None:
        """Tells a line of its own, if there is one to tell."""
        if text:
            self._tell(text)

    def _fan(self, row: Row, over: bool) -> None:
        line = _fan_line(row)
        ended = row.status in ENDED or over
        now = self._clock()
        due = now - self._fan_told.get(row.name, -FAN_INTERVAL_S) >= FAN_INTERVAL_S
        if self._seen.get(row.name) != line and (due or ended):
            self._fan_told[row.name] = now
            self._change(row.name, line)

    def _change(self, name: str, line: str) -> None:
        if line and self._seen.get(name) != line:
            self._seen[name] = line
            self._tell(clean(line))


def _line(row: Row) -> str:
    """What is told about a job; nothing while it merely waits."""
    job, parts = row.job, [row.name, row.status]
    if row.status == "started" or row.status in ENDED:
        if row.status in ENDED and job.get("started_at"):
            parts.append(duration(seconds(job)))
        if job.get("node"):
            parts.append(f"on {job['node']}")
        if int(job.get("attempt") or 0) > 1:
            parts.append(f"attempt {job['attempt']}")
        if row.status == "failed":
            parts.append(row.failure)
        elif row.reason:
            parts.append(row.reason)
    elif row.reason:
        parts.append(row.reason)
    elif row.status != "scheduled":
        return ""
    return "  ".join(part for part in parts if part)


def _fan_line(row: Row) -> str:
    counts = row.counts
    line = f"{row.name}  {row.ran}/{row.total}"
    for status, word in (("started", "running"), ("failed", "failed"), ("canceled", "canceled")):
        if counts[status]:
            line += f"  {counts[status]} {word}"
    return f"{line}  {row.reason}" if row.reason else line
