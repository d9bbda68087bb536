"""An orchestrator process: plays its roles until it is told to stop.

It waits on a bell that scripts ring when they put work before orchestrators;
without one it looks every two seconds. No error of Redis ends it.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from uuid import uuid4

import redis

from ...common.settings import Settings
from ...common.state import keys
from ...common.state.connection import connect
from ...common.state.scripts import Limits
from ...common.state.store import Store
from .roles import Agenda, Leader, Role, Upkeep
from .work import Engine

log = logging.getLogger("penstock.orchestrator")


class _Stop(Exception):
    """Told to stop while waiting on the bell."""


class Orchestrator:
    """Roles and the loop that plays them. Stateless: any number may run, and any may die."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self.name = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._client = client
        store = Store(client, Limits.of(settings))
        self.leader = Leader(store, self.name, settings.lock_ttl_s)
        engine = Engine(store, settings.fanout_window, self.name)
        self.roles: list[Role] = [Agenda(store, engine), Upkeep(store), self.leader]
        self._stopping = False
        self._waiting = False
        self._rung = False

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ends the loop after what is under way. Safe twice, and before the start."""
        self._stopping = True
        if self._waiting:
            raise _Stop

    def run(self) -> None:
        """Plays the roles until `stop`; a lost Redis is waited for."""
        pause_s = 0.1
        due = dict.fromkeys(self.roles, 0.0)
        while not self._stopping:
            try:
                for role in self.roles:
                    if time.monotonic() >= due[role]:
                        due[role] = time.monotonic() + role.tick()
                pause_s = 0.1
                self._wait(self._await_bell, max(0.01, min(due.values()) - time.monotonic()))
                if self._rung:
                    due = dict.fromkeys(self.roles, 0.0)
            except redis.exceptions.RedisError as error:
                log.warning("event=redis_lost error=%r retry_s=%.1f", str(error), pause_s)
                self._wait(time.sleep, pause_s)
                pause_s = min(2 * pause_s, 2.0)
        try:
            self.leader.stop()
        except redis.exceptions.RedisError:
            log.info("event=lead_left_to_expire")

    def _await_bell(self, seconds: float) -> None:
        self._rung = False
        self._rung = self._client.blpop([keys.bell()], seconds) is not None

    def _wait(self, wait: Callable[[float], None], seconds: float) -> None:
        self._waiting = True
        try:
            if not self._stopping:
                wait(seconds)
        except _Stop:
            pass
        finally:
            self._waiting = False


def run_process(url: str, settings: Settings) -> None:
    """Runs an orchestrator on `url` until SIGTERM or SIGINT."""
    orchestrator = Orchestrator(connect(url, name="penstock-orchestrator"), settings)
    signal.signal(signal.SIGTERM, orchestrator.stop)
    signal.signal(signal.SIGINT, orchestrator.stop)
    log.info("event=orchestrator_started name=%s", orchestrator.name)
    orchestrator.run()
