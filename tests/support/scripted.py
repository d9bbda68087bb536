"""Drives the scripts by hand: a cluster, its nodes, and a clock that the test moves."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from penstock.common.jobs import (
    Claimed,
    NodeInfo,
    Settlement,
    Token,
    job_id,
    queue_class,
    queue_name,
    rq_data,
)
from penstock.common.state import keys
from penstock.common.state.chunks import STATIC, NewJob
from penstock.common.state.states import EXECUTION, EXECUTION_TERMINAL, JOB
from penstock.common.state.store import Store

from .transitions import transitions

EXECUTION_ID = "abcdefghijklmn1"
TTL_S = 1000
SHIFT_KEY = "penstock:test:shift"

#: lib/now.lua with a shift that tests set
SHIFTED_NOW = f"""
local NOW_MS, NOW_US
each_call(function()
  local time = redis.call('TIME')
  NOW_MS = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    + tonumber(redis.call('GET', '{SHIFT_KEY}') or 0)
  NOW_US = tonumber(time[2]) % 1000
end)
"""


def new_job(name: str, upstreams: tuple[str, ...] = (), **fields: Any) -> NewJob:
    """A job that runs `m:f`; `tags`, `priority`, `needs` and so on as fields."""
    class_ = queue_class(tuple(fields.pop("tags", ())))
    priority = fields.pop("priority", 5)
    given = {
        "run": "m:f",
        "data": rq_data("m:f", "{}"),
        "origin": queue_name(class_, priority),
        "timeout": 300,
        "retries": 0,
    }
    return NewJob(name, upstreams, {**given, **fields})


@dataclass
class Node:
    """A daemon's part in the protocol, by hand."""

    store: Store
    id: str
    incarnation: str
    capabilities: tuple[str, ...] = ("cpu",)
    slots: int = 2
    resources: dict[str, float] = field(default_factory=lambda: {"cpus": 2.0, "ram": 8e9})
    turn: int = 0

    def register(self) -> str:
        info = NodeInfo(
            self.id, self.incarnation, "host", 1, self.capabilities, self.slots, self.resources
        )
        return self.store.register(info)

    def advance(self, *settlements: Settlement, lanes: int = 0, **rest: Any) -> Any:
        self.turn += 1
        return self.again(*settlements, lanes=lanes, **rest)

    def again(self, *settlements: Settlement, lanes: int = 0, **rest: Any) -> Any:
        """The last advance once more, under the same claim id."""
        rest.setdefault("free", {**self.resources, "slots": float(self.slots)})
        claim = f"{self.incarnation}.{self.turn}"
        return self.store.advance(
            self.id, self.incarnation, claim, settlements=settlements, lanes=lanes, **rest
        )

    def claim(self, lanes: int = 1, **rest: Any) -> list[Claimed]:
        return list(self.advance(lanes=lanes, **rest).claimed)

    def beat(self, *tokens: Token, answered: int | None = None) -> Any:
        return self.store.beat(self.id, self.incarnation, tokens, answered=answered)


@dataclass
class Cluster:
    """One execution and the means to drive it."""

    store: Store
    client: Any
    id: str = EXECUTION_ID

    def submit(self, *jobs: NewJob, **fields: Any) -> None:
        given = {"name": "test", "root": "", "digest": "", "policy": "continue", "ttl_s": TTL_S}
        self.store.submit(self.id, "digest", "{}", {**given, "parallelism": 0, **fields})
        assert self.store.extend(self.id, STATIC, 0, True, jobs) == "OK"

    def node(self, id_: str = "n1", **given: Any) -> Node:
        node = Node(self.store, id_, f"{id_}inc", **given)
        assert node.register() == "OK"
        return node

    def job(self, name: str) -> dict[str, str]:
        raw = self.client.hgetall(keys.job(job_id(self.id, name)))
        return {key.decode(): value.decode() for key, value in raw.items()}

    def statuses(self, *names: str) -> list[str]:
        return [self.job(name).get("status", "") for name in names]

    @property
    def status(self) -> str:
        return self.store.execution(self.id)["status"]

    def take_agenda(self, *served: str, lease_s: float = 10) -> list[str]:
        """What an orchestrator that serves these domains (none: all) may work on now."""
        return [item.text for item in self.store.take_agenda(served, lease_s, 9).items]

    def pass_time(self, seconds: float) -> None:
        self.client.incrby(SHIFT_KEY, int(seconds * 1000))

    def keep_alive(self, *nodes: Node, seconds: float) -> None:
        """Time passes while these nodes beat once a second."""
        for _ in range(int(seconds)):
            self.pass_time(1)
            for node in nodes:
                node.beat()

    def events(self, name: str) -> list[dict[str, str]]:
        return [row for row in transitions(self.client) if row["event"] == name]

    def events_of(self, job: str) -> list[dict[str, str]]:
        return [row for row in transitions(self.client) if row.get("job") == job]


def check_transitions(client: Any) -> None:
    """Every transition that the scripts recorded is one that states.py allows."""
    moves = {"job_requeued": "queued", "job_parked": "deferred", "job_unmet": "deferred"}
    now: dict[str, str] = {}
    for fields in transitions(client):
        table = JOB if fields["event"].startswith("job_") else EXECUTION
        subject = f"{fields.get('execution')}-{fields.get('job', '')}"
        target = moves.get(fields["event"]) or fields["event"].partition("_")[2]
        if fields["event"] == "execution_ended":
            target = fields["status"]
        if target not in table or not fields.get("execution"):
            continue
        before = now.get(subject, next(iter(table)))
        assert before == target or target in table[before], f"{subject}: {before} -> {target}"
        now[subject] = target


def check_keys(client: Any, store: Store) -> None:
    """Every key left has a TTL, is declared, or belongs to an execution that has not ended."""
    while store.drain_outbox():
        pass
    alive = []
    for member in client.zrange(keys.executions(), 0, -1):
        id_ = member.decode()
        if store.execution(id_).get("status") not in EXECUTION_TERMINAL:
            alive.append(id_)
        while store.expire(id_):
            pass
    declared = [*keys.PERMANENT, *keys.OWNED, SHIFT_KEY]
    for key in (raw.decode() for raw in client.scan_iter(count=1000)):
        forever = client.ttl(key) == -1
        if forever and not any(fnmatch.fnmatchcase(key, pattern) for pattern in declared):
            assert any(id_ in key for id_ in alive), f"{key} stays for ever"


def names(claimed: Iterable[Claimed]) -> list[str]:
    """What was claimed, by name."""
    return [one.name for one in claimed]


def done(claimed: Claimed, result: bytes = b"1", **rest: Any) -> Settlement:
    """A good end of a claimed job."""
    return Settlement(claimed.token, "finished", result, **rest)


def bad(claimed: Claimed, outcome: str = "failed", **rest: Any) -> Settlement:
    """A bad end of a claimed job."""
    return Settlement(claimed.token, outcome, error=b'{"type": "E", "message": "m"}', **rest)
