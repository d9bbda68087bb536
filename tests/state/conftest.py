"""A store on each server, under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.common.state.scripts import Scripts
from penstock.common.state.store import Store
from support.scripted import SHIFTED_NOW, Cluster, check_keys, check_transitions


@pytest.fixture
def cluster(server: Any) -> Iterator[Cluster]:
    """An empty store; afterwards every transition that was made must be in the state table,
    and every key must have somebody who will delete it."""
    store = Store(server.client, scripts=Scripts(replace={"now": SHIFTED_NOW}))
    yield Cluster(store, server.client)
    check_transitions(server.client)
    check_keys(server.client, store)
