"""A single-threaded event loop: file descriptors, timers and signals, waited for at once."""

from __future__ import annotations

import heapq
import itertools
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
#: Whoever waits, to read or to write, finds out by trying.
_ENDED = select.EPOLLHUP | select.EPOLLERR


class Timer:
    """One call at one time; `cancel` may be called at any time, also twice."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """It will not be called any more."""
        self.call = None


class Loop:
    """Calls back when something happens. Times are seconds of time.monotonic()."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._on_signal: dict[int, Callable[[], object]] = {}

    def watch(self, fd: int, events: int, ready: Callable[[int], None]) -> None:
        """Calls `ready(events)` while the descriptor is ready; changes an earlier watch."""
        before = self._watched.get(fd)
        if before == (events, ready):
            return
        if before is None:
            self._epoll.register(fd, events)
        elif before[0] != events:
            self._epoll.modify(fd, events)
        self._watched[fd] = events, ready

    def unwatch(self, fd: int) -> None:
        """Ends a watch, if there is one. Call it before the descriptor is closed."""
        if self._watched.pop(fd, None) is not None:
            with suppress(OSError):  # it was closed
                self._epoll.unregister(fd)

    def call_in(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Calls once, `delay_s` from now."""
        timer = Timer(time.monotonic() + delay_s, call)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    def on_signal(self, sig: signal.Signals, call: Callable[[], object]) -> None:
        """Calls from within the loop, not from the handler, when the signal came."""
        if self._bell is None:
            self._bell = socket.socketpair()
            for end in self._bell:
                end.setblocking(False)
            signal.set_wakeup_fd(self._bell[1].fileno(), warn_on_full_buffer=False)
            self.watch(self._bell[0].fileno(), READ, self._take_signals)
        self._on_signal[int(sig)] = call
        signal.signal(sig, lambda number, frame: None)

    def turn(self) -> None:
        """Waits for the next thing to happen, and makes the calls that are due."""
        happened = self._epoll.poll(self._timeout())
        for fd, events, watched in [(fd, events, self._watched.get(fd)) for fd, events in happened]:
            # An earlier call of this turn may have ended or changed this watch.
            if watched is not None and self._watched.get(fd) is watched:
                watched[1](watched[0] if events & _ENDED else events)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()

    def close(self) -> None:
        """Lets go of all descriptors and signals."""
        if self._bell is not None:
            signal.set_wakeup_fd(-1)
            for end in self._bell:
                end.close()
        self._epoll.close()

    def _timeout(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _take_signals(self, _: int) -> None:
        assert self._bell is not None
        with suppress(BlockingIOError):
            for number in self._bell[0].recv(256):
                call = self._on_signal.get(number)
                if call is not None:
                    call()
