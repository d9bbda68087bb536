"""The lanes of a node: which of them runs what, and what becomes of work that must move."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .batches import Key, RunTimes, riders_wanted
from .devices import Devices
from .held import Held, Verdict
from .isolation import children, reap
from .lane import Lane
from .loop import Loop, Timer

log = logging.getLogger("penstock.worker")

#: How often busy lanes are looked at: with unstarted jobs in a slot, and without. Seconds.
TICK_S = (0.010, 0.050)
#: Idle lanes are started one after another at first, so far apart. Seconds.
WARM_S = 0.02
#: Where slots cannot be started, it is tried again after so long: first, and at most. Seconds.
RESTART_S = (0.5, 30.0)


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a node offers. `totals` are resources by name; `gpus` the devices' names."""

    concurrency: int
    totals: Mapping[str, float]
    gpus: tuple[str, ...]
    environment: Mapping[str, str]
    result_limit: int
    log_limit: int


class Pool:
    """All lanes of the node. A lane has work, or is idle with a warm process."""

    def __init__(self, loop: Loop, plan: Plan, sink: Sink) -> None:
        self.times = RunTimes()
        self.lanes: list[Lane] = []
        self.draining = False
        self._loop = loop
        self._plan = plan
        self._sink = sink
        self._devices = Devices(plan.gpus)
        self._backlog: dict[Key, deque[Held]] = {}
        self._share = min(1.0, plan.totals.get("cpus", 1.0) / plan.concurrency)
        self._tick_timer: Timer | None = None
        self._tick_s = 0.0
        self._broken_till = 0.0
        self._failures = 0

    # -- what there is room for

    def room(self) -> int:
        """Lanes that could be given work now."""
        if self.draining or time.monotonic() < self._broken_till:
            return 0
        working = sum(
            (lane.busy or lane.ending) and not (lane.waiting or lane.retired) for lane in self.lanes
        )
        return max(0, self._plan.concurrency - working)

    def free(self) -> dict[str, float]:
        """Resources that nothing here takes, by name."""
        left = {**self._plan.totals, "slots": float(self._plan.concurrency)}
        for lane in self.lanes:
            for name, amount in lane.charge.items():
                if not (lane.waiting and name in ("cpus", "slots")):
                    left[name] = left.get(name, 0.0) - amount
        return {name: max(0.0, amount) for name, amount in left.items()}

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

    def running(self) -> Iterable[tuple[Lane, Held]]:
        """The running attempts with their lanes."""
        for lane in list(self.lanes):
            running = lane.running()
            if running is not None:
                yield lane, running[0]

    # -- work comes, and is taken away

    def take(self, claimed: Iterable[Held]) -> None:
        """Takes on what was claimed."""
        riders = []
        for held in claimed:
            if held.claimed.rider:
                riders.append(held)
            else:
                self._place(held)
        for held in riders:
            if self._serves(held.key):
                self._backlog.setdefault(held.key, deque()).append(held)
            else:
                self._place(held)
        for key in {held.key for held in riders}:
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

    def stop(self, held: Held, verdict: Verdict | None) -> None:
        """Ends an attempt, running or not, with that verdict."""
        if self.withdraw(held):
            self._sink.settled(held, verdict)
            return
        for lane, running in self.running():
            if running is held:
                lane.doom(held, verdict)

    def drain(self) -> None:
        """Hands back all that has not begun; takes nothing on any more."""
        self.draining = True
        backlog, self._backlog = self._backlog, {}
        for held in itertools.chain(*backlog.values()):
            self._sink.hand_back(held)
        for lane in list(self.lanes):
            todo, lane.todo = lane.todo, deque()
            self.displaced([*lane.revoke(), *todo])
            self.moved(lane)

    def abandon(self) -> None:
        """Ends every process, and forgets every attempt without a word to anyone."""
        backlog, self._backlog = self._backlog, {}
        for held in itertools.chain(*backlog.values()):
            self._sink.settled(held, None)
        for lane in list(self.lanes):
            waiting = [*lane.revoke(), *lane.todo]
            lane.todo.clear()
            for held in waiting:
                self._sink.settled(held, None)
            running = lane.running()
            if running is not None:
                lane.doom(running[0], None)
            else:
                lane.end()

    # -- lanes

    def warm(self) -> None:
        """Starts the idle lanes, one after another."""
        if len(self.lanes) < self._plan.concurrency and not self.draining:
            lane = self._new_lane()
            self._start(lane)
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
        for held in reversed(displaced):
            if self._serves(held.key) and not self.draining:
                self._backlog.setdefault(held.key, deque()).appendleft(held)
            else:
                self._place(held)
        for key in [key for key in self._backlog if not self._serves(key)]:
            for held in self._backlog.pop(key):
                self._place(held)
        for key in {held.key for held in displaced}:
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
        slots = {lane.process.pid for lane in self.lanes if lane.process is not None}
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
        self._release(lane)
        self._retire(lane)
        self._sink.room()

    def _release(self, lane: Lane) -> None:
        """What an idle lane took of the node is free again."""
        self._devices.give_back(lane.devices)
        lane.devices = ()
        lane.charge = {}

    def _retire(self, lane: Lane) -> None:
        """Ends an idle lane that was only there while another one waited."""
        waiting = sum(other.waiting for other in self.lanes)
        if len(self.lanes) - waiting > self._plan.concurrency:
            lane.retired = True
        if lane.retired and lane.process is not None:
            lane.end()
        elif lane.retired and lane in self.lanes:
            self.lanes.remove(lane)

    def _serves(self, key: Key) -> bool:
        return any(lane.key == key and lane.brisk and lane.busy for lane in self.lanes)

    def _place(self, held: Held) -> None:
        """Gives an attempt a lane of its own, or hands it back."""
        charge = self._charge(held)
        free = self.free()
        fits = all(amount <= free.get(name, 0.0) + 1e-9 for name, amount in charge.items())
        lane = self._idle_lane(held) if fits and self.room() > 0 else None
        devices = self._devices.take(held.gpus) if lane is not None else None
        if lane is None or devices is None:
            self._sink.hand_back(held)
            return
        lane.todo.append(held)
        lane.key, lane.charge, lane.devices = held.key, charge, devices
        self._feed(lane)

    def _charge(self, held: Held) -> dict[str, float]:
        return {"cpus": self._share, **held.claimed.needs, "slots": 1.0}

    def _idle_lane(self, held: Held) -> Lane:
        """The idle lane that suits best: its code loaded, then none loaded, then any."""
        idle = [lane for lane in self.lanes if not lane.busy and lane.brisk]
        if held.gpus:
            return next((lane for lane in idle if lane.process is None), None) or (
                idle[0] if idle else self._new_lane()
            )
        loaded = {lane: lane.process.binding for lane in idle if lane.process is not None}
        for wanted in (held.binding, None):
            for lane, binding in loaded.items():
                if binding == wanted:
                    return lane
        if len(self.lanes) < self._plan.concurrency or not idle:
            return self._new_lane()
        return idle[0]

    def _new_lane(self) -> Lane:
        lane = Lane(self._loop, self, (self._plan.result_limit, self._plan.log_limit))
        self.lanes.append(lane)
        return lane

    def _start(self, lane: Lane) -> bool:
        environment = dict(self._plan.environment)
        if self._plan.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(lane.devices)
        try:
            lane.start(environment)
        except OSError as error:
            self.start_failed(str(error))
            return False
        return True

    def _feed_key(self, key: Key) -> None:
        for lane in list(self.lanes):
            if lane.key == key and lane.busy:
                self._feed(lane)

    def _feed(self, lane: Lane) -> None:
        """Gives a lane as much as it should hold, from its own work, then its function's."""
        if not lane.brisk or lane.key is None:
            return
        most = self.times.feed(lane.key)
        if len(lane.window) > most // 2:
            return
        batch: list[Held] = []
        while len(lane.window) + len(batch) < most:
            held = self._next(lane)
            if held is None:
                break
            batch.append(held)
        if not batch:
            return
        if not self._has_process_for(lane, batch[0]):
            lane.todo.extendleft(reversed(batch))
            if lane.process is None:  # none can be started
                todo, lane.todo = lane.todo, deque()
                self._release(lane)
                self.displaced(list(todo))
            return
        lane.send(batch)
        self._tick_in(TICK_S[0] if len(lane.window) > 1 else TICK_S[1])

    def _next(self, lane: Lane) -> Held | None:
        assert lane.key is not None
        source = lane.todo or (None if lane.devices else self._backlog.get(lane.key))
        if not source or source[0].config is None:
            return None
        held = source.popleft()
        self._forget_empty(held.key)
        return held

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
        for lane in list(self.lanes):
            if lane.window:
                lane.tick()
                self.moved(lane)
        if any(len(lane.window) > 1 for lane in self.lanes):
            self._tick_in(TICK_S[0])
        elif any(lane.window for lane in self.lanes):
            self._tick_in(TICK_S[1])
