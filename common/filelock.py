"""Locks on files (flock): held by a process, let go by the kernel when it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class FileLock:
    """One process's hold on a lock file. Children never inherit it, forked or executed.

    Shared holds exclude exclusive ones; the waiting for a lock can be interrupted
    by signals only, so a thread that waits for one must be a daemon thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        _live.add(self)

    @property
    def held(self) -> bool:
        """True while this object holds the lock."""
        return self._fd >= 0

    def take(self, *, shared: bool = False, blocking: bool = True) -> bool:
        """Takes the lock, creating the file; False if it is held and `blocking` is not set.

        Changing a hold from shared to exclusive gives the shared one up first, and
        where that fails nothing is held. Raises OSError if the file cannot be opened.
        """
        fd = self._fd if self.held else os.open(self.path, FLAGS, 0o600)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(fd, kind if blocking else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self._fd = -1
            os.close(fd)
            return False
        except BaseException:
            self._fd = -1
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        """Lets the lock go; safe when it is not held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def hand_over(self) -> int:
        """The descriptor that holds the lock, for a child to inherit; this object forgets it."""
        fd, self._fd = self._fd, -1
        return fd

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _forget(self) -> None:
        """In a forked child: the parent keeps the lock, so it is closed and not unlocked."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def is_owned(path: Path) -> bool:
    """True if somebody holds the lock exclusively; leaves no file behind."""
    return path.exists() and not _could_take(path, shared=True)


def is_used(path: Path) -> bool:
    """True if somebody holds the lock, shared or not; leaves no file behind."""
    return path.exists() and not _could_take(path, shared=False)


def _could_take(path: Path, *, shared: bool) -> bool:
    probe = FileLock(path)
    try:
        return probe.take(shared=shared, blocking=False)
    finally:
        probe.release()


_live: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_live):
        lock._forget()


os.register_at_fork(after_in_child=_after_fork)
