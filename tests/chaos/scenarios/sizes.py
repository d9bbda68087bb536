"""Much at once: a wide fan-out whose children crash, and many executions that expire."""

from __future__ import annotations

import time

from penstock.common.state import keys
from penstock.orchestrator.engine.roles import Leader

from ..lab import Lab
from ..scenario import Run, scenario
from ..workflows import batch, fan

#: One child of so many takes its process down in its first attempt.
EVERY = 5


@scenario("crashing-fan-out", row="F31", full=2000, short=12)
def crashing_fan_out(run: Run) -> None:
    """A fan-out of five times as many children as shall crash; the fan-in reads each of them
    once, in order (I5)."""
    with run.lab() as lab:
        lab.orchestrator()
        lab.nodes(2, concurrency=3)
        children = run.target * EVERY
        began = time.monotonic()
        execution = lab.submit(fan(children, crash_every=EVERY))
        lab.finish(timeout_s=1800)
        crashed = _count_crashed(lab, execution)
        run.hit(crashed)
        run.note(f"{children} children in {time.monotonic() - began:.0f} s")
        _look_at_slow_scripts(run, lab)


def _count_crashed(lab: Lab, execution: str) -> int:
    names = lab.store.job_names(execution)
    return sum(int(row["crashes"] or 0) for row in lab.store.jobs(execution, names, ("crashes",)))


def _look_at_slow_scripts(run: Run, lab: Lab) -> None:
    """The server's own log of what took it longer than 10 ms, by script."""
    names = {script.function.encode(): name for name, script in lab.store.scripts.items()}
    slow: dict[str, list[float]] = {}
    for entry in lab.client.slowlog_get(128):
        word, what = [*entry["command"].split(b" "), b""][:2]
        slow.setdefault(names.get(what, word.decode()), []).append(entry["duration"] / 1000)
    told = [f"{name} {len(ms)}, longest {max(ms):.0f} ms" for name, ms in sorted(slow.items())]
    run.note(f"commands over 10 ms: {'; '.join(told) or 'none'}")


@scenario("expiry", row="F37", full=10_000, short=50)
def expiry(run: Run) -> None:
    """Executions with a TTL of 2 s; once they and the leader's trim are through, as many keys as
    before (I8). In the short form the trim is called at once."""
    with run.lab(state_ttl_s=2.0) as lab:
        lab.orchestrator()
        lab.nodes(2, concurrency=3)
        workflow = lab.prepare(batch(1, s=0))
        _run_through(lab, [lab.submit(workflow)])
        _await_trim(run, lab)
        lab.journal.write("dbsize", label="before", keys=lab.client.dbsize())
        while run.goes_on():
            part = [lab.submit(workflow) for _ in range(min(200, run.left))]
            _run_through(lab, part)
            run.hit(len(part))
        lab.finish(expired=True)
        _await_trim(run, lab)
        lab.journal.write("dbsize", label="after", keys=lab.client.dbsize())


def _run_through(lab: Lab, executions: list[str]) -> None:
    left = lab.await_ends(executions)
    assert not left, f"{len(left)} executions did not end"


def _await_trim(run: Run, lab: Lab) -> None:
    """Waits until all executions have expired, and their places in the indexes are gone."""
    deadline = time.monotonic() + 150
    while lab.client.zcard(keys.executions()) or _registered(lab):
        assert time.monotonic() < deadline, "the indexes were not trimmed"
        if run.short:
            Leader(lab.store, "chaos", 1.0).trim()
        time.sleep(0.2)


def _registered(lab: Lab) -> int:
    """Members of RQ's registries of finished and failed jobs."""
    names = [
        raw.decode().removeprefix(keys.queue("")) for raw in lab.client.smembers(keys.queues())
    ]
    registries = [registry(name) for name in names for registry in (keys.finished, keys.failed)]
    return sum(lab.client.zcard(registry) for registry in registries)
