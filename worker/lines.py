"""The daemon's connections to Redis, none of which ever blocks it once connected.

redis-py connects (addresses, TLS, passwords); from then on the socket is ours. A
line that breaks connects again by itself, with a jittered back-off, for ever.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis
import redis
from redis.connection import AbstractConnection

from ..common.state.connection import PASSING
from ..common.state.scripts import IS_THERE, NOT_FOUND, Request
from .loop import READ, WRITE, Loop, Timer

log = logging.getLogger("penstock.worker")

#: Longest that connecting may hold up the daemon, in seconds.
CONNECT_S = 1.0
#: A command without an answer for so long is sent again on a new connection.
ANSWER_S = 3.0
BACKOFF_S = (0.05, 1.0)
#: What Redis refused is sent again after so long, from and to, in seconds.
TURN_S = (0.1, 0.3)
#: How often a line looks whether the one that it waits for stands again, in seconds.
GATE_S = 0.2
#: The inbox is waited on for so long at a time, in seconds.
INBOX_S = 40

_READ = 256 * 1024
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Line:
    """One connection. `up`, `down` and `answer` are for the subclass."""

    def __init__(self, loop: Loop, client: redis.Redis, gate: Callable[[], bool]) -> None:
        self._loop = loop
        self._pool = client.connection_pool
        self._gate = gate
        self._connection: AbstractConnection | None = None
        self._sock: socket.socket | None = None
        self._fd = -1
        self._unsent = bytearray()
        self._reader = hiredis.Reader()
        self._failures = 0
        self._closed = False
        self._answer_by: float | None = None
        self._watchman: Timer | None = None
        self.last_heard = time.monotonic()

    @property
    def connected(self) -> bool:
        """A connection stands, as far as is known."""
        return self._connection is not None

    def open(self) -> None:
        """Connects, now or when it is possible."""
        if self._closed or self._connection is not None:
            return
        if not self._gate():
            self._loop.call_in(GATE_S, self.open)
            return
        options = {**self._pool.connection_kwargs, "socket_timeout": CONNECT_S, "protocol": 2}
        if "path" not in options:
            options["socket_connect_timeout"] = CONNECT_S
        connection = self._pool.connection_class(**options)
        try:
            connection.connect()
        except (redis.RedisError, OSError) as error:
            self._lost(f"cannot connect: {error}")
            return
        sock = connection._get_socket()
        assert sock is not None
        sock.setblocking(False)
        self._connection, self._sock, self._fd = connection, sock, sock.fileno()
        self._reader = hiredis.Reader()
        self._unsent.clear()
        self._loop.watch(self._fd, READ, self._ready)
        self.up()

    def renew(self) -> None:
        """Connects anew: the server was lost elsewhere, and this line may not have noticed."""
        if self._connection is not None:
            self._drop()
            self._loop.call_in(0.0, self.open)

    def close(self) -> None:
        """Ends the line for good."""
        self._closed = True
        self._drop()

    def up(self) -> None:
        """The line stands: say what has to be said on a new connection."""

    def answer(self, reply: Any) -> None:
        """A reply came; a ResponseError is given as hiredis made it."""

    def write(self, *args: Any, answer_s: float | None) -> None:
        """Sends a command; without a word for `answer_s` the line counts as broken."""
        self._unsent += hiredis.pack_command(args)
        self._expect(answer_s)
        self._flush()

    def _expect(self, answer_s: float | None) -> None:
        self._answer_by = None if answer_s is None else time.monotonic() + answer_s
        if answer_s is not None and self._watchman is None:
            self._watchman = self._loop.call_in(answer_s, self._watch_time)

    def _watch_time(self) -> None:
        """One timer at a time: most answers come long before it is due, and another one is waited for then."""
        self._watchman = None
        if self._answer_by is None:
            return
        left_s = self._answer_by - time.monotonic()
        if left_s <= 0:
            self._lost("no answer")
        else:
            self._watchman = self._loop.call_in(left_s, self._watch_time)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        # It may have been lost with what was to be sent.
        if events & READ and self._sock is not None:
            self._read()

    def _flush(self) -> None:
        if self._sock is None:
            return
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except _WOULD_BLOCK:
            pass
        except OSError as error:
            self._lost(str(error))
            return
        self._loop.watch(self._fd, READ | WRITE if self._unsent else READ, self._ready)

    def _read(self) -> None:
        assert self._sock is not None
        try:
            while True:
                data = self._sock.recv(_READ)
                if not data:
                    self._lost("the server closed the connection")
                    return
                self._reader.feed(data)
                # TLS may hold more than the selector sees: it is asked until it would block
                if len(data) < _READ and not isinstance(self._sock, ssl.SSLSocket):
                    break
        except _WOULD_BLOCK:
            pass
        except OSError as error:
            self._lost(str(error))
            return
        self._take_replies()

    def _take_replies(self) -> None:
        reader = self._reader
        while self._connection is not None and reader is self._reader:
            try:
                reply = reader.gets()
            except hiredis.ProtocolError as error:
                self._lost(f"not a Redis reply: {error}")
                return
            if reply is False:
                return
            self.last_heard = time.monotonic()
            self._failures = 0
            self._expect(None)
            self.answer(reply)

    def _lost(self, why: str) -> None:
        if self._failures == 0:
            log.warning("event=redis_lost line=%s reason=%r", type(self).__name__, why)
        self._drop()
        delay = min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** min(self._failures, 10))
        self._failures += 1
        if not self._closed:
            self._loop.call_in(delay * random.uniform(0.5, 1.0), self.open)

    def _drop(self) -> None:
        self._expect(None)
        if self._connection is not None:
            self._loop.unwatch(self._fd)
            self._connection.disconnect()  # type: ignore[no-untyped-call]
            self._connection = self._sock = None


@dataclass(slots=True)
class _Asked:
    args: tuple[Any, ...]
    done: Callable[[Any], None]
    request: Request | None = None
    again: bool = True
    loading: bool = False


class CommandLine(Line):
    """Commands and scripts, one in flight, sent again unchanged until they are answered.

    So every script must be idempotent; ours are, by claim id. What Redis refuses for a reason
    that may pass waits for its turn again: a beat may go before it, since a Redis without memory
    refuses what adds to it, but no beats, by which the others are judged.
    """

    def __init__(
        self, loop: Loop, client: redis.Redis, lost: Callable[[], object] = lambda: None
    ) -> None:
        """`lost` is called whenever the connection is lost. `sent_at` is when it was last asked."""
        super().__init__(loop, client, gate=lambda: True)
        self.sent_at = 0.0
        self._asked: _Asked | None = None
        self._refused: _Asked | None = None
        self._turn: Timer | None = None
        self._on_lost = lost

    @property
    def free(self) -> bool:
        """A command can be sent now."""
        return self.free_for_beat and self._refused is None

    @property
    def free_for_beat(self) -> bool:
        """A beat can be sent now: nothing is in flight, but Redis may have refused something."""
        return self._asked is None and self._connection is not None

    def call(self, done: Callable[[Any], None], *args: Any) -> None:
        """Sends a plain command; `done(reply)` gets a ResponseError as a value. It is dropped when Redis refuses it
        for now."""
        self._ask(_Asked(args, done, again=False))

    def run(self, done: Callable[[Any], None], request: Request, again: bool = True) -> None:
        """Runs a script; where the server does not know it, it is given the library first.

        One that is not to be made `again` is dropped when Redis refuses it for now.
        """
        self._ask(_Asked(request.call(), done, request, again))

    def _ask(self, asked: _Asked) -> None:
        assert self._asked is None
        self._asked = asked
        self._send()

    def up(self) -> None:
        self._send()
        self._send_refused()

    def _lost(self, why: str) -> None:
        had_one = self._connection is not None
        super()._lost(why)
        if had_one:
            self._on_lost()

    def answer(self, reply: Any) -> None:
        asked = self._asked
        if asked is None:
            return
        if self._loads_first(asked, reply):
            return
        if isinstance(reply, hiredis.ReplyError):
            word = str(reply).partition(" ")[0]
            # whoever set the ACL may mend it
            may_not = word == "NOPERM" and asked.request is not None
            if word in PASSING or may_not:
                log.warning("event=redis_refuses reason=%r", str(reply))
                self._asked = None
                if asked.again:
                    self._refused = asked
                    self._come_back_in(random.uniform(*TURN_S))
                return
        self._asked = None
        asked.done(reply)

    def _loads_first(self, asked: _Asked, reply: Any) -> bool:
        """Gives Redis the library that it did not know, then asks again. False: the reply is an answer."""
        request, error = asked.request, str(reply) if isinstance(reply, hiredis.ReplyError) else ""
        if request is None:
            return False
        if asked.loading and (not error or IS_THERE in error):
            asked.args, asked.loading = request.call(), False
        elif not asked.loading and NOT_FOUND in error:
            asked.args, asked.loading = request.load(), True
        else:
            return False
        self._send()
        return True

    def _send(self) -> None:
        if self._asked is not None and self._connection is not None:
            self.sent_at = time.monotonic()
            self.write(*self._asked.args, answer_s=ANSWER_S)

    def _come_back_in(self, seconds: float) -> None:
        if self._turn is not None:
            self._turn.cancel()
        self._turn = self._loop.call_in(seconds, self._send_refused)

    def _send_refused(self) -> None:
        if self._refused is None or self._connection is None:  # `up` comes back to it
            return
        if self._asked is not None:
            self._come_back_in(TURN_S[0])
            return
        self._asked, self._refused = self._refused, None
        self._send()


class InboxLine(Line):
    """Waits on a list, and gives what is pushed to it."""

    def __init__(
        self, loop: Loop, client: redis.Redis, gate: Callable[[], bool], key: str,
        message: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(loop, client, gate)
        self._key = key
        self._message = message

    def up(self) -> None:
        self.write("BLPOP", self._key, INBOX_S, answer_s=INBOX_S + 10)

    def answer(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            log.warning("event=inbox_refused reason=%r", str(reply))
            self._loop.call_in(1.0, lambda: self.up() if self.connected else None)
            return
        if reply is not None:
            self._message(reply[1].decode(errors="replace"))
        if self.connected:
            self.up()


class ChannelLine(Line):
    """Listens on one pub/sub channel."""

    def __init__(
        self, loop: Loop, client: redis.Redis, gate: Callable[[], bool], channel: str,
        message: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        super().__init__(loop, client, gate)
        self._channel = channel
        self._message = message

    def up(self) -> None:
        self.write("SUBSCRIBE", self._channel, answer_s=None)

    def answer(self, reply: Any) -> None:
        if isinstance(reply, list) and reply and reply[0] == b"message":
            self._message(reply[2])
