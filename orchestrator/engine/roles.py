"""The roles of an orchestrator. Each has a `tick()` that does its work once.

Any number of orchestrators play all of them; only what must be done once is
behind the leader's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...common.code import is_bundle
from ...common.state import keys
from ...common.state.lock import LEADER, Lock
from ...common.state.store import Store
from .agenda import LOOK_S, TURN_S, Agenda

__all__ = ["Agenda", "Leader", "Role", "Upkeep"]

log = logging.getLogger("penstock.orchestrator")

#: the leader renews its lock this often (or at a third of its TTL), and trims this often, seconds
LEADER_RENEW_S = 10.0
#: for so long at a time it takes away what expired executions have outside of Redis, seconds
FORGOTTEN_S = 2.0
TRIM_S = 60.0


class Role(Protocol):
    """A part of an orchestrator's work."""

    def tick(self) -> float:
        """Does the work once; how long until it is wanted again at the latest, seconds."""


class Upkeep:
    """Reaps, promotes what is due, drains outboxes; nodes do the same with their beats."""

    def __init__(self, store: Store):
        self._store = store

    def tick(self) -> float:
        began = time.monotonic()
        while self._store.outboxes() and self._store.drain_outbox():
            if time.monotonic() - began >= TURN_S:
                return 0.0
        next_ms, now_ms = self._store.upkeep()
        if 0 <= next_ms <= now_ms:  # a job is due, and others did the upkeep just now
            next_ms, now_ms = self._store.promote_due()
        return min(LOOK_S, max(0.01, (next_ms - now_ms) / 1000)) if next_ms >= 0 else LOOK_S


class Leader:
    """What must be done once: trims indexes of what has expired."""

    def __init__(
        self,
        store: Store,
        name: str,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        forget: Callable[[str], None] = lambda execution: None,
    ):
        """`forget` takes away what an execution has outside of Redis, once it is gone."""
        self._store, self._clock, self._forget = store, clock, forget
        self.lock = Lock(store, LEADER, name, ttl_s)
        self._renew_s = min(LEADER_RENEW_S, ttl_s / 3)
        self._renewed = self._trimmed = float("-inf")

    def tick(self) -> float:
        if self._clock() - self._renewed < self._renew_s:
            return self._renew_s
        self._renewed = self._clock()
        if self._lead() and self._clock() - self._trimmed >= TRIM_S:
            self._trimmed = self._clock()
            self.trim()
        return self._renew_s

    def _lead(self) -> bool:
        """Keeps the lead, or takes it where nobody has it."""
        if self.lock.fence and self.lock.renew():
            return True
        if not self.lock.try_acquire():
            return False
        log.info("event=lead_taken name=%s fence=%d", self.lock.owner, self.lock.fence)
        return True

    def trim(self) -> None:
        """Takes out of the indexes what Redis has expired."""
        client: Any = self._store.client
        now_s = int(client.time()[0])
        for key in client.smembers(keys.queues()):
            name = key.decode().removeprefix(keys.queue(""))
            for registry in (keys.finished(name), keys.failed(name)):
                client.zremrangebyscore(registry, 0, now_s)
        _drop_gone(client, keys.executions(), keys.execution, self._forget)
        _drop_gone(client, keys.dead(), keys.job, lambda job: None)
        _keep_bundles(client)

    def stop(self) -> None:
        """Gives the lead to another at once."""
        self.lock.release()


def _drop_gone(
    client: Any, index: str, key_of: Callable[[str], str], forget: Callable[[str], None]
) -> None:
    """Removes members whose keys are gone, 500 at a time, oldest first. What could not be forgotten of one
    stays with it, and is tried again; so is the rest after FORGOTTEN_S."""
    start, until = 0, time.monotonic() + FORGOTTEN_S
    while page := client.zrange(index, start, start + 499):
        with client.pipeline(transaction=False) as pipe:
            for member in page:
                pipe.exists(key_of(member.decode()))
            gone = [member for member, there in zip(page, pipe.execute(), strict=True) if not there]
        gone = _forgotten(gone, forget, until)
        if gone:
            client.zrem(index, *gone)
        start += len(page) - len(gone)


def _forgotten(
    members: Sequence[bytes], forget: Callable[[str], None], until: float
) -> list[bytes]:
    """Those that were forgotten in time; what the first failure met the others would meet, too."""
    done = []
    for member in members:
        if time.monotonic() >= until:
            break
        try:
            forget(member.decode())
        except Exception as error:
            log.warning("event=files_left execution=%s error=%r", member.decode(), str(error))
            break
        done.append(member)
    return done


def _keep_bundles(client: Any) -> None:
    """The bundles of executions that have not ended stay for as long as if they ended now."""
    start = 0
    while page := client.zrange(keys.executions(), start, start + 499):
        ids = [member.decode() for member in page]
        with client.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.hmget(keys.execution(id_), "root", "digest", "ttl_s")
                pipe.ttl(keys.execution(id_))
            rows = pipe.execute()
        used = {
            digest.decode(): int(ttl_s)
            for (root, digest, ttl_s), left_s in zip(rows[::2], rows[1::2], strict=True)
            if root and is_bundle(root.decode()) and left_s == -1
        }
        with client.pipeline(transaction=False) as pipe:
            for digest, ttl_s in used.items():
                pipe.expire(keys.bundle(digest), ttl_s, gt=True)
            pipe.execute()
        start += len(page)
