"""Everything at once, for long."""

from __future__ import annotations

import time
from contextlib import suppress

import redis

from ..lab import Lab
from ..load import Load
from ..nemesis import Nemesis
from ..scenario import Run, scenario
from ..workflows import batch, chain, diamond, fan

JOBS = 50_000


@scenario("soak", row="F40", full=1000, short=12)
def soak(run: Run) -> None:
    """4 nodes, 2 orchestrators, graphs of every shape, all kinds of faults in a random mix, until
    there were enough faults and jobs, or time is up."""
    with run.lab(timed=False) as lab:
        for _ in range(2):
            lab.orchestrator()
        _start_nodes(lab)
        load = Load(lab, *_shapes(), ahead=3 if run.short else 6)
        nemesis = Nemesis(run, lab, load)
        nemesis.turn(0.5)
        wanted = 0 if run.short else JOBS
        while run.goes_on() or (load.submitted < wanted and time.monotonic() < run.deadline):
            with suppress(redis.RedisError):
                nemesis.strike()
            nemesis.turn(run.random.uniform(0, 1.0))
        nemesis.mend()
        nemesis.turn(2.0)
        nemesis.mend()  # what the first brought about
        lab.finish(timeout_s=300)
    run.note(f"{load.submitted} jobs")
    run.note(", ".join(f"{number} {kind}" for kind, number in sorted(nemesis.done.items())))


def _start_nodes(lab: Lab) -> None:
    tags = [(), ("cpu", "ssd"), ("cpu", "ssd"), ()]
    for number, capabilities in enumerate(tags):
        lab.node(f"n{number}", capabilities=capabilities, wait=False)
    for node in lab.by_node.values():
        node.ready()


def _shapes() -> list[dict]:
    retry = {"max": 5, "backoff": 0.2, "jitter": 0}
    return [
        chain(8, s=0.05),
        fan(400, s=0.005),
        diamond(12, s=0.1, capabilities=["ssd"]),
        batch(200, s=0.003),
        fan(100, s=0.02, retry=retry, fail=1, parallel=10),
        batch(10, s=0.5, family=True),
        fan(150, crash_every=15),
    ]
