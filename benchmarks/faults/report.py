"""results.json and results.md."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from . import environments

FOLDER = Path(__file__).parent
RESULTS, TABLE = FOLDER / "results.json", FOLDER / "results.md"


def load() -> dict[str, Any]:
    if RESULTS.exists():
        return dict(json.loads(RESULTS.read_text()))
    return {"rows": {}}


def versions(system: str) -> dict[str, str]:
    if system != "penstock":
        return environments.versions(system)
    return {name: importlib.metadata.version(name) for name in ("penstock", "redis")}


def save(results: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    TABLE.write_text(table(results) + "\n")


def table(results: dict[str, Any]) -> str:
    return json.dumps(results, indent=1)
