"""What the jobs' own code has written, read while it is written."""

from __future__ import annotations

from pathlib import Path

from chaos.history import Record, Tail
from penstock.worker.isolation import is_alive

Attempt = tuple[str, str, int]


class Log:
    """The effect log of one run; `look` takes in what is new."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self.starts: dict[Attempt, Record] = {}
        self.ends: dict[Attempt, Record] = {}

    def look(self) -> None:
        for record in self._tail.new():
            attempt = (record["execution"], record["job"], record["attempt"])
            if record["what"] == "start":
                self.starts[attempt] = record
            elif record["what"] == "end":
                self.ends[attempt] = record

    def running(self) -> list[Record]:
        """The starts of what runs now, in processes that live."""
        self.look()
        begun = [self.starts[one] for one in self.starts.keys() - self.ends.keys()]
        return sorted((one for one in begun if is_alive(one["pid"])), key=lambda one: one["at"])

    def ended(self, unit: str, job: str) -> bool:
        """Has any attempt of it come to its end?"""
        return any(key[:2] == (unit, job) for key in self.ends)

    def again(self, hit: Record) -> Record | None:
        """The first start of a job after the attempt that was hit."""
        later = [
            start
            for (unit, job, attempt), start in self.starts.items()
            if (unit, job) == (hit["execution"], hit["job"]) and attempt > hit["attempt"]
        ]
        return min(later, key=lambda one: one["at"], default=None)


def as_hit(start: Record) -> Record:
    """As a fault names an attempt."""
    return {name: start[name] for name in ("execution", "job", "attempt")}
