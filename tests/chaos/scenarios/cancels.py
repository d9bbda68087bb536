"""Cancel at any moment of an execution's life."""

from __future__ import annotations

import heapq
import time

from ..lab import Lab
from ..scenario import Run, scenario
from ..workflows import batch, chain, diamond, fan

#: Executions under way at once.
WIDTH = 16


#: Unstarted members of a batch are revoked within the first, running jobs are gone within the second.
PROMISED_S = {"revoked": 0.1, "gone": 1.0}


@scenario("cancel-race", row="F29", full=5000, short=60, delays_s=PROMISED_S)
def cancel_race(run: Run) -> None:
    """Executions of every shape, each canceled after a random time: as it is submitted, compiled,
    claimed, run, settled, expanded, retried, or when it has just ended."""
    with run.lab() as lab:
        lab.orchestrator()
        lab.orchestrator()
        lab.nodes(2)
        again = {"max": 3, "backoff": 0.1, "jitter": 0}
        shapes = [
            (lab.prepare(chain(6, s=0.02)), 0.4),
            (lab.prepare(diamond(5, s=0.02)), 0.4),
            (lab.prepare(fan(60, s=0.002)), 0.6),
            (lab.prepare(batch(40, s=0.003)), 0.5),
            (lab.prepare(batch(2, fail=3, retry=again)), 0.5),
            (lab.prepare(batch(2, s=3.0, timeout=60)), 0.5),
        ]
        open_: list[tuple[float, str]] = []  # when to cancel what
        submitted = 0
        while run.goes_on() or open_:
            while submitted < run.target and len(open_) < WIDTH and run.goes_on():
                shape, length = run.random.choice(shapes)
                execution = lab.submit(shape)
                submitted += 1
                wait = run.random.choice([0.0, run.random.uniform(0, length)])
                heapq.heappush(open_, (time.monotonic() + wait, execution))
            at, execution = heapq.heappop(open_)
            time.sleep(max(0.0, at - time.monotonic()))
            _cancel(run, lab, execution)
        lab.finish()


def _cancel(run: Run, lab: Lab, execution: str) -> None:
    lab.cancel(execution)
    run.hit()
    if run.random.random() < 0.1:  # the same answer, whoever asks again
        first = lab.store.execution(execution)["status"]
        if lab.service.cancel(execution) != first:
            run.violated("I1", "a second cancel changed the status", execution)
