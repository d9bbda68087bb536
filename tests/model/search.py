"""Walks through every state that the interleavings reach, and looks whether all is well in it."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import Any

from .interleavings import Cluster, check_state, over
from .server import InProcess
from .world import Move, Scenario, World


@dataclass
class Report:
    """What was found. `whole`: every state was seen."""

    states: int
    transitions: int
    ends: int
    deepest: int
    seconds: float
    whole: bool

    def __str__(self) -> str:
        what = "all" if self.whole else "the first"
        return (
            f"{what} {self.states} states, {self.transitions} transitions, {self.ends} ends, "
            f"{self.deepest} deep, {self.seconds:.0f} s"
        )


@dataclass
class _Frame:
    """A state on the way from the beginning to where the search is."""

    number: int
    label: str
    world: World
    saved: Any
    moves: list[Move]


class Search:
    """Depth first: a state is saved only while it is on the way. Raises AssertionError, with the way
    to it, at a state that is wrong or from which no end can be reached."""

    def __init__(self, scenario: Scenario, server: InProcess | None = None) -> None:
        self._scenario, self._server = scenario, server or InProcess()
        self._cluster = Cluster(scenario, self._server)
        self._numbers: dict[bytes, int] = {}
        self._came_from: list[tuple[int, str]] = []
        self._edges = (array("i"), array("i"))
        self._ends: list[int] = []
        self._way: list[_Frame] = []

    def run(self, states: int = 0, seconds: float = 0) -> Report:
        """Stops early after so many states or seconds, if given."""
        began, deepest = time.monotonic(), 0
        self._arrive("begin", self._cluster.begin(), -1)
        whole = True
        while self._way:
            deepest = max(deepest, len(self._way))
            frame = self._way[-1]
            if not frame.moves:
                self._way.pop()
                continue
            if (states and len(self._numbers) >= states) or (
                seconds and time.monotonic() - began > seconds
            ):
                whole = False
                break
            self._take(frame, *frame.moves.pop())
        if whole:
            self._check_ends()
        count = len(self._numbers), len(self._edges[0]), len(self._ends)
        return Report(*count, deepest, time.monotonic() - began, whole)

    def _take(self, frame: _Frame, label: str, move: Any) -> None:
        self._server.restore(frame.saved)
        self._cluster.tick = frame.world.tick
        try:
            world = move(frame.world)
        except AssertionError as error:
            raise self._explained(error, label) from None
        self._arrive(label, world, frame.number)

    def _arrive(self, label: str, world: World, origin: int) -> None:
        key = self._cluster.key(world)
        number = self._numbers.get(key)
        new = number is None
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            self._came_from.append((origin, label))
        if origin >= 0:
            self._edges[0].append(origin)
            self._edges[1].append(number)
        if not new:
            return
        seen = self._cluster.view()
        try:
            check_state(self._scenario.shape, seen)
        except AssertionError as error:
            raise self._explained(error, label) from None
        if over(seen):
            self._ends.append(number)
        moves = list(self._cluster.moves(world, seen))
        self._way.append(_Frame(number, label, world, self._server.save(), moves))

    def _explained(self, error: AssertionError, last: str) -> AssertionError:
        way = [frame.label for frame in self._way]
        return AssertionError("\n".join([str(error), "the way there:", *way, last]))

    def _check_ends(self) -> None:
        """I7: backwards from the ends, every state is met."""
        into: list[list[int]] = [[] for _ in self._numbers]
        for origin, target in zip(*self._edges, strict=True):
            into[target].append(origin)
        good = bytearray(len(into))
        todo = list(self._ends)
        for number in todo:
            good[number] = 1
        while todo:
            for origin in into[todo.pop()]:
                if not good[origin]:
                    good[origin] = 1
                    todo.append(origin)
        stuck = good.find(0)
        if stuck >= 0:
            way = []
            while stuck >= 0:
                stuck, label = self._came_from[stuck]
                way.append(label)
            count = good.count(0)
            text = "\n".join([f"I7: no end can be reached from {count} states", *reversed(way)])
            raise AssertionError(text)
