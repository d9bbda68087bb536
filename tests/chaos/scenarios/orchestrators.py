"""SIGKILL of orchestrators in the middle of expansions."""

from __future__ import annotations

import signal
import subprocess
import time
from itertools import pairwise

from penstock.common.state import keys

from ..history import History, read
from ..lab import Lab
from ..scenario import Run, scenario
from ..workflows import fan

#: Nothing may pause for longer than this, seconds.
PAUSE_S = 2.0
CHILDREN = 1500


@scenario("kill-orchestrator", row="F14", full=200, short=6, bound_s=PAUSE_S)
def kill_orchestrator(run: Run) -> None:
    """One or two of three at a time, while they make the children of a fan-out in a window of 100.

    What counts as recovery is the time from a kill until the next child is claimed.
    """
    with run.lab(environment={"PENSTOCK_FANOUT_WINDOW": "100"}) as lab:
        alive = [lab.orchestrator() for _ in range(3)]
        lab.nodes(2, concurrency=3)
        for one in alive:
            lab.orchestrator_ready(one)
        workflow = lab.prepare(fan(300 if run.short else CHILDREN, s=0.01))
        kills: list[tuple[str, float]] = []
        while run.goes_on():
            execution = lab.submit(workflow)
            while run.goes_on() and _expands(lab, execution):
                time.sleep(run.random.uniform(0.05, 0.4))
                if not _is_open(lab, execution):
                    break
                alive = _kill(run, lab, alive, execution, kills)
                for one in alive:
                    lab.orchestrator_ready(one)
            left = lab.await_ends([execution])
            if left:
                break
        lab.finish()
        history = read(lab.history)
    _judge_pauses(run, history, kills)


def _expands(lab: Lab, execution: str) -> bool:
    """Waits until it is open; False when it is over."""
    while not _is_open(lab, execution):
        if not lab.open_executions([execution]):
            return False
        time.sleep(0.005)
    return True


def _is_open(lab: Lab, execution: str) -> bool:
    total, created = lab.client.hmget(keys.group(execution, "each"), "total", "created")
    return total is not None and int(created or 0) < int(total)


def _kill(
    run: Run,
    lab: Lab,
    alive: list[subprocess.Popen[bytes]],
    execution: str,
    kills: list[tuple[str, float]],
) -> list[subprocess.Popen[bytes]]:
    number = min(run.left, run.random.choice([1, 1, 2]))
    for victim in run.random.sample(alive, number):
        lab.fault("kill orchestrator", str(victim.pid))
        kills.append((execution, time.time()))
        victim.send_signal(signal.SIGKILL)
        victim.wait(10)
        alive = [one for one in alive if one is not victim]
        alive.append(lab.orchestrator())
        run.hit()
    return alive


def _judge_pauses(run: Run, history: History, kills: list[tuple[str, float]]) -> None:
    claims: dict[str, list[float]] = {}
    for record in history:
        if record["what"] == "claimed":
            claims.setdefault(record["execution"], []).append(record["at"])
    for execution, at in kills:
        later = [claim for claim in claims.get(execution, ()) if claim > at]
        if later:
            run.measured(later[0] - at)
    longest = max(
        (after - before for times in claims.values() for before, after in pairwise(times)),
        default=0,
    )
    run.note(f"longest pause {longest:.2f} s")
    if longest > PAUSE_S and not run.short:
        run.violated("I6", f"a pause of {longest:.2f} s between two claims of one fan-out")
