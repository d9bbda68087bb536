"""The eight integration scenarios of mission row Q13, under their own names."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from penstock.common.state import keys
from support.processes import until

from ..history import History, read
from ..lab import Lab
from ..scenario import Run, scenario
from ..workflows import batch, chain, step
from .stops import Stopped

#: TTL of the lock that is contended for, and within what a killed holder's is handed over, seconds.
LOCK_S = 0.5
HANDED_OVER_S = LOCK_S + 0.3
CONTENDERS = 8


def claims_by_node(history: History, execution: str) -> Counter[str]:
    """How many of an execution's claims each node made."""
    return Counter(
        record["node"]
        for record in history
        if record["what"] == "claimed" and record["execution"] == execution
    )


def expect(run: Run, fact: object, text: str) -> None:
    """What this scenario promises beyond the invariants."""
    if not fact:
        run.violated("Q13", text)


def succeeded(run: Run, lab: Lab, *executions: str) -> None:
    """They ended, and well."""
    lab.await_ends(executions)
    for execution in executions:
        status = lab.store.execution(execution)["status"]
        expect(run, status == "succeeded", f"{execution} is {status}")


@scenario("five_workers_twenty_jobs", row="Q13", full=10, short=1)
def five_workers_twenty_jobs(run: Run) -> None:
    """Twenty jobs spread over five workers of one slot each."""
    with run.lab() as lab:
        lab.orchestrator()
        names = {node.name for node in lab.nodes(5, concurrency=1)}
        executions = []
        while run.goes_on():
            executions.append(lab.submit(batch(20, s=0.2)))
            succeeded(run, lab, executions[-1])
            run.hit()
        lab.finish()
        history = read(lab.history)
    for execution in executions:
        spread = claims_by_node(history, execution)
        expect(run, set(spread) == names, f"not every worker had a part: {dict(spread)}")
        expect(run, sum(spread.values()) == 20, f"claims: {dict(spread)}")


@scenario("worker_killed_mid_job", row="Q13", full=10, short=1, bound_s=4.0)
def worker_killed_mid_job(run: Run) -> None:
    """A job whose worker is gone, whole, runs on another one, and its execution succeeds."""
    with run.lab() as lab:
        lab.orchestrator()
        nodes = {node.name: node for node in lab.nodes(2, concurrency=1)}
        while run.goes_on():
            execution = lab.submit(chain(2, s=2.0))
            (one,) = until(lab.running, what="the first job runs")
            node = nodes[one.node]
            fault = lab.fault("kill worker", node.name, [one.as_hit()])
            node.kill()
            lab.await_recovery(fault)
            succeeded(run, lab, execution)
            run.hit()
            if run.goes_on():
                node.again()
                node.ready()
        lab.finish()


@scenario("worker_comes_back_and_work_spreads", row="Q13", full=10, short=1)
def worker_comes_back_and_work_spreads(run: Run) -> None:
    """A worker that was killed and started again gets its part of what is submitted then."""
    with run.lab() as lab:
        lab.orchestrator()
        nodes = lab.nodes(3, concurrency=1)
        later: list[tuple[str, str]] = []
        while run.goes_on():
            first = lab.submit(batch(9, s=0.4))
            until(lambda: len(lab.running()) == 3, what="all work")
            victim = run.random.choice(nodes)
            lab.fault("kill worker", victim.name, victim.held())
            victim.kill()
            succeeded(run, lab, first)
            victim.again()
            victim.ready()
            execution = lab.submit(batch(18, s=0.2))
            succeeded(run, lab, execution)
            later.append((execution, victim.name))
            run.hit()
        lab.finish()
        history = read(lab.history)
    for execution, name in later:
        spread = claims_by_node(history, execution)
        expect(run, spread[name] >= 3, f"{name} came back and had {spread[name]} of 18 jobs")


@scenario("hundred_jobs_at_once", row="Q13", full=10, short=1)
def hundred_jobs_at_once(run: Run) -> None:
    """A hundred executions of one job each, submitted without a pause."""
    with run.lab() as lab:
        lab.orchestrator()
        lab.nodes(2, concurrency=4)
        one = lab.prepare(batch(1, s=0.01))
        slowest = 0.0
        while run.goes_on():
            began = time.monotonic()
            executions = [lab.submit(one) for _ in range(100)]
            succeeded(run, lab, *executions)
            slowest = max(slowest, time.monotonic() - began)
            run.hit()
        lab.finish()
        run.note(f"100 jobs in at most {slowest:.2f} s")


@scenario("network_partition", row="Q13", full=10, short=1)
def network_partition(run: Run) -> None:
    """Two of three workers cannot be heard for longer than their time-out, and come back with
    results of their own: each job's one result stands."""
    with run.lab() as lab:
        lab.orchestrator()
        nodes = lab.nodes(3)
        while run.goes_on():
            execution = lab.submit(batch(12, s=0.4))
            until(lambda: len(lab.running()) >= 6, what="all work")
            parted = [Stopped(run, lab, node, late=True) for node in nodes[:2]]
            for one in parted:
                lab.await_recovery(one.fault)
            for one in parted:
                one.go_on()
            succeeded(run, lab, execution)
            until(lambda: all(node.registered() for node in nodes), what="all are back")
            run.hit()
        lab.finish()


@scenario("checkpoint_and_resume", row="Q13", full=10, short=1)
def checkpoint_and_resume(run: Run) -> None:
    """What failed is run again after the death of every orchestrator; what succeeded is not."""
    with run.lab() as lab:
        orchestrator = lab.orchestrator()
        lab.nodes(2)
        jobs = [step("a", s=0.1), step("b", after=("a",), s=0.1)]
        jobs += [step("c", after=("b",), s=0.1, fail=1), step("d", after=("c",), s=0.5)]
        workflow = lab.prepare({"name": "resumed", "jobs": jobs})
        executions = []
        while run.goes_on():
            execution = lab.submit(workflow)
            executions.append(execution)
            lab.await_ends([execution])
            status = lab.store.execution(execution)["status"]
            expect(run, status == "failed", f"{execution} is {status}, and should have failed")
            orchestrator.send_signal(signal.SIGKILL)
            orchestrator.wait(10)
            lab.fault("kill orchestrator", execution)
            lab.retry(execution)
            orchestrator = lab.orchestrator()
            succeeded(run, lab, execution)
            run.hit()
        lab.finish()
        history = read(lab.history)
    starts = Counter((r["execution"], r["job"]) for r in history if r["what"] == "start")
    for execution in executions:
        ran = [starts[execution, name] for name in "abcd"]
        expect(run, ran == [1, 1, 2, 1], f"runs of a, b, c, d: {ran}")


@scenario("varied_capabilities", row="Q13", full=10, short=1)
def varied_capabilities(run: Run) -> None:
    """Jobs run only where their tags are offered (I10), and wait where nobody offers them."""
    offers = {"plain": ("cpu",), "fast": ("cpu", "ssd"), "large": ("cpu", "gpu", "ssd")}
    wanted = [(), ("cpu",), ("ssd",), ("gpu",), ("gpu", "ssd"), ("cpu", "gpu", "ssd")]
    jobs = [
        step(f"j{number}", s=0.1, capabilities=list(wanted[number % len(wanted)]))
        for number in range(24)
    ]
    with run.lab() as lab:
        lab.orchestrator()
        nodes = {name: lab.node(name, capabilities=tags) for name, tags in offers.items()}
        while run.goes_on():
            large = nodes["large"]
            lab.fault("kill worker", "large", large.held())
            large.kill()
            execution = lab.submit({"name": "varied", "jobs": jobs})
            names = [f"j{number}" for number in range(24) if "gpu" not in wanted[number % 6]]
            until(lambda: _finished(lab, execution, names), 30, "what needs no gpu is done")  # noqa: B023
            large.again()
            large.ready()
            succeeded(run, lab, execution)
            run.hit()
        lab.finish()


def _finished(lab: Lab, execution: str, names: list[str]) -> bool:
    rows = lab.store.jobs(execution, names, ("status",))
    return all(row["status"] == "finished" for row in rows)


@scenario("lock_contention", row="Q7", full=10_000, short=600, bound_s=HANDED_OVER_S)
def lock_contention(run: Run) -> None:
    """Processes want one lock, and its holder is killed now and then: one holder at a time, a
    higher number for each, and what a killed one held is taken over within its TTL."""
    with run.lab() as lab:
        folder = lab.folder / "locks"
        arguments = [lab.server.url, "contended", str(LOCK_S), str(folder), str(CONTENDERS)]
        command = [sys.executable, "-m", "chaos.contender", *arguments]
        tests = str(Path(__file__).parents[2])
        contenders = lab.machines.spawn(command, "contenders", {"PYTHONPATH": tests})
        kills: list[tuple[str, float]] = []
        while run.goes_on():
            time.sleep(run.random.uniform(0.05, 0.5))
            owner = lab.client.hget(keys.lock("contended"), "owner")
            if owner is not None:
                pid = int(owner.decode()[1:].partition(".")[0])
                kills.append((owner.decode(), time.time()))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run.hit(_takings(folder) - run.count)
        contenders.terminate()
        contenders.wait(10)
        history = read(folder)
    run.note(f"{_judge_locks(run, history, kills)} holders killed")


def _takings(folder: Path) -> int:
    """How often the lock was taken so far."""
    return sum(file.read_text().count('"lock_taken"') for file in folder.glob("*"))


def _judge_locks(run: Run, history: History, kills: list[tuple[str, float]]) -> int:
    """One holder at a time, with growing numbers; how many were killed as they held it."""
    left = {record["owner"]: record["at"] for record in history if record["what"] == "lock_left"}
    taken = sorted(
        (record for record in history if record["what"] == "lock_taken"),
        key=lambda record: record["fence"],
    )
    for one, after in pairwise(taken):
        if one["fence"] == after["fence"]:
            run.violated(
                "Q7", f"{one['owner']} and {after['owner']} have the number {one['fence']}"
            )
        end = min(left.get(one["owner"], one["at"]), one["until"])
        if after["at"] < end:
            run.violated("Q7", f"{after['owner']} took the lock while {one['owner']} held it")
    killed = [at for owner, at in kills if owner not in left]
    for at in killed:
        if later := [record["at"] for record in taken if record["at"] > at]:
            run.measured(min(later) - at)
    return len(killed)
