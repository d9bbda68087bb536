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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    children: set[int] = set()
    try:
        while True:
            while len(children) < number:
                children.add(os.fork() or _child(url, name, ttl_s, folder))
            children.discard(os.wait()[0])
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def _child(url: str, name: str, ttl_s: float, folder: Path) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
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
