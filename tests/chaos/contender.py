"""One of many that want the same lock: `python -m chaos.contender URL NAME TTL_S FOLDER`.

It takes the lock, holds it for a moment, gives it back, and writes down from when until when it
held it. It may be killed at any time.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from penstock.common.state.connection import connect
from penstock.common.state.lock import Lock
from penstock.common.state.store import Store

from .history import Journal


def main(url: str, name: str, ttl_s: float, folder: Path) -> None:
    """Runs until it is ended."""
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
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
