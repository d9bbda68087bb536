"""`up` and `down`: a host that stays, `python -P -m penstock.orchestrator.local HOME`.

It holds what a `run` holds while it lasts: a use of the data folder's server, and
the host of its orchestrator and worker (host.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.datafolder import DataFolder
from ..common.detached import NotReady, Report, start_detached
from ..common.doorbell import ring
from ..common.embedded import EmbeddedServer, await_end
from ..common.errors import PenstockError
from ..common.filelock import FileLock, is_owned
from ..common.waiting import Waker, readable
from .host import LocalHost, orchestrator_command, worker_command
from .rediscli import redis_cli_line

__all__ = ["LocalHost", "Up", "down", "is_up", "up"]

logger = logging.getLogger(__name__)

URL = "PENSTOCK_REDIS_URL"
#: How long a host may take to be ready, in seconds; the server's own limit is 20.
READY_S = 30.0
#: How long a host may take to end with all it runs, in seconds.
GONE_S = 60.0


@dataclass(frozen=True, slots=True)
class Up:
    """What `up` left running. `redis_cli` is the shell command that reaches the server."""

    pid: int
    url: str
    redis_cli: str
    already: bool = False


def host_home(home: Path, url: str | None) -> Path:
    """Where a host keeps its locks: the folder, or a part of it for a Redis elsewhere."""
    if url is None:
        return home
    return home / "hosts" / hashlib.blake2b(url.encode(), digest_size=6).hexdigest()


def is_up(home: Path, url: str | None = None) -> bool:
    """True if `up` left a host running for this folder (and URL); starts nothing."""
    return is_owned(DataFolder(host_home(home, url)).lock("up"))


def ask_for_worker(home: Path, url: str | None = None) -> bool:
    """Has the host that `up` left, if any, start a worker where its own was drained and has ended; does it?"""
    return ring(DataFolder(host_home(home, url)).wanted)


def up(
    home: Path,
    *,
    url: str | None = None,
    concurrency: int | None = None,
    name: str | None = None,
    orchestrator: Sequence[str] | None = None,
    worker: Sequence[str] | None = None,
) -> Up:
    """Starts a host that stays, if there is none; returns when it is ready.

    Without a `url` it uses the folder's own server. The rest is LocalHost's. Raises
    PenstockError, with what its log says, if the host is not ready within 30 s, and
    InputError, before anything is started, for a `name` that no node may have.
    """
    commands = [
        list(orchestrator or orchestrator_command()),
        list(worker or worker_command(concurrency, name)),
    ]
    folder = DataFolder.at(host_home(home, url))
    with FileLock(folder.lock("upstart")):
        if already := is_owned(folder.lock("up")):
            return _read(folder, already)
        env = {key: value for key, value in os.environ.items() if key != URL}
        try:
            start_detached(
                "penstock.orchestrator.local",
                [str(folder.home), json.dumps(commands)],
                log=folder.logs / "host.log",
                patience_s=READY_S,
                # Not an argument: everybody may read those, and it may hold a password.
                env=env if url is None else {**env, URL: url},
            )
        except NotReady as error:
            raise PenstockError(f"the host did not come up: {error}") from error
        return _read(folder, already)


def down(home: Path, url: str | None = None) -> bool:
    """Ends the host that `up` left; returns when all it ran is gone, False if there was none.

    Raises PenstockError if it cannot be ended.
    """
    if not is_up(home, url):
        return False
    folder = DataFolder.at(host_home(home, url))
    with FileLock(folder.lock("upstart")):
        if not is_owned(folder.lock("up")):
            return False
        pid = _read(folder, True).pid
        with contextlib.suppress(ProcessLookupError):
            host = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(host, signal.SIGTERM)
                if not readable([host], GONE_S):
                    signal.pidfd_send_signal(host, signal.SIGKILL)
                    readable([host])
            finally:
                os.close(host)
        await_end(folder)
    return True


def _read(folder: DataFolder, already: bool) -> Up:
    try:
        return Up(**folder.read("up"), already=already)
    except TypeError as error:
        raise PenstockError(
            f"a host runs for {folder.home}, but {folder.home / 'up.json'} does not tell which: "
            "end the process that holds up.lock there"
        ) from error


def _serve(folder: DataFolder, commands: list[list[str]], report: Report) -> str | None:
    """Runs the host until it is told to end; the reason if it had to give up."""
    ending = Waker()
    signal.signal(signal.SIGTERM, ending.wake)
    with contextlib.ExitStack() as stack:
        url = os.environ.get(URL, "")
        redis_cli = redis_cli_line(url)
        if not url:
            server = stack.enter_context(EmbeddedServer(folder.home))
            url, redis_cli = server.url, server.redis_cli
        orchestrator, worker = commands
        host = LocalHost(
            folder.home, url, orchestrator=orchestrator, worker=worker, on_failure=ending.wake
        )
        stack.enter_context(host)
        stack.callback(folder.forget, "up")
        folder.write("up", {"pid": os.getpid(), "url": url, "redis_cli": redis_cli})
        report.ready()
        readable([ending.fd])
    return host.failure


def main(argv: Sequence[str]) -> int:
    """Hosts the data folder argv[0] with the commands of argv[1]; reports to the pipe argv[2]."""
    logging.basicConfig(format="%(asctime)s host %(message)s", level=logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, report = DataFolder.at(Path(argv[0])), Report(int(argv[2]))
    with FileLock(folder.lock("up")):
        try:
            failure = _serve(folder, json.loads(argv[1]), report)
        except Exception as error:
            logger.exception("event=host_failed")
            report.failed(error)
            return 1
    if failure:
        logger.error("event=host_gave_up reason=%s", failure)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
