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
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

#: What SIGKILL does not end within this time hangs in the kernel, in seconds.
HOPELESS_S = 30.0
#: A slot has so long to be gone once it was killed alone, in seconds.
ALONE_S = 5.0

_PROC = Path("/proc")
_ROUNDS = 20
#: Processes that nobody waits for, by their start times: they cannot be ended from here.
_hopeless: dict[int, int | None] = {}

log = logging.getLogger("penstock.worker")


class Ending:
    """The end of one slot. Call `step` until it says that nothing is left.

    What cannot be killed holds it up for `hopeless_s` seconds; after that the slot is `haunted`.
    """

    def __init__(self, slot: int, hopeless_s: float = HOPELESS_S) -> None:
        self._slot = slot
        self._alive = True
        self._give_up_at = time.monotonic() + hopeless_s
        self._alone_at: float | None = None
        self._ghosts: set[int] = set()

    @property
    def haunted(self) -> bool:
        """Does something of it live on that cannot be killed?"""
        self._ghosts = {pid for pid in self._ghosts if _is_hopeless(pid)}
        return bool(self._ghosts)

    @property
    def slot_lives(self) -> bool:
        """The slot itself was not seen to end."""
        return self._alive

    def step(self, orphans: Callable[[], Collection[int]]) -> bool:
        """Kills what is left, and tells whether it was nothing, or nothing that can be killed.

        Call `slot_gone` once the slot is reaped; until then this kills its
        descendants and then itself. `orphans` are the daemon's other children.
        """
        if self._alive:
            return self._step_slot()
        if kill_all(orphans):
            return True
        if time.monotonic() < self._give_up_at:
            return False
        self._give_up(orphans())
        return True

    def _step_slot(self) -> bool:
        """As `step`, while the slot lives. True: not even that can be killed."""
        now = time.monotonic()
        if now < self._give_up_at:
            _signal(self._slot, signal.SIGSTOP)  # what it starts meanwhile would be missed
            if kill_all(lambda: descendants(self._slot)):
                _signal(self._slot, signal.SIGKILL)
            return False
        if self._alone_at is None:
            self._alone_at = now + ALONE_S
            self._give_up(descendants(self._slot))
            _signal(self._slot, signal.SIGKILL)
        if now < self._alone_at:
            return False
        self._give_up([self._slot])
        return True

    def _give_up(self, pids: Collection[int]) -> None:
        left = [pid for pid in pids if is_alive(pid) and not _is_hopeless(pid)]
        _hopeless.update((pid, start_of(pid)) for pid in left)
        self._ghosts.update(left)
        if left:
            log.error("event=processes_unkillable slot=%d pids=%s", self._slot, left)

    def slot_gone(self) -> None:
        """The slot has ended and was reaped: its pid is no longer ours to signal."""
        self._alive = False
        self._ghosts.discard(self._slot)


def kill_all(find: Callable[[], Collection[int]]) -> bool:
    """SIGKILLs what `find` finds until it finds nothing alive; False: some yet live.

    It looks twice: the child of a process that ends while it looks is below neither that nor its next parent,
    as it saw them. Who has ended has handed its children on, so that a second look finds them.
    """
    found_none = False
    for _ in range(_ROUNDS):
        living = [pid for pid in find() if is_alive(pid) and not _is_hopeless(pid)]
        if not living and found_none:
            return True
        found_none = not living
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
    except PermissionError:
        return found  # of another user, and /proc is mounted with hidepid=1
    except (FileNotFoundError, ProcessLookupError):
        if _PROC.joinpath("self/task", str(os.getpid()), "children").exists():
            return found  # it, or a thread of it, has just ended
        return _children_by_parent(pid)
    return found


def _children_by_parent(pid: int) -> list[int]:
    """As `children`, where the kernel keeps no lists of them."""
    import psutil  # slow to import, and hardly ever needed

    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def is_alive(pid: int) -> bool:
    """Does it exist, and is it no zombie?"""
    return start_of(pid) is not None


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it has ended, zombies too.

    0 where it may not be told: of another user, and /proc is mounted with hidepid=1.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


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
        _hopeless[pid] = start_of(pid)


def _is_hopeless(pid: int) -> bool:
    if pid not in _hopeless:
        return False
    if _hopeless[pid] == start_of(pid):
        return True
    del _hopeless[pid]  # the pid is another's now
    return False
