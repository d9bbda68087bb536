"""A cluster in an asyncio program: the verbs of `Cluster`, to be awaited."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ...common.errors import WaitTimeout
from ...common.state.lock import Held
from .cluster import Cluster, Execution

T = TypeVar("T")
#: an execution is waited for so long at a time, seconds
_SLICE_S = 1.0


def in_thread(
    call: Callable[[], T], unheard: Callable[[], object] | None = None
) -> asyncio.Future[T]:
    """The value of a call that waits, which has a thread of its own meanwhile.

    Threads of a pool would run out with executions that are waited for, and would keep a program
    that waits no more from its end. `unheard` is called when the call has succeeded after that.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def heard(settle: Callable[[Any], None], what: object) -> None:
        if not future.done():
            settle(what)
        elif unheard and settle == future.set_result:
            _start(unheard)

    def run() -> None:
        try:
            value = context.run(call)
        except BaseException as error:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(heard, future.set_exception, error)
            return
        try:
            loop.call_soon_threadsafe(heard, future.set_result, value)
        except RuntimeError:
            if unheard:
                unheard()

    _start(run)
    return future


def _start(run: Callable[[], object]) -> None:
    threading.Thread(target=run, name="penstock-waits", daemon=True).start()


class AsyncCluster:
    """`Cluster` for asyncio: connects when it is first used. Methods raise as those of `Cluster`.

    `async with cluster:` is its block: tasks that are called inside are submitted to it, and their jobs
    are awaited (`await train(1)`). Such a call itself takes a round trip to Redis, during which the loop
    stands still; a long `.map` can be given to `asyncio.to_thread`.
    """

    def __init__(self, url: str | None = None, *, bundle: str | Path | None = None):
        self._connect = partial(Cluster, url, bundle=bundle)
        self._cluster: Cluster | None = None
        self._connecting: asyncio.Future[Cluster] | None = None

    async def _connected(self) -> Cluster:
        if self._cluster is None:
            if self._connecting is None:
                self._connecting = in_thread(self._connect)
            try:
                self._cluster = await asyncio.shield(self._connecting)
            finally:
                if self._connecting and self._connecting.done():
                    self._connecting = None
        return self._cluster

    async def __aenter__(self) -> Self:
        (await self._connected()).__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        cluster = await self._connected()
        session = cluster.leave()
        try:
            await in_thread(partial(cluster.end, session, error))
        except asyncio.CancelledError:
            if cluster.is_this_machine:
                await in_thread(session.cancel)
            raise

    async def submit(
        self,
        workflow: str | Path | Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> AsyncExecution:
        """Submits a workflow file, or a mapping of the same form."""
        cluster = await self._connected()
        execution = await in_thread(partial(cluster.submit, workflow, params, key=key))
        return AsyncExecution(cluster, execution)

    async def execution(self, id_: str) -> AsyncExecution:
        """An execution that was submitted earlier."""
        cluster = await self._connected()
        return AsyncExecution(cluster, await in_thread(partial(cluster.execution, id_)))

    @asynccontextmanager
    async def lock(
        self, name: str, ttl_s: float | None = None, wait_s: float = 60.0
    ) -> AsyncIterator[Held]:
        """Holds a lock for a block: `async with cluster.lock("quota") as held: ... held.fence`."""
        holds = (await self._connected()).lock(name, ttl_s, wait_s)
        give_back = partial(holds.__exit__, None, None, None)
        entering = in_thread(holds.__enter__, give_back)
        try:
            held = await entering
        except asyncio.CancelledError:
            if not entering.cancelled() and entering.exception() is None:  # both came at once
                _start(give_back)
            raise
        try:
            yield held
        except BaseException as error:
            await in_thread(partial(holds.__exit__, type(error), error, error.__traceback__))
            raise
        await in_thread(give_back)

    async def close(self) -> None:
        """Gives up the connections; without a URL, ends what was started for it. Safe twice."""
        if self._cluster is not None:
            await in_thread(self._cluster.close)


class AsyncExecution:
    """`Execution` for asyncio. `id` is its id."""

    def __init__(self, cluster: Cluster, execution: Execution):
        self.id = execution.id
        self._execution = execution
        self._service = cluster.service

    def __repr__(self) -> str:
        return f"<AsyncExecution {self.id}>"

    async def status(self) -> str:
        """pending, running, paused, succeeded, failed or canceled."""
        return await in_thread(lambda: self._execution.status)

    async def wait(self, timeout: float | None = None) -> str:
        """Waits for the end (`timeout` in seconds) and returns the status. Raises WaitTimeout."""
        return await self._waited_for(self._service.wait_status, timeout)

    async def result(self, timeout: float | None = None) -> Any:
        """Waits, and returns the execution's result. Raises ExecutionFailed, ExecutionCanceled."""
        return await self._waited_for(self._service.wait_result, timeout)

    async def cancel(self) -> str:
        """Cancels it; returns the status."""
        return await in_thread(self._execution.cancel)

    async def _waited_for(self, wait: Callable[[str, float], T], timeout_s: float | None) -> T:
        """A thread waits in slices, so that it ends soon where nobody waits for it any more."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        heard = threading.Event()

        def in_slices() -> T:
            while True:
                try:
                    return wait(self.id, min(_SLICE_S, deadline - time.monotonic()))
                except WaitTimeout:
                    if heard.is_set() or time.monotonic() >= deadline:
                        raise

        with self._execution.waited_for():
            try:
                return await in_thread(in_slices)
            finally:
                heard.set()
