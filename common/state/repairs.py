"""Typed calls of the scripts that find what cannot go on by itself, and mend it.

With `mend` False they only look, and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .scripts import Request, run
from .store import Store

#: jobs that one look takes: each may have to be looked for in long lists
JOBS = 10
#: what `jobs` says of a job that is not there: nothing of it is left to be mended
HASH_GONE = "its hash is gone"
#: entries of `rq:wip` that one look takes
ENTRIES = 100


def jobs(store: Store, ids: Sequence[str], mend: bool) -> list[str]:
    """What is wrong with each job (10 at most), '' for nothing."""
    return _texts(_call(store, "repair_jobs", mend, *ids))


def execution(store: Store, id_: str, mend: bool) -> list[str]:
    """What is wrong with an execution as a whole."""
    return _texts(_call(store, "repair_execution", mend, id_))


def node(store: Store, id_: str, mend: bool) -> int:
    """How many leases a node holds that does not exist; with `mend`, how many were ended."""
    return int(_call(store, "repair_node", mend, id_))


def queue(store: Store, name: str, entries: Sequence[str], mend: bool) -> tuple[bool, list[str]]:
    """(Does no claim look at it, though it holds jobs? those `entries` (100 at most) that are no
    started jobs)."""
    unseen, *strays = _call(store, "repair_queue", mend, name, *entries)
    return bool(unseen), _texts(strays)


def counts(store: Store, execution: str, fan_out: str, since: str, right: dict[str, int]) -> bool:
    """Sets counts that were read since event `since`; False when jobs moved meanwhile."""
    pairs = [item for pair in right.items() for item in pair]
    request = Request(store.scripts["repair_counts"], [execution, fan_out, since, *pairs])
    return bool(run(store.client, request) == b"OK")


def _call(store: Store, script: str, mend: bool, *args: str) -> Any:
    return run(store.client, Request(store.scripts[script], ["mend" if mend else "look", *args]))


def _texts(values: Sequence[bytes]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values]
