"""What Redis tells of an execution while somebody waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from ..common.state.connection import REPLY_TIMEOUT_S
from ..common.state.states import EXECUTION_TERMINAL

#: changes that come faster are shown together, seconds
_COALESCE_S = 0.05


class Changes:
    """The changes of executions, on pub/sub connections that are kept for whoever waits next."""

    def __init__(self, client: redis.Redis):
        self._client: Any = client
        self._idle: list[Any] = []

    def close(self) -> None:
        """Gives up the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def of(self, name: str) -> Iterator[Subscription]:
        """What a channel tells from now on; whoever reads the state inside of this misses no change."""
        try:
            pubsub = self._idle.pop()
        except IndexError:
            pubsub = self._client.pubsub()
        channel = name.encode()
        sound = False
        try:
            pubsub.subscribe(channel)
            _confirmed(pubsub, channel)
            yield Subscription(pubsub, channel)
            sound = True
        except GeneratorExit:
            sound = True
            raise
        finally:
            if sound and _left(pubsub, channel):
                self._idle.append(pubsub)
            else:
                pubsub.close()


class Subscription:
    """One execution's changes, or its end: each message is the status that it has then."""

    def __init__(self, pubsub: Any, channel: bytes):
        self._pubsub, self._channel = pubsub, channel

    def change(self, timeout_s: float) -> None:
        """Returns after a change and those that follow it at once, or after `timeout_s`."""
        status = self._next(time.monotonic() + timeout_s)
        until = time.monotonic() + _COALESCE_S
        while status is not None and status not in EXECUTION_TERMINAL:
            status = self._next(until)

    def soon(self, timeout_s: float) -> bool:
        """Whether there was a change before `timeout_s` were over; takes all that were told by now."""
        found = self._next(time.monotonic() + timeout_s) is not None
        while found and self._pubsub.get_message(timeout=0):
            pass
        return found

    def end(self, timeout_s: float) -> str | None:
        """The status with which it ends; None after `timeout_s`."""
        until = time.monotonic() + timeout_s
        while (status := self._next(until)) is not None:
            if status in EXECUTION_TERMINAL:
                return status
        return None

    def _next(self, until: float) -> str | None:
        while (left := until - time.monotonic()) > 0:
            message = self._pubsub.get_message(timeout=left)
            if message and message["type"] == "message" and message["channel"] == self._channel:
                return str(message["data"].decode())
        return None


def _left(pubsub: Any, channel: bytes) -> bool:
    """Ends a subscription; False where its connection is lost: whoever listened has heard what he needs."""
    try:
        pubsub.unsubscribe(channel)
    except redis.exceptions.RedisError:
        return False
    return True


def _confirmed(pubsub: Any, channel: bytes) -> None:
    until = time.monotonic() + REPLY_TIMEOUT_S
    while (left := until - time.monotonic()) > 0:
        message = pubsub.get_message(timeout=left)
        if message and message["type"] == "subscribe" and message["channel"] == channel:
            return
    raise redis.exceptions.TimeoutError("Redis did not confirm a subscription")
