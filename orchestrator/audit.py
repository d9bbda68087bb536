"""Finds what cannot go on by itself, and mends it: `penstock doctor` and its `--repair`.

Every change of state is one script, so between two scripts certain things always hold: a
queued job is in its list, a started one has a lease, and so on. The audit reads executions in
pages and lets a script judge whatever looks odd, in one step. So a healthy cluster, however
busy, yields no finding. Counts are judged where no job moved while they were taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
    "needs",
    "unmet",
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
    found = _Execution(id_, before, rows, groups, lists)
    counted = _counts(store, found, since) if steady else []
    return [*_as_a_whole(store, id_), *_jobs(store, id_, found.odd_jobs()), *counted]


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
    """What is in lists, each read once, when it is first asked for."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._read: dict[str, dict[str, int]] = {}

    def place(self, key: str, id_: str) -> int | None:
        """Where in the list a job stands, counted from its head; None when it is not there."""
        if key not in self._read:
            entries = list(self._entries(key))
            self._read[key] = {id_: len(entries) - 1 - at for at, id_ in enumerate(entries)}
        return self._read[key].get(id_)

    def _entries(self, key: str) -> Iterator[str]:
        # From the tail: what leaves at the head meanwhile moves no entry past us.
        end = -1
        while page := self._client.lrange(key, end - PAGE + 1, end):
            yield from (member.decode() for member in reversed(page))
            end -= PAGE


@dataclass(frozen=True)
class _Execution:
    """An execution as it was read: its fields, its jobs by name, its fan-outs' groups by name."""

    id: str
    fields: Row
    rows: dict[str, Row]
    groups: dict[str, Row]
    lists: _Lists

    def odd_jobs(self) -> list[str]:
        """Those that a script must look at; what is certainly well needs none."""
        return [name for name, row in self.rows.items() if not self._is_well(name, row)]

    def _is_well(self, name: str, row: Row) -> bool:
        if row["status"] in JOB_TERMINAL:
            return True
        id_ = job_id(self.id, name)
        if row["status"] == "queued":
            return self.lists.place(keys.queue(row["origin"]), id_) is not None
        if row["status"] != "deferred":
            return False
        if not row["group"] and int(row["waits"] or 0) > 0:
            return int(row["waits"]) == self._open(row["upstreams"])
        return self._waits_in_a_list(id_, row)

    def _open(self, upstreams: str) -> int:
        names = (word.rstrip("?") for word in upstreams.split())
        return sum(self.rows.get(name, {}).get("status") not in JOB_TERMINAL for name in names)

    def _waits_in_a_list(self, id_: str, row: Row) -> bool:
        """Is it in a list out of which it will come? Of those that wait for a place, the first
        ones must not, while there are places."""
        if (place := self.lists.place(keys.held(self.id), id_)) is not None:
            return place >= _room(self.fields, "parallelism")
        if row["group"]:
            place = self.lists.place(keys.group_held(self.id, row["group"]), id_)
            if place is not None:
                return place >= _room(self.groups.get(row["group"], {}), "limit")
        if (place := self.lists.place(keys.parked(self.id), id_)) is not None:
            return place > 0 or self.fields["status"] == "paused"
        class_ = row["origin"].rpartition(".p")[0]
        unmet = f"{keys.unmet()}:{class_}|{row['needs']}"
        return row["unmet"] == "1" and (self.lists.place(unmet, id_) or 0) > 0


def _room(fields: Row, limit: str) -> int:
    return max(0, int(fields.get(limit, 0)) - int(fields.get("admitted", 0)))


def _jobs(store: Store, execution: str, names: Sequence[str]) -> Iterator[Finding]:
    gone: list[str] = []
    for page in _pages(names, repairs.JOBS):
        ids = [job_id(execution, name) for name in page]
        for id_, what in zip(ids, repairs.jobs(store, ids, mend=False), strict=True):
            if what == repairs.HASH_GONE:
                gone.append(id_)
            elif what:

                def mend(id_: str = id_) -> bool:
                    return repairs.jobs(store, [id_], mend=True) not in ([""], [repairs.HASH_GONE])

                yield Finding("job", id_, what, mend)
    # The name of one that was folded went in the same script.
    named = {job_id(execution, name) for name in store.job_names(execution)} if gone else set()
    for id_ in gone:
        if id_ in named:
            out = f"`penstock cancel {execution}`, then `penstock retry {execution}` runs it anew"
            what = f"{repairs.HASH_GONE}, which nothing can mend: {out}"
            yield Finding("job", id_, what, lambda: False)


# -- counts


def _counts(store: Store, found: _Execution, since: str) -> Iterator[Finding]:
    if "retrying" in found.fields or store.client.llen(keys.outbox(found.id)):
        return
    gone = {name: int(group.get("folded", 0)) for name, group in found.groups.items()}
    right = _of_execution(found.rows, sum(gone.values()))
    yield from _compare(store, found.id, "", since, found.fields, right)
    children: dict[str, list[Row]] = {}
    for row in found.rows.values():
        children.setdefault(row["group"], []).append(row)
    for name, group in found.groups.items():
        if "created" in group:
            right = _of_group(children.get(name, []), gone[name], "stopped_by" in group)
            yield from _compare(store, found.id, name, since, group, right)


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


def _of_execution(rows: dict[str, Row], gone: int) -> dict[str, int]:
    """What the counts of an execution must be, by its jobs; beside these so many finished and are gone."""
    statuses = Counter(row["status"] for row in rows.values())
    faults = sum(
        row["status"] in ("failed", "stopped")
        and row["on_failure"] != "continue"
        and row["tolerated"] != "1"
        for row in rows.values()
    )
    admitted = sum("x" in row["gate"] for row in rows.values())
    statuses["finished"] += gone
    ends = {status: statuses[status] for status in _ENDS}
    running = {"running": statuses["started"], "admitted": admitted, "faults": faults}
    return {"jobs": len(rows) + gone, **ends, **running}


def _of_group(children: Sequence[Row], gone: int, stopped: bool) -> dict[str, int]:
    """What the counts of a fan-out must be, by its jobs; beside these so many finished and are gone.
    `stopped`: those that are canceled need not run."""
    ended = [row for row in children if row["status"] in JOB_TERMINAL]
    well = ("finished", "canceled") if stopped else ("finished",)
    unfinished = [row for row in ended if row["status"] not in well]
    bad = [row for row in unfinished if row["on_failure"] != "continue"]
    admitted = sum("g" in row["gate"] for row in children)
    return {
        "created": len(children) + gone,
        "settled": len(ended) + gone,
        "unfinished": len(unfinished),
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
