"""Named locks with an owner, a TTL and a fencing number (mission row Q7).

`Lock` is the bare lock, which its owner renews itself; `holding` is one that renews
itself while a block of code runs.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from numbers import Real
from typing import Any
from uuid import uuid4

import redis

from ..errors import InputError, LockHeld, LockLost
from . import keys
from .store import Holder, Store

log = logging.getLogger("penstock.lock")

#: the lock of the orchestrators' leader; nobody else may take it
LEADER = "leader"
#: a holder renews its lock when this much of the TTL has passed
RENEW_SHARE = 1 / 3
#: after a lost connection, the next try comes after this, seconds
AGAIN_S = 0.2
#: a longer wait is cut into pieces of this, as `poll` takes no more than 24 days, seconds
PIECE_S = 3600.0
#: shortest and longest life of a lock that is not renewed, seconds
TTL_S = (0.05, 30 * 86400.0)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_CONNECTION = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)


def new_owner() -> str:
    """`<host>-<pid>-<random>`: says to a person who holds a lock, and is no other's."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:12]}"


class Lock:
    """A lock by name, for one owner. Its TTL frees it when the owner dies.

    `fence` grows with each change of owner: pass it along with what the lock
    protects, and let the receiver refuse lower numbers. 0 while it is not held.
    """

    def __init__(self, store: Store, name: str, owner: str | None = None, ttl_s: float = 30.0):
        """Raises InputError for a name or a TTL that cannot be used."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(f"{name!r} names no lock; use 1 to 200 of A-Z a-z 0-9 . _ -")
        if not _is_number(ttl_s) or not TTL_S[0] <= ttl_s <= TTL_S[1]:
            days = TTL_S[1] / 86400
            raise InputError(f"a lock's TTL is {TTL_S[0]:g} s to {days:g} days, not {ttl_s!r}")
        self.store, self.name, self.ttl_s = store, name, ttl_s
        self.owner = owner or new_owner()
        self.fence = 0
        #: when the TTL began at the latest, on time.monotonic
        self.since = float("-inf")

    def try_acquire(self) -> bool:
        """Takes the lock, or renews it; False while another holds it."""
        return self._ask() is None

    def acquire(self, wait_s: float = 0.0) -> int:
        """Takes the lock, waiting for at most `wait_s`; returns the fencing number.

        Waits for the holder's release or the end of its TTL, without polling. A lost
        connection is tried again. Raises LockHeld, which names lock and holder.
        """
        deadline = time.monotonic() + wait_s
        holder = self._ask_again_until(deadline)
        if holder is not None and time.monotonic() < deadline:
            holder = self._wait(holder, deadline)
        if holder is not None:
            raise LockHeld(
                f"lock {self.name} is held by {holder.owner}; waited {wait_s:g} s for it, "
                f"it ends in {holder.left_s:.1f} s unless it is renewed",
                lock=self.name,
                holder=holder.owner,
            )
        return self.fence

    def renew(self) -> bool:
        """Begins another TTL; False when the lock was lost. Never takes it."""
        began = time.monotonic()
        if self.store.lock_renew(self.name, self.owner, self.ttl_s) != "OK":
            self.fence = 0
            return False
        self.since = began
        return True

    def release(self) -> None:
        """Gives it back; nothing happens when it is not ours any more."""
        self.fence = 0
        self.store.lock_release(self.name, self.owner)

    def _ask(self) -> Holder | None:
        """One try; None when the lock is ours."""
        began = time.monotonic()
        answer = self.store.lock_acquire(self.name, self.owner, self.ttl_s)
        if isinstance(answer, Holder):
            return answer
        self.fence, self.since = answer, began
        return None

    def _ask_again_until(self, deadline: float) -> Holder | None:
        while True:
            try:
                return self._ask()
            except _CONNECTION:
                if time.monotonic() + AGAIN_S >= deadline:
                    raise
                time.sleep(AGAIN_S)

    def _wait(self, holder: Holder | None, deadline: float) -> Holder | None:
        while holder is not None and time.monotonic() < deadline:
            client: Any = self.store.client  # redis-py leaves `pubsub` without a type
            try:
                with client.pubsub() as releases:
                    holder = self._listen(releases, deadline)
            except _CONNECTION:
                if time.monotonic() + AGAIN_S >= deadline:
                    raise
                time.sleep(AGAIN_S)
        return holder

    def _listen(self, releases: Any, deadline: float) -> Holder | None:
        """Asks at each release and whenever the holder's TTL might have ended."""
        releases.subscribe(keys.lock_channel(self.name))
        releases.get_message(timeout=min(PIECE_S, max(0.0, deadline - time.monotonic())))
        while (holder := self._ask()) is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            # A TTL of ms ends within the ms after it.
            releases.get_message(timeout=min(PIECE_S, left_s, holder.left_s + 0.002))
        return holder


class Held:
    """A lock while it is held. A thread renews it at a third of its TTL."""

    def __init__(self, lock: Lock):
        self.name, self.owner, self.fence = lock.name, lock.owner, lock.fence
        self._lock = lock
        self._lost = False
        self._ending = threading.Event()
        self._thread = threading.Thread(
            target=self._keep, name=f"penstock-lock-{lock.name}", daemon=True
        )
        self._thread.start()

    @property
    def lost(self) -> bool:
        """True for good once a renewal found the lock lost, or none succeeded for a TTL."""
        if time.monotonic() - self._lock.since >= self._lock.ttl_s:
            self._lost = True
        return self._lost

    def check(self) -> None:
        """Raises LockLost when the lock is lost: another may hold it."""
        if self.lost:
            raise LockLost(
                f"lock {self.name} was lost: it was not renewed for {self._lock.ttl_s:g} s, "
                "so that another may hold it; end what it protects, and acquire it again",
                lock=self.name,
                fence=self.fence,
            )

    def end(self) -> None:
        """Ends the renewals. The lock is as it was."""
        self._ending.set()
        self._thread.join()

    def _keep(self) -> None:
        pause_s = self._lock.ttl_s * RENEW_SHARE
        while not self._ending.wait(pause_s):
            try:
                kept = not self.lost and self._lock.renew()
                pause_s = self._lock.ttl_s * RENEW_SHARE
            except redis.exceptions.RedisError as error:
                log.warning("event=lock_not_renewed lock=%s error=%r", self.name, str(error))
                kept, pause_s = True, min(AGAIN_S, pause_s)
            if not kept:
                self._lost = True
                log.warning("event=lock_lost lock=%s fence=%d", self.name, self.fence)
                return


def holding(lock: Lock, wait_s: float) -> AbstractContextManager[Held]:
    """Holds a lock for a block, renewed all the while; raises as Lock.acquire.

    Raises InputError at once for a wait that is no time.
    """
    if not _is_number(wait_s) or not wait_s >= 0:
        raise InputError(
            f"wait_s is how long to wait for a lock, in seconds from 0, not {wait_s!r}"
        )
    return _holding(lock, wait_s)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@contextmanager
def _holding(lock: Lock, wait_s: float) -> Iterator[Held]:
    lock.acquire(wait_s)
    held = Held(lock)
    try:
        yield held
    finally:
        held.end()
        try:
            lock.release()
        except redis.exceptions.RedisError as error:
            log.warning("event=lock_left_to_expire lock=%s error=%r", lock.name, str(error))
