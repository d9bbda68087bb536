"""`@workflow`: a function that runs as a job and submits others, which a further attempt does not run again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import closing
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, overload

from ...common import context
from ...common.jobs import companion_id
from .tasks import Task, in_session

P = ParamSpec("P")
R = TypeVar("R")

#: A workflow's time limit counts while it waits, too.
DEFAULT_TIME = "01:00:00"


class Workflow(Task[P, R]):
    """A task whose function submits tasks when it runs as a job."""

    def __init__(self, function: Callable[P, R], options: Mapping[str, Any], *rest: Any):
        super().__init__(function, {"time": DEFAULT_TIME, **options}, *rest)
        self.penstock_function = functools.partial(_run, function)


def _run(function: Callable[..., Any], /, **config: Any) -> Any:
    """The function in a session that belongs to its job, of whichever attempt. Jobs that it returns
    become their results."""
    here = context.current()
    if here is None:
        return function(**config)
    from .cluster import Cluster
    from .jobs import Job, JobArray

    def resolved(value: Any) -> Any:
        if isinstance(value, Job):
            return value.get_result()
        if isinstance(value, JobArray):
            return value.get_results()
        if isinstance(value, dict):
            return {key: resolved(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [resolved(one) for one in value]
        return value

    with closing(Cluster()) as cluster:
        session = cluster.session(companion_id(here.job_id), parent=here.job_id)
        with in_session(session):
            value = function(**config)
            if isinstance(value, CoroutineType):
                import asyncio  # slow to import, and most do without

                value = asyncio.run(value)
            found = resolved(value)
        session.close()  # that of one that raised is left open for a further attempt
    return found


@overload
def workflow(function: Callable[P, R], /, **options: Any) -> Workflow[P, R]: ...


@overload
def workflow(**options: Any) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...


def workflow(function: Callable[P, R] | None = None, /, **options: Any) -> Any:
    """Makes a workflow of a function: as `@task`, but the tasks that it calls are jobs of their own.

    It is a job itself, and gives its slot away while it waits. When its process or node dies it begins
    anew, and gets the jobs that it had submitted, done or not, for the same calls: so these must come in
    the same order, with the same arguments, each time. What has not ended when it fails or is canceled
    is canceled. `time` is 1 hour by default, and counts while it waits.
    """
    if function is None:
        return lambda inner: Workflow(inner, options)
    return Workflow(function, options)
