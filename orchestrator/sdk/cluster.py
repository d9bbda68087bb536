"""A cluster as Python sees it: submit workflows, wait for them, read their results."""

from __future__ import annotations

import argparse
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ...common.code import CodeRoot, code_root
from ...common.context import is_importing, waiting
from ...common.errors import InputError
from ...common.settings import Settings
from ...common.spec.functions import resolver
from ...common.spec.importer import Known
from ...common.spec.loading import Resolver, load_workflow, parse_workflow
from ...common.state.connection import check, connect
from ...common.state.lock import LEADER, Held, Lock, holding
from ...common.state.scripts import Limits
from ...common.state.store import Store
from ...common.values import loaded
from ..service import Service
from .machine import Machine
from .notebook import shown
from .session import Session
from .tasks import in_session

if TYPE_CHECKING:
    from ...common.bundles import Bundle

#: the blocks that this thread (or task of asyncio) is in, the innermost last
_entered: ContextVar[tuple[tuple[Cluster, Session, AbstractContextManager[None]], ...]] = (
    ContextVar("penstock_with", default=())
)


class Cluster:
    """The cluster behind a Redis URL (default: PENSTOCK_REDIS_URL, which jobs have set).

    Without a URL it is this machine: a private server, an orchestrator and a worker with a slot a
    core, which end with the program, or with `close()`.

    `with cluster:`, any number of times: tasks that are called inside are submitted to it, as one
    execution. At the end of the block this machine waits until all of its jobs have ended, or cancels
    them when the block raises; a cluster goes on with them.

    With a `bundle`, a folder that holds the code, that is packed now, and workers unpack it; else they find
    the code at the same path, or installed.
    """

    def __init__(self, url: str | None = None, *, bundle: str | Path | None = None):
        """Raises RedisUnavailable when nothing answers, UnsafeRedis, InputError for a bad setting or bundle."""
        if is_importing():
            raise InputError(
                "a worker imports this program to find a task in it, and the program connects to a "
                'cluster meanwhile: put that under `if __name__ == "__main__":`'
            )
        settings = Settings.load(redis_url=url)
        self._bundle = None if bundle is None else _packed(Path(bundle), settings)
        self._machine = None if settings.redis_url else Machine(settings)
        self._ending = weakref.finalize(self, self._machine.close) if self._machine else None
        url = self._machine.url if self._machine else settings.redis_url or ""
        client = connect(url)
        check(client, url)
        self.service = Service(Store(client, Limits.of(settings)), settings)
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        # Importing takes a process of its own: done once for each module, until its code changes.
        self._checked: tuple[CodeRoot | None, Known] = (None, {})

    @staticmethod
    def add_argparse_args(parser: argparse.ArgumentParser) -> None:
        """Adds the options of a program that say which cluster it is to use, and how its code gets
        there: `--redis-url`, `--bundle`."""
        parser.add_argument(
            "--redis-url",
            metavar="URL",
            help="the cluster's Redis (else PENSTOCK_REDIS_URL; without any this machine)",
        )
        parser.add_argument(
            "--bundle", metavar="DIR", help="pack this folder, and let the workers unpack it"
        )

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        """The cluster that a program's options name. Raises as `Cluster`."""
        return cls(args.redis_url, bundle=args.bundle)

    def session(self, id_: str = "", parent: str = "") -> Session:
        """What a `with cluster:` submits its tasks to, for those who submit by themselves.

        With an id it is that one, new or gone on with; `parent` is the job that it belongs to.
        """
        if self._bundle:
            self.service.keep(self._bundle)
        session = Session(self.service, self._code, id_, parent)
        session.cluster = self  # which lives as long as what asks it
        self._sessions.add(session)
        return session

    @property
    def is_this_machine(self) -> bool:
        """Whether it ends with the program."""
        return self._machine is not None

    def __enter__(self) -> Self:
        session = self.session()
        inside = in_session(session)
        inside.__enter__()
        _entered.set((*_entered.get(), (self, session, inside)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(self.leave(), error)

    def leave(self) -> Session:
        """Tasks are no longer submitted to the innermost block of this cluster; the block's session."""
        entered = _entered.get()
        at = max((n for n, (cluster, _, _) in enumerate(entered) if cluster is self), default=None)
        if at is None:
            raise InputError(
                "a block of a cluster ends where it began: in the same thread and task"
            )
        _entered.set((*entered[:at], *entered[at + 1 :]))
        _, session, inside = entered[at]
        inside.__exit__(None, None, None)
        return session

    def end(self, session: Session, error: BaseException | None) -> None:
        """Ends a block that was left, by an error or without."""
        session.close()
        if self._machine:
            try:
                if error is not None:
                    session.cancel()
                session.wait()
            except BaseException:  # Ctrl-C
                session.cancel()
                raise

    def close(self) -> None:
        """Gives up the connections; without a URL, ends what was started for it. Safe twice.

        What has not ended goes on, but jobs can no longer be waited for.
        """
        for session in list(self._sessions):
            session.stop()
        self.service.close()
        if self._ending:
            self._ending()

    def submit(
        self,
        workflow: str | Path | Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> Execution:
        """Submits a workflow file, or a mapping of the same form, and returns at once.

        The code of its functions is looked for in the file's folder, or in the
        current one for a mapping; they are imported once, in a process of their own, until the
        folder's code changes. Raises SpecError with all faults.
        """
        given = dict(params or {})
        if isinstance(workflow, Mapping):
            folder = Path.cwd()
            code = self._code(folder)
            loaded = parse_workflow(workflow, given, resolver=self._resolver(folder, code))
        elif isinstance(workflow, str | os.PathLike):
            folder = Path(workflow).resolve().parent
            code = self._code(folder)
            loaded = load_workflow(workflow, given, resolver=self._resolver(folder, code))
        else:
            raise InputError(f"a workflow is a mapping, or a file's path; this is {workflow!r:.60}")
        bundle = self._bundle
        return Execution(self, self.service.submit(loaded, key=key, code=code, bundle=bundle))

    def _code(self, folder: Path) -> CodeRoot:
        """What workers import the modules of a folder from."""
        return self._bundle.code(folder) if self._bundle else code_root(folder)

    def _resolver(self, folder: Path, code: CodeRoot) -> Resolver:
        if self._checked[0] != code:
            self._checked = (code, {})
        return resolver(folder, known=self._checked[1])

    def execution(self, id_: str) -> Execution:
        """An execution that was submitted earlier. Raises NotFound."""
        return Execution(self, self.service.resolve(id_))

    def lock(
        self, name: str, ttl_s: float | None = None, wait_s: float = 60.0
    ) -> AbstractContextManager[Held]:
        """Holds the lock `name` for a block: `with cluster.lock("quota") as held: ... held.fence`.

        Waits for at most `wait_s`, then raises LockHeld, which names the holder. The
        lock is renewed all the while, and frees itself `ttl_s` (PENSTOCK_LOCK_TTL_S,
        30 s) after its owner has died. Raises InputError for a bad name or time.
        """
        if name == LEADER:
            raise InputError(f"the lock {name} is the orchestrators' own; choose another name")
        ttl_s = self.service.settings.lock_ttl_s if ttl_s is None else ttl_s
        return holding(Lock(self.service.store, name, ttl_s=ttl_s), wait_s)


def _packed(folder: Path, settings: Settings) -> Bundle:
    from ...common.bundles import pack  # slow to import, and most programs do without

    return pack(folder, int(settings.bundle_limit_bytes))


class Execution:
    """One run of a workflow."""

    def __init__(self, cluster: Cluster, id_: str):
        self.id = id_
        self._cluster = cluster

    def __repr__(self) -> str:
        return f"<Execution {self.id}>"

    @property
    def status(self) -> str:
        """pending, running, paused, succeeded, failed or canceled."""
        return str(self._cluster.service.store.execution(self.id)["status"])

    def wait(self, timeout: float | None = None) -> str:
        """Waits for the end (`timeout` in seconds) and returns the status.

        Inside a job, the job's slot and cpus serve other jobs meanwhile. Raises WaitTimeout.
        """
        with self.waited_for():
            return self._cluster.service.wait_status(self.id, timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Waits, and returns the execution's result. Raises ExecutionFailed, ExecutionCanceled."""
        with self.waited_for():
            found = self._cluster.service.wait_result(self.id, timeout)
            return loaded(found, self._cluster.service.artifacts)

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """It is waited for in this block: in a job, its slot and cpus serve others meanwhile; in a
        notebook it is shown how it stands."""
        with waiting(), shown(self._cluster.service.store, self.id):
            yield

    def cancel(self) -> str:
        """Cancels it; returns the status."""
        return self._cluster.service.cancel(self.id)
