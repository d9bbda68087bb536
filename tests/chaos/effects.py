"""What the jobs' own code wrote, read while it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from penstock.worker.isolation import is_alive

from .history import Record, Tail


@dataclass(frozen=True)
class Running:
    """An attempt that has begun and not ended, in a process that lives."""

    execution: str
    job: str
    attempt: int
    pid: int
    node: str
    since: float

    def as_hit(self) -> Record:
        """As a fault names it."""
        return {"execution": self.execution, "job": self.job, "attempt": self.attempt}


class Effects:
    """The effect log of a lab."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._running: dict[tuple[str, str, int], Running] = {}
        #: processes that have run a job
        self.pids: set[int] = set()
        #: attempts whose code came to its end
        self.ends: set[tuple[str, str, int]] = set()
        self.started = 0
        self.ended = 0

    def look(self) -> None:
        """Takes in what was written since the last look."""
        for record in self._tail.new():
            key = (record["execution"], record["job"], record["attempt"])
            if record["what"] == "start":
                self.started += 1
                self.pids.add(record["pid"])
                self._running[key] = Running(*key, record["pid"], record["node"], record["at"])
            elif record["what"] == "end":
                self.ended += 1
                self.ends.add(key)
                self._running.pop(key, None)

    def running(self) -> list[Running]:
        """What runs now, the oldest first."""
        self.look()
        for key, one in list(self._running.items()):
            if not is_alive(one.pid):
                del self._running[key]
        return list(self._running.values())

    def cut_off(self, pid: int) -> Running | None:
        """What a process, now dead, was in the middle of."""
        self.look()
        return next((one for one in self._running.values() if one.pid == pid), None)
