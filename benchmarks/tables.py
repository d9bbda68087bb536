"""What all reports share: Markdown tables, and on what machine they were made."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from typing import Any


def row(cells: Iterable[object]) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(names: Iterable[object]) -> list[str]:
    """The first two lines of a table."""
    names = list(names)
    return [row(names), row(["---"] * len(names))]


def machine() -> dict[str, Any]:
    """Cores, and the versions of Python and redis-server."""
    return {
        "cores": os.cpu_count(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "redis-server": _server_version(),
    }


def _server_version() -> str:
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v=(\S+)", said.stdout)
    return found[1] if found else "?"
