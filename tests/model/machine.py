"""The state machine that Hypothesis drives: which rule, and one number that decides the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from .clients import Dice, Scripted
from .play import Play
from .server import Server

NUMBERS = st.integers(0, 2**24 - 1)
#: of so many runs one has scripts that may do next to nothing at once
CUT_DOWN = 4
STEP_LIMIT = 3


@dataclass
class Tally:
    """What was done so far."""

    runs: int = 0
    steps: int = 0
    requests: int = 0

    def add(self, other: Tally) -> None:
        self.runs += other.runs
        self.steps += other.steps
        self.requests += other.requests

    def __str__(self) -> str:
        return f"{self.runs} runs, {self.steps} steps, {self.requests} requests"


class Machine(RuleBasedStateMachine):
    """One run of a small cluster; `bind` gives it its scripts."""

    scripted: ClassVar[tuple[Scripted, Scripted]]
    tally: ClassVar[Tally]

    def __init__(self) -> None:
        super().__init__()
        self.play: Play | None = None
        self.broken = False

    def _do(self, what: Callable[..., Any], *args: Any) -> None:
        try:
            what(*args)
        except BaseException as error:
            self.broken = True
            if self.play and isinstance(error, AssertionError):
                error.add_note("\n".join(["what happened:", *self.play.log]))
            raise
        self.tally.steps += 1

    @initialize(number=NUMBERS)
    def begin(self, number: int) -> None:
        dice = Dice(number)
        whole, cut_down = self.scripted
        scripted = cut_down if dice.pick(CUT_DOWN) == CUT_DOWN - 1 else whole

        def begin() -> None:
            self.play = Play(scripted, dice)

        self._do(begin)

    @rule(number=NUMBERS)
    def work(self, number: int) -> None:
        self._do(self._play.work, Dice(number))

    @rule(number=NUMBERS)
    def work_on(self, number: int) -> None:
        self._do(self._play.work, Dice(number))

    @rule(number=NUMBERS)
    def work_more(self, number: int) -> None:
        self._do(self._play.work, Dice(number))

    @rule(number=NUMBERS)
    def orchestrate(self, number: int) -> None:
        self._do(self._play.orchestrate, Dice(number))

    @rule(number=NUMBERS)
    def beats(self, number: int) -> None:
        self._do(self._play.beats, Dice(number))

    @rule(number=NUMBERS)
    def die(self, number: int) -> None:
        self._do(self._play.die, Dice(number))

    @rule(number=NUMBERS)
    def wait(self, number: int) -> None:
        self._do(self._play.wait, Dice(number))

    @rule(number=NUMBERS)
    def command(self, number: int) -> None:
        self._do(self._play.command, Dice(number))

    @rule(number=NUMBERS)
    def again(self, number: int) -> None:
        self._do(self._play.again, Dice(number))

    @rule(number=NUMBERS)
    def upkeep(self, number: int) -> None:
        self._do(self._play.upkeep, Dice(number))

    @property
    def _play(self) -> Play:
        assert self.play is not None
        return self.play

    def teardown(self) -> None:
        """Whatever happened, everything ends."""
        if self.play and not self.broken:
            self._do(self.play.finish)
            self.tally.runs += 1
            self.tally.requests += len(self.play.log)


def run(
    server: Server, runs: int, steps: int, first_seed: int, breaks: dict[str, str] | None = None,
    *, shrink: bool = True,
) -> Tally:  # fmt: skip
    """Runs under this seed; raises AssertionError with the shortest steps that fail (with the first
    that do, without `shrink`). `breaks`: texts of the scripts that are replaced on purpose."""
    tally = Tally()
    scripted = (Scripted(server, 0, breaks), Scripted(server, STEP_LIMIT, breaks))
    bound = type("Machine", (Machine,), {"scripted": scripted, "tally": tally})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        seed(first_seed)(bound),
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return tally
