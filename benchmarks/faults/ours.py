"""Penstock as a system: the lab of tests/chaos, with nodes of one slot."""

from __future__ import annotations

import time
import uuid
from itertools import count
from pathlib import Path
from typing import Any

import redis

from chaos.history import History, read
from chaos.lab import Lab
from chaos.proxy import Proxy, scripts
from chaos.workflows import batch, chain, fan
from penstock.common.errors import PenstockError
from penstock.common.settings import Settings
from penstock.common.state.connection import connect
from penstock.common.state.store import Store
from penstock.orchestrator.service import Service

from .log import Log
from .system import Config, Lossy, Shape, System, Worker

#: Of the arguments of node_advance: how many settlements it carries; FCALL, name, 0 go before.
_SETTLEMENTS = 3 + 6


class Ours(System):
    """Penstock with its default settings."""

    def __init__(self, config: Config, folder: Path, relayed: bool) -> None:
        super().__init__(config, folder, relayed)
        self.lab = Lab(folder)
        self._names = count(1)

    def open(self) -> None:
        self.lab.open()
        self.log = Log(self.lab.history / "effects.jsonl")
        self.journal = self.lab.journal
        self.lab.orchestrator()
        if not self.relayed:
            return
        address = ("127.0.0.1", self.lab.server.port)
        self.relays = {side: Proxy(address) for side in ("client", "worker")}
        url = self.relays["client"].url
        self.lab.service = Service(Store(connect(url)), Settings(redis_url=url))
        self.lossy = _lossy(self.lab.store)

    def worker(self) -> Worker:
        name = f"w{next(self._names)}"
        url = {"url": self.relays["worker"].url} if self.relays else {}
        node = self.lab.node(name, concurrency=1, wait=False, **url)
        return Worker(name, node.supervisor)

    def submit(self, shape: Shape, s: float, n: int = 0) -> str | None:
        workflow = {"job": batch(1, s=s), "pair": chain(2, s=s), "merge": fan(n, s=s)}[shape]
        if shape == "pair":
            workflow["jobs"][1]["config"]["s"] = 0.1
        if shape == "merge":
            custom = {"strategy": "custom", "custom_aggregator": "work:total"}
            workflow["jobs"][1]["aggregation"] = custom
        prepared = self.lab.prepare(workflow)
        key, sent_at = uuid.uuid4().hex, time.time()
        try:
            unit = self._sent(prepared, key)
        except (PenstockError, redis.RedisError):
            self.refused += 1
            return None
        control = [name for name, one in prepared.jobs.items() if one["control"]]
        self.lab.accepted.append(unit)
        self.note_accepted(unit, sent_at, prepared.jobs, control)
        return unit

    def _sent(self, prepared: Any, key: str) -> str:
        """A lost reply is answered by sending it again under the same key, as its docs say."""
        try:
            return str(self.lab.service.submit(prepared.workflow, key=key, code=self.lab.code))
        except (PenstockError, redis.RedisError):
            return str(self.lab.service.submit(prepared.workflow, key=key, code=self.lab.code))

    def unfinished(self) -> set[str]:
        return set(self.lab.open_executions(self.accepted))

    def finish(self) -> None:
        self.lab.finish(timeout_s=1.0)

    def history(self) -> History:
        return read(self.lab.history)

    def close(self) -> None:
        for relay in self.relays.values():
            relay.normal()
        self.lab.close()
        for relay in self.relays.values():
            relay.close()


def _lossy(store: Store) -> tuple[Lossy, ...]:
    submit = scripts(store.scripts["execution_submit"].function.encode())
    advance = scripts(store.scripts["node_advance"].function.encode())

    def claims(request: list[bytes]) -> bool:
        return advance(request) and request[_SETTLEMENTS] == b"0"

    def settles(request: list[bytes]) -> bool:
        return advance(request) and request[_SETTLEMENTS] != b"0"

    return (
        Lossy("enqueue", "client", submit),
        Lossy("claim", "worker", claims, lambda reply: bool(reply[2])),
        Lossy("complete", "worker", settles),
    )
