"""Keeps the nodes of a lab busy while faults happen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from support.processes import until

from .lab import Lab
from .node import Node


class Load:
    """Submits one of its workflows, in turn, whenever fewer than `ahead` are open."""

    def __init__(self, lab: Lab, *workflows: Mapping[str, Any], ahead: int = 3) -> None:
        self.lab = lab
        self.ahead = ahead
        self.submitted = 0
        self._prepared = [lab.prepare(workflow) for workflow in workflows]
        self._turn = count()
        self.open: list[str] = []

    def keep_up(self) -> None:
        """Submits what is missing."""
        self.open = self.lab.open_executions(self.open)
        while len(self.open) < self.ahead:
            prepared = self._prepared[next(self._turn) % len(self._prepared)]
            self.open.append(self.lab.submit(prepared))
            self.submitted += len(prepared.jobs)

    def await_work(self, node: Node) -> None:
        """Waits until the node holds something, with work for all."""

        def has_work() -> bool:
            self.keep_up()
            return bool(node.held())

        until(has_work, 30.0, f"{node.name} has work")
