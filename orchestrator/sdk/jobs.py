"""Jobs and arrays of jobs, as a program that submitted them holds them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, TimeoutError, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ...common.errors import InputError, JobCanceled, JobFailed, WaitTimeout
from ...common.state.states import JOB_TERMINAL
from ...common.values import MARK_BYTES

if TYPE_CHECKING:
    from .session import Session

R = TypeVar("R")
FINISHED, CANCELED = "finished", "canceled"


class Job(Future[R]):
    """One job: a `concurrent.futures.Future` of its result, so that `as_completed` and `wait` take it,
    and `await job` gives the result as well.

    `name` is its name within its execution, `id` the whole id. As an argument of another task it
    stands for its result. It cannot be canceled alone: `cancel()` is False.
    """

    def __init__(self, session: Session, name: str):
        super().__init__()
        self.session = session
        self.name = name
        self._being_read = False

    @property
    def id(self) -> str:
        return f"{self.session.id}-{self.name}"

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __await__(self) -> Generator[Any, None, R]:
        with self._waited():
            return (yield from asyncio.wrap_future(self).__await__())

    def _waited(self) -> AbstractContextManager[None]:
        """How it is waited for."""
        return nullcontext() if self.done() else self.session.waited_for()

    def result(self, timeout: float | None = None) -> R:
        """As that of a Future: TimeoutError after `timeout` seconds, else as `get_result`."""
        with self._waited():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As that of a Future: what `get_result` would raise, or None."""
        with self._waited():
            return super().exception(timeout)

    @property
    def status(self) -> str:
        """deferred (waits for others), queued, started, scheduled, finished, failed, stopped or
        canceled."""
        return self.session.outcomes([self.name])[0][0]

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for its end, `timeout` seconds at most. Has it succeeded?"""
        with self._waited():
            wait([self], timeout)
        return self.done() and self.exception() is None

    def get_result(self, timeout: float | None = None) -> R:
        """Waits for its end and returns what the function returned.

        Raises JobFailed with the traceback of the worker, JobCanceled, or WaitTimeout after `timeout`
        seconds. In a job that waits, its slot and cpus serve others meanwhile.
        """
        try:
            return self.result(timeout)
        except TimeoutError:
            if self.done():
                raise
            raise WaitTimeout(f"job {self.id} has not ended yet") from None

    def logs(self) -> str:
        """What it has printed so far, of all its attempts."""
        return self.session.log(self.name)

    def cancel(self) -> bool:
        """False: the jobs of a session are canceled together, by `penstock cancel`."""
        return False

    def settle(self, status: str, text: bytes) -> None:
        """It has ended so; `text` is its result or its error, JSON. For the session only."""
        if self.done() or self._being_read:
            return
        if status == FINISHED and MARK_BYTES in text:
            self._being_read = True
            self.session.in_reader(lambda: self._read(text))
        elif status == FINISHED:
            self.set_result(json.loads(text))
        else:
            self.set_exception(error_of(self.name, status, text))

    def _read(self, text: bytes) -> None:
        """A result that is a file, or names some."""
        try:
            value = self.session.value_of(text)
        except Exception as error:
            self.set_exception(error)
        else:
            self.set_result(value)


class JobArray(Sequence[Job[R]], Generic[R]):
    """The jobs of one `.map()`, in the order of its items; each is made when it is asked for first.

    As an argument of another task it stands for the list of all results, as an item list of `.map()`
    for one item a job. `.after(array)` waits for all of it.
    """

    def __init__(self, session: Session, name: str, size: int, upstreams: Sequence[str] = ()):
        self.session = session
        self.name = name
        #: Names of the jobs that its jobs wait for.
        self.dependencies = list(upstreams)
        self._size = size
        self._jobs: dict[int, Job[R]] = {}
        self._making = threading.Lock()
        self._whole: Job[Any] = Job(session, name)
        session.watch(self._whole)

    @property
    def names(self) -> list[str]:
        """The names of its jobs within their execution."""
        return [child_name(self.name, index) for index in range(self._size)]

    def __repr__(self) -> str:
        return f"<JobArray {self._whole.id} of {self._size}>"

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Job[R]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job[R]]: ...
    def __getitem__(self, index: int | slice) -> Job[R] | list[Job[R]]:
        places = range(self._size)[index]
        return [self._job(n) for n in places] if isinstance(places, range) else self._job(places)

    def __iter__(self) -> Iterator[Job[R]]:
        return map(self._job, range(self._size))

    def _job(self, index: int) -> Job[R]:
        with self._making:
            job = self._jobs.get(index)
            if job is None:
                job = self._jobs[index] = Job(self.session, child_name(self.name, index))
                self.session.watch(job)
            return job

    @property
    def status(self) -> str:
        """As that of a job: started until all of its jobs have ended, then finished or failed."""
        return self._whole.status

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until all have ended, `timeout` seconds at most. Have all succeeded?"""
        return self._whole.wait(timeout)

    def get_results(self, timeout: float | None = None) -> list[R]:
        """Waits for all and returns their results, in the order of the items.

        Raises JobFailed or JobCanceled of the first that did not succeed, which names its index, or
        WaitTimeout after `timeout` seconds.
        """
        if not self._whole.wait(timeout) and not self._whole.done():
            raise WaitTimeout(f"the array {self.name} has not ended yet")
        return list(self.results())

    def results(self) -> Iterator[R]:
        """The results of one that has ended, one after another. Raises as `get_results`."""
        for index, (status, text) in enumerate(self.session.outcomes(self.names)):
            if status != FINISHED:
                raise error_of(f"{self.name}[{index}]", status, text)
            yield self.session.value_of(text)


def child_name(array: str, index: int) -> str:
    """The name of an array's job."""
    return f"{array}_{index}"


def error_of(name: str, status: str, text: bytes) -> JobFailed | JobCanceled | InputError:
    """What a job that has not succeeded raises; the worker's traceback stands below it."""
    said = json.loads(text) if text else {}
    if status not in JOB_TERMINAL:
        return InputError(f"job {name} has not ended: it is {status or 'unknown'}")
    if status == CANCELED:
        why = said.get("message") or "it was canceled"
        return JobCanceled(f"job {name} did not run: {why}", job=name)
    kind, message = said.get("type", status), said.get("message", "")
    error = JobFailed(f"job {name} {status}: {kind}: {message}", job=name, type=kind)
    if said.get("traceback"):
        error.add_note(f"\nOn the worker:\n{said['traceback'].rstrip()}")
    return error
