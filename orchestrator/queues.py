"""The queues by class and priority: what is in them, and whether jobs of them may start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..common.errors import InputError, NotFound
from ..common.state import keys
from ..common.state.store import Store
from .rows import queue_row


def rows(client: Any) -> list[dict[str, Any]]:
    """The queues that were ever used, the highest priority first."""
    prefix = keys.queue("")
    names = sorted(
        member.decode().removeprefix(prefix) for member in client.smembers(keys.queues())
    )
    paused = {member.decode() for member in client.smembers(keys.paused())}
    suspended = bool(client.exists(keys.suspended()))
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(keys.queue(name))
            pipe.zcard(keys.wip(name))
            pipe.zcard(keys.finished(name))
            pipe.zcard(keys.failed(name))
        counts = pipe.execute()
    found = [
        queue_row(name, counts[4 * i : 4 * i + 4], suspended or name in paused)
        for i, name in enumerate(names)
    ]
    return sorted(found, key=lambda row: (-row["priority"], row["class"]))


def pause(store: Store, names: Sequence[str] | None) -> None:
    """No claims from these queues; without names, from any (as `rq suspend`). Raises NotFound."""
    if names:
        _check(store.client, names)
        store.pause_queues("pause", names)
    else:
        store.client.set(keys.suspended(), 1)


def resume(store: Store, names: Sequence[str] | None) -> None:
    """Undoes `pause`; without names, all of it. Raises NotFound, or InputError while all are paused."""
    client: Any = store.client
    if names:
        _check(client, names)
        if client.exists(keys.suspended()):
            raise InputError(
                "all queues are paused; `penstock queue resume` lets all of them go on"
            )
    store.pause_queues("resume", names or ())


def _check(client: Any, names: Sequence[str]) -> None:
    known = {row["name"] for row in rows(client)}
    for name in names:
        if name not in known:
            raise NotFound(
                f"there is no queue {name}; known are {', '.join(sorted(known)) or 'none yet'}"
            )
