"""A relay between clients and one server, whose faults a scenario sets while it runs.

It lives in a thread of its own. Bytes that a fault holds back are not lost, as in a real
network: they arrive when it is over, or never when the connection was cut meanwhile. A
client that gave up and closed leaves what it had sent under way, so that a request can
arrive long after its sender asked again elsewhere.
"""

from __future__ import annotations

import random
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import hiredis

Direction = Literal["up", "down", "both"]
#: Does a fault concern this request? It is given as its words.
Matching = Callable[[list[bytes]], bool]

#: most bytes that wait in one direction before the sender has to wait too
_FULL = 4 * 1024 * 1024
_CHUNK = 256 * 1024


@dataclass
class Condition:
    """What one direction is like: seconds, bytes a second (0: no limit); held: nothing passes."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    rate: float = 0.0
    held: bool = False


@dataclass
class Drop:
    """Replies to swallow: how many more, and what was done."""

    matching: Matching
    times: int
    hang: bool
    #: called in the relay's thread with each reply that was swallowed
    swallowed: Callable[[Any], None]
    #: how many replies were swallowed
    done: int = 0


@dataclass
class Repeat:
    """Requests to send once more, so many copies, so much later, on a connection of their own."""

    matching: Matching
    times: int
    copies: int
    delay_s: float
    #: how many requests were repeated, and how many copies were answered
    done: int = 0
    answered: int = 0


@dataclass
class _Way:
    """One direction of one connection."""

    source: socket.socket
    target: socket.socket
    condition: Condition
    queue: deque[tuple[float, bytes]] = field(default_factory=deque)
    waiting: int = 0
    free_at: float = 0.0
    #: the source has ended; told to the target behind all that was said
    ended: bool = False
    told: bool = False
    #: what the relay waits for on the source: readable, writable
    watched: int = 0

    def put(self, data: bytes, now: float, dice: random.Random) -> None:
        state = self.condition
        start = max(now, self.free_at)
        lasts = len(data) / state.rate if state.rate else 0.0
        self.free_at = start + lasts
        due = self.free_at + state.delay_s + state.jitter_s * dice.random()
        if self.queue:
            due = max(due, self.queue[-1][0])
        self.queue.append((due, data))
        self.waiting += len(data)

    @property
    def due(self) -> float | None:
        """When something can pass, monotonic seconds; None while nothing can."""
        if self.condition.held or not self.queue:
            return None
        return self.queue[0][0]


@dataclass(eq=False)
class Link:
    """One connection of a client."""

    client: socket.socket
    server: socket.socket
    up: _Way
    down: _Way
    requests: hiredis.Reader = field(default_factory=hiredis.Reader)
    #: a reply to swallow is under way: its rule and its reader
    dropping: tuple[Drop, hiredis.Reader] | None = None
    #: the reply was swallowed and the connection is left as it is: nothing more passes down
    hanging: bool = False

    def ways(self) -> tuple[_Way, _Way]:
        return self.up, self.down


class Proxy:
    """Relays connections on `address` to `target`; `close` ends it with all of them.

    `target` is (host, port), or a path for a unix socket.
    """

    def __init__(
        self, target: tuple[str, int] | str, host: str = "127.0.0.1", seed: int = 0
    ) -> None:
        self._target = target
        self._listener = socket.create_server((host, 0))
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._dice = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._theirs, self._bell = socket.socketpair()
        self._calls: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._links: list[Link] = []
        self._up, self._down = Condition(), Condition()
        self._drops: list[Drop] = []
        self._repeats: list[Repeat] = []
        self._refusing = False
        self._ended = False
        #: requests that passed up so far
        self.requests = 0
        for sock, ready in ((self._listener, self._accept), (self._theirs, self._heed)):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, ready)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://{self.address[0]}:{self.address[1]}/0"

    # -- faults, from the scenario's thread

    def shape(self, way: Direction = "both", **condition: Any) -> None:
        """Sets the condition of a direction: delay_s, jitter_s, rate, held."""

        def change() -> None:
            for name, state in (("up", self._up), ("down", self._down)):
                if way in (name, "both"):
                    for key, value in condition.items():
                        setattr(state, key, value)

        self._call(change)

    def black_hole(self) -> None:
        """Nothing passes, and nobody is told."""
        self.shape("both", held=True)

    def half_open(self, way: Direction) -> None:
        """Nothing passes in one direction, and nobody is told."""
        self.shape(way, held=True)

    def refuse(self) -> None:
        """New connections are refused; standing ones stay."""
        self._call(lambda: setattr(self, "_refusing", True))

    def cut(self) -> None:
        """Every connection ends with a reset, on both sides; what was under way is lost."""

        def change() -> None:
            for link in list(self._links):
                self._end(link, reset=True)

        self._call(change)

    def normal(self) -> None:
        """No fault any more; what was held back arrives."""

        def change() -> None:
            for state in (self._up, self._down):
                state.delay_s, state.jitter_s, state.rate, state.held = 0.0, 0.0, 0.0, False
            self._drops.clear()
            self._repeats.clear()
            self._refusing = False

        self._call(change)

    def drop_replies(
        self,
        matching: Matching,
        times: int = 1,
        *,
        hang: bool = False,
        swallowed: Callable[[Any], None] = lambda reply: None,
    ) -> Drop:
        """The next `times` requests that match reach the server; their replies do not come back.

        The connection ends then, or is left hanging. For clients with one request in flight
        on a connection.
        """
        rule = Drop(matching, times, hang, swallowed)
        self._call(lambda: self._drops.append(rule))
        return rule

    def repeat_requests(
        self, matching: Matching, times: int = 1, *, copies: int = 1, delay_s: float = 0.0
    ) -> Repeat:
        """The next `times` requests that match reach the server `copies` times more, from elsewhere."""
        rule = Repeat(matching, times, copies, delay_s)
        self._call(lambda: self._repeats.append(rule))
        return rule

    def settled(self) -> None:
        """Returns when the relay's thread has seen everything asked of it."""
        self._call(lambda: None)

    def close(self) -> None:
        """Ends it. Safe twice."""
        if self._thread.is_alive():
            self._call(lambda: setattr(self, "_ended", True))
            self._thread.join(10)
        # not in the relay's thread: it may end by a call whose bell is still to ring
        for sock in (self._theirs, self._bell):
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, change: Callable[[], None]) -> None:
        """Makes a change in the relay's thread, and returns when it is made."""
        if threading.current_thread() is self._thread:
            change()
            return
        done = threading.Event()
        self._calls.append(lambda: (change(), done.set())[0])
        self._bell.send(b"x")
        assert done.wait(10), "the relay's thread does not answer"

    # -- the relay's thread

    def _run(self) -> None:
        try:
            while not self._ended:
                self._turn()
        finally:
            for link in list(self._links):
                self._end(link, reset=True)
            self._listener.close()
            self._selector.close()

    def _turn(self) -> None:
        for key, events in self._selector.select(self._patience()):
            sock = key.fileobj
            if (
                isinstance(sock, socket.socket) and sock.fileno() >= 0
            ):  # else a call before ended it
                key.data(events)
        while self._calls:
            self._calls.popleft()()
        now = time.monotonic()
        due = [call for at, call in self._later if at <= now]
        self._later = [(at, call) for at, call in self._later if at > now]
        for call in due:
            call()
        for link in list(self._links):
            self._pass_on(link, now)

    def _patience(self) -> float | None:
        times = [way.due for link in self._links for way in link.ways()]
        times += [at for at, _ in self._later]
        known = [at for at in times if at is not None]
        return max(0.0, min(known) - time.monotonic()) if known else None

    def _heed(self, _: int) -> None:
        with suppress(BlockingIOError):
            self._theirs.recv(4096)

    def _connect(self) -> socket.socket:
        if isinstance(self._target, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
        else:
            server = socket.create_connection(self._target, 5)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.setblocking(False)
        return server

    def _accept(self, _: int) -> None:
        try:
            client, _address = self._listener.accept()
        except BlockingIOError:
            return
        try:
            if self._refusing:
                raise ConnectionRefusedError
            server = self._connect()
        except OSError:
            _reset(client)
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(
            client, server, _Way(client, server, self._up), _Way(server, client, self._down)
        )
        self._links.append(link)
        self._watch(link)

    def _watch(self, link: Link) -> None:
        """Listens for what a way may take, and for room where something is due."""
        now = time.monotonic()
        for mine, other in ((link.up, link.down), (link.down, link.up)):
            events = 0
            if not mine.ended and mine.waiting < _FULL:
                events |= selectors.EVENT_READ
            if other.due is not None and other.due <= now:
                events |= selectors.EVENT_WRITE
            self._listen(mine.source, events, link, mine)

    def _listen(self, sock: socket.socket, events: int, link: Link, way: _Way) -> None:
        if events == way.watched:
            return
        if way.watched:
            self._selector.unregister(sock)
        if events:
            self._selector.register(sock, events, lambda seen: self._ready(link, way, seen))
        way.watched = events

    def _ready(self, link: Link, way: _Way, events: int) -> None:
        if not events & selectors.EVENT_READ or way.ended:
            return
        try:
            data = way.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            way.ended = True
        elif way is link.up:
            self._take_up(link, data)
        else:
            self._take_down(link, data)

    def _take_up(self, link: Link, data: bytes) -> None:
        link.up.put(data, time.monotonic(), self._dice)
        link.requests.feed(data)
        while (request := link.requests.gets()) is not False:
            self.requests += 1
            if not isinstance(request, list):
                continue
            for drop in self._drops:
                if drop.times > 0 and link.dropping is None and drop.matching(request):
                    drop.times -= 1
                    link.dropping = (drop, hiredis.Reader())
            for repeat in self._repeats:
                if repeat.times > 0 and repeat.matching(request):
                    repeat.times -= 1
                    repeat.done += 1
                    self._repeat(request, repeat)

    def _repeat(self, request: Sequence[bytes], rule: Repeat) -> None:
        def send() -> None:
            with self._connect() as ghost:
                ghost.settimeout(5)
                reader, answers = hiredis.Reader(), 0
                ghost.sendall(hiredis.pack_command(tuple(request)) * rule.copies)
                while answers < rule.copies and (data := ghost.recv(_CHUNK)):
                    reader.feed(data)
                    while reader.gets() is not False:
                        answers += 1
                rule.answered += answers

        self._later.append((time.monotonic() + rule.delay_s, send))

    def _take_down(self, link: Link, data: bytes) -> None:
        if link.hanging:
            return
        if link.dropping is None:
            link.down.put(data, time.monotonic(), self._dice)
            return
        rule, reader = link.dropping
        reader.feed(data)
        reply = reader.gets()
        if reply is False:
            return
        rule.done += 1
        rule.swallowed(reply)
        if rule.hang:
            link.dropping, link.hanging = None, True
        else:
            self._end(link, reset=False)

    def _pass_on(self, link: Link, now: float) -> None:
        for way in link.ways():
            if link not in self._links:
                return
            try:
                while way.due is not None and way.due <= now:
                    due, data = way.queue[0]
                    sent = way.target.send(data)
                    way.waiting -= sent
                    way.queue.popleft()
                    if sent < len(data):
                        way.queue.appendleft((due, data[sent:]))
            except BlockingIOError:
                pass
            except OSError:
                self._end(link, reset=True)
                return
            if way.ended and not way.queue and not way.told and not way.condition.held:
                way.told = True
                with suppress(OSError):
                    way.target.shutdown(socket.SHUT_WR)
        if link.up.told and (link.down.told or link.hanging):
            self._end(link, reset=False)
        elif link in self._links:
            self._watch(link)

    def _end(self, link: Link, reset: bool) -> None:
        if link not in self._links:
            return
        self._links.remove(link)
        for way in link.ways():
            if way.watched:
                self._selector.unregister(way.source)
            if reset:
                _reset(way.source)
            else:
                way.source.close()


def _reset(sock: socket.socket) -> None:
    """Closes with RST."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def scripts(*names: bytes) -> Matching:
    """Matches calls of scripts: these functions, or any."""

    def matching(request: list[bytes]) -> bool:
        return request[0].upper() == b"FCALL" and (not names or request[1] in names)

    return matching
