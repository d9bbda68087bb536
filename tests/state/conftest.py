"""A store on each server, under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.common.state.scripts import Scripts
from penstock.common.state.store import Store
from support.scripted import SHIFTED_NOW, Cluster, check_transitions


@pytest.fixture
def cluster(server: Any) -> Iterator[Cluster]:
    """An empty store; afterwards every transition that was made must be in the state table."""
    scripts = Scripts(replace={"now": SHIFTED_NOW})
    yield Cluster(Store(server.client, scripts=scripts), server.client)
    check_transitions(server.client)
