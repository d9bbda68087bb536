"""`@task`: a function that a cluster runs when it is called inside `with cluster:`.

Kept light, since the worker's processes import it with the code of their jobs.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload

from ...common.errors import InputError

if TYPE_CHECKING:
    from .jobs import Job, JobArray

P = ParamSpec("P")
R = TypeVar("R")


class Submits(Protocol):
    """What an open session does for the tasks that are called in it."""

    def call(self, task: Task[Any, R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job[R]:
        """One job."""

    def map(
        self, task: Task[Any, R], items: Iterable[Any], max_concurrent: int | None
    ) -> JobArray[R]:
        """One job for each item."""


_here: ContextVar[Submits | None] = ContextVar("penstock_session", default=None)
_open: list[Submits] = []
_opening = threading.Lock()


def current_session() -> Submits | None:
    """The session of this thread, or task of asyncio; in a thread, which inherits none, else the one
    that was opened last."""
    here = _here.get()
    return _open[-1] if here is None and _open and not _in_loop() else here


def _in_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # slow to import, and most do without
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


@contextmanager
def in_session(session: Submits) -> Iterator[None]:
    """Tasks that are called meanwhile are the session's."""
    before = _here.get()
    with _opening:
        _open.append(session)
    _here.set(session)
    try:
        yield
    finally:
        _here.set(before)  # not reset: a generator may end in another context than it began
        with _opening:
            _open.remove(session)


class Task(Generic[P, R]):
    """A function and what its jobs need; made by `@task`.

    Inside `with cluster:` a call submits a job; elsewhere, in tests and inside of jobs, it is a call
    of the function. `function` is the function itself, `options` are those of `@task`.
    """

    def __init__(
        self,
        function: Callable[P, R],
        options: Mapping[str, Any],
        upstreams: tuple[Job[Any] | JobArray[Any], ...] = (),
    ):
        functools.update_wrapper(self, function)
        self.function = function
        #: What a worker calls.
        self.penstock_function: Callable[..., Any] = function
        self.options = dict(options)
        self.upstreams = upstreams

    def __repr__(self) -> str:
        return f"<Task {self.function.__module__}:{self.function.__qualname__}>"

    # A job may stand for any argument, which no type of the function's own says.
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Job[R]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Submits a job; its arguments may be other jobs, in lists and dicts too.

        Outside of `with cluster:` it calls the function and returns its value.
        """
        session = current_session()
        if session is None:
            if self.upstreams:
                raise _no_session(self, ".after(...)()")
            return self.function(*args, **kwargs)
        return session.call(self, args, kwargs)

    def map(self, items: Iterable[Any], *, max_concurrent: int | None = None) -> JobArray[R]:
        """One job for each item: a dict holds keyword arguments, a tuple positional ones, anything
        else is the first argument. Of an array each job waits for its own item only.

        At most `max_concurrent` of them run at once. Raises InputError without items, and outside of
        `with cluster:`.
        """
        session = current_session()
        if session is None:
            raise _no_session(self, ".map(items)")
        return session.map(self, items, max_concurrent)

    def after(self, *jobs: Job[Any] | JobArray[Any]) -> Task[P, R]:
        """The same task, whose jobs wait until these have succeeded."""
        return type(self)(self.function, self.options, (*self.upstreams, *jobs))

    def with_options(self, **options: Any) -> Task[P, R]:
        """The same task with other options; those that are not named stay."""
        return type(self)(self.function, {**self.options, **options}, self.upstreams)


def _no_session(task: Task[Any, Any], call: str) -> InputError:
    return InputError(
        f"{task.function.__name__}{call} needs a cluster: call it inside `with Cluster() as cluster:`"
    )


@overload
def task(function: Callable[P, R], /, **options: Any) -> Task[P, R]: ...


@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(function: Callable[P, R] | None = None, /, **options: Any) -> Any:
    """Makes a task of a function: `@task`, `@task(mem="2G", cpus_per_task=2)` or `task(function, ...)`.

    Options: `time` (a limit: seconds, `"5m"`, `"00:05:00"`), `mem`, `cpus_per_task`, `gpus`, `disk`
    (and their other spellings in a workflow's `resources`), `retry`, `priority`, `capabilities`,
    `job_name`. They are checked when a job is submitted first.
    """
    if function is None:
        return lambda inner: Task(inner, options)
    return Task(function, options)
