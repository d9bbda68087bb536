"""An orchestrator process: plays its roles until it is told to stop.

It waits for the bell that scripts ring when they put work before orchestrators, or
for a lease to end; else it looks every two seconds. No error of Redis ends it.
"""

from __future__ import annotations

import gc
import logging
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from uuid import uuid4

import redis

from ...common.artifacts import artifacts
from ...common.settings import Settings
from ...common.state.connection import connect
from ...common.state.scripts import Limits
from ...common.state.store import Store
from .bell import ANYONE, DUE, Bell
from .roles import Agenda, Leader, Role, Upkeep
from .work import Engine

log = logging.getLogger("penstock.orchestrator")

#: one who came too late for the last two rings heeds the next after this, seconds: so
#: work that comes in thick keeps one orchestrator busy, and does not make all of them ask
TOO_LATE_S = 0.05


class _Stop(Exception):
    """Told to stop while waiting on the bell."""


class Orchestrator:
    """Roles and the loop that plays them. Stateless: any number may run, and any may die."""

    def __init__(self, client: redis.Redis, settings: Settings):
        self.name = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        store = Store(client, Limits.of(settings))
        files = artifacts(settings)
        forget = files.forget if files else lambda execution: None
        self.leader = Leader(store, self.name, settings.lock_ttl_s, forget=forget)
        inline = int(settings.inline_limit_bytes)
        engine = Engine(store, settings.fanout_window, self.name, lambda: files, inline)
        self._agenda, self._upkeep = Agenda(store, engine, settings.domains), Upkeep(store)
        self.roles: list[Role] = [self._agenda, self._upkeep, self.leader]
        self._due: dict[Role, float] = dict.fromkeys(self.roles, 0.0)
        self._bell = Bell(client)
        #: words that call us to the agenda; all of them when we serve all domains
        self._heeded = {*settings.domains, ANYONE} if settings.domains else set()
        self._called, self._vain = False, 0
        self._stopping = False
        self._waiting = False

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ends the loop after what is under way. Safe twice, and before the start."""
        self._stopping = True
        if self._waiting:
            raise _Stop

    def run(self) -> None:
        """Plays the roles until `stop`; a lost Redis is waited for."""
        pause_s = 0.1
        while not self._stopping:
            try:
                wait_s = self._play()
                pause_s = 0.1
                self._wait(self._listen, wait_s)
            except redis.exceptions.RedisError as error:
                log.warning("event=redis_lost error=%r retry_s=%.1f", str(error), pause_s)
                self._bell.close()
                self._wait(time.sleep, pause_s)
                pause_s = min(2 * pause_s, 2.0)
        self._bell.close()
        try:
            self.leader.stop()
        except redis.exceptions.RedisError:
            log.info("event=lead_left_to_expire")

    def _play(self) -> float:
        """Ticks the roles whose time has come; seconds until the next one's."""
        for role in self.roles:
            if time.monotonic() >= self._due[role]:
                self._due[role] = time.monotonic() + role.tick()
                if role is self._agenda and self._called:
                    self._vain = 0 if self._agenda.found else self._vain + 1
                    self._called = False
        return max(0.0, min(self._due.values()) - time.monotonic())

    def _listen(self, seconds: float) -> None:
        words = self._bell.wait(seconds)
        if DUE in words:
            self._due[self._upkeep] = 0.0
        if words & self._heeded if self._heeded else words - {DUE}:
            self._called = True
            pause_s = TOO_LATE_S if self._vain >= 2 else 0.0
            soon = time.monotonic() + pause_s
            self._due[self._agenda] = min(self._due[self._agenda], soon)

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
    domains = ",".join(settings.domains) or "all"
    log.info("event=orchestrator_started name=%s domains=%s", orchestrator.name, domains)
    gc.freeze()  # what is imported stays: a collection that looks at it all takes 13 ms
    orchestrator.run()
