"""A cluster of real processes that the tests of a module submit to from Python."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from support.processes import Machines


@pytest.fixture(scope="module")
def sdk_machines(redis7: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """One cluster with one node of two slots for all tests of a module, which submit to it from Python."""
    redis7.client.flushall()
    made = Machines(redis7.url, tmp_path_factory.mktemp("sdk"))
    try:
        made.worker("n", concurrency=2)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def tasks(sdk_machines: Machines) -> Iterator[ModuleType]:
    """The tasks that they submit, in the folder that the workers import them from."""
    sys.path.insert(0, str(sdk_machines.code))
    yield importlib.import_module("sdk_tasks")
    sys.path.remove(str(sdk_machines.code))
    sys.modules.pop("sdk_tasks")
