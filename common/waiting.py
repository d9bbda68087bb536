"""Waiting for descriptors, also those past 1,023, which select(2) cannot watch."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable


def readable(fds: Iterable[int], timeout_s: float | None = None) -> set[int]:
    """Those of the descriptors that can be read or are at their end; empty on time-out.

    A pidfd can be read once its process has ended. None waits for ever.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    # Rounded up: 0 ms would make a loop of a wait.
    timeout_ms = None if timeout_s is None else max(0, int(timeout_s * 1000 + 0.999))
    return {fd for fd, _ in poll.poll(timeout_ms)}


class Waker:
    """A descriptor that can be read once `wake` was called, by a thread or a signal handler."""

    def __init__(self) -> None:
        #: To wait on, with `readable`.
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def wake(self, *_: object) -> None:
        """Makes the descriptor readable, for good; takes a signal handler's arguments."""
        os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        """Gives the descriptor back; nobody may wait on it or wake it any more."""
        os.close(self.fd)
