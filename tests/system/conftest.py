"""A place for real workers: a real Redis, empty, and a folder of code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.working import Site


@pytest.fixture
def site(redis7: Any, tmp_path: Path) -> Iterator[Site]:
    """Empty before and after."""
    redis7.client.flushall()
    yield Site(redis7, tmp_path)
    redis7.client.flushall()
