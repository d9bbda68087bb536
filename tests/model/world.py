"""What the processes of a tiny cluster know, as values that can be compared and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.common.jobs import Token

from .shapes import Shape


@dataclass(frozen=True)
class Budget:
    """What may still go wrong. `slow`: leases of items that end while their holder still works; `met`: jobs that
    give what their fan-out looks for."""

    deaths: int = 0
    slow: int = 1
    silences: int = 0
    failures: int = 0
    lost: int = 0
    copies: int = 0
    cancels: int = 0
    pauses: int = 0
    retries: int = 0
    met: int = 0


@dataclass(frozen=True)
class Ask:
    """An advance: which life's, which turn's, and what it settles."""

    life: int
    turn: int
    settled: tuple[Token, str] | None = None


@dataclass(frozen=True)
class Daemon:
    """What a daemon knows. `asked`: not answered yet; `late`: a copy is on its way."""

    life: int = 0
    turn: int = 0
    answered: int = 0
    held: Token | None = None
    asked: Ask | None = None
    late: Ask | None = None
    state: str = "up"  # up, unknown (it must join again), dead


@dataclass(frozen=True)
class Orchestrator:
    """The item that it works on, its mark, and where it is."""

    item: str = ""
    mark: str = ""
    at: tuple[Any, ...] = ()


@dataclass(frozen=True)
class World:
    """What the processes know, and what may still go wrong. `tick` tells the time."""

    daemons: tuple[Daemon, ...]
    orchestrators: tuple[Orchestrator, ...]
    budget: Budget
    tick: int = 0

    def daemon(self, index: int, **new: Any) -> World:
        changed = list(self.daemons)
        changed[index] = replace(changed[index], **new)
        return replace(self, daemons=tuple(changed))

    def orchestrator(self, index: int, new: Orchestrator) -> World:
        changed = list(self.orchestrators)
        changed[index] = new
        return replace(self, orchestrators=tuple(changed))

    def spend(self, what: str) -> World:
        return replace(self, budget=replace(self.budget, **{what: getattr(self.budget, what) - 1}))


Move = tuple[str, Callable[[World], World]]


@dataclass
class Scenario:
    """A workflow, the processes, and what may go wrong."""

    shape: Shape
    budget: Budget = field(default_factory=Budget)
    nodes: int = 2
    orchestrators: int = 1
    policy: str = "continue"
    chunk: int = 100
    step_limit: int = 0
    breaks: dict[str, str] = field(default_factory=dict)
