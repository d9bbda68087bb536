"""A workflow whose job somebody retries: those of its own jobs that did not succeed run again with it."""

from __future__ import annotations

import time

from ...common.jobs import split_job_id
from ...common.state.store import Store
from ..insist import insist

#: between two looks at a retry that others are carrying out, seconds
_LOOK_S = 0.05


def begin_anew(store: Store, execution: str, parent: str) -> None:
    """Retries a workflow's execution where the attempt of its job `parent` that asks is the first one after
    a retry of that; returns when its jobs stand as the attempt is to find them.

    A further attempt after a death is none, and finds all as it is.
    """
    parent_execution, name = split_job_id(parent)
    (row,) = store.jobs(parent_execution, [name], ("attempt", "retried"))
    if not row["retried"] or int(row["attempt"]) != int(row["retried"]) + 1:
        return
    insist(lambda: store.control(execution, "cancel"))  # what is left over of the attempt before it
    insist(lambda: store.retry(execution))
    while store.execution(execution).get("retrying"):
        if not insist(store.drain_outbox):
            time.sleep(_LOOK_S)
