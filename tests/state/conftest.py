"""A store on each server, under a clock that the test moves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state.scripts import Scripts
from penstock.common.state.store import Store
from penstock.orchestrator.engine.roles import Agenda, Upkeep
from penstock.orchestrator.engine.work import Engine
from penstock.orchestrator.service import Service
from penstock.worker.results import metrics_of
from support.scripted import SHIFTED_NOW, Cluster, bad, check_keys, check_transitions, done


@pytest.fixture
def cluster(server: Any) -> Iterator[Cluster]:
    """An empty store; afterwards every transition that was made must be in the state table,
    and every key must have somebody who will delete it."""
    store = Store(server.client, scripts=Scripts(replace={"now": SHIFTED_NOW}))
    yield Cluster(store, server.client)
    check_transitions(server.client)
    check_keys(server.client, store)


@pytest.fixture
def service(cluster):
    return Service(cluster.store, Settings())


@pytest.fixture
def drive(cluster, service):
    """Submits a workflow and plays orchestrator and daemon until nothing moves; `work` is the job."""

    def drive(jobs: list[dict[str, Any]], work: Any, slots: int = 4, **rest: Any) -> dict[str, Any]:
        engine = Engine(cluster.store, rest.pop("window", 1000), "o1")
        agenda = Agenda(cluster.store, engine, turn_s=math.inf)
        id_ = service.submit(parse_workflow({"name": "flow", "jobs": jobs, **rest}))
        node = cluster.node(slots=slots, resources={"cpus": float(slots)})
        agenda.tick()
        while claimed := node.claim(slots):
            ends = []
            for one in claimed:
                config = json.loads(one.config)
                if refs := one.work.refs:
                    found = cluster.store.results(one.work.execution, refs)
                    config["refs"] = {name: json.loads(text) for name, text in found.items()}
                try:
                    made = work(one.name, config)
                    ends.append(done(one, json.dumps(made).encode(), metrics=metrics_of(made)))
                except ZeroDivisionError:
                    ends.append(bad(one))
            node.advance(*ends)
            agenda.tick()
            node.beat()
            Upkeep(cluster.store).tick()
        return service.execution(id_)

    return drive
