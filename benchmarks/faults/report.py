"""results.json and results.md."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import environments, tables
from .configs import CONFIGS
from .promises import PROMISES
from .scenarios import SCENARIOS

FOLDER = Path(__file__).parent
RESULTS, TABLE = FOLDER / "results.json", FOLDER / "results.md"

#: What each scenario does, and what to look at.
ABOUT = {
    "kill-worker": "SIGKILL of a worker with all its processes while it runs a job of 1.5 s; three "
    "others live, and another is started in its place. *open*: not done within the limit, though "
    "the system still has it. *recovery*: from the kill until the job started again.",
    "stopped-worker": "SIGSTOP of a worker with all its processes, a second into a job of 5 s that "
    "another job waits for; SIGCONT half a second after another worker has started the same job. "
    "*double commits*: jobs for which results of two attempts were stored. *early*: dependents "
    "that started before the run had ended whose result stands.",
    "lost-reply": "The reply to one request is swallowed and its connection closed; by kind of "
    "request in the next table.",
    "fan-in": "Eight jobs and a merge behind them (RQ: `depends_on`, Celery: chord, Dramatiq: group "
    "with a callback, Penstock: fan-in), while replies to the requests that store a result or count "
    "it are lost.",
}
_COLUMNS = {
    "injections": "injections",
    "accepted": "jobs",
    "gone": "lost",
    "open": "open",
    "failed": "failed",
    "double_commits": "double commits",
    "early_dependents": "early",
    "dependents_run_twice": "dependents run twice",
}


def load() -> dict[str, Any]:
    """What earlier runs have found; a run of a part replaces its own rows."""
    if RESULTS.exists():
        return dict(json.loads(RESULTS.read_text()))
    return {"rows": {}}


def save(results: dict[str, Any]) -> None:
    """Writes both files."""
    results["machine"] = tables.machine()
    results["settings"] = {one.title: one.settings for one in CONFIGS}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    TABLE.write_text(table(results) + "\n")


def versions(system: str) -> dict[str, str]:
    """Of a system and of the client library below it."""
    if system != "penstock":
        return environments.versions(system)
    return {name: importlib.metadata.version(name) for name in ("penstock", "redis")}


def table(results: dict[str, Any]) -> str:
    """All of results.md."""
    rows, machine = results["rows"], results["machine"]
    lines = [
        "# Faults, side by side",
        "",
        "Written by `make bench-faults`; what it does and how to read it: [README](../README.md). "
        f"{machine['cores']} cores, Python {machine['python']}, redis-server "
        f"{machine['redis-server']} with the same AOF settings for all (deploy/redis.conf).",
    ]
    for scenario in SCENARIOS:
        mine = {name.partition(":")[2]: rows[name] for name in rows if _is_of(name, scenario)}
        if mine:
            lines += ["", f"## {scenario}", "", ABOUT[scenario], "", *_main_table(mine)]
        if scenario in ("lost-reply", "fan-in") and mine:
            lines += ["", *_kinds_table(mine)]
    lines += ["", "## How each is set up", ""]
    lines += [f"- **{one.title}**: {one.settings}." for one in CONFIGS]
    lines += ["", "## What each promises, and where the holes are known", ""]
    for system, promises in PROMISES.items():
        lines += [f"**{system}**", "", *(f"- {text}" for text in promises), ""]
    return "\n".join(lines).rstrip()


def _is_of(name: str, scenario: str) -> bool:
    return name.partition(":")[0] == scenario


def _main_table(rows: dict[str, dict[str, Any]]) -> Iterable[str]:
    heads = ["system", "version", *_COLUMNS.values(), "recovery p50 / max, s", "checker", "note"]
    yield from tables.head(heads)
    for one in CONFIGS:
        if row := rows.get(one.title):
            version = row["versions"][one.system]
            counts = [str(row[column]) for column in _COLUMNS]
            found = ", ".join(f"{name}: {n}" for name, n in row["violations"].items())
            yield tables.row(
                [one.title, version, *counts, _recovery(row), found or "-", _note(row)]
            )


def _recovery(row: dict[str, Any]) -> str:
    if not row["hit"]:
        return "-"
    if not row["recoveries"]:
        return f"> {row['limit_s']:.0f} (0 of {row['hit']})"
    figures = f"{row['recovery_p50_s']:.1f} / {row['recovery_max_s']:.1f}"
    return (
        figures
        if row["recoveries"] == row["hit"]
        else f"{figures} ({row['recoveries']} of {row['hit']})"
    )


def _note(row: dict[str, Any]) -> str:
    notes = list(row["notes"])
    if row["refused"]:
        notes.append(f"{row['refused']} errors to the caller")
    if row["ran_to_the_end_twice"]:
        notes.append(f"{row['ran_to_the_end_twice']} jobs ran to their end twice")
    if row.get("stored_again"):
        notes.append(f"{row['stored_again']} results stored again by the same attempt")
    return "; ".join(notes)


def _kinds_table(rows: dict[str, dict[str, Any]]) -> Iterable[str]:
    found = ("gone", "open", "failed", "committed twice", "ran twice", "early", "refused")
    heads = ["system", "request", "replies lost", "jobs lost", *found[1:-1], "errors to the caller"]
    yield from tables.head(heads)
    for one in CONFIGS:
        for kind, row in rows.get(one.title, {}).get("by_kind", {}).items():
            yield tables.row(
                [one.title, kind, row["losses"], *(row.get(what, 0) for what in found)]
            )
