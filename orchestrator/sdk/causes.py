"""Why a job did not run: what went wrong with the job that it waited for."""

from __future__ import annotations

import json
import re

from ...common.state.store import Store
from .jobs import child_name

#: as the scripts say it
_UPSTREAM = re.compile(r"upstream (\S+) did not succeed")
#: an array's jobs that are looked through for one that failed, at a time
_PAGE = 1000


def explained(store: Store, execution: str, reason: str) -> str:
    """The reason, with the error that it comes from where it names an upstream and there is one."""
    said, seen = reason, set()
    while (named := _UPSTREAM.fullmatch(said)) and named[1] not in seen:
        seen.add(named[1])
        (row,) = store.jobs(execution, [named[1]], ("status", "reason", "error", "kind"))
        if row["status"] != "canceled":
            cause = _failure(store, execution, named[1], row)
            return f"{reason} ({cause})" if cause else reason
        said = row["reason"]
    return reason


def _failure(store: Store, execution: str, name: str, row: dict[str, str]) -> str:
    if row["kind"] == "fan-out":
        total = int(store.group(execution, name).get("created", 0))
        for start in range(0, total, _PAGE):
            names = [child_name(name, index) for index in range(start, min(start + _PAGE, total))]
            children = store.jobs(execution, names, ("status", "error"))
            for child, its in zip(names, children, strict=True):
                if its["status"] == "failed":
                    return _line(child, its["error"])
    return _line(name, row["error"])


def _line(name: str, error: str) -> str:
    said = json.loads(error) if error else {}
    text = " ".join(str(said.get("message", "")).split())
    return f"{name}: {said['type']}: {text}" if said else ""
