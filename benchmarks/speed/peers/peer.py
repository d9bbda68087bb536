"""A system that is measured: what it is asked to do, and the processes around it.

It is a subclass of `Peer` in a file `peer_<name>.py`, which runs in that system's own environment.
Its workers import the same file, so what they need is in the environment:

BENCH_CONFIG      which configuration
BENCH_REDIS_PORT  of the private server on loopback
BENCH_REDIS_PID   of that server's process, for its CPU time
BENCH_MARKS       a file to which the slow job of W6 writes its pid and the time
BENCH_WORK        a folder for anything else
BENCH_SCALE       of the numbers of jobs of W1 and W5
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from machine import clock, descendants

HERE = Path(__file__).resolve().parent
PORT = int(os.environ.get("BENCH_REDIS_PORT", "0"))
URL = f"redis://127.0.0.1:{PORT}/0"
CONFIG = os.environ.get("BENCH_CONFIG", "")
WORK = os.environ.get("BENCH_WORK", ".")
SCALE = float(os.environ.get("BENCH_SCALE", "1"))

#: A workload that has not ended by then is given up, in seconds.
LIMIT_S = 240.0
#: The slow job of W6 takes so long; the worker is killed a second into it.
SLOW_S = 5.0
#: How often it is looked whether all jobs are done, in seconds. (For all systems alike.)
LOOK_S = 0.01


class NotSupported(Exception):
    """The system has no such feature; nothing is emulated."""


def mark(word: str) -> None:
    """Writes that a job started, where the harness looks for it."""
    with open(os.environ["BENCH_MARKS"], "a") as file:
        file.write(f"{word} {os.getpid()} {clock():.6f}\n")


def texts(count: int, size: int) -> list[str]:
    """Arguments of so many bytes that no compression makes much smaller (RQ uses zlib)."""
    drawn = (hashlib.shake_128(str(number).encode()).digest(size) for number in range(count))
    return [base64.b64encode(one)[:size].decode() for one in drawn]


def slow_body() -> str:
    """The job of W6."""
    mark("start")
    time.sleep(SLOW_S)
    return "done"


async def slow_body_async(beat: Callable[[], Any] | None = None) -> str:
    """The same, for systems whose jobs are coroutines."""
    mark("start")
    end = clock() + SLOW_S
    while clock() < end:
        await asyncio.sleep(0.25)
        if beat is not None:
            await beat()
    return "done"


class Peer:
    """One system in one configuration. The first half is for subclasses to fill."""

    name: ClassVar[str]
    #: configuration -> how it is set up, in the system's own words
    configs: ClassVar[dict[str, str]]
    #: configuration -> its workloads
    workloads: ClassVar[dict[str, str]]
    versions_of: ClassVar[tuple[str, ...]]
    uses_redis: ClassVar[bool] = True
    #: can its workers be stopped and continued (SIGSTOP), to measure the draining of a full queue?
    can_be_stopped: ClassVar[bool] = True

    def __init__(self, config: str) -> None:
        self.config = config
        self.w1_jobs = round(10_000 * SCALE)
        self.w2_widths: tuple[int, ...] = (1000, 5000)
        self.w3_hops = 200
        self.w4_trips = 300
        self.processes: list[subprocess.Popen[bytes]] = []
        self._redis: Any = None
        #: commands that looking for the end took, which are not the system's
        self.looks = 0

    def worker_commands(self, slots: int) -> list[list[str]]:
        """Commands that together give so many processes that run jobs."""
        raise NotSupported("it starts no workers")

    def single_worker(self, number: int) -> list[str]:
        """One independent worker with one process (W6)."""
        return self.worker_commands(1)[0]

    def connect(self) -> None:
        """Sets the client up."""

    def enqueue(self, count: int) -> None:
        """Hands so many no-op jobs over, in the fastest way it documents."""
        raise NotSupported("no jobs")

    def enqueue_sized(self, count: int, size: int) -> None:
        """The same, each with a text of `size` bytes as its argument."""
        raise NotSupported("not measured")

    def done_prefix(self) -> str | None:
        """Done jobs have a key of this prefix each; None: `idle` or `done_count` tell."""
        return None

    def idle(self) -> bool | None:
        """No job is left; None: `done_count` tells."""
        return None

    def done_count(self) -> int:
        """Jobs done so far."""
        raise NotSupported("it does not tell")

    def round_trip(self, number: int) -> None:
        """One job there and its result back."""
        raise NotSupported("not measured")

    def fan(self, width: int) -> float:
        """1 -> width -> 1, the last with all results; seconds."""
        raise NotSupported("no dependencies between jobs")

    def chain(self, hops: int) -> float:
        """So many jobs, each after the one before; seconds."""
        raise NotSupported("no dependencies between jobs")

    def submit_slow(self) -> None:
        """One job that runs `slow_body`."""
        raise NotSupported("not measured")

    def trickle(self) -> None:
        """Called once a second while W6 waits."""

    def close(self) -> None:
        """Ends whatever else was started."""

    # -- processes

    @property
    def redis(self) -> Any:
        """A client of the harness's own."""
        if self._redis is None:
            import redis

            self._redis = redis.Redis(port=PORT)
        return self._redis

    def flush(self) -> None:
        """Empties the server."""
        if self.uses_redis:
            self.redis.flushall()

    def spawn(self, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """Starts a process of the system's."""
        log = Path(WORK) / f"{self.name}-{self.config}-{len(self.processes)}.log"
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                cwd=WORK,
                env={**os.environ, "PYTHONPATH": str(HERE), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start(self, slots: int) -> None:
        """Starts the workers."""
        for command in self.worker_commands(slots):
            self.spawn(command)

    def stop(self) -> None:
        """Ends them, and what they left."""
        trees = {process: descendants(process.pid) for process in self.processes}
        for process in trees:
            if process.poll() is None:
                process.terminate()
        deadline = clock() + 5
        while clock() < deadline and any(process.poll() is None for process in trees):
            time.sleep(0.05)
        for process, tree in trees.items():
            for pid in descendants(process.pid) if process.poll() is None else tree:
                with contextlib.suppress(ProcessLookupError):
                    if pid == process.pid or os.getsid(pid) == process.pid:
                        os.kill(pid, signal.SIGKILL)
            process.wait()
        self.processes = []

    def workers(self) -> list[int]:
        """The pids of everything that was started, by the system's client too."""
        return descendants(os.getpid())[1:]

    def runners(self) -> list[int]:
        """Of these, those that run jobs, and take them."""
        return self.workers()

    def tool(self, name: str) -> str:
        """A program of this environment."""
        return str(Path(sys.executable).parent / name)

    def script_worker(self, *words: str) -> list[str]:
        """This system's file as a worker."""
        module = sys.modules[type(self).__module__].__file__
        assert module is not None
        return [sys.executable, str(Path(module).resolve()), "--as-worker", *words]

    # -- when is it done?

    def done_so_far(self) -> int:
        """What `wait_done` starts to count from."""
        if self.done_prefix() is not None:
            return self._count_prefix()
        return 0 if self.idle() is not None else self.done_count()

    def _count_prefix(self) -> int:
        pattern, count, cursor = f"{self.done_prefix()}*", 0, 0
        while True:
            self.looks += 1
            cursor, found = self.redis.scan(cursor, match=pattern, count=5000)
            count += len(found)
            if cursor == 0:
                return count

    def _all_done(self, count: int, before: int) -> bool:
        self.looks += 1
        if self.done_prefix() is not None:
            enough = self.redis.dbsize() >= before + count
            return enough and self._count_prefix() >= before + count
        idle = self.idle()
        return idle if idle is not None else self.done_count() - before >= count

    def wait_done(self, count: int, before: int) -> float:
        """The time at which all were seen to be done."""
        deadline = clock() + LIMIT_S
        while True:
            now = clock()
            if self._all_done(count, before):
                return now
            if now > deadline:
                raise TimeoutError(f"{count} jobs were not done in {LIMIT_S:.0f} s")
            time.sleep(LOOK_S)

    def warm(self) -> None:
        """Some jobs, so that everything is up and loaded; the second worker may take longer."""
        for pause_s in (2.0, 0.5):
            before = self.done_so_far()
            self.enqueue(40)
            self.wait_done(40, before)
            time.sleep(pause_s)

    def start_pair(self) -> None:
        """Two independent workers, one of which will be killed."""
        for number in range(2):
            self.spawn(self.single_worker(number))
        time.sleep(10.0)  # it is not known of all systems when their workers are up

    def victims(self, pid: int) -> list[int]:
        """The processes of the worker to which this one belongs."""
        for process in self.processes:
            tree = descendants(process.pid)
            if pid in tree:
                return tree
        raise RuntimeError("the process that ran the job belongs to no worker")

    def await_queued(self, count: int) -> None:
        """Returns when all jobs are in the queue; for systems that go on after `enqueue`."""
