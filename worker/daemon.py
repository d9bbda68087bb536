"""The node: an RQ worker that holds leases, feeds slots, and never blocks.

Started by the supervisor as `python -P -m penstock.worker.daemon OPTIONS INCARNATION
REPORT PARENT` (REPORT is a pipe on which it names each incarnation that it takes on).
It is an RQ worker by its registration, state and commands; the loop, and all that
concerns jobs, is ours.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

import redis
from rq.command import PUBSUB_CHANNEL_TEMPLATE, handle_command
from rq.utils import as_text, now
from rq.worker import BaseWorker

from .. import __version__
from ..common.errors import InputError, PenstockError, RedisUnavailable
from ..common.jobs import Beaten, NodeInfo
from ..common.settings import Settings
from ..common.state import keys
from ..common.state.connection import connect
from ..common.state.scripts import Limits
from ..common.state.store import Store
from . import settling
from .exchange import Exchange
from .held import Held, Verdict
from .lines import ChannelLine, CommandLine, InboxLine
from .loop import Loop
from .options import Options
from .pool import Plan, Pool
from .slot import become_subreaper, tie_to_parent

log = logging.getLogger("penstock.worker")

#: RQ's hash of this worker is refreshed so often, in seconds, and lives this long without.
RQ_REFRESH_S = 30.0
RQ_TTL_S = 60
#: Calls that must be made at once (to register, to leave) wait so long, in seconds.
REPLY_S = 2.0
#: After this many seconds processes that will not die no longer hold up the exit.
EXIT_S = 10.0


class Daemon(BaseWorker):
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
        super().__init__(
            [f"{class_}.p5" for class_ in ("any", *options.capabilities)],
            name=options.name,
            connection=client,
            worker_ttl=RQ_TTL_S,
        )
        self.log = log
        limits = Limits(
            max_crashes=settings.max_crashes, log_limit_bytes=int(settings.log_limit_bytes)
        )
        self._store = Store(client, limits)
        self._loop = Loop()
        self._commands = CommandLine(self._loop, client)
        self._pool = Pool(self._loop, self._plan(url), self)
        self._exchange = Exchange(self._commands, self._store, self, options.name)
        up = lambda: self._commands.connected  # noqa: E731
        inbox = keys.node_inbox(options.name)
        self._inbox = InboxLine(self._loop, client, up, inbox, self._take_message)
        channel = PUBSUB_CHANNEL_TEMPLATE % options.name
        self._channel = ChannelLine(self._loop, client, up, channel, self._take_rq_command)
        self._starting_over = False
        self._retry_at = 0.0
        self._stop_at: float | None = None
        self._stop_signals = 0

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
            result_limit=int(self._settings.result_limit_bytes),
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
        self._refresh_rq()
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
        self._check_name()
        try:
            self.register_birth()  # type: ignore[no-untyped-call]
            self._register()
        except redis.RedisError as error:
            raise RedisUnavailable(f"cannot register the node {self.name}: {error}") from error

    def _register(self) -> None:
        incarnation, self._next_incarnation = self._next_incarnation, uuid.uuid4().hex
        os.write(self._report, f"{incarnation}\n".encode())
        info = NodeInfo(
            id=self.name,
            incarnation=incarnation,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            capabilities=self._options.capabilities,
            concurrency=self._options.concurrency,
            resources=self._options.totals,
            timeout_s=self._settings.node_timeout_s,
            version=__version__,
        )
        if self._store.register(info) == "TAKEN":
            raise InputError(_name_taken(self.name, "another host"))
        self._incarnation = incarnation
        self._exchange.start_over(incarnation)
        log.info("event=node_registered node=%s incarnation=%s", self.name, incarnation)

    def _check_name(self) -> None:
        """A worker of this name that lives on this host is another one; a dead one is replaced."""
        key = keys.rq_worker(self.name)
        raw: list[Any] = self.connection.hmget(key, "pid", "hostname", "death")
        pid, hostname, death = (as_text(value) if value else "" for value in raw)
        if pid and not death and hostname == socket.gethostname() and _is_worker(int(pid)):
            raise InputError(_name_taken(self.name, f"pid {pid}"))
        self.connection.delete(key)

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
        self._drain()
        at = time.monotonic() + patience_s
        self._stop_at = at if self._stop_at is None else min(self._stop_at, at)
        self._loop.call_in(patience_s, lambda: None)

    def _drain(self) -> None:
        self._exchange.advances.draining = True
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
            self.unknown()
        self._exchange.beat(self._state_word())

    def _state_word(self) -> str:
        if self._exchange.advances.draining:
            return "draining"
        if self._exchange.advances.suspended:
            return "suspended"
        return "busy" if self._pool.busy else "idle"

    def beaten(self, beaten: Beaten) -> None:
        """Attempts that were given away meanwhile are ended, without a word."""
        newest: dict[str, int] = {}
        for token in self._exchange.held:
            newest[token.job] = max(newest.get(token.job, 0), token.attempt)
        stale = set(beaten.stale)
        for held in list(self._exchange.held.values()):
            token = held.token
            lost = token.job in stale or token.attempt < newest[token.job]
            if lost and not held.stale:
                log.warning("event=token_stale job=%s attempt=%d", token.job, token.attempt)
                held.stale = True
                self._pool.stop(held, None)

    def unknown(self) -> None:
        """This incarnation is over: what runs under its tokens ends, then a new one begins."""
        self._starting_over = True
        self._exchange.hush()
        self._pool.abandon()

    def _start_over(self) -> None:
        if not self._pool.quiet or not self._commands.connected:
            return
        if time.monotonic() < self._retry_at:
            return
        try:
            self._store.leave(self.name, self._incarnation, "its leases had ended")
            self._register()
        except redis.RedisError as error:
            log.warning("event=register_failed reason=%r", str(error))
            self._retry_at = time.monotonic() + REPLY_S
            self._loop.call_in(REPLY_S, lambda: None)
            return
        self._starting_over = False
        self._pool.warm()

    # -- what the pool tells

    def settled(self, held: Held, verdict: Verdict | None) -> None:
        self._exchange.settle(held, verdict)

    def hand_back(self, held: Held) -> None:
        self._exchange.hand_back(held)

    def waits(self, held: Held, waiting: bool) -> None:
        self._exchange.waits(held, waiting)

    def printed(self, held: Held, text: bytes) -> None:
        self._exchange.printed(held, text)

    def room(self) -> None:
        self._exchange.advances.hungry = True

    # -- what the exchange asks

    def lanes(self) -> int:
        return self._pool.room()

    def free(self) -> dict[str, float]:
        return self._pool.free()

    def riders(self, coming: int) -> dict[str, int]:
        return self._pool.riders(coming)

    def take(self, claimed: list[Held]) -> None:
        self._pool.take(claimed)

    def ready(self, held: Held) -> None:
        self._pool.ready(held)

    def withdraw(self, held: Held) -> bool:
        return self._pool.withdraw(held)

    # -- messages

    def _take_message(self, message: str) -> None:
        word, *rest = message.split()
        if word == "wake":
            self._exchange.advances.hungry = True
        elif word == "stop" and len(rest) == 2:
            self._stop_job(rest[0], rest[1])
        elif word == "drain":
            self._drain()
        elif word == "shutdown":
            self._stop(self._settings.drain_s)
        else:
            log.warning("event=message_unknown message=%r", message)

    def _stop_job(self, job: str, claim: str = "") -> None:
        for held in list(self._exchange.held.values()):
            if held.token.job == job and claim in ("", held.token.claim):
                self._pool.stop(
                    held, settling.of_failure("stopped", "Stopped", "stopped on request")
                )

    def _take_rq_command(self, data: bytes) -> None:
        """RQ's own commands, as `rq` and its dashboards send them."""
        try:
            payload = json.loads(data)
            if payload.get("command") in ("stop-job", "stop-execution"):
                self._stop_job(str(payload.get("job_id", "")))
            else:
                handle_command(self, payload)
        except Exception as error:  # whoever may publish can send anything
            log.warning("event=command_unreadable reason=%r", str(error))

    # -- what RQ's worker would do in its own way

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        return connection  # its time-outs are ours

    @property
    def horse_pid(self) -> int:
        """The process of a running job, 0 if none runs."""
        for lane, _ in self._pool.running():
            if lane.process is not None:
                return lane.process.pid
        return 0

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """RQ's kill-horse: ends the processes of all running jobs."""
        for lane, held in list(self._pool.running()):
            killed = settling.of_failure(
                "crashed", "JobKilled", "killed by RQ's kill-horse command"
            )
            lane.doom(held, killed)

    def _refresh_rq(self) -> None:
        """Keeps RQ's hash alive, and whole if it was lost."""
        self._loop.call_in(RQ_REFRESH_S, self._refresh_rq)
        self.last_heartbeat = now()
        fields: dict[str, Any] = {**self.serialize(), "state": _rq_state(self._state_word())}
        pairs = [str(item) for pair in fields.items() for item in pair]
        self._exchange.plain("HSET", self.key, *pairs)
        self._exchange.plain("EXPIRE", self.key, RQ_TTL_S + 60)
        self._exchange.plain("SADD", self.redis_workers_keys, self.key)


def _rq_state(word: str) -> str:
    return "busy" if word == "draining" else word


def _name_taken(name: str, where: str) -> str:
    return f"a worker named {name} runs already ({where}); choose another --name, or stop that one"


def _is_worker(pid: int) -> bool:
    """Is this a living daemon of ours? Its pid may have passed to another program."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"penstock.worker.daemon" in file.read() and pid != os.getpid()
    except OSError:
        return False


def main(argv: Sequence[str]) -> int:
    """The process. Exits 0 when stopped, else with the error's code."""
    options, incarnation, report = Options.load(argv[0]), argv[1], int(argv[2])
    tie_to_parent(int(argv[3]), signal.SIGTERM)
    become_subreaper()
    os.set_inheritable(report, False)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings.load()
        if settings.redis_url is None:
            raise InputError("PENSTOCK_REDIS_URL is not set")
        return Daemon(options, settings, settings.redis_url, incarnation, report).run()
    except PenstockError as error:
        print(f"penstock worker: {error}", file=sys.stderr)
        return error.exit_code
    except redis.RedisError as error:
        print(f"penstock worker: Redis does not answer: {error}", file=sys.stderr)
        return RedisUnavailable.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
