"""Penstock: a distributed DAG job system on a Redis queue, for machine learning teams.

`Cluster` submits workflows and reads their results; `task` makes jobs of
functions, which give a `Job` or a `JobArray`; `handler` and `register_handler`
bind functions to job types; `context` tells a job about itself; `errors` has
what is raised. Everything is loaded on first use, so that importing this stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import context, errors
    from .common.handlers import handler, register_handler
    from .common.values import register_codec
    from .orchestrator.sdk.asynchronous import AsyncCluster, AsyncExecution
    from .orchestrator.sdk.cluster import Cluster, Execution
    from .orchestrator.sdk.executor import PenstockExecutor
    from .orchestrator.sdk.jobs import Job, JobArray
    from .orchestrator.sdk.tasks import Task, task
    from .orchestrator.sdk.workflows import Workflow, workflow

__all__ = [
    "AsyncCluster",
    "AsyncExecution",
    "Cluster",
    "Execution",
    "Job",
    "JobArray",
    "PenstockExecutor",
    "Task",
    "Workflow",
    "context",
    "errors",
    "handler",
    "register_codec",
    "register_handler",
    "task",
    "workflow",
]

_HOMES = {
    "AsyncCluster": ".orchestrator.sdk.asynchronous",
    "AsyncExecution": ".orchestrator.sdk.asynchronous",
    "Cluster": ".orchestrator.sdk.cluster",
    "Execution": ".orchestrator.sdk.cluster",
    "Job": ".orchestrator.sdk.jobs",
    "JobArray": ".orchestrator.sdk.jobs",
    "PenstockExecutor": ".orchestrator.sdk.executor",
    "Task": ".orchestrator.sdk.tasks",
    "task": ".orchestrator.sdk.tasks",
    "Workflow": ".orchestrator.sdk.workflows",
    "workflow": ".orchestrator.sdk.workflows",
    "handler": ".common.handlers",
    "register_codec": ".common.values",
    "register_handler": ".common.handlers",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in ("context", "errors"):
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    if name == "__version__":
        return import_module("importlib.metadata").version("penstock")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
