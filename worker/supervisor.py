"""Above the daemon: starts it, and when it dies, ends what it left and starts it again.

Entry: `python -P -m penstock.worker.supervisor [--name X] [--capabilities a,b] ...`.
No threads, no user code. It is a subreaper, so nothing that the daemon or a slot
started can outlive them unseen; what a supervisor that was killed with its daemon
leaves is ended by the next one (sweep.py).
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from typing import Any

import click

from ..common.errors import InputError, PenstockError, RedisUnavailable
from ..common.jobs import new_incarnation
from ..common.settings import Settings
from ..common.state.connection import check, connect
from ..common.state.scripts import Limits
from ..common.state.store import Store
from .cgroups import Group
from .isolation import descendants, kill_all, reap
from .loop import READ, Loop
from .obituary import Obituary
from .options import REGISTERED, STOPPING, Options, dump_settings, options
from .parentage import become_subreaper
from .sweep import VARIABLE, Mark, sweep

log = logging.getLogger("penstock.worker")

#: A daemon that dies is started again after so long, in seconds: first, and at most.
RESTART_S = (0.05, 30.0)
#: One that lived so long after it was registered has the first delay again, in seconds.
STEADY_S = 2.0
#: One that was registered, or would have been if Redis answered, is started again after so
#: long at most, in seconds.
HOPEFUL_S = 1.0
#: A second signal within this time is the first one once more (Ctrl-C through `make`), seconds.
REPEAT_S = 0.5
#: At the very end Redis is given so long to hear of a death, in seconds.
LEAVE_S = 2.0
#: A process that cannot be killed (it hangs in the kernel) is waited for so long, in seconds.
CLEAN_S = 10.0
#: Exit codes of a daemon that would end the same way again.
_FINAL = (0, 2)


class Supervisor:
    """Keeps one daemon alive. `run` returns the exit code."""

    def __init__(self, chosen: Options, settings: Settings, url: str) -> None:
        self._options = chosen
        self._settings = settings
        self._url = url
        self._loop = Loop()
        client = connect(url, name=f"penstock:{chosen.name}:s", reply_timeout_s=2.0)
        store = Store(client, Limits.of(settings))
        self._obituary = Obituary(self._loop, client, store, chosen.name)
        self._mark = str(Mark.own())
        self._group = Group.create(self._mark)
        self._daemon: subprocess.Popen[bytes] | None = None
        self._exited = self._report = -1
        self._incarnation = ""
        self._heard = ""
        self._registered_at: float | None = None
        self._failures = 0
        self._drained = False
        self._signals = 0
        self._signalled_at = 0.0
        self._code: int | None = None

    def run(self) -> int:
        """Serves until told to stop, or until the daemon ends for good."""
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.on_signal(sig, self._take_stop_signal)
        self._start()
        while self._code is None:
            self._loop.turn()
        self._clean()
        self._loop.call_in(LEAVE_S, self._obituary.forget)
        while not self._obituary.told:
            self._loop.turn()
        if self._group is not None:
            self._group.remove()
        return self._code

    def _start(self) -> None:
        if self._signals:
            self._code = 0
            return
        self._incarnation = new_incarnation()
        self._heard, self._registered_at = "", None
        self._report, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        command = [sys.executable, "-P", "-m", "penstock.worker.daemon", self._options.dump()]
        command += [dump_settings(self._settings), self._incarnation, str(theirs), str(os.getpid())]
        try:
            self._daemon = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs,),
                start_new_session=True,
                env={**os.environ, "PENSTOCK_REDIS_URL": self._url, VARIABLE: self._mark},
            )
        except OSError as error:  # no memory or no process left for now
            log.error("event=daemon_not_started node=%s reason=%r", self._options.name, str(error))
            os.close(self._report)
            self._start_later(RESTART_S[1])
            return
        finally:
            os.close(theirs)
        if self._group is not None:
            self._group.add(self._daemon.pid)
        self._exited = os.pidfd_open(self._daemon.pid)
        self._loop.watch(self._exited, READ, lambda _: self._on_exit())
        self._loop.watch(self._report, READ, lambda _: self._hear())

    def _hear(self) -> None:
        """The daemon names each incarnation that it takes on, says when it is registered, and when
        it was told to end."""
        try:
            said = os.read(self._report, 65536)
        except BlockingIOError:
            return
        if not said:
            self._loop.unwatch(self._report)
        *lines, self._heard = (self._heard + said.decode()).split("\n")
        for line in lines:
            if line == REGISTERED:
                self._registered_at = time.monotonic()
                self._obituary.forget()
            elif line == STOPPING:
                self._drained = True
            else:
                self._incarnation = line

    def _on_exit(self) -> None:
        assert self._daemon is not None
        code = self._daemon.poll()
        if code is None:
            return
        self._loop.unwatch(self._exited)
        os.close(self._exited)
        self._daemon = None
        self._clean()
        self._hear()
        self._loop.unwatch(self._report)
        os.close(self._report)
        if code != 0:
            if code not in _FINAL:  # the daemon has said itself why it ends
                log.error("event=daemon_died node=%s code=%d", self._options.name, code)
            self._obituary.tell(self._incarnation)
        if code in _FINAL or self._signals:
            self._code = max(code, 0) if code in _FINAL else 1
            return
        if self._drained:
            # It was to take nothing more and to end, and nothing of what it ran is left.
            self._code = 0
            return
        if self._registered_at is not None and time.monotonic() - self._registered_at > STEADY_S:
            self._failures = 0
        hopeful = self._registered_at is not None or code == RedisUnavailable.exit_code
        self._start_later(HOPEFUL_S if hopeful else RESTART_S[1])

    def _start_later(self, most_s: float) -> None:
        delay = min(most_s, RESTART_S[0] * 2 ** min(self._failures, 10))
        self._failures += 1
        self._loop.call_in(delay, self._start)

    def _clean(self) -> None:
        """Ends all that is left below this process, and waits until it is gone."""
        daemon = {self._daemon.pid} if self._daemon is not None else set()

        def left() -> list[int]:
            reap(daemon)
            return descendants(os.getpid())

        give_up = time.monotonic() + CLEAN_S
        while not kill_all(left) and time.monotonic() < give_up:
            time.sleep(0.002)
        reap(daemon)

    def _take_stop_signal(self) -> None:
        now = time.monotonic()
        if self._signals and now - self._signalled_at < REPEAT_S:
            return
        self._signals, self._signalled_at = self._signals + 1, now
        if self._daemon is None:
            self._code = 0
        elif self._signals <= 2:
            self._daemon.terminate()
        else:
            self._daemon.kill()


@click.command(context_settings={"auto_envvar_prefix": "PENSTOCK"})
@click.option("--name", help="The node's name; default: the host's, and six characters.")
@click.option(
    "--capabilities", help="Tags, comma-separated; default: cpu, and gpu if there is one."
)
@click.option("--concurrency", default="auto", help="Jobs at a time; auto: one a core.")
@click.option("--cpus", type=float, help="Cores to offer; default: all that may be used.")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs to offer; default: nvidia-smi -L.")
@click.option("--ram", help="Memory to offer, such as 8GiB; default: all.")
@click.option("--redis-url", help="The Redis to serve.")
def main(redis_url: str | None, **chosen: Any) -> None:
    """Runs a worker node until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    become_subreaper()
    try:
        settings = Settings.load(redis_url=redis_url)
        url = settings.redis_url
        if url is None:
            raise InputError("no Redis is named; set PENSTOCK_REDIS_URL or give --redis-url")
        node = options(**chosen)
        sweep()
        check(connect(url, reply_timeout_s=5.0), url)
        code = Supervisor(node, settings, url).run()
    except PenstockError as error:
        click.echo(f"penstock worker: {error}", err=True)
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
