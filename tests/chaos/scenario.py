"""What a scenario is, and what it is given when it runs.

    @scenario("kill-daemon", row="F02", full=300, short=8, bound_s=1.5)
    def kill_daemon(run: Run) -> None:
        with run.lab() as lab:
            nodes = lab.nodes(4)
            ...
            while run.goes_on():
                ...
                run.hit()
            lab.finish()

At the end of `with run.lab()` everything is ended, the history is read and checked, and what it
shows goes to the run: violations, and how long each job that a fault hit took to be claimed again.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checker import check
from .history import History, read, save
from .lab import Lab
from .story import Violation
from .timing import delays, recoveries
from .undone import without_undone


@dataclass(frozen=True)
class Scenario:
    """`row` is the page's number (F01) or the mission row; `full` and `short` are the numbers of
    injections to reach; `bound_s` is what 99 of 100 recoveries must keep (None: nothing to keep),
    `delays_s` the same for `delays` by name."""

    name: str
    row: str
    full: int
    short: int
    bound_s: float | None
    delays_s: Mapping[str, float]
    body: Callable[[Run], None]


#: All scenarios by name, in the order of their definition.
SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str,
    *,
    row: str,
    full: int,
    short: int,
    bound_s: float | None = None,
    delays_s: Mapping[str, float] | None = None,
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Registers a function as a scenario."""

    def register(body: Callable[[Run], None]) -> Callable[[Run], None]:
        assert name not in SCENARIOS, name
        SCENARIOS[name] = Scenario(name, row, full, short, bound_s, delays_s or {}, body)
        return body

    return register


@dataclass
class Run:
    """One run of a scenario. `deadline` is a time.monotonic(): by then no new injection begins."""

    scenario: Scenario
    target: int
    seed: int
    short: bool
    keep: Path
    deadline: float = float("inf")
    count: int = 0
    violations: list[Violation] = field(default_factory=list)
    recoveries_s: list[float] = field(default_factory=list)
    delays_s: dict[str, list[float]] = field(default_factory=dict)
    #: what Redis had acknowledged and did not remember when it was started again, in events
    undone: int = 0
    notes: list[str] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    progress: Callable[[Run], None] = lambda _: None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def goes_on(self) -> bool:
        """Is there another injection to make?"""
        return self.count < self.target and time.monotonic() < self.deadline

    @property
    def left(self) -> int:
        """Injections that are still to make."""
        return max(0, self.target - self.count)

    def hit(self, number: int = 1) -> None:
        """Injections were made."""
        self.count += number
        self.progress(self)

    def measured(self, seconds: float) -> None:
        """A recovery that the history does not show by itself."""
        self.recoveries_s.append(seconds)

    def note(self, text: str) -> None:
        """A figure for the table."""
        self.notes.append(text)

    def skip(self, why: str) -> None:
        """It cannot run here."""
        self.target = 0
        self.note(f"skipped: {why}")

    def violated(self, invariant: str, text: str, job: str = "") -> None:
        """A violation that the history does not show by itself."""
        self.violations.append(Violation(invariant, job, text))

    @contextmanager
    def lab(self, *, timed: bool = True, **options: Any) -> Iterator[Lab]:
        """A cluster of its own, empty; afterwards ended, checked and removed.

        `timed` is that of `check`, `options` are those of `Lab`. On a violation, a recovery over the bound, or an error of the
        scenario, the history and the logs of all processes are kept.
        """
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        lab = Lab(folder, scenario=self.scenario.name, **options)
        before = len(self.violations)
        failed = True
        try:
            lab.open()
            yield lab
            failed = False
        finally:
            self.violations += [Violation("left", "", text) for text in lab.close()]
            told = read(lab.history)
            history, undone = without_undone(told)
            self.undone += undone
            slow = not failed and self._judge(history, timed)
            if failed or slow or len(self.violations) > before:
                self._keep(lab, told)
            shutil.rmtree(folder, ignore_errors=True)

    def _judge(self, history: History, timed: bool) -> bool:
        """Takes in what the history shows; was a recovery slower than the bound?"""
        self.violations += check(history, timed=timed)
        for name, seconds in delays(history).items():
            self.delays_s.setdefault(name, []).extend(seconds)
        found = [one for one in recoveries(history) if one.seconds is not None]
        self.recoveries_s += [one.seconds for one in found if one.seconds is not None]
        slowest = max(found, key=lambda one: one.seconds or 0, default=None)
        if slowest is None or (slowest.seconds or 0) <= (self.scenario.bound_s or float("inf")):
            return False
        self.note(f"slowest {slowest.execution}/{slowest.job}")
        return True

    def _keep(self, lab: Lab, history: History) -> None:
        place = self.keep / f"{self.scenario.name}-{self.seed}-{len(self.kept)}"
        place.mkdir(parents=True, exist_ok=True)
        save(history, place / "history.jsonl")
        (place / "processes.log").write_text(lab.logs())
        self.kept.append(place)
