"""Which nodes there are, and who else is there to do the work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..common.errors import WaitTimeout
from ..common.state import keys
from ..common.state.replies import as_mapping
from .rows import Living, node_row

if TYPE_CHECKING:
    from ..common.bundles import Bundle

log = logging.getLogger("penstock.client")

#: nodes that a warning names
NAMED = 5


def rows(client: Any) -> list[dict[str, Any]]:
    """The nodes that are registered, by name."""
    seconds, micros = client.time()
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    beats = sorted((member.decode(), int(beat)) for member, beat in _beats(client))
    with client.pipeline(transaction=False) as pipe:
        for id_, _ in beats:
            pipe.hgetall(keys.node(id_))
        found = pipe.execute()
    return [
        node_row(id_, now_ms - beat, as_mapping(raw))
        for (id_, beat), raw in zip(beats, found, strict=True)
    ]


def living(client: Any, timeout_s: float, *, hosted: bool, embedded: bool) -> Living:
    """Who is there; `timeout_s` is after how much silence a node is not, the rest as in Living."""
    with client.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.nodes(), 0, -1, withscores=True)
        pipe.time()
        pipe.exists(keys.lock("leader"))
        pipe.exists(keys.suspended())
        pipe.smembers(keys.paused())
        beats, (seconds, _), leader, all_paused, paused = pipe.execute()
    oldest_ms = 1000 * int(seconds) - 1000 * timeout_s - 1000
    nodes = {member.decode(): beat >= oldest_ms for member, beat in beats}
    ending = {name for name, ends in _ending(client, nodes).items() if ends}
    return Living(
        nodes=nodes,
        draining=frozenset(ending),
        orchestrators=bool(leader),
        paused=None if all_paused else frozenset(name.decode() for name in paused),
        hosted=hosted,
        embedded=embedded,
    )


def tell_of_pythons(client: Any, bundle: Bundle) -> None:
    """Warns of nodes whose Python is not of the version that packed a bundle."""
    others = [
        f"{node['id']} has {node['python']}"
        for node in rows(client)
        if node["state"] != "silent" and node["python"] not in ("", bundle.python)
    ]
    if others:
        more = f" and {len(others) - NAMED} more" if others[NAMED:] else ""
        log.warning(
            "the bundle of %s was packed with Python %s, and node %s%s: jobs that depend on the version can fail there",
            bundle.folder,
            bundle.python,
            ", ".join(others[:NAMED]),
            more,
        )


def await_one(client: Any, timeout_s: float, ask: Callable[[], object]) -> None:
    """Returns when some node is registered that was not drained; calls `ask` before each look.

    Raises WaitTimeout.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        ask()
        names = [member.decode() for member, _ in _beats(client)]
        if not all(_ending(client, names).values()):
            return
        left = deadline - time.monotonic()
        if left <= 0 and names:
            raise WaitTimeout(
                f"no worker takes jobs: {', '.join(names[:NAMED])} was told to end and still runs some; "
                "try again when it has ended (a worker's log is in the data folder)"
            )
        if left <= 0:
            raise WaitTimeout("no worker has registered; its log is in the data folder")
        # An event may come between the question and the wait: look again soon.
        client.xread({keys.events(): "$"}, block=max(1, int(1000 * min(left, 0.2))))


def _ending(client: Any, names: Iterable[str]) -> dict[str, bool]:
    """Nodes by name: was it told to end?"""
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hmget(keys.node(name), "state", "drain")
        found = pipe.execute()
    return {
        name: bool(drain) or state == b"draining"
        for name, (state, drain) in zip(names, found, strict=True)
    }


def _beats(client: Any) -> list[tuple[bytes, float]]:
    return list(client.zrange(keys.nodes(), 0, -1, withscores=True))
