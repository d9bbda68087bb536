"""The roles of an orchestrator. Each has a `tick()` that does its work once.

Any number of orchestrators play all of them; only what must be done once is
behind the leader's lock.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import redis

from ...common.state import keys
from ...common.state.lock import Lock
from ...common.state.store import Store
from .work import Engine

log = logging.getLogger("penstock.orchestrator")

#: without a bell, work is looked for this often, seconds
LOOK_S = 2.0
#: an item that is not reported done comes up again after this, seconds
AGENDA_LEASE_S = 10.0
#: an item that fails so often for a reason of our own is given up
TRIES = 3
#: the leader renews its lock this often, and trims this often, seconds
LEADER_RENEW_S = 5.0
TRIM_S = 60.0


class Role(Protocol):
    """A part of an orchestrator's work."""

    def tick(self) -> float:
        """Does the work once; how long until it is wanted again at the latest, seconds."""


class Agenda:
    """Takes work off a domain's agenda until there is none."""

    def __init__(self, store: Store, engine: Engine, domain: str = "default"):
        self._store, self._engine, self._domain = store, engine, domain
        self._failures: Counter[str] = Counter()

    def tick(self) -> float:
        while self._take():
            pass
        return LOOK_S

    def _take(self) -> int:
        mark, items = self._store.take_agenda(self._domain, AGENDA_LEASE_S, 4)
        for item in items:
            self._perform(item, mark)
        return len(items)

    def _perform(self, item: str, mark: str) -> None:
        def go_on() -> None:
            nonlocal mark
            mark = self._store.renew_agenda(self._domain, item, mark, AGENDA_LEASE_S)

        go_on()
        try:
            self._engine.perform(item, go_on)
        except redis.exceptions.RedisError:
            raise
        except Exception as error:
            # It comes up again when its lease ends, here or elsewhere; the others go on.
            log.exception("event=agenda_item_failed item=%r", item)
            self._failures[item] += 1
            if self._failures[item] < TRIES:
                return
            self._engine.give_up(item, error)
        self._failures.pop(item, None)
        self._store.finish_agenda(self._domain, item, mark)


class Upkeep:
    """Reaps, promotes what is due, drains outboxes; nodes do the same with their beats."""

    def __init__(self, store: Store):
        self._store = store

    def tick(self) -> float:
        due_ms, now_ms = self._store.upkeep()
        if 0 <= due_ms <= now_ms:
            due_ms, now_ms = self._store.promote_due()
        return min(LOOK_S, max(0.01, (due_ms - now_ms) / 1000)) if due_ms >= 0 else LOOK_S


class Leader:
    """What must be done once: trims indexes of what has expired."""

    def __init__(
        self, store: Store, name: str, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ):
        self._store, self._clock = store, clock
        self.lock = Lock(store, "leader", name, ttl_s)
        self._renewed = self._trimmed = float("-inf")

    def tick(self) -> float:
        if self._clock() - self._renewed < LEADER_RENEW_S:
            return LEADER_RENEW_S
        self._renewed = self._clock()
        if self.lock.try_acquire() and self._clock() - self._trimmed >= TRIM_S:
            self._trimmed = self._clock()
            self.trim()
        return LEADER_RENEW_S

    def trim(self) -> None:
        """Takes out of the indexes what Redis has expired."""
        client: Any = self._store.client
        now_s = int(client.time()[0])
        for key in client.smembers(keys.queues()):
            name = key.decode().removeprefix(keys.queue(""))
            for registry in (keys.finished(name), keys.failed(name)):
                client.zremrangebyscore(registry, 0, now_s)
        _drop_gone(client, keys.executions(), keys.execution)
        _drop_gone(client, keys.dead(), keys.job)

    def stop(self) -> None:
        """Gives the lead to another at once."""
        self.lock.release()


def _drop_gone(client: Any, index: str, key_of: Callable[[str], str]) -> None:
    """Removes members whose keys are gone, 500 at a time, oldest first."""
    start = 0
    while page := client.zrange(index, start, start + 499):
        with client.pipeline(transaction=False) as pipe:
            for member in page:
                pipe.exists(key_of(member.decode()))
            gone = [member for member, there in zip(page, pipe.execute(), strict=True) if not there]
        if gone:
            client.zrem(index, *gone)
        start += len(page) - len(gone)
