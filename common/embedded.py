"""A private server for one machine: found, or started, by whoever uses its data folder.

Every user holds `users.lock`, shared, for as long as it needs the server. The
server's keeper (keeper.py) waits for that lock alone, so that the server ends
with its last user, however that one ended. What is in the folder: datafolder.py.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from .datafolder import DataFolder, ServerInfo, ping, tail
from .detached import NotReady, start_detached
from .errors import RedisUnavailable
from .filelock import FileLock, is_owned, is_used
from .restarts import RestartBudget
from .waiting import Waker, readable

logger = logging.getLogger(__name__)

#: How long a server may take to start without saying that it is loading, in seconds.
START_S = 20.0
#: How long the last user waits for the server to end, in seconds.
GONE_S = 40.0
#: Pause between two looks at a keeper that comes or goes, in seconds.
LOOK_S = 0.01
#: Keepers that one user starts again: this many within a minute.
MAX_RESTARTS = 5


class EmbeddedServer:
    """One process's use of the private server of a data folder.

    `start` finds or starts the server, `close` gives it up; the last to give it up
    leaves no process behind. While it is open, a killed keeper is started again.
    The same object may be started and closed again; close is safe at any time.
    """

    def __init__(self, home: Path) -> None:
        self.home = Path(os.path.abspath(home))
        self._users = FileLock(self.home / "users.lock")
        self._info: ServerInfo | None = None
        self._guard: _Guard | None = None

    @staticmethod
    def running(home: Path) -> bool:
        """True if the folder's server answers; starts nothing, writes nothing."""
        return _answering(DataFolder(Path(os.path.abspath(home)))) is not None

    @property
    def url(self) -> str:
        """The server's URL, `unix:///...`, also for processes on this machine that share it."""
        return self._known().url

    @property
    def redis_cli(self) -> str:
        """The shell command that reaches the server."""
        return self._known().redis_cli

    @property
    def pid(self) -> int:
        """The process id of the server as it runs now."""
        return (DataFolder(self.home).read_server() or self._known()).pid

    def start(self) -> Self:
        """Finds or starts the server; returns when it answers.

        Waits while an earlier server of the folder is ending. Raises RedisUnavailable
        if the folder cannot be used or the server does not come up within 20 s.
        """
        if self._users.held:
            return self
        try:
            folder = DataFolder.at(self.home)
            self._users.take(shared=True)
        except OSError as error:
            raise RedisUnavailable(
                f"the data folder {self.home} cannot be used ({error.strerror}): "
                "set PENSTOCK_HOME to a folder that you may write to"
            ) from error
        try:
            self._info = ensure(folder)
        except BaseException:
            self._users.release()
            raise
        self._guard = _Guard(folder, self._info.keeper_pid)
        return self

    def close(self) -> None:
        """Gives the server up; if nobody else uses it, returns when all of it is gone."""
        if not self._users.held:
            return
        if self._guard is not None:
            self._guard.stop()
        last = self._users.take(blocking=False)
        self._users.release()
        if last:
            await_end(DataFolder(self.home))

    def _known(self) -> ServerInfo:
        if self._info is None:
            raise RedisUnavailable("the embedded server is not started: call start() first")
        return self._info

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def ensure(folder: DataFolder) -> ServerInfo:
    """The folder's server, started if it does not run; the caller holds `users.lock`.

    Raises RedisUnavailable, with what the log says, if it is not there after 20 s.
    """
    deadline = time.monotonic() + START_S
    while True:
        with FileLock(folder.lock("start")):
            info = _answering(folder)
            if info is not None:
                return info
            if not is_owned(folder.lock("keeper")):
                _start_keeper(folder)
                continue
        # A keeper that is ending, or that has not yet seen its server die.
        if time.monotonic() > deadline:
            raise _failed(
                f"the embedded server did not answer within {START_S:g} s\n"
                f"The end of {folder.keeper_log}:\n{tail(folder.keeper_log)}"
            )
        time.sleep(LOOK_S)


def await_end(folder: DataFolder) -> None:
    """Waits until keeper and server have ended, or somebody new uses the server."""
    users, deadline = folder.lock("users"), time.monotonic() + GONE_S
    while is_owned(folder.lock("keeper")) or is_owned(folder.lock("data")):
        # Held, but not by the keeper, which never lets go of it again.
        newcomer = is_used(users) and not is_owned(users)
        if newcomer or time.monotonic() > deadline:
            return
        time.sleep(LOOK_S)


def _answering(folder: DataFolder) -> ServerInfo | None:
    """The server, if it answers and somebody keeps it: without a keeper it is about to end."""
    info = folder.read_server()
    if info is None or not is_owned(folder.lock("keeper")) or ping(info.socket) != "PONG":
        return None
    return info


def _start_keeper(folder: DataFolder) -> None:
    try:
        start_detached(
            "penstock.common.keeper",
            [str(folder.home)],
            log=folder.keeper_log,
            patience_s=START_S,
        )
    except NotReady as error:
        raise _failed(f"the embedded server did not start: {error}") from error


def _failed(what: str) -> RedisUnavailable:
    return RedisUnavailable(
        f"{what}\n"
        "Free its disk or set PENSTOCK_HOME to another folder; "
        "or set PENSTOCK_REDIS_URL to a Redis of your own."
    )


class _Guard:
    """Starts the keeper again when it is killed while this process uses the server."""

    def __init__(self, folder: DataFolder, keeper_pid: int) -> None:
        self._folder = folder
        self._ending = Waker()
        self._thread = threading.Thread(target=self._watch, args=(keeper_pid,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the watching; returns when it has ended."""
        self._ending.wake()
        self._thread.join()
        self._ending.close()

    def _watch(self, keeper_pid: int) -> None:
        budget = RestartBudget(MAX_RESTARTS, within_s=60)
        while self._keeper_died(keeper_pid):
            logger.warning("event=keeper_died pid=%d", keeper_pid)
            try:
                if not budget.spend():
                    raise _failed("the embedded server's keeper dies again and again")
                keeper_pid = ensure(self._folder).keeper_pid
            except RedisUnavailable as error:
                logger.error("event=keeper_lost error=%s", error)
                return

    def _keeper_died(self, pid: int) -> bool:
        """Waits until the keeper has died (True) or the watching is to end (False)."""
        try:
            keeper = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            ready = readable([keeper, self._ending.fd])
        finally:
            os.close(keeper)
        return self._ending.fd not in ready
