"""Ends what dead workers left on this machine, and nothing else.

A supervisor ends what its daemon left, and a daemon what its slots left. When both
are killed in the same instant, the next worker of the same user does it. It knows
their processes by two marks that name their supervisor: a variable of the
environment, which all below a supervisor inherit, and a control group, where one
could be made, which holds what cleans its environment, too. A mark names pid and
start time, and the namespaces in which these mean something.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from . import cgroups
from .isolation import start_of

log = logging.getLogger("penstock.worker")

#: The environment variable with the mark of the supervisor above.
VARIABLE = "PENSTOCK_SUPERVISOR"
#: A daemon whose supervisor died has so long to leave in order, in seconds.
LEAVE_S = 2.0
#: After so long the sweep is over, whatever is left, in seconds.
SWEEP_S = 5.0


@dataclass(frozen=True, slots=True)
class Mark:
    """Names one supervisor. `space` are the namespaces of its pid and of its start time."""

    uid: int
    pid: int
    start: int
    space: tuple[int, int]

    @classmethod
    def own(cls) -> Mark:
        """That of this process."""
        pid = os.getpid()
        return cls(os.geteuid(), pid, start_of(pid) or 0, _space())

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """The inverse of `str`; None if this is no mark."""
        parts = text.split("-")
        if len(parts) != 5 or not all(part.isdecimal() for part in parts):
            return None
        uid, pid, start, *space = map(int, parts)
        return cls(uid, pid, start, (space[0], space[1]))

    def __str__(self) -> str:
        return "-".join(map(str, (self.uid, self.pid, self.start, *self.space)))

    @property
    def is_dead(self) -> bool:
        """Was it a supervisor of this user, on this machine as it is seen here, and is gone?"""
        ours = self.uid == os.geteuid() and self.space == _space()
        return ours and start_of(self.pid) != self.start


def sweep() -> int:
    """Ends what the dead left, waits until it is gone, and returns how many processes it was."""
    killed: set[int] = set()
    began = time.monotonic()
    while left := _left():
        waited = time.monotonic() - began
        if waited > SWEEP_S:
            log.error("event=sweep_incomplete pids=%s", sorted(chain(*left.values())))
            break
        for mark, pids in left.items():
            if waited < LEAVE_S and any("penstock.worker.daemon" in _words(pid) for pid in pids):
                continue  # it was told of the death by the kernel, and tells Redis
            killed.update(pid for pid in pids if _kill(pid, mark))
        time.sleep(0.005)
    if killed:
        log.warning("event=swept processes=%d", len(killed))
    cgroups.remove_empty(_is_dead)
    return len(killed)


def _left() -> dict[Mark, list[int]]:
    """Living processes below dead supervisors, by their mark."""
    spared = _ancestors()
    left: dict[Mark, list[int]] = defaultdict(list)
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        mark = _dead_mark_of(pid)
        if mark is None or pid in spared or start_of(pid) is None:
            continue
        if "penstock.worker.supervisor" not in _words(pid):  # a worker of its own, started by a job
            left[mark].append(pid)
    return left


def _dead_mark_of(pid: int) -> Mark | None:
    """The mark of the dead supervisor that a process was below; None if a living one has it."""
    texts = (_variable(pid), cgroups.mark_of(pid))
    marks = [mark for mark in map(Mark.parse, texts) if mark is not None]
    return marks[0] if marks and all(mark.is_dead for mark in marks) else None


def _kill(pid: int, mark: Mark) -> bool:
    """SIGKILL, if the pid has not passed to another process meanwhile."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if _dead_mark_of(pid) != mark:
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError as error:
        log.debug("event=not_swept pid=%d reason=%r", pid, str(error))
        return False
    finally:
        os.close(fd)
    return True


def _is_dead(text: str) -> bool:
    mark = Mark.parse(text)
    return mark is not None and mark.is_dead


def _variable(pid: int) -> str:
    """The mark in a process's environment; "" where there is none, or none may be read."""
    name = f"{VARIABLE}=".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    for entry in environment.split(b"\0"):
        if entry.startswith(name):
            return entry[len(name) :].decode(errors="replace")
    return ""


def _words(pid: int) -> list[str]:
    """A process's command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def _ancestors() -> set[int]:
    """This process and those above it."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


@cache
def _space() -> tuple[int, int]:
    """The namespaces that give pids and start times their meaning; 0 where there are none."""
    return _inode("/proc/self/ns/pid"), _inode("/proc/self/ns/time")


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
