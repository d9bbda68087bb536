"""Tells a program that its jobs wait for what no live node has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...common.spec.spelling import RESOURCES, TEMPLATE
from ...common.state.store import Store

log = logging.getLogger("penstock.client")


class Unmet:
    """The sorts of jobs that a session has submitted, by the sign under which such ones wait."""

    def __init__(self, store: Store):
        self._store = store
        self._asked: dict[str, str] = {}

    def add(self, name: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Jobs of the task `name` are submitted, with these settings, which come of its options."""
        class_, _, _ = str(settings["origin"]).rpartition(".")
        wanted = [
            f"{option}={value!r}"
            for option, value in options.items()
            if option in RESOURCES.known() or TEMPLATE.name_of(option) == "capabilities"
        ]
        text = f"{name}() asks for {', '.join(wanted)}"
        self._asked.setdefault(f"{class_}|{settings.get('needs', '')}", text)

    def look(self) -> None:
        """Says of each sort that waits, once: it may wait for long, and nothing else tells."""
        for signature in self._store.unmet() if self._asked else ():
            if text := self._asked.pop(signature, ""):
                log.warning(
                    "%s, which no live node offers: such jobs wait until one comes "
                    "(`penstock worker ls` shows the nodes)", text
                )  # fmt: skip
