"""The standard library's way to run functions elsewhere, on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from ...common.errors import InputError
from ...common.state.states import JOB_TERMINAL
from .cluster import Cluster
from .jobs import Job
from .tasks import Task

P = ParamSpec("P")
R = TypeVar("R")


class PenstockExecutor(Executor):
    """A `concurrent.futures.Executor` whose functions run on a cluster: `PenstockExecutor()` is this
    machine, or PENSTOCK_REDIS_URL. `cluster` is one that is used already; `options` are those of `@task`.

    Functions are found by name on the workers, so that they stand at the top of a module; what they
    take and return travels as JSON. All jobs of an executor are one execution, which ends with
    `shutdown`, or the `with` block. `shutdown(cancel_futures=True)` cancels all that have not ended.
    """

    def __init__(self, cluster: Cluster | None = None, **options: Any):
        """Raises as Cluster."""
        self._options = options
        self._own = cluster is None
        self._cluster = cluster or Cluster()
        self._session = self._cluster.session()
        self._down = self._waited = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Submits one job. Raises InputError for a function or an argument that cannot travel."""
        self._check()
        return self._session.call(self._task(fn), args, kwargs)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[R]:
        """Results in the order of the items, as the builtin `map`; all jobs are submitted at once.

        `timeout` is for all of them, in seconds. `chunksize` does nothing: short jobs travel together.
        """
        self._check()
        del chunksize
        items = list(zip(*iterables, strict=False))
        if not items:
            return iter(())
        array = self._session.map(self._task(fn), items, None)
        deadline = None if timeout is None else time.monotonic() + timeout

        def results() -> Iterator[R]:
            ended = array.wait(deadline and max(0.0, deadline - time.monotonic()))
            if not ended and array.status not in JOB_TERMINAL:
                raise TimeoutError(f"{array} has not ended after {timeout} s")
            yield from array.results()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more; with `wait` returns when all jobs have ended. Safe twice."""
        if not self._down:
            self._down = True
            self._session.close()
        if cancel_futures:
            self._session.cancel()
        if wait and not self._waited:
            self._session.wait()
            self._waited = True
            if self._own:
                self._cluster.close()

    def _check(self) -> None:
        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _task(self, fn: Callable[..., R]) -> Task[..., R]:
        if isinstance(fn, Task):
            return fn
        if not callable(fn):
            raise InputError(f"{fn!r:.60} is no function")
        return Task(fn, self._options)
