"""The node: an RQ worker that holds leases, feeds slots, and never blocks.

Started by the supervisor as `python -P -m penstock.worker.daemon OPTIONS SETTINGS INCARNATION
REPORT PARENT` (REPORT is a pipe on which it names each incarnation that it takes on,
and tells when that is registered, and that it was told to end).
It is an RQ worker by its registration, state and commands; the loop, and all that
concerns jobs, is ours.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING

import redis

from ..common.code import PYTHON
from ..common.errors import InputError, PenstockError, RedisUnavailable
from ..common.jobs import NOTHING, Beaten, Coming, NodeInfo, new_incarnation
from ..common.state import keys
from ..common.state.connection import connect
from ..common.state.scripts import Limits
from ..common.state.store import Store
from . import settling
from .exchange import Exchange
from .held import Held, Verdict
from .lanes import Plan
from .lines import ChannelLine, CommandLine, InboxLine
from .loop import Loop
from .options import REGISTERED, STOPPING, Options, load_settings
from .parentage import become_subreaper, tie_to_parent
from .pool import Pool
from .rqworker import RqWorker, name_taken

if TYPE_CHECKING:
    from ..common.settings import Settings

log = logging.getLogger("penstock.worker")

#: RQ's hash of this worker is refreshed so often, in seconds.
RQ_REFRESH_S = 30.0
#: Calls that must be made at once (to register, to leave) wait so long, in seconds.
REPLY_S = 2.0
#: After this many seconds processes that will not die no longer hold up the exit.
EXIT_S = 10.0


class Daemon(RqWorker):
    """One node. `run` returns the exit code."""

    def __init__(
        self, options: Options, settings: Settings, url: str, incarnation: str, report: int
    ) -> None:
        self._parent = os.getppid()
        self._options = options
        self._settings = settings
        self._report = report
        self._incarnation = ""
        self._next_incarnation = incarnation
        client = connect(url, name=f"penstock:{options.name}", reply_timeout_s=REPLY_S)
        super().__init__(options.name, options.capabilities, client)
        self._store = Store(client, Limits.of(settings))
        self._loop = Loop()
        self._commands = CommandLine(self._loop, client, self._renew_lines)
        self._pool = Pool(self._loop, self._plan(url), self)
        self._exchange = Exchange(self._commands, self._store, self, options.name)
        self._exchange.advances.late_s = settings.node_timeout_s
        up = lambda: self._commands.connected  # noqa: E731
        inbox = keys.node_inbox(options.name)
        self._inbox = InboxLine(self._loop, client, up, inbox, self._take_message)
        channel = self.pubsub_channel_name
        self._channel = ChannelLine(self._loop, client, up, channel, self.take_rq_command)
        self._paused: set[str] = set()
        self._starting_over = False
        self._retry_at = 0.0
        self._stop_at: float | None = None
        self._stop_signals = 0

    def _renew_lines(self) -> None:
        """Where one connection broke, the others may be broken and not know it for long."""
        self._inbox.renew()
        self._channel.renew()

    def _plan(self, url: str) -> Plan:
        environment = {
            **os.environ,
            "PENSTOCK_REDIS_URL": url,
            "PENSTOCK_NODE": self._options.name,
            "PENSTOCK_SLOT": uuid.uuid4().hex,
        }
        return Plan(
            concurrency=self._options.concurrency,
            totals=self._options.totals,
            gpus=self._options.gpus,
            environment=environment,
            result_limit=int(self._settings.inline_limit_bytes),
            log_limit=int(self._settings.log_limit_bytes),
        )

    # -- life

    def run(self) -> int:
        """Serves until told to stop; 0 then. Raises PenstockError when it cannot begin."""
        for sig in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(sig, self._take_stop_signal)
        self._loop.on_signal(signal.SIGCHLD, self._pool.reap)
        self._begin()
        for line in (self._commands, self._inbox, self._channel):
            line.open()
        self._pool.warm()
        self._heart()
        self._refresh()
        while not self._over():
            self._loop.turn()
            if self._starting_over:
                self._start_over()
            else:
                self._exchange.pump()
        self._finish()
        return 0

    def _begin(self) -> None:
        """Registers, with RQ and with us."""
        self.take_name()
        try:
            self.register_birth()  # type: ignore[no-untyped-call]
            self._register()
        except redis.RedisError as error:
            raise RedisUnavailable(f"cannot register the node {self.name}: {error}") from error

    def _register(self) -> None:
        """Begins an incarnation: nothing of the one before holds."""
        incarnation, self._next_incarnation = self._next_incarnation, new_incarnation()
        os.write(self._report, f"{incarnation}\n".encode())
        self._join(incarnation)
        os.write(self._report, f"{REGISTERED}\n".encode())
        self._exchange.start_over(incarnation)
        log.info("event=node_registered node=%s incarnation=%s", self.name, incarnation)

    def _join(self, incarnation: str) -> None:
        info = NodeInfo(
            id=self.name,
            incarnation=incarnation,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            capabilities=self._options.capabilities,
            concurrency=self._options.concurrency,
            resources=self._options.totals,
            timeout_s=self._settings.node_timeout_s,
            version=metadata.version("penstock"),
            python=PYTHON,
        )
        if self._store.register(info) == "TAKEN":
            raise InputError(name_taken(self.name, "another host"))
        self._incarnation = incarnation

    def _over(self) -> bool:
        if self._stop_at is None:
            return False
        if self._pool.quiet and self._exchange.settled_all:
            return True
        if time.monotonic() < self._stop_at:
            return False
        self._pool.abandon()
        return True

    def _finish(self) -> None:
        """Leaves nothing behind: no process, no lease, no registration."""
        self._pool.draining = True
        self._pool.abandon()
        give_up = time.monotonic() + EXIT_S
        while self._pool.living and time.monotonic() < give_up:
            self._loop.call_in(0.01, lambda: None)
            self._loop.turn()
        for line in (self._commands, self._inbox, self._channel):
            line.close()
        try:
            self._store.leave(self.name, self._incarnation, "stopped")
            self.register_death()  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            log.warning("event=leave_failed reason=%r", str(error))

    def _take_stop_signal(self) -> None:
        """The first asks running jobs to end by themselves; the next ends them."""
        self._stop_signals += 1
        orphaned = os.getppid() != self._parent
        self._stop(0.0 if self._stop_signals > 1 or orphaned else self._settings.drain_s)

    def _stop(self, patience_s: float) -> None:
        log.info("event=node_stopping node=%s patience_s=%g", self.name, patience_s)
        with suppress(OSError):  # the supervisor is gone
            os.write(self._report, f"{STOPPING}\n".encode())
        self._drain()
        at = time.monotonic() + patience_s
        self._stop_at = at if self._stop_at is None else min(self._stop_at, at)
        if patience_s < math.inf:
            self._loop.call_in(patience_s, lambda: None)

    def _drain(self) -> None:
        self._exchange.advances.drain()
        self._pool.drain()
        self._exchange.beat("draining")

    # -- beats

    def _heart(self) -> None:
        self._loop.call_in(self._settings.heartbeat_s, self._heart)
        if os.getppid() != self._parent:
            self._stop(0.0)
        silent_s = time.monotonic() - self._commands.last_heard
        if silent_s > self._settings.offline_limit_s and not self._starting_over:
            log.error("event=offline_limit node=%s silent_s=%.0f", self.name, silent_s)
            self._give_up_jobs()
        self._exchange.beat(self._state_word())
        for command in self.count_commands():
            self._exchange.plain(*command)

    def _state_word(self) -> str:
        if self._exchange.advances.draining:
            return "draining"
        if self._exchange.advances.suspended:
            return "suspended"
        return "busy" if self._pool.busy else "idle"

    def beaten(self, beaten: Beaten) -> None:
        """Attempts that were given away or canceled meanwhile are ended, without a word.

        Messages only make the beat come at once: it is the answer that counts, since it
        follows whatever was claimed before.
        """
        newest: dict[str, int] = {}
        for token in self._exchange.held:
            newest[token.job] = max(newest.get(token.job, 0), token.attempt)
        stale = set(beaten.stale)
        doomed = set()
        for token, held in self._exchange.held.items():
            lost = token in stale or token.attempt < newest[token.job]
            if lost and not held.stale:
                log.warning("event=token_stale job=%s attempt=%d", token.job, token.attempt)
                held.stale = True
                doomed.add(held)
        if doomed:
            self._pool.stop(doomed, None)
        if beaten.drain and not self._exchange.advances.draining:
            self._stop(math.inf)
        if self._paused and not self._exchange.held_up:
            paused, self._paused = self._paused, set()
            held_of = self._exchange.held.values()
            self._pool.hand_back({one for one in held_of if one.work.execution in paused})

    def unknown(self) -> None:
        """Redis has forgotten this node, after an outage or because it was silent too long.

        It joins again as it is: beats tell which of its attempts were given away, and
        the others go on.
        """
        if self._starting_over:
            return
        try:
            self._join(self._incarnation)
        except redis.RedisError as error:
            log.warning("event=join_failed reason=%r", str(error))
        else:
            log.info("event=node_joined_again node=%s", self.name)
            self._exchange.advances.hungry = True

    def _give_up_jobs(self) -> None:
        """Too long without Redis: what runs ends, and a new incarnation begins with it."""
        self._starting_over = True
        self._exchange.hush()
        self._pool.abandon()

    def _start_over(self) -> None:
        if not self._pool.quiet or not self._commands.connected:
            return
        if time.monotonic() < self._retry_at:
            return
        try:
            self._store.leave(self.name, self._incarnation, "without Redis for too long")
            self._register()
        except redis.RedisError as error:
            log.warning("event=register_failed reason=%r", str(error))
            self._retry_at = time.monotonic() + REPLY_S
            self._loop.call_in(REPLY_S, lambda: None)
            return
        self._starting_over = False
        self._commands.last_heard = time.monotonic()
        self._exchange.pump()
        self._pool.warm()

    # -- what the pool tells

    def settled(self, held: Held, verdict: Verdict | None) -> None:
        if verdict is not None:
            self.count_end(verdict.outcome == "finished")
        self._exchange.settle(held, verdict)
        if held.stale:  # what it took of the node is free now
            self._exchange.beat(self._state_word())

    def hand_back(self, held: Held) -> None:
        self._exchange.hand_back(held)

    def waits(self, held: Held, waiting: bool) -> None:
        self._exchange.waits(held, waiting)

    def printed(self, held: Held, text: bytes) -> None:
        self._exchange.printed(held, text)

    def room(self) -> None:
        self._exchange.advances.hungry = True

    # -- what the exchange asks

    def lanes(self, coming: Coming = NOTHING) -> int:
        return self._pool.room(coming)

    def free(self, coming: Coming = NOTHING) -> dict[str, float]:
        return self._pool.lanes.free(coming)

    def riders(self, coming: int) -> dict[str, int]:
        return self._pool.riders(coming)

    def take(self, claimed: list[Held]) -> None:
        self._pool.take(claimed)

    def ready(self, held: Held) -> None:
        self._pool.ready(held)

    def withdraw(self, held: Held) -> bool:
        return self._pool.withdraw(held)

    # -- messages, from Redis and from RQ's tools

    def _take_message(self, message: str) -> None:
        word, *rest = message.split()
        if word == "wake":
            self._exchange.advances.hungry = True
            self._exchange.pump()  # before the inbox is waited on again: a job waits
        elif word == "cancel":
            self._exchange.beat(self._state_word())
        elif word == "pause" and len(rest) == 1:
            self._paused.add(rest[0])
            self._exchange.beat(self._state_word())
        elif word == "drain":
            self._stop(math.inf)
        elif word == "shutdown":
            self._stop(self._settings.drain_s)
        else:
            log.warning("event=message_unknown message=%r", message)

    def stop_job(self, job: str) -> None:
        stopped = settling.of_failure("stopped", "Stopped", "stopped on request")
        held = {one for one in self._exchange.held.values() if one.token.job == job}
        for one in held:
            if self._exchange.recall(one):
                self._exchange.settle(one, stopped)
        self._pool.stop(held, stopped)

    def running_pids(self) -> list[int]:
        lanes = [lane for lane, _ in self._pool.lanes.running()]
        return [lane.process.pid for lane in lanes if lane.process is not None]

    def kill_running(self, why: str) -> None:
        for lane, held in list(self._pool.lanes.running()):
            lane.doom(held, settling.of_failure("crashed", "JobKilled", why))

    def _refresh(self) -> None:
        self._loop.call_in(RQ_REFRESH_S, self._refresh)
        for command in self.refresh_commands(self._state_word()):
            self._exchange.plain(*command)


def main(argv: Sequence[str]) -> int:
    """The process. Exits 0 when stopped, else with the error's code."""
    options, settings = Options.load(argv[0]), load_settings(argv[1])
    incarnation, report = argv[2], int(argv[3])
    tie_to_parent(int(argv[4]), signal.SIGTERM)
    become_subreaper()
    os.set_inheritable(report, False)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        url = os.environ["PENSTOCK_REDIS_URL"]
        daemon = Daemon(options, settings, url, incarnation, report)
        gc.freeze()  # what is imported stays, and need not be looked at again by each collection
        return daemon.run()
    except PenstockError as error:
        print(f"penstock worker: {error}", file=sys.stderr)
        return error.exit_code
    except redis.RedisError as error:
        print(f"penstock worker: Redis does not answer: {error}", file=sys.stderr)
        return RedisUnavailable.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
