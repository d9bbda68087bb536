"""An execution as rows for people: pure functions, no terminal and no clock.

A fan-out and its generated jobs, each of which names it, make one row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...common.state.states import EXECUTION_TERMINAL, JOB_TERMINAL

Job = Mapping[str, Any]

#: A job in one of these does not change any more.
ENDED = JOB_TERMINAL
#: An execution in one of these does not change any more.
TERMINAL = EXECUTION_TERMINAL
WAITING = frozenset({"deferred", "queued", "scheduled"})

#: Exit code of each end of an execution.
EXIT_CODES = {"succeeded": 0, "failed": 1, "canceled": 3}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the display: a job, or a fan-out with its generated jobs."""

    name: str
    job: Job
    children: Mapping[str, Job] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """How many generated jobs are in each status, those that were folded too."""
        counts = Counter(str(child.get("status")) for child in self.children.values())
        counts["finished"] += self.folded
        return counts

    @property
    def generates(self) -> bool:
        """Is it a fan-out that has made jobs?"""
        return bool(self.children or self.folded)

    @property
    def folded(self) -> int:
        """Generated jobs that have finished, and are in Redis no more."""
        return int(self.job.get("folded") or 0)

    @property
    def ran(self) -> int:
        """Generated jobs that ran to an end of their own."""
        return sum(self.counts[status] for status in ENDED - {"canceled"})

    @property
    def total(self) -> int:
        """Generated jobs there are, or will be where that is known already."""
        return max(len(self.children) + self.folded, int(self.job.get("total") or 0))

    @property
    def status(self) -> str:
        """The job's status; of a fan-out, what its generated jobs make of it."""
        own = str(self.job.get("status"))
        if not self.generates or own not in ENDED:
            return own
        counts = self.counts
        if sum(counts[status] for status in ENDED) < self.total:
            return "started" if any(counts[s] for s in (*ENDED, "started")) else "queued"
        # Of one that has finished, those that are canceled need not run (`stop_when`).
        worse = ["failed", "stopped"] if own == "finished" else ["failed", "canceled", "stopped"]
        for status in worse:
            if counts[status]:
                return status
        return "finished"

    @property
    def reason(self) -> str:
        """Why it is as it is, where the state names a reason: it waits, was canceled, or stopped early."""
        for job in (self.job, *self.children.values()):
            if job.get("reason") not in (None, "", job.get("status")):
                return str(job["reason"])
        return ""

    @property
    def failure(self) -> str:
        """The error on one line; of a fan-out whose jobs failed, which have their own, nothing."""
        error = self.job.get("error")
        return error_line(error) if error or not self.generates else ""


def rows(execution: Mapping[str, Any]) -> list[Row]:
    """The rows of an execution, in the order of its jobs."""
    found: dict[str, Row] = {}
    children: dict[str, dict[str, Job]] = {}
    for name, job in execution.get("jobs", {}).items():
        source = job.get("fan_out")
        if source in found:
            children[source][name] = job
        else:
            children[name] = {}
            found[name] = Row(name, job, children[name])
    return list(found.values())


def failures(execution: Mapping[str, Any]) -> dict[str, Job]:
    """The jobs that failed, by id."""
    jobs = execution.get("jobs", {})
    return {name: job for name, job in jobs.items() if job.get("status") == "failed"}


def parse_time(text: str | None) -> datetime | None:
    """An ISO-8601 date of the service, or None."""
    return datetime.fromisoformat(text) if text else None


def seconds(job: Mapping[str, Any], now: datetime | None = None) -> float | None:
    """How long a job or an execution has run: to its end, else to `now`."""
    start = parse_time(job.get("started_at") or job.get("created_at"))
    end = parse_time(job.get("ended_at")) or now
    return max(0.0, (end - start).total_seconds()) if start and end else None


def duration(value: float | None) -> str:
    """Seconds as people write them: 0.42s, 12.3s, 4:05, 2:03:10."""
    if value is None:
        return ""
    if value < 9.995:
        return f"{value:.2f}s"
    if value < 59.95:
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def error_line(error: Any) -> str:
    """`Type: message` of a job's error, on one line."""
    if not isinstance(error, Mapping):
        return str(error or "no error was recorded")
    kind, message = str(error.get("type") or "Error"), str(error.get("message") or "")
    return f"{kind}: {' '.join(message.split())}" if message.strip() else kind


def last_lines(error: Any, count: int = 4) -> list[str]:
    """The last lines of an error's traceback, without its closing `Type: message`."""
    text = str(error.get("traceback") or "") if isinstance(error, Mapping) else ""
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("Traceback")]
    kind = str(error.get("type") or "") if isinstance(error, Mapping) else ""
    while lines and not lines[-1].startswith(" "):
        closing = lines.pop()
        if kind and closing.split(":")[0].split(".")[-1] == kind.split(".")[-1]:
            break
    return lines[-count:]


def shorten(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters."""
    line = " ".join(text.splitlines())
    return line if len(line) <= width else line[: max(0, width - 1)].rstrip() + "…"
