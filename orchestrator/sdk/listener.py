"""Hears of the ends of a session's jobs, and keeps the session open, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

from ...common.errors import InputError, RedisUnavailable
from ...common.state import keys
from ...common.state.states import JOB_TERMINAL
from ..changes import Changes, Subscription

if TYPE_CHECKING:
    from .jobs import Job

#: without a message from Redis, jobs are looked at this often, seconds
_LOOK_S = 5.0
#: and whether they wait for what no node has, first and then, seconds
_FIRST_UNMET_S, _UNMET_S = 1.0, 5.0
#: a lost Redis is tried again this often, and given up after, seconds
_AGAIN_S, _LOST_S = 0.2, 30.0
#: jobs are looked at again no sooner than after this many seconds, and this many times what the last
#: time took: thousands that are waited for must not keep the server busy
_PAUSE_S, _SHARE = 0.001, 4.0

_AWAY = "Redis is away for {:g} s ({}); execution {} may go on, and `penstock status` tells when it is back"

Outcomes = Callable[[Sequence[str]], list[tuple[str, bytes]]]


class Listener:
    """Settles the jobs that are watched when they end.

    `outcomes` reads how jobs stand, by name; `look_around` is called now and then, `renew` every
    `renew_s` seconds while the session is open. Of a Redis that is lost for 30 s the jobs raise
    RedisUnavailable.
    """

    def __init__(
        self,
        changes: Changes,
        execution: str,
        outcomes: Outcomes,
        look_around: Callable[[], None],
        renew: Callable[[], None],
        renew_s: float,
    ):
        self._changes = changes
        self._execution = execution
        self._outcomes = outcomes
        self._look_around = look_around
        self._renew, self._renew_s = renew, renew_s
        self._renewed = time.monotonic()
        self._watched: dict[str, list[Job[Any]]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._open, self._stopped = True, False

    def watch(self, job: Job[Any], *, submitted: bool) -> None:
        """The job is settled when it ends. `submitted`: it may have ended by now."""
        with self._lock:
            stopped = self._stopped
            if not stopped:
                self._watched.setdefault(job.name, []).append(job)
        if stopped:
            job.set_exception(self._closed())
        elif not self.start() and submitted:
            self.look_soon(job)

    def start(self) -> bool:
        """Listens from now on; False if it did."""
        with self._lock:
            if self._thread is not None:
                return False
            self._thread = threading.Thread(
                target=self._listen, name="penstock-session", daemon=True
            )
            self._thread.start()
            return True

    def look_soon(self, job: Job[Any]) -> None:
        """Settles the job if it has ended by now; where Redis is away, the thread does so later."""
        with suppress(redis.exceptions.RedisError):
            self.look([job.name])

    def forget(self, job: Job[Any]) -> None:
        """The job was not submitted."""
        with self._lock:
            self._watched.pop(job.name, None)

    def look(self, names: Sequence[str] | None = None) -> None:
        """Settles those of the jobs (None: of all that are watched) that have ended by now."""
        names = list(self._watched) if names is None else names
        for name, (status, text) in zip(names, self._outcomes(names), strict=True):
            if status in JOB_TERMINAL:
                with self._lock:
                    jobs = self._watched.pop(name, [])
                for job in jobs:
                    job.settle(status, text)

    def close(self) -> None:
        """The session is renewed no more. What is watched is so on."""
        self._open = False

    def stop(self) -> None:
        """The connections are about to be closed: jobs that have not ended raise InputError."""
        with self._lock:
            self._stopped = True
        self._give_up(self._closed())

    def _closed(self) -> InputError:
        return InputError(
            f"the cluster was closed before this job had ended; execution {self._execution} goes on"
        )

    def _listen(self) -> None:
        try:
            self._keep_hearing()
        finally:  # whatever a callback of the program's raised here, the next job is listened for
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _keep_hearing(self) -> None:
        lost_since = None
        while True:
            try:
                with self._changes.of(keys.channel(self._execution)) as changes:
                    lost_since = None
                    self._hear(changes)
                return
            except Exception as error:
                if self._stopped:  # a connection that is closed meanwhile may raise anything
                    return
                if not isinstance(error, redis.exceptions.RedisError):
                    self._give_up(error)
                    raise
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > _LOST_S:
                    self._give_up(RedisUnavailable(_AWAY.format(_LOST_S, error, self._execution)))
                time.sleep(_AGAIN_S)

    def _hear(self, changes: Subscription) -> None:
        """Until the session is closed and nothing is watched any more."""
        unmet_at = time.monotonic() + _FIRST_UNMET_S
        while True:
            began = time.monotonic()
            self.look()
            if began >= unmet_at:
                unmet_at = began + _UNMET_S
                self._look_around()
            pause_s = max(_PAUSE_S, _SHARE * (time.monotonic() - began))
            if self._open and began - self._renewed > self._renew_s:
                self._renewed = began
                self._renew()
            with self._lock:
                if self._stopped or not (self._open or self._watched):
                    self._thread = None
                    return
            if changes.soon(min(_LOOK_S, self._renew_s, max(0.0, unmet_at - began))):
                time.sleep(pause_s)

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            watched, self._watched = self._watched, {}
        for job in [job for jobs in watched.values() for job in jobs]:
            job.set_exception(error)
