"""`penstock doctor`: what of the server and the cluster would break the promise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..common.state import keys

#: the oldest Redis whose commands the scripts need
OLDEST_REDIS = (7, 0)
#: memory in use, as a share of maxmemory, beyond which intake is at risk
FULL = 0.8


@dataclass(frozen=True)
class Check:
    """One finding; `fix` says what to do when it is not `ok`. A warning does not break the promise."""

    check: str
    ok: bool
    detail: str
    fix: str = ""
    warning: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def checks(client: Any, nodes: list[dict[str, Any]]) -> Iterator[Check]:
    """All findings about a server and its nodes, in the order in which one would look."""
    info = client.info()
    yield _version(info)
    yield from _persistence(info)
    yield _memory(info)
    yield _eviction(info)
    yield _nodes(nodes)
    yield _orchestrators(client)
    yield _workers(client, nodes)


def _version(info: dict[str, Any]) -> Check:
    name = str(info.get("server_name", "redis"))
    version = str(info.get(f"{name}_version") or info["redis_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2])
    return Check(
        "version", numbers >= OLDEST_REDIS, f"{name} {version}", "use Redis 7.0 or newer, or Valkey"
    )


def _persistence(info: dict[str, Any]) -> Iterator[Check]:
    on = bool(info.get("aof_enabled"))
    yield Check("aof", on, "on" if on else "off", "set `appendonly yes` and `appendfsync everysec`")
    if on:
        good = info.get("aof_last_write_status") == "ok"
        yield Check(
            "aof writes", good, str(info.get("aof_last_write_status")), "look at the server's disk"
        )
        delayed = int(info.get("aof_delayed_fsync", 0))
        text = f"{delayed} delayed fsyncs since the start"
        yield Check("aof_delayed_fsync", delayed == 0, text, "a faster disk", warning=True)


def _memory(info: dict[str, Any]) -> Check:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    share = used / limit if limit else 0.0
    text = f"{used / 2**20:.0f} MiB used" + (f" of {limit / 2**20:.0f}" if limit else ", no limit")
    return Check("memory", share < FULL, text, "raise maxmemory, or shorten PENSTOCK_STATE_TTL_S")


def _eviction(info: dict[str, Any]) -> Check:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    return Check(
        "maxmemory-policy", policy == "noeviction", policy, "set `maxmemory-policy noeviction`"
    )


def _nodes(nodes: list[dict[str, Any]]) -> Check:
    silent = [node["id"] for node in nodes if node["state"] == "silent"]
    text = f"{len(nodes)} registered" + (f", silent: {', '.join(silent)}" if silent else "")
    return Check("nodes", bool(nodes) and not silent, text, "`penstock worker start`", warning=True)


def _orchestrators(client: Any) -> Check:
    leader = client.hget(keys.lock("leader"), "owner")
    text = f"{leader.decode()} leads" if leader else "none"
    return Check("orchestrators", bool(leader), text, "`penstock orchestrator start`", warning=True)


def _workers(client: Any, nodes: list[dict[str, Any]]) -> Check:
    ours = {keys.rq_worker(node["id"]) for node in nodes}
    others = sorted(
        key.decode() for key in client.smembers("rq:workers") if key.decode() not in ours
    )
    alive = [key for key in others if client.exists(key) and not client.hexists(key, "penstock")]
    return Check(
        "other workers",
        not alive,
        ", ".join(alive) or "none",
        "our queues are served by our nodes only: stop them, or give them queues of their own",
    )
