"""What becomes of attempts whose lane comes to an end in an awkward moment."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from penstock.common.jobs import NOTHING, Coming, Token
from penstock.worker import frames, isolation, lane, settling, sweep
from penstock.worker.held import Held, Verdict
from penstock.worker.lanes import Plan
from penstock.worker.loop import Timer
from penstock.worker.output import OutputFile
from penstock.worker.pool import Pool
from penstock.worker.shared import SharedPage
from support.claims import claimed


class FakeLoop:
    """Keeps timers until they are run."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.watched: dict[int, Callable[[int], None]] = {}

    def watch(self, fd: int, events: int, ready: Callable[[int], None]) -> None:
        self.watched[fd] = ready

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def call_in(self, delay_s: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay_s, call))
        return self.timers[-1]

    def run_timers(self) -> None:
        due, self.timers = self.timers, []
        for timer in due:
            if timer.call is not None:
                timer.call()


class FakeSlot:
    """A slot whose words, and whose end, the test decides on."""

    def __init__(self, environment: Any, limit: int, devices: tuple[str, ...] = ()) -> None:
        self.told = self.heard = time.monotonic()
        self.devices, self.binding, self.last_seq = devices, None, 0
        self.output = OutputFile()
        self.page, fd = SharedPage.create()
        os.close(fd)
        self.page.set_up()
        self.sock, self._theirs = socket.socketpair()
        self.bell, self.exited, self.pid = os.eventfd(0), os.eventfd(0), 0
        self.unsent = self.partial = False
        self.says: list[Any] = []
        self.code: int | None = None

    def send(self, message: Any) -> None:
        """What it is told is of no matter."""

    def quiet_bell(self) -> None:
        """It rings when the test says so."""

    def receive(self) -> list[Any]:
        said, self.says = self.says, []
        return said

    def exit_code(self) -> int | None:
        return self.code

    def close(self) -> None:
        self.page.close()
        self.output.close()
        for fd in (self.bell, self.exited):
            os.close(fd)
        self.sock.close()
        self._theirs.close()


class FakeEnding:
    """The end of a slot, over when the test says so."""

    over = haunted = slot_lives = False

    def __init__(self, slot: int) -> None:
        FakeEnding.over = FakeEnding.haunted = FakeEnding.slot_lives = False

    def step(self, orphans: Any) -> bool:
        return FakeEnding.over

    def slot_gone(self) -> None:
        """Reaped."""


class Sink:
    """Notes what the pool tells: (job, outcome), None for the outcome where nothing is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str | None]] = []
        self.back: list[str] = []

    def settled(self, held: Held, verdict: Verdict | None) -> None:
        self.ends.append((held.token.job, verdict and verdict.outcome))

    def hand_back(self, held: Held) -> None:
        self.back.append(held.token.job)

    def room(self) -> None:
        """It has room again."""


class Node:
    """A pool of one lane, and what runs in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("penstock.worker.lane.SlotProcess", FakeSlot)
        monkeypatch.setattr("penstock.worker.lane.Ending", FakeEnding)
        totals = {"cpus": 1.0, "gpus": 1.0, "ram": 8.0}
        plan = Plan(1, totals, ("gpu0",), {}, 1000, 1000)
        self.loop, self.sink = FakeLoop(), Sink()
        self.pool = Pool(self.loop, plan, self.sink)  # type: ignore[arg-type]

    def take(self, *names: str, **fields: Any) -> list[Held]:
        taken = [Held.of(claimed(token=Token(name, 1, "c"), **fields)) for name in names]
        self.pool.take(taken)
        return taken

    @property
    def lane(self) -> lane.Lane:
        return next(iter(self.pool.lanes))

    @property
    def slot(self) -> FakeSlot:
        process: Any = self.lane.process
        return process

    def begin(self, held: Held) -> int:
        """The slot begins an attempt; the number of its order."""
        [seq] = [seq for seq, one in self.lane.window.items() if one is held]
        self.slot.page.begin(seq, time.monotonic_ns(), 0)
        return seq

    def die(self) -> None:
        """The slot's process ends."""
        self.slot.code = -9
        self.loop.watched[self.slot.exited](1)

    def over(self) -> None:
        """Nothing of the slot is left."""
        FakeEnding.over = True
        self.loop.run_timers()

    def stop(self, held: Held) -> None:
        self.pool.stop({held}, settling.of_failure("stopped", "Stopped", "m"))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    made = Node(monkeypatch)
    yield made
    for one in made.pool.lanes:
        if one.process is not None:
            one.process.close()


def ended(seq: int) -> frames.Ended:
    return frames.Ended(seq, True, b"1", b"", {}, 0, 1, 1000, 0, 0, False)


def test_a_stop_is_told_when_all_is_gone(node: Node) -> None:  # Q11 W7
    [a] = node.take("a")
    node.begin(a)
    node.stop(a)
    node.die()
    assert node.sink.ends == []
    node.over()
    assert node.sink.ends == [("a", "stopped")]


def test_a_job_that_ends_as_it_is_stopped_has_ended(node: Node) -> None:  # W7
    [a] = node.take("a")
    seq = node.begin(a)
    node.stop(a)
    node.slot.says = [ended(seq)]
    node.die()
    node.over()
    assert node.sink.ends == [("a", "finished")]


def test_an_order_let_be_as_its_job_is_stopped_does_not_run_elsewhere(node: Node) -> None:  # W7
    """The slot took it up, saw the fence, and said so when its end had begun."""
    [a] = node.take("a")
    seq = node.begin(a)
    node.stop(a)
    node.slot.says = [frames.Skipped(seq)]
    node.die()
    node.over()
    assert node.sink.ends == [("a", "stopped")]
    assert node.sink.back == []


def test_a_stop_outweighs_a_time_out_that_is_not_told_yet(node: Node) -> None:  # W7
    for dies_first in (False, True):
        node.sink.ends.clear()
        [a] = node.take("a", timeout_s=0.0, retries_left=3)
        node.begin(a)
        node.lane.tick()
        assert node.lane.ending
        if dies_first:
            node.die()
        node.stop(a)
        if not dies_first:
            node.die()
        node.over()
        assert node.sink.ends == [("a", "stopped")]


def test_a_job_that_followed_a_doomed_one_can_be_stopped_too(node: Node) -> None:  # W7
    [a] = node.take("a")
    first = node.begin(a)
    node.stop(a)
    node.slot.says = [ended(first)]
    b = Held.of(claimed(token=Token("b", 1, "c")))
    node.lane.window[first + 1] = b  # it was begun before the slot was held still
    node.begin(b)
    node.stop(b)
    node.die()
    node.over()
    assert sorted(node.sink.ends) == [("a", "finished"), ("b", "stopped")]


def test_a_stop_reaches_what_waits(node: Node) -> None:  # W7
    [a] = node.take("a")
    node.begin(a)
    node.pool.times.add(a.key, 0.0001)
    rider, unfilled = node.take("r", rider=True)[0], node.take("u", refs=("x",), rider=True)[0]
    for held in (rider, unfilled):
        node.stop(held)
    assert node.sink.ends == [("r", "stopped"), ("u", "stopped")]
    node.pool.ready(unfilled)
    assert list(node.lane.window.values()) == [a]


def test_riders_whose_results_come_when_nothing_runs_any_more_run_all_the_same(
    node: Node,
) -> None:  # Q6
    [a] = node.take("a")
    seq = node.begin(a)
    node.pool.times.add(a.key, 0.0001)
    riders = node.take("u", "v", refs=("x",), rider=True)
    node.slot.says = [ended(seq)]
    node.loop.watched[node.slot.bell](1)
    assert node.sink.ends == [("a", "finished")]
    assert not node.pool.quiet
    for held in reversed(riders):
        held.config = b"{}"
        node.pool.ready(held)
    assert list(node.lane.window.values()) == riders


def test_riders_that_no_lane_serves_will_take_a_lane_too(node: Node) -> None:  # Q4
    work, other = claimed().work, claimed(run="m:g").work
    comings = [NOTHING, Coming([work]), Coming([], [work])]
    assert [node.pool.room(coming) for coming in comings] == [1, 0, 0]
    node.pool.lanes._plan = replace(node.pool.lanes._plan, concurrency=3)
    assert node.pool.room(Coming([work], [work])) == 2
    node.begin(*node.take("a"))
    assert node.pool.room(Coming([], [work])) == 2
    assert node.pool.room(Coming([], [work, other])) == 1


def test_what_is_coming_is_not_offered_again(node: Node) -> None:  # Q3
    """Redis knows its leases, and the node what a process that is being ended still takes: neither knows both."""
    lanes = node.pool.lanes
    lanes._plan = replace(lanes._plan, totals={"cpus": 4.0, "ram": 8.0}, concurrency=4)
    coming = Coming([claimed(needs={"cpus": 3.0, "ram": 2.0}).work], [claimed().work])
    assert lanes.free(coming) == {"cpus": 1.0, "ram": 6.0, "slots": 3.0}


def test_a_job_that_waits_in_its_run_can_be_stopped(node: Node) -> None:  # W7
    [a] = node.take("a")
    seq = node.begin(a)
    node.sink.waits = lambda held, waiting: None  # type: ignore[attr-defined]
    node.slot.says = [frames.Waiting(seq, True)]
    node.loop.watched[node.slot.bell](1)
    assert node.lane.waiting
    node.stop(a)
    node.die()
    node.over()
    assert node.sink.ends == [("a", "stopped")]
    assert node.pool.room() == 1


def test_an_attempt_given_away_runs_nowhere(node: Node) -> None:  # Q6
    [a] = node.take("a")
    node.begin(a)
    node.lane.end()
    a.stale = True
    node.die()
    node.over()
    assert node.sink.ends == [("a", None)]


def test_a_slot_that_cannot_be_ended_gives_way(node: Node) -> None:  # Q11
    """Its devices and its memory stay taken while it lives; the lane's place does not."""
    [a] = node.take("a", needs={"gpus": 1.0, "ram": 6.0, "cpus": 1.0})
    node.begin(a)
    node.stop(a)
    FakeEnding.haunted = FakeEnding.slot_lives = True
    node.over()
    assert node.sink.ends == [("a", "stopped")]
    assert node.pool.room() == 1
    assert node.pool.lanes.free() == {"cpus": 1.0, "gpus": 0.0, "ram": 2.0, "slots": 1.0}
    [b] = node.take("b", needs={"ram": 2.0})
    assert b in next(one for one in node.pool.lanes if not one.retired).window.values()
    FakeEnding.haunted = False
    node.loop.run_timers()
    assert len(node.pool.lanes) == 1
    assert node.pool.lanes.free() == {"cpus": 0.0, "gpus": 1.0, "ram": 6.0, "slots": 0.0}


# -- endings


def test_what_cannot_be_killed_holds_up_an_ending_for_a_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # Q11
    """As a process that hangs in the kernel; the next ending does not wait for it at all."""
    hung = {4_000_001: 17}
    monkeypatch.setattr(isolation, "start_of", hung.get)
    monkeypatch.setattr(isolation, "_signal", lambda pid, sig: None)
    first = isolation.Ending(4_000_000, hopeless_s=0.2)
    first.slot_gone()
    assert not first.step(lambda: list(hung))
    while not first.step(lambda: list(hung)):
        pass
    assert first.haunted
    assert "event=processes_unkillable slot=4000000 pids=[4000001]" in caplog.text
    second = isolation.Ending(4_000_002)
    second.slot_gone()
    assert second.step(lambda: list(hung))
    assert not second.haunted
    hung[4_000_001] = 18  # the pid is another's now
    assert not first.haunted
    assert not isolation.Ending(4_000_003).step(lambda: list(hung))


def test_what_proc_hides_of_others_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:  # Q11
    """/proc mounted with hidepid=1: a process of another user is there, but not to be read."""

    def hidden(path: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", hidden)
    monkeypatch.setattr(Path, "iterdir", hidden)
    assert isolation.is_alive(1)
    assert isolation.descendants(1) == []
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "start_of", lambda pid: 17)
        mark = sweep.Mark.own()
    assert mark.is_dead


def test_a_slot_that_cannot_be_killed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:  # Q11
    monkeypatch.setattr(isolation, "start_of", lambda pid: 17 if pid == 4_000_010 else None)
    monkeypatch.setattr(isolation, "_signal", lambda pid, sig: None)
    monkeypatch.setattr(isolation, "ALONE_S", 0.1)
    ending = isolation.Ending(4_000_010, hopeless_s=0.1)
    while not ending.step(list):
        pass
    assert ending.slot_lives
    assert ending.haunted
