"""What a scenario needs of a system: workers to start and to hurt, a client, and its history."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chaos.history import History, Journal, Record
from chaos.proxy import Matching, Proxy
from penstock.worker.isolation import descendants, is_alive

from .log import Log, as_hit

Shape = Literal["job", "pair", "merge"]


@dataclass(frozen=True)
class Lossy:
    """A kind of request whose reply is swallowed; one whose reply is of no interest counts not."""

    kind: str
    side: Literal["client", "worker"]
    matching: Matching
    counts: Callable[[Any], bool] = lambda reply: True
    #: how the client connects: by `host`, or by `url`, to which redis-py gives other defaults
    way: str = "host"


@dataclass(frozen=True)
class Config:
    """A system as it is set up. `settings` is for readers, `environment` for its processes."""

    system: str
    name: str
    settings: str
    environment: dict[str, str]
    options: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.system}/{self.name}"


class Worker:
    """A worker's processes."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.process = process
        self._stopped: list[int] = []

    def kill(self) -> None:
        """SIGKILL of all of them at once, as when a machine dies."""
        send(self._tree(), signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """SIGSTOP of all of them."""
        self._stopped = self._tree()
        send(self._stopped, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT, of the job's process first: it was about to tell its result."""
        send(self._stopped[::-1], signal.SIGCONT)

    def _tree(self) -> list[int]:
        return [self.process.pid, *descendants(self.process.pid)]


class System(ABC):
    """One system on a server of its own. `open` before use, `close` after it."""

    #: what replies can be lost, by kind
    lossy: tuple[Lossy, ...] = ()

    def __init__(self, config: Config, folder: Path, relayed: bool) -> None:
        self.config = config
        self.folder = folder
        self.relayed = relayed
        self.relays: dict[str, Proxy] = {}
        #: submits that were errors to the caller, and results that one attempt stored more than once
        self.refused = 0
        self.stored_again = 0
        #: of each unit that was accepted: its jobs' specs, and the label under which it was sent
        self.accepted: dict[str, dict[str, Record]] = {}
        self.labels: dict[str, str] = {}
        #: units that were hit by a fault
        self.hit: set[str] = set()
        self.label = ""
        self.way = "host"
        self.log: Log
        self.journal: Journal

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def worker(self) -> Worker:
        """Starts one more, for one job at a time; does not wait for it."""

    @abstractmethod
    def submit(self, shape: Shape, s: float, n: int = 0) -> str | None:
        """Sends a unit of work whose (first) jobs take `s` seconds. None: the caller got an error."""

    @abstractmethod
    def unfinished(self) -> set[str]:
        """The accepted units that have not ended, by the system's word."""

    @abstractmethod
    def finish(self) -> None:
        """Notes how everything that was accepted has ended."""

    @abstractmethod
    def history(self) -> History:
        """After `finish`: all that happened."""

    @abstractmethod
    def close(self) -> None: ...

    def note_accepted(
        self, unit: str, sent_at: float, jobs: dict[str, Record], control: Iterable[str] = ()
    ) -> None:
        """The client was told that it is accepted. Jobs of `control` run no code of the user's.

        It is recorded as of the time when it was sent: its jobs can run before the answer comes.
        """
        self.accepted[unit] = {name: one for name, one in jobs.items() if name not in control}
        self.labels[unit] = self.label
        self.journal.write("accepted", sent_at, execution=unit, jobs=jobs)

    def fault(self, kind: str, target: str, starts: Iterable[Record]) -> Record:
        """Notes an injection and the running attempts that it hits."""
        hits = [as_hit(start) for start in starts]
        self.hit |= {one["execution"] for one in hits}
        return self.journal.write("fault", kind=kind, target=target, scenario="", jobs=hits)

    def at_work(self) -> int:
        """Units that are under way, those that a fault hit left out."""
        self.log.look()
        return sum(
            not all(self.log.ended(unit, job) for job in jobs)
            for unit, jobs in self.accepted.items()
            if unit not in self.hit
        )

    def await_workers(self, workers: list[Worker], timeout_s: float = 60.0) -> None:
        """Sends short jobs until each of the workers has run one."""
        missing = {worker.name for worker in workers}
        deadline = time.monotonic() + timeout_s
        while missing:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.config.title}: {missing} run no jobs\n{self.logs()}")
            if self.at_work() < 2 * len(workers):
                self.submit("job", 0.3)
            time.sleep(0.05)
            missing -= {start["node"] for start in self.log.starts.values()}

    def logs(self) -> str:
        """The ends of what its processes have printed."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text()[-1500:]}" for file in files)


def send(pids: Iterable[int], sig: signal.Signals) -> None:
    """Signals processes, those that are gone left out."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sig)


def end_all(mark: str, value: str) -> None:
    """Ends every process that has this in its environment."""
    needle = f"{mark}={value}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    pid = int(entry.name)
                    send([pid], signal.SIGKILL)
                    while is_alive(pid):
                        time.sleep(0.005)
