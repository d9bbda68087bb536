"""The page of memory that a daemon shares with one of its slots.

Each field is one aligned 64-bit word, written by one side only and read whole.
The revocation handshake needs this order: the slot publishes what it starts and
then reads the fence; the daemon sets the fence and then reads what is started.
Whoever comes second sees the other, so an order is run, or taken back, or (both
at once) reported as skipped; never two of these.
"""

from __future__ import annotations

import mmap
import os

_WORDS = 8
_FENCE, _STARTED, _START_NS, _LOG_FROM, _UP = range(5)


class SharedPage:
    """The words by name. Create with `SharedPage.create()`, open with the fd in the slot."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _WORDS * 8)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls) -> tuple[SharedPage, int]:
        """A new page and its file descriptor, which the caller closes."""
        fd = os.memfd_create("penstock-slot")
        os.ftruncate(fd, _WORDS * 8)
        return cls(fd), fd

    @property
    def fence(self) -> int:
        """Orders with a lower seq that have not started are revoked. Daemon writes."""
        return self._words[_FENCE]

    @fence.setter
    def fence(self, seq: int) -> None:
        self._words[_FENCE] = seq

    @property
    def started(self) -> int:
        """The seq of the order that started last; 0 before the first. Slot writes."""
        return self._words[_STARTED]

    @property
    def start_ns(self) -> int:
        """When it started: CLOCK_MONOTONIC, which all processes share."""
        return self._words[_START_NS]

    @property
    def log_from(self) -> int:
        """Where its output begins in the slot's output file."""
        return self._words[_LOG_FROM]

    def begin(self, seq: int, start_ns: int, log_from: int) -> None:
        """Publishes the order that starts now; the seq last, so that it is never early."""
        words = self._words
        words[_LOG_FROM] = log_from
        words[_START_NS] = start_ns
        words[_STARTED] = seq

    @property
    def up(self) -> bool:
        """The slot has reached its loop."""
        return bool(self._words[_UP])

    def set_up(self) -> None:
        """Tells that the slot has reached its loop."""
        self._words[_UP] = 1

    def close(self) -> None:
        """Unmaps the page."""
        self._words.release()
        self._map.close()
