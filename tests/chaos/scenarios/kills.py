"""SIGKILL of a job's process, of a daemon, of a whole node, of an orchestrator."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ..effects import Running
from ..load import Load
from ..scenario import Run, scenario
from ..workflows import batch


@scenario("kill-job", row="F01", full=300, short=12, bound_s=0.5)
def kill_job(run: Run) -> None:
    """One process of a job at a time; riders of its batch keep their attempt (I9)."""
    with run.lab() as lab:
        lab.orchestrator()
        lab.nodes(2, concurrency=3)
        load = Load(lab, batch(30, s=0.3), batch(200, s=0.004))
        hit: set[tuple[str, str]] = set()
        while run.goes_on():
            load.keep_up()
            victims = [one for one in lab.running() if (one.execution, one.job) not in hit]
            if not victims:
                time.sleep(0.005)
                continue
            victim = run.random.choice(victims)
            hit.add((victim.execution, victim.job))
            time.sleep(run.random.uniform(0, 0.01))
            fault = lab.fault("kill job", str(victim.pid), [_attempt(victim)])
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
            run.hit()
            lab.await_recovery(fault, timeout_s=10)
        lab.finish()


def _attempt(one: Running) -> dict:
    return {"execution": one.execution, "job": one.job, "attempt": one.attempt}
