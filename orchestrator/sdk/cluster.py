"""A cluster as Python sees it: submit workflows, wait for them, read their results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...common.code import CodeRoot, code_root
from ...common.context import waiting
from ...common.errors import InputError
from ...common.settings import Settings
from ...common.spec.functions import Known, resolver
from ...common.spec.loading import Resolver, load_workflow, parse_workflow
from ...common.state.connection import check, connect
from ...common.state.lock import LEADER, Held, Lock, holding
from ...common.state.scripts import Limits
from ...common.state.store import Store
from ..service import Service


class Cluster:
    """The cluster behind a Redis URL (default: PENSTOCK_REDIS_URL, which jobs have set)."""

    def __init__(self, url: str | None = None):
        """Raises InputError without a URL, RedisUnavailable when nothing answers."""
        settings = Settings.load(redis_url=url)
        if not settings.redis_url:
            raise InputError(
                "no cluster: give Cluster(url), or set PENSTOCK_REDIS_URL; `penstock up` prints one"
            )
        client = connect(settings.redis_url)
        check(client, settings.redis_url)
        self.service = Service(Store(client, Limits.of(settings)), settings)
        # Importing takes a process of its own: done once for each function, until its code changes.
        self._checked: tuple[CodeRoot | None, Known] = (None, {})

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
            code = code_root(Path.cwd())
            loaded = parse_workflow(workflow, given, resolver=self._resolver(code))
        elif isinstance(workflow, str | os.PathLike):
            code = code_root(Path(workflow).resolve().parent)
            loaded = load_workflow(workflow, given, resolver=self._resolver(code))
        else:
            raise InputError(f"a workflow is a mapping, or a file's path; this is {workflow!r:.60}")
        return Execution(self, self.service.submit(loaded, key=key, code=_inside(code)))

    def _resolver(self, code: CodeRoot) -> Resolver:
        if self._checked[0] != code:
            self._checked = (code, {})
        return resolver(Path(code.root), known=self._checked[1])

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


def _inside(code: CodeRoot) -> CodeRoot:
    """Inside a job, the job's own code root: its folder was digested when it was submitted."""
    root, digest = os.environ.get("PENSTOCK_CODE_ROOT"), os.environ.get("PENSTOCK_CODE_DIGEST")
    return CodeRoot(root, digest) if root == code.root and digest else code


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
        with waiting():
            return self._cluster.service.wait_status(self.id, timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Waits, and returns the execution's result. Raises ExecutionFailed, ExecutionCanceled."""
        with waiting():
            return self._cluster.service.wait_result(self.id, timeout)

    def cancel(self) -> str:
        """Cancels it; returns the status."""
        return self._cluster.service.cancel(self.id)
