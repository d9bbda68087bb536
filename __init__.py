"""Penstock: a distributed DAG job system on a Redis queue, for machine learning teams.

`Cluster` submits workflows and reads their results; `handler` and
`register_handler` bind functions to job types; `context` tells a job about
itself. Everything is loaded on first use, so that importing this stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .common import context
    from .common.handlers import handler, register_handler
    from .orchestrator.sdk.cluster import Cluster, Execution

__all__ = ["Cluster", "Execution", "context", "handler", "register_handler"]

_HOMES = {
    "Cluster": ".orchestrator.sdk.cluster",
    "Execution": ".orchestrator.sdk.cluster",
    "handler": ".common.handlers",
    "register_handler": ".common.handlers",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name == "context":
        return import_module(".common.context", __name__)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    if name == "__version__":
        return import_module("importlib.metadata").version("penstock")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
