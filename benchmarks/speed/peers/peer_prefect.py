"""Prefect 3 with its ephemeral server, in small numbers."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_HOME = os.environ["PREFECT_HOME"] = os.path.join(os.environ.get("BENCH_WORK", "."), "prefect")
os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
os.environ.pop("PREFECT_API_URL", None)  # no server of anyone else's

from harness import main
from peer import Peer, clock
from prefect import flow, task
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

RUNNER = ThreadPoolTaskRunner(max_workers=2)


@task
def noop(i, before=None):
    return i


@flow(task_runner=RUNNER)
def many(count):
    wait([noop.submit(i) for i in range(count)])


@flow(task_runner=RUNNER)
def chain(hops):
    began, last = clock(), None
    for i in range(hops):
        last = noop.submit(i, last)
    last.result()
    return clock() - began


class Prefect(Peer):
    name = "prefect"
    uses_redis = False
    can_be_stopped = False
    versions_of = ("prefect",)
    configs = {
        "thread": "ephemeral API server (SQLite), ThreadPoolTaskRunner(max_workers=2); 100 jobs in W1, "
        "a chain of 50 in W3",
    }
    workloads = {"thread": "W1 W3"}

    def __init__(self, config):
        super().__init__(config)
        self.w1_jobs, self.w3_hops = 100, 50

    def start(self, slots):
        """A flow starts everything."""

    def warm(self):
        many(5)

    def enqueue(self, count):
        many(count)

    def done_so_far(self):
        return 0

    def wait_done(self, count, before):
        return clock()

    def chain(self, hops):
        return chain(hops)

    def close(self):
        """Its server outlives it: what has our PREFECT_HOME is ended."""
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
                    if f"PREFECT_HOME={_HOME}".encode() in file.read().split(b"\0"):
                        os.kill(int(entry), signal.SIGKILL)


if __name__ == "__main__":
    main(Prefect)
