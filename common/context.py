"""What a job can know about itself: `penstock.context.current()`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ctx:
    """The attempt that this process runs; `cpus` are the whole ones that it may use."""

    job_id: str
    execution_id: str
    job: str
    attempt: int
    node: str
    cpus: int = 1


class _Inside:
    """The state of a slot; a module-level one, so that a job's threads see it too."""

    def __init__(self) -> None:
        self.pid = 0
        #: makes what is known of the attempt, for the few that ask; and stands for it
        self.attempt: Callable[[], Ctx] | None = None
        self.notify: Callable[[bool], None] | None = None
        self.waiters = 0
        self.imports = 0
        self.lock = threading.Lock()


_inside = _Inside()


def current() -> Ctx | None:
    """The running attempt; None outside a job. Holds in its threads and forked children."""
    attempt = _inside.attempt
    return None if attempt is None else attempt()


def enter(attempt: Callable[[], Ctx] | None, notify: Callable[[bool], None] | None = None) -> None:
    """Sets (or with None clears) the running attempt. For the slot only."""
    if attempt is not None:
        _inside.pid = os.getpid()
        _inside.waiters = 0
    _inside.attempt = attempt
    _inside.notify = notify


@contextmanager
def importing() -> Iterator[None]:
    """While this process imports the code of jobs, which must not submit any."""
    _inside.imports += 1
    try:
        yield
    finally:
        _inside.imports -= 1


def is_importing() -> bool:
    """Whether the code of jobs is being imported, and not run."""
    return _inside.imports > 0


@contextmanager
def waiting() -> Iterator[None]:
    """While a job waits for other jobs, its cpus and its lane serve them.

    Without it a workflow that waits for its own jobs would hold up a full node.
    Does nothing outside a job.
    """
    counted = _inside.attempt if _inside.pid == os.getpid() else None
    if counted is not None:
        _count(counted, 1)
    try:
        yield
    finally:
        if counted is not None:
            _count(counted, -1)


def _count(attempt: Callable[[], Ctx], step: int) -> None:
    """The first thread to wait and the last one to go on tell the daemon."""
    with _inside.lock:
        if _inside.attempt is not attempt:  # a thread that outlived its job
            return
        before, _inside.waiters = _inside.waiters, _inside.waiters + step
        if _inside.notify is not None and 0 in (before, _inside.waiters):
            _inside.notify(step > 0)
