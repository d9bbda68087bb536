"""Cancel at any moment of an execution's life."""

from __future__ import annotations

import time

from penstock.common.state import keys

from ..lab import Lab
from ..scenario import Run, scenario
from ..workflows import batch, chain, diamond, fan

#: Executions under way at once.
WIDTH = 24


#: Unstarted members of a batch are revoked within the first, running jobs are gone within the second.
PROMISED_S = {"revoked": 0.1, "gone": 1.0}


@scenario("cancel-race", row="F29", full=5000, short=60, delays_s=PROMISED_S)
def cancel_race(run: Run) -> None:
    """Executions of every shape, each canceled after a random time: as it is submitted, compiled,
    claimed, run, settled, expanded, retried, or when it has just ended."""
    with run.lab() as lab:
        lab.orchestrator()
        lab.orchestrator()
        lab.nodes(2, concurrency=4)
        race = Race(run, lab)
        while run.goes_on() or race.open:
            race.turn()
        lab.finish()


class Race:
    """Executions between their submission and their cancel. One in five is canceled at a random
    time after the first, the others after they were compiled."""

    def __init__(self, run: Run, lab: Lab) -> None:
        self.run, self.lab = run, lab
        self.submitted = 0
        #: by execution: how long it takes, and when it is to be canceled (None: not known yet)
        self.open: dict[str, tuple[float, float | None]] = {}
        again = {"max": 3, "backoff": 0.1, "jitter": 0}
        self.shapes = [
            (lab.prepare(chain(6, s=0.02)), 0.3),
            (lab.prepare(diamond(5, s=0.02)), 0.2),
            (lab.prepare(fan(60, s=0.002)), 0.3),
            (lab.prepare(batch(40, s=0.003)), 0.2),
            (lab.prepare(batch(2, fail=3, retry=again)), 0.4),
            (lab.prepare(batch(2, s=3.0)), 0.2),
            (lab.prepare(batch(1, s=3.0, family=True)), 0.3),
        ]

    def turn(self) -> None:
        """Submits what there is room for, and cancels what is due."""
        while len(self.open) < WIDTH and self.submitted < self.run.target and self.run.goes_on():
            self._submit()
        now = time.monotonic()
        waiting = [execution for execution, (_, due) in self.open.items() if due is None]
        for execution in self._compiled(waiting):
            length, _ = self.open[execution]
            self.open[execution] = length, now + self.run.random.uniform(0, length)
        due = [id_ for id_, (_, at) in self.open.items() if at is not None and at <= now]
        for execution in due:
            del self.open[execution]
            self._cancel(execution)
        if not due:
            time.sleep(0.001)

    def _submit(self) -> None:
        shape, length = self.run.random.choice(self.shapes)
        execution = self.lab.submit(shape)
        self.submitted += 1
        early = self.run.random.random() < 0.2
        wait = self.run.random.uniform(0, 0.1) if early else None
        self.open[execution] = length, None if wait is None else time.monotonic() + wait

    def _compiled(self, executions: list[str]) -> list[str]:
        with self.lab.client.pipeline(transaction=False) as pipe:
            for execution in executions:
                pipe.hget(keys.execution(execution), "status")
            statuses = pipe.execute() if executions else []
        return [id_ for id_, s in zip(executions, statuses, strict=True) if s != b"pending"]

    def _cancel(self, execution: str) -> None:
        self.lab.cancel(execution)
        self.run.hit()
        if self.run.random.random() < 0.1:  # the same answer, whoever asks again
            first = self.lab.store.execution(execution)["status"]
            if self.lab.service.cancel(execution) != first:
                self.run.violated("I1", "a second cancel changed the status", execution)
