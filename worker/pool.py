"""The lanes of a node: which of them runs what, and what becomes of work that must move."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Collection, Iterable
from typing import Protocol

from ..common.jobs import NOTHING, Coming
from .batches import Key, RunTimes, riders_wanted
from .held import Held, Verdict, key_of
from .isolation import children, reap
from .lane import Lane
from .lanes import Lanes, Plan
from .loop import Loop, Timer

log = logging.getLogger("penstock.worker")

#: How often busy lanes are looked at: with unstarted jobs in a slot, and without. Seconds.
TICK_S = (0.010, 0.050)
#: Idle lanes are started one after another at first, so far apart. Seconds.
WARM_S = 0.02
#: Where slots cannot be started, it is tried again after so long: first, and at most. Seconds.
RESTART_S = (0.05, 30.0)


class Sink(Protocol):
    """What the pool tells the node."""

    def settled(self, held: Held, verdict: Verdict | None) -> None:
        """An attempt is over here; without a verdict there is nothing to tell Redis."""

    def hand_back(self, held: Held) -> None:
        """An attempt that did not begin, and has no place here."""

    def waits(self, held: Held, waiting: bool) -> None:
        """A running job begins to wait for others, or goes on."""

    def printed(self, held: Held, text: bytes) -> None:
        """Output of a running job."""

    def room(self) -> None:
        """A lane became free."""


class Pool:
    """All lanes of the node. A lane has work, or is idle with a warm process."""

    def __init__(self, loop: Loop, plan: Plan, sink: Sink) -> None:
        self.times = RunTimes()
        self.lanes = Lanes(loop, plan)
        self.draining = False
        self._loop = loop
        self._concurrency = plan.concurrency
        self._sink = sink
        self._backlog: dict[Key, deque[Held]] = {}
        self._tick_timer: Timer | None = None
        self._tick_s = 0.0
        self._broken_till = 0.0
        self._failures = 0

    # -- what there is room for

    def room(self, coming: Coming = NOTHING) -> int:
        """Lanes that could be given work now, when these have been taken on."""
        if not self._takes_work():
            return 0
        heads = {key_of(work) for work in coming.heads}
        riders = {key_of(work) for work in coming.riders} - heads
        homeless = sum(not self._serves(key) for key in riders)
        return max(0, self.lanes.room() - len(coming.heads) - homeless)

    def _takes_work(self) -> bool:
        """Neither told to end, nor short of slots that start."""
        return not self.draining and time.monotonic() >= self._broken_till

    def riders(self, coming: int) -> dict[str, int]:
        """Jobs to claim ahead, by function, when `coming` more are on their way."""
        lanes: dict[Key, int] = {}
        here: dict[Key, int] = {key: len(waiting) for key, waiting in self._backlog.items()}
        for lane in self.lanes:
            if lane.key is not None and lane.brisk and not lane.devices:
                lanes[lane.key] = lanes.get(lane.key, 0) + 1
                here[lane.key] = here.get(lane.key, 0) + len(lane.window)
        return riders_wanted(self.times, lanes, here, coming)

    @property
    def busy(self) -> int:
        """How many lanes have work."""
        return sum(lane.busy for lane in self.lanes)

    @property
    def quiet(self) -> bool:
        """Nothing runs, waits or is being ended."""
        return not self._backlog and not any(lane.busy or lane.ending for lane in self.lanes)

    @property
    def living(self) -> bool:
        """A slot, or something of one, is yet there."""
        return any(lane.process is not None for lane in self.lanes)

    # -- work comes, and is taken away

    def take(self, claimed: Iterable[Held]) -> None:
        """Takes on what was claimed."""
        riders: dict[Key, deque[Held]] = {}
        for held in claimed:
            if not held.claimed.rider:
                self._place(held)
            elif held.key in riders:
                riders[held.key].append(held)
            else:
                riders[held.key] = deque([held])
        for key, waiting in riders.items():
            while waiting and not self._serves(key):
                self._place(waiting.popleft())
            if waiting:
                self._backlog.setdefault(key, deque()).extend(waiting)
        for key in riders:
            self._feed_key(key)

    def ready(self, held: Held) -> None:
        """Its configuration is complete."""
        self._feed_key(held.key)

    def withdraw(self, held: Held) -> bool:
        """Takes an attempt away that has not begun; False if it runs, or is not here."""
        waiting = self._backlog.get(held.key)
        if waiting is not None and held in waiting:
            waiting.remove(held)
            self._forget_empty(held.key)
            return True
        for lane in self.lanes:
            if lane.has(held):
                withdrawn = lane.withdraw(held)
                self.moved(lane)
                return withdrawn
        return False

    def stop(self, doomed: Collection[Held], verdict: Verdict | None) -> None:
        """Ends attempts, running or not, with that verdict."""
        for held in self._take_back(doomed):
            self._sink.settled(held, verdict)
        for lane in self.lanes:
            for held in lane.unsettled():
                if held in doomed:
                    lane.doom(held, verdict)

    def hand_back(self, unwanted: Collection[Held]) -> None:
        """Hands back those that have not begun; the others go on."""
        for held in self._take_back(unwanted):
            self._sink.hand_back(held)

    def _take_back(self, wanted: Collection[Held]) -> list[Held]:
        """Takes attempts away that have not begun, all at once, before any other moves up."""
        taken: list[Held] = []
        displaced: list[tuple[Lane, list[Held]]] = []
        for waiting in self._backlog.values():
            taken += (held for held in waiting if held in wanted)
        for lane in self.lanes:
            taken += (held for held in lane.todo if held in wanted)
            lane.todo = deque(held for held in lane.todo if held not in wanted)
            if any(held in wanted for held in lane.window.values()):
                revoked = lane.revoke()
                taken += (held for held in revoked if held in wanted)
                displaced.append((lane, [held for held in revoked if held not in wanted]))
        for key, waiting in list(self._backlog.items()):
            self._backlog[key] = deque(held for held in waiting if held not in wanted)
            self._forget_empty(key)
        for lane, others in displaced:
            self.displaced(others)
            self.moved(lane)
        return taken

    def drain(self) -> None:
        """Hands back all that has not begun; takes nothing on any more."""
        self.draining = True
        backlog, self._backlog = self._backlog, {}
        for held in itertools.chain(*backlog.values()):
            self._sink.hand_back(held)
        for lane in self.lanes:
            todo, lane.todo = lane.todo, deque()
            self.displaced([*lane.revoke(), *todo])
            self.moved(lane)

    def abandon(self) -> None:
        """Ends every process, and forgets every attempt without a word to anyone."""
        backlog, self._backlog = self._backlog, {}
        for held in itertools.chain(*backlog.values()):
            self._sink.settled(held, None)
        for lane in self.lanes:
            waiting = [*lane.revoke(), *lane.todo]
            lane.todo.clear()
            for held in waiting:
                self._sink.settled(held, None)
            running = lane.running()
            if running is not None:
                lane.doom(running[0], None)
            else:
                lane.end()
            self.moved(lane)

    # -- lanes

    def warm(self) -> None:
        """Starts the idle lanes, one after another."""
        if len(self.lanes) < self._concurrency and not self.draining:
            self._start(self.lanes.add(self))
            self._loop.call_in(WARM_S, self.warm)

    def settled(self, held: Held, verdict: Verdict | None) -> None:
        """From a lane: see `Sink.settled`."""
        self._failures = 0
        self._sink.settled(held, verdict)

    def waits(self, held: Held, waiting: bool) -> None:
        """From a lane: see `Sink.waits`."""
        self._sink.waits(held, waiting)
        self._sink.room()

    def printed(self, held: Held, text: bytes) -> None:
        """From a lane: see `Sink.printed`."""
        self._sink.printed(held, text)

    def displaced(self, displaced: list[Held]) -> None:
        """From a lane: these go to another lane, or back to their queues."""
        stay = []
        for held in displaced:
            if held.stale:
                self._sink.settled(held, None)
            elif self._serves(held.key) and not self.draining:
                stay.append(held)
            else:
                self._place(held)
        for held in reversed(stay):
            self._backlog.setdefault(held.key, deque()).appendleft(held)
        for key in [key for key in self._backlog if not self._serves(key)]:
            for held in self._backlog.pop(key):
                self._place(held)
        for key in {held.key for held in stay}:
            self._feed_key(key)

    def start_failed(self, why: str) -> None:
        """From a lane: its slot did not come up. Nothing is started for a while."""
        delay = min(RESTART_S[1], RESTART_S[0] * 2**self._failures)
        self._failures += 1
        self._broken_till = time.monotonic() + delay
        log.error("event=slot_failed retry_s=%.1f reason=%r", delay, why)
        self._loop.call_in(delay + 0.01, self._sink.room)

    def orphans(self) -> Collection[int]:
        """From a lane: children of this process that are no slot of ours."""
        slots = self.reap()
        return [pid for pid in children(os.getpid()) if pid not in slots]

    def reap(self) -> set[int]:
        """Collects ended processes that were no slots; the pids of the slots."""
        slots = self.lanes.slots()
        reap(slots)
        return slots

    def moved(self, lane: Lane) -> None:
        """From a lane: it may take more, or is idle now."""
        if not lane.ending and not lane.waiting:
            self._feed(lane)
        if lane.busy or lane.ending:
            return
        if lane.devices and lane.process is not None:
            lane.end()  # a process that used a GPU serves one job only
            return
        self.lanes.release(lane)
        self._serve_backlog()
        self._sink.room()

    def _serve_backlog(self) -> None:
        """Gives a lane to what the last lane of its function left behind: its results are on their way."""
        for key in list(self._backlog):
            while key in self._backlog and not self._serves(key):
                held = self._backlog[key].popleft()
                self._forget_empty(key)
                self._place(held)

    def _serves(self, key: Key) -> bool:
        serving = (lane for lane in self.lanes if lane.brisk and lane.busy and not lane.devices)
        return any(lane.key == key for lane in serving)

    def _place(self, held: Held) -> None:
        """Gives an attempt a lane of its own, or hands it back."""
        lane = self.lanes.assign(held, self) if self._takes_work() else None
        if lane is None:
            self._sink.hand_back(held)
        else:
            self._feed(lane)

    def _start(self, lane: Lane) -> bool:
        try:
            self.lanes.start(lane)
        except OSError as error:
            self.start_failed(str(error))
            return False
        return True

    def _feed_key(self, key: Key) -> None:
        for lane in self.lanes:
            if lane.key == key and lane.busy:
                self._feed(lane)

    def _feed(self, lane: Lane) -> None:
        """Gives a lane as much as it should hold, from its own work, then its function's."""
        if not lane.brisk or lane.key is None:
            return
        most = self.times.feed(lane.key)
        if len(lane.window) > most // 2:
            return
        batch = self._next(lane, most - len(lane.window))
        if not batch:
            return
        if not self._has_process_for(lane, batch[0]):
            lane.todo.extendleft(reversed(batch))
            if lane.process is None:  # none can be started
                todo, lane.todo = lane.todo, deque()
                self.lanes.release(lane)
                self.displaced(list(todo))
            return
        lane.send(batch)
        self._tick_in(TICK_S[0] if len(lane.window) > 1 else TICK_S[1])

    def _next(self, lane: Lane, most: int) -> list[Held]:
        """Takes up to so many of what the lane is to run next, in order."""
        batch: list[Held] = []
        sources = [lane.todo]
        if lane.key in self._backlog and not lane.devices:
            sources.append(self._backlog[lane.key])
        for source in sources:
            while source and len(batch) < most and source[0].config is not None:
                batch.append(source.popleft())
            if source:
                break
        if lane.key is not None:
            self._forget_empty(lane.key)
        return batch

    def _forget_empty(self, key: Key) -> None:
        if key in self._backlog and not self._backlog[key]:
            del self._backlog[key]

    def _has_process_for(self, lane: Lane, held: Held) -> bool:
        """Does the lane's slot suit? One that does not is replaced before it is fed."""
        process = lane.process
        if process is None:
            return self._start(lane)
        loaded = process.binding
        if process.devices == lane.devices and (
            loaded is None or (loaded == held.binding and not lane.devices)
        ):
            return True
        lane.end()
        return False

    # -- time

    def _tick_in(self, delay_s: float) -> None:
        if self._tick_timer is not None:
            if self._tick_s <= delay_s:
                return
            self._tick_timer.cancel()
        self._tick_s = delay_s
        self._tick_timer = self._loop.call_in(delay_s, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        for lane in self.lanes:
            if lane.window:
                lane.tick()
                self.moved(lane)
        if any(len(lane.window) > 1 for lane in self.lanes):
            self._tick_in(TICK_S[0])
        elif any(lane.window for lane in self.lanes):
            self._tick_in(TICK_S[1])
