"""The dead letters: jobs that used up their retries or were poison, and how they run again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ..common.errors import RedisUnavailable
from ..common.jobs import split_job_id
from ..common.state import keys
from ..common.state.states import EXECUTION_TERMINAL
from ..common.state.store import Store
from .insist import retry
from .rows import loads

#: entries of the index that are read in one round trip
PAGE = 1000
_FIELDS = ("status", "attempt", "error", "crashes", "losses")


def dead_letters(store: Store, limit: int) -> list[dict[str, Any]]:
    """The latest of them, the latest first."""
    client: Any = store.client
    found = client.zrevrange(keys.dead(), 0, limit - 1, withscores=True)
    ids = [member.decode() for member, _ in found]
    rows = []
    histories = store.histories(ids)
    for id_, (_, died_ms), history in zip(ids, found, histories, strict=True):
        execution, name = split_job_id(id_)
        fields = store.jobs(execution, [name], _FIELDS)[0]
        if fields["status"]:
            rows.append(
                {
                    "execution": execution,
                    "job": name,
                    "attempt": int(fields["attempt"] or 0),
                    "error": loads(fields["error"]),
                    "crashes": int(fields["crashes"] or 0),
                    "losses": int(fields["losses"] or 0),
                    "died_at": _iso(died_ms),
                    "history": history,
                }
            )
    return rows


def redrive(store: Store, execution: str | None) -> dict[str, Any]:
    """Runs dead letters again, of one execution or of all; see `Service.redrive`."""
    redriven: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for id_, names in _by_execution(store, execution).items():
        try:
            reason = _retry(store, id_)
        except RedisUnavailable as error:
            if not redriven:
                raise
            reason = str(error)
        if reason:
            skipped.append({"execution": id_, "reason": reason})
        else:
            redriven.append({"execution": id_, "jobs": names})
    if execution and not redriven and not skipped:
        reason = (
            f"no dead-letter jobs; `penstock retry {execution} --failed` runs what did not succeed"
        )
        skipped.append({"execution": execution, "reason": reason})
    return {"redriven": redriven, "skipped": skipped}


def _retry(store: Store, execution: str) -> str:
    """Why the execution cannot be retried; empty when it runs again."""
    status = store.execution(execution).get("status", "")
    verdict = retry(store, execution, status)
    if verdict == "OPEN" and status in EXECUTION_TERMINAL:
        return "another retry of it has begun"
    return {
        "OPEN": f"it is {status}: its dead letters run again once it has ended",
        "SUCCEEDED": "it succeeded without them; `penstock retry` without --failed runs it anew",
        "GONE": "it has expired",
    }.get(verdict, "")


def _by_execution(store: Store, only: str | None) -> dict[str, list[str]]:
    """Names of the dead-letter jobs of each execution, the one that died first before the others."""
    found: dict[str, list[str]] = {}
    for id_ in _all(store.client):
        execution, name = split_job_id(id_)
        if only in (None, execution):
            found.setdefault(execution, []).append(name)
    return found


def _all(client: Any) -> Iterator[str]:
    start = 0
    while page := client.zrange(keys.dead(), start, start + PAGE - 1):
        yield from (member.decode() for member in page)
        start += len(page)


def _iso(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
