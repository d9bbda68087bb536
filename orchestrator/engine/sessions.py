"""Sessions: executions whose jobs come from a program, none of them from a workflow's specification.

Their program puts the item `compile <execution>` off as long as it lives; who comes to it closes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from ...common.errors import ClientGone
from ...common.jobs import split_job_id
from ...common.state.chunks import STATIC
from ...common.state.states import JOB_TERMINAL
from ...common.state.store import Store
from .verdicts import goes_on

#: one whose job has not ended is left open for a further attempt for so long at a time, seconds
LEFT_OPEN_S = 10.0


def close(store: Store, execution: str, go_on: Callable[[], None]) -> None:
    """Nothing is added any more, since the program that did is not heard of.

    That of a workflow stays open for a further attempt until the workflow's job has ended. If that
    ended badly, what has not ended here is canceled. Raises NotNow.
    """
    fields = store.execution(execution)
    if parent := fields.get("parent"):
        parent_execution, name = split_job_id(parent)
        status = store.jobs(parent_execution, [name], ("status",))[0]["status"]
        if status and status not in JOB_TERMINAL:
            store.renew_session(execution, fields["domain"], LEFT_OPEN_S)
            return
        if status != "finished":
            store.control(execution, "cancel")
    names = store.job_names(execution)
    rows = store.jobs(execution, names, ("kind",))
    for name in [name for name, row in zip(names, rows, strict=True) if row["kind"]]:
        _fail_half_made(store, execution, name, store.group(execution, name))
        go_on()
    verdict = "AHEAD"
    while verdict in ("AHEAD", "DONE"):  # it is heard of again, just now
        number = int(store.execution(execution).get("chunks", 0))
        verdict = store.extend(execution, STATIC, number, True, [])
    goes_on(verdict)


def open_array(store: Store, execution: str, name: str) -> None:
    """An array whose jobs its program made, or makes, is open (again, after a retry).

    One that was left half made, and is retried, fails again.
    """
    group = store.group(execution, name)
    if "total" in group:
        total, limit, window = (int(group[field]) for field in ("total", "limit", "window"))
        store.open_group(execution, name, total, limit, window, "")
    if store.execution(execution).get("compiled") == "1":
        _fail_half_made(store, execution, name, group)


def _fail_half_made(store: Store, execution: str, name: str, group: Mapping[str, str]) -> None:
    created = int(group.get("created", 0))
    if created != int(group.get("total", -1)):
        why = f"its program was gone after {created} of its jobs were made"
        error = {"type": ClientGone.__name__, "message": why, "traceback": ""}
        store.fail_control(execution, name, json.dumps(error))
