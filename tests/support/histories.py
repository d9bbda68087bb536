"""A random history of a small cluster, by hand: what its processes might do, in any order."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys
from penstock.common.state.scripts import Scripts
from penstock.common.state.states import EXECUTION_TERMINAL
from penstock.common.state.store import Store
from penstock.orchestrator.audit import audit
from penstock.orchestrator.engine.roles import Agenda
from penstock.orchestrator.engine.work import Engine
from penstock.orchestrator.service import Service

from .scripted import (
    SHIFT_KEY,
    SHIFTED_NOW,
    Cluster,
    Node,
    bad,
    check_keys,
    check_transitions,
    done,
)
from .transitions import transitions

LIB = Path(__file__).parents[2] / "common/state/lua/lib"
#: a clock that only the test moves
FROZEN_NOW = f"""
local NOW_MS, NOW_US
each_call(function() NOW_MS, NOW_US = 1796000000000 + tonumber(redis.call('GET', '{SHIFT_KEY}') or 0), 0 end)
"""


def scripts(step_limit: int, now: str = SHIFTED_NOW) -> Scripts:
    """The scripts, with a clock for tests and so many jobs touched at most."""
    return Scripts(replace={"now": now, "finish": _finish(step_limit)})


def frozen_scripts(step_limit: int, one_by_one: bool) -> Scripts:
    """The same under FROZEN_NOW; `one_by_one`: without the quick ways for jobs that are alike, and for one
    that is queued and claimed in one script."""
    changed = {"now": FROZEN_NOW, "finish": _finish(step_limit)}
    ways = (
        ("claim", "while took < most do", "while false do"),
        ("settle", "while places[i] do", "while false do"),
        ("queue", "elseif job == Q.may_inherit and", "elseif false and"),
    )
    for part, way, none in ways:
        text = (LIB / f"{part}.lua").read_text()
        assert way in text
        changed[part] = text.replace(way, none) if one_by_one else text
    return Scripts(replace=changed)


def _finish(step_limit: int) -> str:
    text = (LIB / "finish.lua").read_text()
    return text.replace("STEP_LIMIT = 200", f"STEP_LIMIT = {step_limit}")


def everything(client: Any, execution: str) -> dict[str, Any]:
    """All keys and what they hold, with `X` for that execution's id, but for what is drawn anew each time."""

    def text(value: Any) -> Any:
        if isinstance(value, bytes):
            value = value.decode()
        if isinstance(value, str):
            return re.sub(r"[0-9a-f]{32}", "UUID", value.replace(execution, "X"))
        if isinstance(value, dict):
            return {text(name): text(one) for name, one in value.items()}
        if isinstance(value, set):
            return {text(one) for one in value}
        return [text(one) for one in value] if isinstance(value, list | tuple) else value

    reads = {
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"string": client.get,
    }
    kinds = {key: client.type(key) for key in client.scan_iter(count=1000)}
    found = {text(key): text(reads[kind](key)) for key, kind in kinds.items() if kind in reads}
    events = [{**row, "ms": "any"} for row in transitions(client)]
    return {**found, "events": text(events)}


class History:
    """One execution on two nodes and two orchestrators, driven by a seeded draw."""

    def __init__(self, store: Store, seed: int, ends: bool, orchestrators: Store | None = None):
        """`ends`: it may be canceled and retried. `orchestrators`: what they use, if another store."""
        self.seed = seed
        self.draw = random.Random(seed)
        self.looks = random.Random(seed)
        self.ends = ends
        self.store = store
        self.client: Any = store.client
        service = Service(self.store, Settings())
        service.compile_s = 0  # left to the orchestrator of these histories
        self.id = service.submit(parse_workflow(self._workflow()))
        self.cluster = Cluster(self.store, self.client, self.id)
        windows = [self.draw.choice([2, 5, 1000]) for _ in range(2)]
        theirs = orchestrators or store
        self.agendas = [
            Agenda(theirs, Engine(theirs, window, "o"), turn_s=math.inf) for window in windows
        ]
        self.nodes = [self._node("n0", ("cpu",)), self._node("n1", ("cpu", "gpu"))]
        self.held: dict[str, list[Any]] = {node.id: [] for node in self.nodes}

    def _node(self, name: str, capabilities: tuple[str, ...]) -> Node:
        node = Node(self.store, name, f"{name}x0", capabilities, 3, {"cpus": 3.0, "ram": 8e9})
        node.register()
        return node

    def _workflow(self) -> dict[str, Any]:
        jobs: list[dict[str, Any]] = []
        for index in range(self.draw.randint(2, 6)):
            upstreams = [job["id"] for job in jobs if self.draw.random() < 0.3]
            jobs += self._jobs(f"j{index}", upstreams)
        policy = self.draw.choice(["continue", "fail_fast"])
        workflow: dict[str, Any] = {"name": "w", "jobs": jobs, "failure_policy": policy}
        if self.draw.random() < 0.5:
            workflow["parallelism"] = self.draw.randint(1, 4)
        return workflow

    def _jobs(self, name: str, upstreams: list[str]) -> list[dict[str, Any]]:
        tags = ["gpu"] if self.draw.random() < 0.25 else []
        if self.draw.random() < 0.65:
            job = {"id": name, "run": "m:f", "depends_on": upstreams, "capabilities": tags}
            on_failure = self.draw.choice(["fail", "fail", "continue"])
            return [{**job, "retry": self.draw.randint(0, 2), "on_failure": on_failure}]
        axis = {"name": "p", "values": list(range(self.draw.randint(1, 12)))}
        template = {"run": "m:f", "capabilities": tags}
        jobs: list[dict[str, Any]] = [
            {
                "id": name,
                "type": "fan-out",
                "depends_on": upstreams,
                "template": template,
                "parameters": [axis],
            }
        ]
        if self.draw.random() < 0.5:
            jobs[0]["max_parallel_jobs"] = self.draw.randint(1, 3)
        if self.draw.random() < 0.6:
            how = {"strategy": "collect-all", "on_failed": self.draw.choice(["skip", "fail"])}
            if self.draw.random() < 0.5:
                how |= {"strategy": "custom", "custom_aggregator": "m:agg"}
            jobs.append(
                {"id": f"{name}in", "type": "fan-in", "fan_out_job_id": name, "aggregation": how}
            )
        return jobs

    # -- what may happen

    def advance(self, node: Node, kindly: bool) -> None:
        held = self.held[node.id]
        self.draw.shuffle(held)
        count = self.draw.randint(0, len(held))
        ended, self.held[node.id] = held[:count], held[count:]
        ends = [self._end(one, kindly) for one in ended]
        lanes = max(0, 3 - len(self.held[node.id]))
        ahead = {"||m:f": self.draw.choice([0, 0, 2, 9])}
        answer = node.advance(*ends, lanes=lanes, ahead=ahead)
        if self.draw.random() < 0.2:
            answer = node.again(*ends, lanes=lanes, ahead=ahead)
        if answer.unknown:
            node.register()
        self.held[node.id] += answer.claimed

    def _end(self, one: Any, kindly: bool) -> Any:
        chance = self.draw.random()
        if kindly or chance < 0.7:
            return done(one, b'{"accuracy": 1}')
        if chance < 0.85:
            return bad(one, retry_ms=self.draw.choice([-1, 0, 500]))
        return bad(one, "crashed" if chance < 0.93 else "stopped")

    def beat(self, node: Node) -> None:
        self.cluster.pass_time(self.draw.choice([0.1, 1, 1]))
        beaten = node.beat(*(one.token for one in self.held[node.id]))
        if beaten.unknown:
            node.register()
        held = self.held[node.id]
        self.held[node.id] = [one for one in held if one.token not in beaten.stale]

    def hand_back(self, node: Node) -> None:
        if self.held[node.id]:
            one = self.held[node.id].pop()
            self.store.handback(node.id, node.incarnation, [one.token])

    def die(self, node: Node) -> None:
        self.store.leave(node.id, node.incarnation, "died")
        self.held[node.id] = []
        name, _, number = node.incarnation.partition("x")
        node.incarnation = f"{name}x{int(number) + 1}"
        if self.draw.random() < 0.8:
            node.register()

    def more(self, node: Node) -> list[tuple[int, Any]]:
        """Further things that may happen, with their weights; for subclasses."""
        return []

    def step(self, kindly: bool = False) -> None:
        node = self.draw.choice(self.nodes)
        helpful = [
            (35, lambda: self.advance(node, kindly and self.draw.random() < 0.7)),
            (15, lambda: self.beat(node)),
            (10, self.draw.choice(self.agendas).tick),
            (5, self.store.upkeep),
            (5, lambda: self.store.control(self.id, "resume")),
            (3, self.store.drain_outbox),
            (3, self.store.promote_due),
        ]
        harmful = [
            (5, lambda: self.hand_back(node)),
            (3, lambda: self.die(node)),
            (3, lambda: self.store.control(self.id, "pause")),
        ]
        if self.ends:
            harmful += [
                (2, lambda: self.store.control(self.id, "cancel")),
                (4, lambda: self.store.retry(self.id)),
            ]
        harmful += self.more(node)
        self.audit(0.1)
        choices = helpful if kindly else helpful + harmful
        weights = [weight for weight, _ in choices]
        self.draw.choices([action for _, action in choices], weights)[0]()

    def audit(self, chance: float) -> None:
        """Whatever happened, a cluster on which nobody laid hands has no finding."""
        if self.looks.random() < chance:
            assert audit(self.store) == []

    # -- how it must end

    def finish(self) -> None:
        """From here on nothing bad happens."""
        for node in self.nodes:
            node.register()
        for _ in range(2000):
            self.step(kindly=True)
            over = self.cluster.status in EXECUTION_TERMINAL
            if over and not self.client.scard(keys.outboxes()):
                break
        self.cluster.pass_time(11)
        for node in self.nodes:
            node.beat(*(one.token for one in self.held[node.id]))
        for _ in range(3):
            self.agendas[0].tick()
            self.cluster.pass_time(11)

    def check(self) -> None:
        self.audit(1)
        fields = self.store.execution(self.id)
        names = self.store.job_names(self.id)
        statuses = Counter(self.cluster.statuses(*names))
        assert fields["status"] in EXECUTION_TERMINAL, (fields, statuses)
        assert len(names) == len(set(names)) == int(fields.get("jobs", 0))
        for status in ("finished", "failed", "canceled", "stopped"):
            assert int(fields.get(status, 0)) == statuses[status], (status, fields, statuses)
        assert int(fields.get("running", 0)) == statuses["started"] == 0
        assert int(fields.get("admitted", 0)) == 0
        for key in self.client.scan_iter(f"{keys.execution(self.id)}:group:*"):
            if not key.endswith(b":held"):
                group = self.client.hgetall(key)
                assert int(group.get(b"admitted", 0)) == 0, group
                source = self.cluster.job(key.decode().rpartition(":")[2])
                if source["status"] == "finished":  # not one that could not go on
                    assert group[b"settled"] == group[b"total"], group
        left = ["rq:wip:*", f"{keys.unmet()}*", keys.due(), keys.agenda("default"), "rq:queue:*"]
        assert [key for pattern in left for key in self.client.scan_iter(pattern)] == []
        check_transitions(self.client)
        check_keys(self.client, self.store)
