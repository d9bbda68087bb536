"""The node's face towards RQ: its registration, its state, its commands."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

import redis
from rq.command import handle_command
from rq.utils import as_text, now
from rq.worker import BaseWorker

from ..common.errors import InputError
from ..common.state import keys

log = logging.getLogger("penstock.worker")

#: RQ's hash of a worker lives so long after a refresh, in seconds (RQ adds 60 itself).
RQ_TTL_S = 60


class RqWorker(BaseWorker):
    """An RQ worker without RQ's loop: what runs, and where, is for the subclass."""

    def __init__(self, name: str, capabilities: Sequence[str], client: redis.Redis) -> None:
        # A node serves a list for each class and priority; these stand for them all.
        queues = [f"{class_}.p5" for class_ in ("any", *capabilities)]
        super().__init__(queues, name=name, connection=client, worker_ttl=RQ_TTL_S)
        self.log = log
        self._told_counts = 0, 0

    def running_pids(self) -> list[int]:
        """The processes that run jobs now."""
        return []

    def kill_running(self, why: str) -> None:
        """Ends them; their jobs count as crashed."""

    def stop_job(self, job: str) -> None:
        """Ends a job that this node holds."""

    def take_name(self) -> None:
        """Makes way for the registration: a dead worker of this name is replaced.

        Raises InputError when one lives on this host. One on another host is found
        by our own registration, which knows beats.
        """
        key = keys.rq_worker(self.name)
        raw: list[Any] = self.connection.hmget(key, "pid", "hostname", "death")
        pid, hostname, death = (as_text(value) if value else "" for value in raw)
        if pid and not death and hostname == socket.gethostname() and _is_daemon(int(pid)):
            raise InputError(name_taken(self.name, f"pid {pid}"))
        self.connection.delete(key)

    def serialize(self) -> dict[str, Any]:
        """RQ's fields, and a mark by which a dead node of ours is told from a stranger."""
        return {**super().serialize(), "penstock": "1"}

    def count_end(self, succeeded: bool) -> None:
        """One more attempt has ended here."""
        if succeeded:
            self.successful_job_count += 1
        else:
            self.failed_job_count += 1

    def count_commands(self) -> list[tuple[Any, ...]]:
        """The command that tells RQ how many jobs ended here, if there are more than before."""
        counts = self.successful_job_count, self.failed_job_count
        if counts == self._told_counts:
            return []
        self._told_counts = counts
        return [("HSET", self.key, *self._counts()), ("EXPIRE", self.key, RQ_TTL_S + 60)]

    def _counts(self) -> list[Any]:
        """Fields of RQ's hash."""
        done, failed = self.successful_job_count, self.failed_job_count
        return ["successful_job_count", done, "failed_job_count", failed]

    def refresh_commands(self, state: str) -> list[tuple[Any, ...]]:
        """Commands that keep RQ's hash alive, and make it whole if it was lost."""
        self.last_heartbeat = now()
        state = "busy" if state == "draining" else state
        fields: dict[str, Any] = {**self.serialize(), "state": state}
        return [
            (
                "HSET",
                self.key,
                *(str(item) for pair in fields.items() for item in pair),
                *self._counts(),
            ),
            ("EXPIRE", self.key, RQ_TTL_S + 60),
            ("SADD", self.redis_workers_keys, self.key),
        ]

    def take_rq_command(self, data: bytes) -> None:
        """A message on RQ's channel of this worker, as `rq` and its dashboards send them."""
        try:
            payload = json.loads(data)
            if payload.get("command") in ("stop-job", "stop-execution"):
                self.stop_job(str(payload.get("job_id", "")))
            else:
                handle_command(self, payload)
        except Exception as error:  # whoever may publish can send anything
            log.warning("event=command_unreadable reason=%r", str(error))

    # -- what handle_command and BaseWorker call

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        return connection  # its time-outs are ours

    @property
    def horse_pid(self) -> int:
        """The process of a running job, 0 if none runs."""
        return next(iter(self.running_pids()), 0)

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """RQ's kill-horse: ends the processes of all running jobs."""
        del sig
        self.kill_running("killed by RQ's kill-horse command")


def name_taken(name: str, where: str) -> str:
    """What to say when a worker of this name lives."""
    return f"a worker named {name} runs already ({where}); choose another --name, or stop that one"


def _is_daemon(pid: int) -> bool:
    """Is this a living daemon of ours? Its pid may have passed to another program."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"penstock.worker.daemon" in file.read() and pid != os.getpid()
    except OSError:
        return False
