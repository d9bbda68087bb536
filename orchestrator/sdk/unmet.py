"""Tells a program that its jobs wait for what no live node has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...common.spec.spelling import RESOURCES, TEMPLATE
from ...common.state.store import Store

log = logging.getLogger("penstock.client")


class Unmet:
    """What the jobs of an execution ask for, and of each sort the newest, which wait the longest."""

    def __init__(self, store: Store, execution: str):
        self._store, self._execution = store, execution
        self._newest: dict[str, tuple[str, ...]] = {}
        self._told: set[str] = set()

    def submitted(self, asks: str, *names: str) -> None:
        """Jobs were submitted; `asks` is of `asks_for`."""
        if asks and asks not in self._told:
            self._newest[asks] = names

    def look(self) -> None:
        """Says of each sort that waits, once: it may wait for long, and nothing else tells."""
        asked = [(asks, name) for asks, names in list(self._newest.items()) for name in names]
        rows = self._store.jobs(self._execution, [name for _, name in asked], ("unmet",))
        for (asks, _), row in zip(asked, rows, strict=True):
            if row["unmet"] and asks not in self._told:
                self._told.add(asks)
                self._newest.pop(asks, None)
                log.warning(
                    "%s, which no live node offers: such jobs wait until one comes "
                    "(`penstock worker ls` shows the nodes)", asks
                )  # fmt: skip


def asks_for(name: str, options: Mapping[str, Any]) -> str:
    """What the jobs of a task ask of a node, as its options say it; '' where they ask for nothing."""
    wanted = [
        f"{option}={value!r}"
        for option, value in options.items()
        if option in RESOURCES.known() or TEMPLATE.name_of(option) == "capabilities"
    ]
    return f"{name}() asks for {', '.join(wanted)}" if wanted else ""
