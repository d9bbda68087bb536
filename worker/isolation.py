"""Ends a slot with everything its job started, and knows when all of it is gone.

Two facts make this complete. A slot is a subreaper: a process that its job
daemonises becomes the slot's child, so while the slot is held still everything
of it hangs below it. And the daemon is one, too: what outlives a slot becomes the
daemon's child, and no child of the daemon but its slots has a right to live.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import psutil

_PROC = Path("/proc")
_ROUNDS = 20
#: Processes of other users, which this one may not signal.
_forbidden: set[int] = set()

log = logging.getLogger("penstock.worker")


class Ending:
    """The end of one slot. Call `step` until it says that nothing is left."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self._alive = True

    def step(self, orphans: Callable[[], Collection[int]]) -> bool:
        """Kills what is left, and tells whether it was nothing.

        Call `slot_gone` once the slot is reaped; until then this kills its
        descendants and then itself. `orphans` are the daemon's other children.
        """
        if self._alive:
            _signal(self._slot, signal.SIGSTOP)  # what it starts meanwhile would be missed
            if kill_all(lambda: descendants(self._slot)):
                _signal(self._slot, signal.SIGKILL)
            return False
        return kill_all(orphans)

    def slot_gone(self) -> None:
        """The slot has ended and was reaped: its pid is no longer ours to signal."""
        self._alive = False


def kill_all(find: Callable[[], Collection[int]]) -> bool:
    """SIGKILLs what `find` finds until it finds nothing alive; False: some yet live."""
    for _ in range(_ROUNDS):
        living = [pid for pid in find() if is_alive(pid) and pid not in _forbidden]
        if not living:
            return True
        for pid in living:
            _signal(pid, signal.SIGKILL)
    return False


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, zombies included."""
    found: list[int] = []
    level = children(pid)
    while level:
        found += level
        level = [child for parent in level for child in children(parent)]
    return found


def children(pid: int) -> list[int]:
    """The child processes of `pid`, zombies included; empty when it is gone."""
    found: list[int] = []
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            found += (int(child) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        if _PROC.joinpath("self/task", str(os.getpid()), "children").exists():
            return found  # it, or a thread of it, has just ended
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            return [child.pid for child in process.children()]
    return found


def is_alive(pid: int) -> bool:
    """Does it exist, and is it no zombie?"""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in (b"Z", b"X")


def reap(keep: Collection[int]) -> None:
    """Collects the ended children of this process but for those in `keep`."""
    for pid in children(os.getpid()):
        if pid not in keep:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _signal(pid: int, sig: signal.Signals) -> None:
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass
    except PermissionError:
        # Of another user (a job called sudo): not ours to end, and no reason to end ourselves.
        log.error("event=process_not_ours pid=%d signal=%s", pid, sig.name)
        _forbidden.add(pid)
