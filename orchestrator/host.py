"""Runs this machine's processes for one data folder: an orchestrator and a worker."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ..common.datafolder import DataFolder, open_log, tail
from ..common.doorbell import Doorbell, ring
from ..common.errors import WaitTimeout
from ..common.filelock import FileLock
from ..common.nodename import node_name
from ..common.tied import tied
from ..common.waiting import Waker, readable

logger = logging.getLogger(__name__)

#: How long processes that are told to stop may take, in seconds.
STOP_S = 10.0
#: A process that ends sooner than this died quickly, in seconds.
QUICK_S = 5.0
#: Quick deaths in a row after which a process is given up.
MAX_QUICK_DEATHS = 10
#: The pause before a restart grows by this with each quick death, in seconds; below 1 s in all.
PAUSE_S = 0.08

PYTHON = (sys.executable, "-P", "-m")


def orchestrator_command() -> list[str]:
    """The command line of an orchestrator."""
    return [*PYTHON, "penstock.orchestrator.main"]


def worker_command(concurrency: int | None = None, name: str | None = None) -> list[str]:
    """The command line of a worker's supervisor; by default with one slot a core.

    Raises InputError for a name that no node may have.
    """
    slots = concurrency or len(os.sched_getaffinity(0))
    named = ["--name", node_name(name)] if name else []
    return [*PYTHON, "penstock.worker.supervisor", "--concurrency", str(slots), *named]


class LocalHost:
    """One orchestrator and one worker for a data folder; either is restarted within 1 s.

    Only one host works in a folder at a time: where another process is it, this one
    stands by and takes over when that one ends. A worker that was drained stays away
    until another host is started for the folder. `stop` is safe at any time and twice;
    a stopped host is not started again. `orchestrator` and `worker` replace the
    command lines. `on_failure` is called, from another thread, with the reason when a
    process that died ten times in a row within 5 s is given up.
    """

    def __init__(
        self,
        home: Path,
        url: str,
        *,
        concurrency: int | None = None,
        name: str | None = None,
        orchestrator: Sequence[str] | None = None,
        worker: Sequence[str] | None = None,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        folder = DataFolder.at(home)
        env = {
            **os.environ,
            "PENSTOCK_HOME": str(folder.home),
            "PENSTOCK_REDIS_URL": url,
        }
        self._orchestrator = _Part(
            "orchestrator", orchestrator or orchestrator_command(), env, folder.logs
        )
        self._worker = _Part(
            "worker", worker or worker_command(concurrency, name), env, folder.logs
        )
        self._lock = FileLock(folder.lock("host"))
        self._wanted = folder.wanted
        self._url = url
        self._on_failure = on_failure
        # A daemon: its wait for another process's lock cannot be interrupted.
        self._thread = threading.Thread(target=self._serve, name="local-host", daemon=True)
        self._ending = Waker()
        self._started = threading.Event()
        self._deciding = threading.Lock()
        self._serving = False
        self._stopped = False
        #: Why a process was given up; None while all is well.
        self.failure: str | None = None

    @property
    def owner(self) -> bool:
        """True while this is the folder's host."""
        return self._lock.held

    @property
    def starts_worker(self) -> bool:
        """False while the folder's worker, drained, stays away."""
        return not self._wanted.exists()

    @property
    def orchestrator_pid(self) -> int | None:
        """Process id of the orchestrator; None while there is none of this host's."""
        return self._orchestrator.pid

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker's supervisor; None while there is none of this host's."""
        return self._worker.pid

    def acquire(self, blocking: bool = False) -> bool:
        """Makes this the folder's host, without starting anything; False if another one is."""
        if self._lock.held or self._thread.is_alive():
            return self._lock.held
        return self._lock.take(blocking=blocking)

    def start(self) -> bool:
        """Starts the processes; True if this is the host, False if it stands by.

        Raises RuntimeError after `stop`.
        """
        owner = self.acquire()
        if not self._thread.is_alive():
            self._thread.start()
        if owner:
            self._started.wait()
        else:
            threading.Thread(target=self._ask, name="asks-for-worker", daemon=True).start()
        return owner

    def _ask(self) -> None:
        """Has the folder's host start a worker, where its own was told to end and has ended, or yet will."""
        import redis  # all slow to import, and only who stands by needs them

        from ..common.state.connection import connect
        from .nodes import await_one

        def ask() -> None:
            if self._stopped:
                raise WaitTimeout
            ring(self._wanted)

        client = connect(self._url)
        with contextlib.suppress(WaitTimeout, redis.RedisError), contextlib.closing(client):
            await_one(client, math.inf, ask)

    def stop(self) -> None:
        """Ends the processes, by SIGTERM and after 10 s by SIGKILL; returns when they are gone."""
        with self._deciding:
            if self._stopped:
                return
            self._stopped = True
            self._ending.wake()
        if self._thread.ident is None:
            self._lock.release()
            self._ending.close()
        elif self._serving:
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _serve(self) -> None:
        """The whole life of the host in one thread: its processes end with the thread."""
        try:
            if not self._lock.held:
                self._lock.take()
            with self._deciding:
                self._serving = not self._stopped
            if self._serving:
                self._wanted.unlink(missing_ok=True)  # of a host that was killed
                self._keep([self._orchestrator, self._worker])
        finally:
            self._started.set()
            self._lock.release()
            self._ending.close()

    def _keep(self, parts: list[_Part]) -> None:
        """Starts the processes and starts them again, until `stop`; then ends them."""
        try:
            while True:
                waits = [part.start_if_due() for part in parts]
                self._started.set()
                pause = min((wait for wait in waits if wait is not None), default=None)
                living = [part.pidfd for part in parts if part.alive]
                asked = [part.drained.fd for part in parts if part.drained is not None]
                ready = readable([self._ending.fd, *asked, *living], pause)
                if self._ending.fd in ready:
                    return
                for part in parts:
                    if part.alive and part.pidfd in ready:
                        self._bury(part)
                    elif part.drained is not None and part.drained.fd in ready:
                        part.come_back()
        finally:
            _end(parts)
            self._worker.come_back()

    def _bury(self, part: _Part) -> None:
        status = part.bury()
        if part is self._worker and status == 0:
            part.drained = Doorbell(self._wanted)
        logger.warning("event=part_died part=%s status=%d", part.name, status)
        if part.given_up:
            self.failure = (
                f"the {part.name} ended {MAX_QUICK_DEATHS} times in a row right after its start, "
                f"the last time with status {status}\n"
                f"The end of {part.log}:\n{tail(part.log)}"
            )
            logger.error("event=part_given_up part=%s", part.name)
            if self._on_failure is not None:
                self._on_failure(self.failure)


class _Part:
    """One process of the host, as it dies and is started again."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], logs: Path
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.pidfd = -1
        #: Tells when another is wanted in place of a worker that was drained and has ended.
        self.drained: Doorbell | None = None
        self._command = command
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._due = 0.0
        self._quick_deaths = 0

    @property
    def alive(self) -> bool:
        """True from its start until its death is noted."""
        return self.pidfd >= 0

    @property
    def pid(self) -> int | None:
        """The process id; None while there is no process."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def given_up(self) -> bool:
        """True after too many quick deaths in a row."""
        return self._quick_deaths >= MAX_QUICK_DEATHS

    def start_if_due(self) -> float | None:
        """Starts what should run; else the seconds until that is due, None for never."""
        if self.alive or self.given_up or self.drained is not None:
            return None
        wait = self._due - time.monotonic()
        if wait > 0:
            return wait
        log = open_log(self.log)
        try:
            # A group of its own: Ctrl-C is for the command, which stops us in order.
            self._process = subprocess.Popen(
                tied(self._command),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.pidfd = os.pidfd_open(self._process.pid)
        self._started = time.monotonic()
        return None

    def bury(self) -> int:
        """Notes the death of the process; its exit status, negative for a signal."""
        os.close(self.pidfd)
        self.pidfd = -1
        status = self._process.wait() if self._process is not None else 0
        quick = time.monotonic() - self._started < QUICK_S
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        self._due = time.monotonic() + PAUSE_S * self._quick_deaths
        return status

    def come_back(self) -> None:
        """A worker that was drained may start again."""
        if self.drained is not None:
            self.drained.close()
            self.drained, self._quick_deaths, self._due = None, 0, 0.0

    def send(self, sig: signal.Signals) -> None:
        """Sends the process, or for SIGKILL its whole group, a signal."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if sig == signal.SIGKILL else os.kill)(self.pid, sig)


def _end(parts: Iterable[_Part]) -> None:
    """Ends the processes and waits for them: with patience, then without."""
    for sig, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, None)):
        for part in parts:
            part.send(sig)
        deadline = None if patience_s is None else time.monotonic() + patience_s
        while living := [part for part in parts if part.alive]:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            ready = readable([part.pidfd for part in living], left)
            for part in living:
                if part.pidfd in ready:
                    part.bury()
