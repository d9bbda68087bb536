"""Many that want the same lock: `python -m chaos.contender URL NAME TTL_S FOLDER NUMBER`.

Each takes the lock, holds it for a moment, gives it back, and writes down from when until when it
held it. Each may be killed at any time: another comes in its place, until SIGTERM ends all.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from penstock.common.state.connection import connect
from penstock.common.state.lock import Lock
from penstock.common.state.store import Store

from .history import Journal


def main(url: str, name: str, ttl_s: float, folder: Path, number: int) -> None:
    """Runs until it is ended. Forks, since a new Python would take longer than a lock's TTL."""
    # Waited for, not handled: a handler can come between a child's fork or death and its note, or
    # just before a wait that then does not end.
    told = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, told)
    children = {os.fork() or _child(url, name, ttl_s, folder) for _ in range(number)}
    while signal.sigwait(told) != signal.SIGTERM:
        for pid in [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]]:
            children.remove(pid)
            children.add(os.fork() or _child(url, name, ttl_s, folder))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _child(url: str, name: str, ttl_s: float, folder: Path) -> NoReturn:
    try:
        _contend(url, name, ttl_s, folder)
    finally:
        os._exit(1)


def _contend(url: str, name: str, ttl_s: float, folder: Path) -> NoReturn:
    owner = f"p{os.getpid()}"
    journal = Journal(folder, owner)
    store = Store(connect(url))
    number = 0
    while True:
        number += 1
        # Each time another owner, as if each holder were a process of its own.
        lock = Lock(store, name, f"{owner}.{number}", ttl_s)
        asked = time.time()
        if not lock.try_acquire():
            time.sleep(random.uniform(0, 0.01))
            continue
        who = {"owner": lock.owner, "fence": lock.fence}
        journal.write("lock_taken", until=asked + ttl_s, **who)
        journal.flush()
        time.sleep(random.uniform(0, 0.004))
        journal.write("lock_left", **who)
        journal.flush()
        lock.release()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
