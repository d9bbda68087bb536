"""What scripts tell the orchestrators, who wait for it without asking Redis anything."""

from __future__ import annotations

import time
from typing import Any

import redis

from ...common.state import keys

#: the word for work in a domain that nobody serves, and for something that is due soon
ANYONE, DUE = "*", ""
#: how long Redis may take to confirm that we listen, seconds
CONFIRM_S = 10.0


class Bell:
    """The words that scripts ring: domains with work, ANYONE, DUE (lib/agenda.lua).

    Every orchestrator hears every word, so that none is lost with one that dies.
    """

    def __init__(self, client: redis.Redis):
        # Any: redis-py leaves its messages, and `pubsub` itself, without types.
        self._client: Any = client
        self._ears: Any = None

    def wait(self, seconds: float) -> set[str]:
        """The words that came, at the latest after `seconds`.

        The first call (and the first after `close`) returns when it listens, with
        ANYONE and DUE: what was rung before has been missed.
        """
        if self._ears is None:
            self._listen()
            return {ANYONE, DUE}
        words: set[str] = set()
        deadline = time.monotonic() + seconds
        while True:
            left = 0.0 if words else max(0.0, deadline - time.monotonic())
            message = self._ears.get_message(timeout=left)
            if message is not None and message["type"] == "message":
                words.add(message["data"].decode())
            elif message is not None:  # connected anew: what was rung meanwhile has been missed
                words |= {ANYONE, DUE}
            elif words or time.monotonic() >= deadline:
                return words

    def close(self) -> None:
        """Stops listening; safe twice."""
        if self._ears is not None:
            self._ears.close()
        self._ears = None

    def _listen(self) -> None:
        ears = self._client.pubsub()
        try:
            ears.subscribe(keys.bell())
            if ears.get_message(timeout=CONFIRM_S) is None:
                raise redis.exceptions.TimeoutError("Redis does not confirm that we listen")
        except BaseException:
            ears.close()
            raise
        self._ears = ears
