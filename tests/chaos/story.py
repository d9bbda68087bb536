"""A history by job and by execution, and what is found in it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from .history import History, Record

TERMINAL = frozenset({"finished", "failed", "canceled", "stopped"})
EXECUTION_ENDED = frozenset({"succeeded", "failed", "canceled"})

Key = tuple[str, str]


@dataclass(frozen=True)
class Violation:
    """`trace` are the records that show it, and no more."""

    invariant: str
    job: str
    text: str
    trace: tuple[Record, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.invariant} {self.job}: {self.text}"]
        return "\n".join([*lines, *(f"    {str(record)[:200]}" for record in self.trace)])


@dataclass
class Life:
    """All that is recorded of one job, in order."""

    key: Key
    spec: Record | None = None
    records: list[Record] = field(default_factory=list)
    final: Record | None = None

    @property
    def name(self) -> str:
        return "/".join(self.key)

    def of(self, *whats: str) -> list[Record]:
        return [record for record in self.records if record["what"] in whats]


class Story:
    """A history by job and by execution."""

    def __init__(self, history: History, timed: bool = True) -> None:
        self.history = history
        self.timed = timed
        self.lives: dict[Key, Life] = {}
        self.executions: dict[str, list[Record]] = defaultdict(list)
        self.finals: dict[str, Record] = {}
        self.others: list[Record] = []
        #: place of a record in the history, by its id()
        self.place = {id(record): place for place, record in enumerate(history)}
        for record in history:
            self._take(record)

    def life(self, execution: str, job: str) -> Life:
        key = (execution, job)
        if key not in self.lives:
            self.lives[key] = Life(key)
        return self.lives[key]

    def _take(self, record: Record) -> None:
        what, execution = record["what"], record.get("execution")
        if what == "accepted":
            for name, spec in record["jobs"].items():
                self.life(execution, name).spec = spec
        elif what == "final":
            self.finals[execution] = record
            for name, row in record["jobs"].items():
                self.life(execution, name).final = row
        elif "job" in record:
            self.life(execution, record["job"]).records.append(record)
        if execution is None:
            self.others.append(record)
        elif "job" not in record:
            self.executions[execution].append(record)
