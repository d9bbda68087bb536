"""The lanes that a node has: what is free of it, and which lane suits which job."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..common.jobs import NOTHING, Coming, Work
from .devices import Devices
from .held import Held
from .lane import Lane, Owner
from .loop import Loop

#: How often it is looked whether a process that could not be killed has gone, in seconds.
HAUNTED_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a node offers. `totals` are resources by name; `gpus` the devices' names.

    `environment` is the slots', `result_limit` and `log_limit` are in bytes.
    """

    concurrency: int
    totals: Mapping[str, float]
    gpus: tuple[str, ...]
    environment: Mapping[str, str]
    result_limit: int
    log_limit: int


class Lanes:
    """A lane has work, or is idle with a warm process. Iterating gives those of the moment."""

    def __init__(self, loop: Loop, plan: Plan) -> None:
        self._loop = loop
        self._plan = plan
        self._lanes: list[Lane] = []
        self._devices = Devices(plan.gpus)
        self._share = min(1.0, plan.totals.get("cpus", 1.0) / plan.concurrency)

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes))

    def __len__(self) -> int:
        return len(self._lanes)

    def room(self) -> int:
        """Lanes that could be given work: those that wait, or only stand in, do not count."""
        working = sum(
            (lane.busy or lane.ending) and not (lane.waiting or lane.retired)
            for lane in self._lanes
        )
        return max(0, self._plan.concurrency - working)

    def free(self, coming: Coming = NOTHING) -> dict[str, float]:
        """Resources that nothing here takes, nor what is coming will, by name."""
        left = {**self._plan.totals, "slots": float(self._plan.concurrency)}
        for work in coming.heads:
            for name, amount in self._charge(work).items():
                left[name] = left.get(name, 0.0) - amount
        for lane in self._lanes:
            for name, amount in lane.charge.items():
                if not (lane.waiting and name in ("cpus", "slots")):
                    left[name] = left.get(name, 0.0) - amount
        return {name: max(0.0, amount) for name, amount in left.items()}

    def assign(self, held: Held, owner: Owner) -> Lane | None:
        """An idle lane that now has this to do, with what it needs; None if there is no room."""
        charge, free = self._charge(held.work), self.free()
        fits = all(amount <= free.get(name, 0.0) + 1e-9 for name, amount in charge.items())
        if not fits or not self.room():
            return None
        devices = self._devices.take(held.gpus)
        if devices is None:
            return None
        lane = self._idle_for(held) or self.add(owner)
        lane.todo.append(held)
        lane.key, lane.charge, lane.devices = held.key, charge, devices
        return lane

    def _charge(self, work: Work) -> dict[str, float]:
        return {"cpus": self._share, **work.needs, "slots": 1.0}

    def _idle_for(self, held: Held) -> Lane | None:
        """The idle lane that suits best: its code loaded, then none loaded, then any."""
        idle = [lane for lane in self._lanes if not lane.busy and lane.brisk]
        loaded = {lane: lane.process.binding for lane in idle if lane.process is not None}
        if held.gpus:  # no process suits, so that one is best that has none
            return next((lane for lane in idle if lane not in loaded), idle[0] if idle else None)
        for wanted in (held.binding, None):
            for lane, binding in loaded.items():
                if binding == wanted:
                    return lane
        return idle[0] if idle and len(self._lanes) >= self._plan.concurrency else None

    def add(self, owner: Owner) -> Lane:
        """A new lane, without a process yet."""
        lane = Lane(self._loop, owner, (self._plan.result_limit, self._plan.log_limit))
        self._lanes.append(lane)
        return lane

    def start(self, lane: Lane) -> None:
        """Starts the lane's process, with the devices that it has. Raises OSError."""
        environment = {**self._plan.environment, "PENSTOCK_SLOT": uuid.uuid4().hex}
        if self._plan.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(lane.devices)
        lane.start(environment)

    def release(self, lane: Lane) -> None:
        """The lane is idle: what it took of the node is free again, and a stand-in goes.

        Devices and memory of a process that cannot be killed stay taken while it lives.
        """
        if lane.haunted:
            lane.charge = {k: v for k, v in lane.charge.items() if k not in ("cpus", "slots")}
            self._loop.call_in(HAUNTED_S, lambda: self.release(lane))
            return
        self._devices.give_back(lane.devices)
        lane.devices = ()
        lane.charge = {}
        waiting = sum(other.waiting or other.haunted for other in self._lanes)
        if len(self._lanes) - waiting > self._plan.concurrency:
            lane.retired = True
        if lane.retired and lane.process is not None:
            lane.end()
        elif lane.retired and lane in self._lanes:
            self._lanes.remove(lane)

    def slots(self) -> set[int]:
        """The pids of the slots."""
        return {lane.process.pid for lane in self._lanes if lane.process is not None}

    def running(self) -> Iterator[tuple[Lane, Held]]:
        """The running attempts with their lanes."""
        for lane in self:
            running = lane.running()
            if running is not None:
                yield lane, running[0]
