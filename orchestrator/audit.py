"""Finds what cannot go on by itself, and mends it: `penstock doctor` and its `--repair`.

Every change of state is one script, so between two scripts certain things always hold: a
queued job is in its list, a started one has a lease, and so on. The audit reads executions in
pages and lets a script judge whatever looks odd, in one step. So a healthy cluster, however
busy, yields no finding. Counts are judged where no job moved while they were taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.jobs import job_id
from ..common.state import keys, repairs
from ..common.state.states import EXECUTION_TERMINAL, JOB_TERMINAL
from ..common.state.store import Store

#: executions, jobs, entries of a list that are read in one round trip
PAGE = 500
#: mending one thing may show another: so often at most
ROUNDS = 5
#: events looked through for a move of the execution that is being counted
EVENTS = 5000

_FIELDS = (
    "status",
    "waits",
    "upstreams",
    "group",
    "gate",
    "kind",
    "origin",
    "on_failure",
    "tolerated",
)
_OURS = re.compile(r".+\.p\d+")
_ENDS = ("finished", "failed", "canceled", "stopped")

Row = dict[str, str]


@dataclass(frozen=True)
class Finding:
    """Something that does not move by itself. `subject` is an id of its `kind`: job, execution,
    counts (an execution, or a fan-out's job), node (its leases), queue."""

    kind: str
    subject: str
    what: str
    mend: Callable[[], bool] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: {self.what}"


def audit(store: Store) -> list[Finding]:
    """All findings; changes nothing."""
    found = [*_queues(store), *_nodes(store)]
    lists = _Lists(store.client)
    for id_ in _executions(store.client):
        found += _execution(store, id_, lists)
    return found


def repair(store: Store) -> list[Finding]:
    """Mends what it finds, and what that shows; returns what it mended."""
    mended: list[Finding] = []
    for _ in range(ROUNDS):
        done = [finding for finding in audit(store) if finding.mend()]
        if not done:
            break
        mended += [finding for finding in done if finding not in mended]
        while store.drain_outbox():
            pass
    return mended


# -- queues and nodes


def _queues(store: Store) -> Iterator[Finding]:
    client: Any = store.client
    for key in sorted(client.smembers(keys.queues())):
        name = key.decode().removeprefix(keys.queue(""))
        if not _OURS.fullmatch(name):
            continue
        entries = [member.decode() for member in client.zrange(keys.wip(name), 0, -1)]
        pages = list(_pages(entries, repairs.ENTRIES)) or [[]]
        for number, page in enumerate(pages):
            unseen, strays = repairs.queue(store, name, page, mend=False)

            def mend(name: str = name, strays: Sequence[str] = tuple(strays)) -> bool:
                unseen, gone = repairs.queue(store, name, strays, mend=True)
                return unseen or bool(gone)

            if unseen and number == 0:
                yield Finding("queue", name, "it holds jobs, but no claim looks at it", mend)
            for stray in strays:
                yield Finding("queue", name, f"{stray} counts as started, but is not", mend)


def _nodes(store: Store) -> Iterator[Finding]:
    client: Any = store.client
    head, tail = keys.node_leases("*").split("*")
    names = {
        key.decode().removeprefix(head).removesuffix(tail)
        for key in client.scan_iter(keys.node_leases("*"), count=1000)
    }
    for name in sorted(names):
        if count := repairs.node(store, name, mend=False):

            def mend(name: str = name) -> bool:
                ended = 0
                while some := repairs.node(store, name, mend=True):
                    ended += some
                return ended > 0

            what = f"{count} lease{'s' if count > 1 else ''} of a node that is not registered"
            yield Finding("node", name, what, mend)


# -- executions


def _executions(client: Any) -> Iterator[str]:
    """Ids of those that have not begun to expire, the oldest first."""
    start = 0
    while page := client.zrange(keys.executions(), start, start + PAGE - 1):
        with client.pipeline(transaction=False) as pipe:
            for member in page:
                pipe.ttl(keys.execution(member.decode()))
            for member, ttl in zip(page, pipe.execute(), strict=True):
                if ttl == -1:
                    yield member.decode()
        start += len(page)


def _execution(store: Store, id_: str, lists: _Lists) -> list[Finding]:
    since, before = _last_event(store.client), store.execution(id_)
    if before.get("status") in EXECUTION_TERMINAL and int(before.get("jobs", 0)) == _ended(before):
        return _as_a_whole(store, id_)
    names = store.job_names(id_)
    rows = dict(zip(names, store.jobs(id_, names, _FIELDS), strict=True))
    groups = {
        name: store.group(id_, name) for name, row in rows.items() if row["kind"] == "fan-out"
    }
    steady = before == store.execution(id_) and not _moved(store.client, id_, since)
    counted = _counts(store, id_, since, before, rows, groups) if steady else []
    odd = [name for name, row in rows.items() if _is_odd(id_, name, row, rows, lists)]
    return [*_as_a_whole(store, id_), *_jobs(store, id_, odd), *counted]


def _as_a_whole(store: Store, id_: str) -> list[Finding]:
    def mend() -> bool:
        return bool(repairs.execution(store, id_, mend=True))

    return [
        Finding("execution", id_, what, mend) for what in repairs.execution(store, id_, mend=False)
    ]


def _ended(fields: Row) -> int:
    return sum(int(fields.get(status, 0)) for status in _ENDS)


# -- jobs


class _Lists:
    """What is in the queues' lists, each read once, when it is first asked for."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._read: dict[str, set[str]] = {}

    def has(self, queue: str, id_: str) -> bool:
        if queue not in self._read:
            self._read[queue] = set(self._entries(keys.queue(queue)))
        return id_ in self._read[queue]

    def _entries(self, key: str) -> Iterator[str]:
        # From the tail: what leaves at the head meanwhile moves no entry past us.
        end = -1
        while page := self._client.lrange(key, end - PAGE + 1, end):
            yield from (member.decode() for member in page)
            end -= PAGE


def _is_odd(execution: str, name: str, row: Row, rows: dict[str, Row], lists: _Lists) -> bool:
    """Must a script look at this job? What is certainly well needs none."""
    if row["status"] in JOB_TERMINAL:
        return False
    if row["status"] == "queued":
        return not lists.has(row["origin"], job_id(execution, name))
    if row["status"] == "deferred" and not row["group"] and int(row["waits"] or 0) > 0:
        ends = [rows[upstream] for upstream in _names(row["upstreams"]) if upstream in rows]
        missing = len(list(_names(row["upstreams"]))) - len(ends)
        done = sum(end["status"] in JOB_TERMINAL for end in ends)
        return missing + len(ends) - done != int(row["waits"])
    return True


def _names(upstreams: str) -> Iterable[str]:
    return (word.rstrip("?") for word in upstreams.split())


def _jobs(store: Store, execution: str, names: Sequence[str]) -> Iterator[Finding]:
    for page in _pages(names, repairs.JOBS):
        ids = [job_id(execution, name) for name in page]
        for id_, what in zip(ids, repairs.jobs(store, ids, mend=False), strict=True):
            if what:

                def mend(id_: str = id_) -> bool:
                    return repairs.jobs(store, [id_], mend=True) != [""]

                yield Finding("job", id_, what, mend)


# -- counts


def _counts(
    store: Store,
    id_: str,
    since: str,
    fields: Row,
    rows: dict[str, Row],
    groups: dict[str, Row],
) -> Iterator[Finding]:
    if "retrying" in fields or store.client.llen(keys.outbox(id_)):
        return
    yield from _compare(store, id_, "", since, fields, _of_execution(rows))
    for name, group in groups.items():
        if "created" in group:
            children = [row for row in rows.values() if row["group"] == name]
            yield from _compare(store, id_, name, since, group, _of_group(children))


def _compare(
    store: Store, id_: str, fan_out: str, since: str, fields: Row, right: dict[str, int]
) -> Iterator[Finding]:
    wrong = {name: count for name, count in right.items() if int(fields.get(name, 0)) != count}
    if wrong:
        told = ", ".join(f"{name} {fields.get(name, 0)}, not {n}" for name, n in wrong.items())
        subject = job_id(id_, fan_out) if fan_out else id_

        def mend() -> bool:
            return repairs.counts(store, id_, fan_out, since, wrong)

        yield Finding("counts", subject, told, mend)


def _of_execution(rows: dict[str, Row]) -> dict[str, int]:
    """What the counts of an execution must be, by its jobs."""
    statuses = Counter(row["status"] for row in rows.values())
    faults = sum(
        row["status"] in ("failed", "stopped")
        and row["on_failure"] != "continue"
        and row["tolerated"] != "1"
        for row in rows.values()
    )
    admitted = sum("x" in row["gate"] for row in rows.values())
    ends = {status: statuses[status] for status in _ENDS}
    running = {"running": statuses["started"], "admitted": admitted, "faults": faults}
    return {"jobs": len(rows), **ends, **running}


def _of_group(children: Sequence[Row]) -> dict[str, int]:
    """What the counts of a fan-out must be, by its jobs."""
    ended = [row for row in children if row["status"] in JOB_TERMINAL]
    bad = [r for r in ended if r["status"] != "finished" and r["on_failure"] != "continue"]
    admitted = sum("g" in row["gate"] for row in children)
    return {
        "created": len(children),
        "settled": len(ended),
        "bad": len(bad),
        "admitted": admitted,
    }


def _last_event(client: Any) -> str:
    newest = client.xrevrange(keys.events(), count=1)
    return str(newest[0][0].decode()) if newest else "0-0"


def _moved(client: Any, execution: str, since: str) -> bool:
    """Has anything of the execution moved after this event, as far as can be told?"""
    events = client.xrange(keys.events(), min=since, count=EVENTS)
    ours = execution.encode()
    return len(events) == EVENTS or any(
        fields.get(b"execution") == ours for id_, fields in events if id_.decode() != since
    )


def _pages(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
