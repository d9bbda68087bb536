"""Tells Redis that a daemon died, at once or when Redis is back, and never blocks for it."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import hiredis
import redis

from ..common.state.store import Store
from .lines import CommandLine
from .loop import Loop

log = logging.getLogger("penstock.worker")


class Obituary:
    """The deaths on a node that have still to be told.

    Only connecting holds up the caller's loop, by `lines.CONNECT_S` at most.
    """

    def __init__(self, loop: Loop, client: redis.Redis, store: Store, node: str) -> None:
        self._loop = loop
        self._client = client
        self._store = store
        self._node = node
        self._dead: deque[str] = deque()
        self._line: CommandLine | None = None

    @property
    def told(self) -> bool:
        """Nothing is left to be told."""
        return not self._dead

    def tell(self, incarnation: str) -> None:
        """This incarnation has ended, and left nothing behind: its jobs move at once."""
        self._dead.append(incarnation)
        if self._line is None:
            self._line = CommandLine(self._loop, self._client)
            self._ask()
            self._line.open()

    def forget(self) -> None:
        """A later incarnation is registered, and that tells it all."""
        self._dead.clear()
        if self._line is not None:
            self._line.close()
            self._line = None

    def _ask(self) -> None:
        assert self._line is not None
        request = self._store.leave_request(self._node, self._dead[0], "daemon died")
        self._line.run(self._answered, request)

    def _answered(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            log.error("event=leave_refused reason=%r", str(reply))
        self._dead.popleft()
        if self._dead:
            self._ask()
        else:
            self.forget()
