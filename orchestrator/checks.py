"""`penstock doctor`: what of the server and the cluster would break the promise.

A check that the server does not let us make (an ACL may forbid CONFIG or INFO) is a warning.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis

from ..common.state import keys
from .audit import Finding

#: the oldest Redis whose commands the scripts need
OLDEST_REDIS = (7, 0)
#: memory in use, as a share of what there is, that is a warning; and that is wrong
FULL, TOO_FULL = 0.8, 0.95
#: the server's clock may differ from ours by so much, seconds; nothing depends on it
CLOCK_S = 1.0


@dataclass(frozen=True)
class Check:
    """One finding; `fix` says what to do when it is not `ok`. A warning does not break the promise.
    `findings` are the single things it is made of."""

    check: str
    ok: bool
    detail: str
    fix: str = ""
    warning: bool = False
    findings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Checks = Iterator[Check]


def checks(
    client: Any, nodes: list[dict[str, Any]], audit: Callable[[], Sequence[Finding]]
) -> Checks:
    """All findings about a server and its nodes, in the order in which one would look."""
    yield from _asked("INFO", lambda: _of_info(client.info()))
    yield from _asked("CONFIG GET", lambda: _fsync(client))
    yield from _asked("authentication", lambda: _authentication(client))
    yield from _asked("clock", lambda: _clock(client))
    yield _nodes(nodes)
    yield _orchestrators(client)
    yield from _asked("other workers", lambda: _workers(client, nodes))
    yield from _asked("audit", lambda: _audit(audit()))


def _asked(what: str, ask: Callable[[], Checks]) -> Checks:
    """The checks; or one warning where the server refuses what they need."""
    try:
        yield from list(ask())
    except redis.exceptions.ResponseError as error:
        fix = "allow it to this user of the server, or look yourself: see deploy/redis.conf"
        yield Check(what, False, f"cannot be looked at: {error}", fix, warning=True)


# -- the server


def _of_info(info: dict[str, Any]) -> Checks:
    yield _version(info)
    yield from _persistence(info)
    yield _memory(info)
    yield _eviction(info)


def _version(info: dict[str, Any]) -> Check:
    name = str(info.get("server_name", "redis"))
    version = str(info.get(f"{name}_version") or info["redis_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2])
    return Check(
        "version", numbers >= OLDEST_REDIS, f"{name} {version}", "use Redis 7.0 or newer, or Valkey"
    )


def _persistence(info: dict[str, Any]) -> Checks:
    on = bool(info.get("aof_enabled"))
    yield Check("aof", on, "on" if on else "off", "set `appendonly yes` and `appendfsync everysec`")
    if on:
        good = info.get("aof_last_write_status") == "ok"
        yield Check(
            "aof writes", good, str(info.get("aof_last_write_status")), "look at the server's disk"
        )
        delayed = int(info.get("aof_delayed_fsync", 0))
        text = f"{delayed} delayed fsyncs since the start"
        fix = "a faster disk: while an fsync hangs, the death of Redis can lose two seconds"
        yield Check("aof_delayed_fsync", delayed == 0, text, fix, warning=True)


def _memory(info: dict[str, Any]) -> Check:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    there = limit or int(info.get("total_system_memory", 0))
    share = used / there if there else 0.0
    text = f"{used / 2**20:.0f} MiB used" + (f" of {there / 2**20:.0f}" if there else "")
    text += "" if limit else ", no maxmemory"
    fix = "raise maxmemory, or shorten PENSTOCK_STATE_TTL_S: a full server takes no jobs and no results"
    return Check("memory", share < FULL, text, fix, warning=share < TOO_FULL)


def _eviction(info: dict[str, Any]) -> Check:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    return Check(
        "maxmemory-policy",
        policy == "noeviction",
        policy,
        "set `maxmemory-policy noeviction`: another one drops jobs and results when memory runs short",
    )


def _fsync(client: Any) -> Checks:
    how = _config(client, "appendfsync").get("appendfsync", "everysec")
    yield Check("appendfsync", how != "no", how, "set `appendfsync everysec`")


def _authentication(client: Any) -> Checks:
    if _needs_password(client):
        yield Check("authentication", True, "a password is needed")
        return
    options = client.connection_pool.connection_kwargs
    here = "path" in options or _is_loopback(str(options.get("host", "localhost")))
    fix = "set a password (`requirepass`, or ACLs with the default user off) and use it in the URL"
    if not here:
        text = f"none, and {options.get('host')} answers other machines"
        yield Check("authentication", False, text, fix)
        return
    found = _config(client, "bind", "port", "tls-port", "protected-mode")
    ports = {found.get("port", "0"), found.get("tls-port", "0")} - {"0"}
    addresses = [word.lstrip("-") for word in found.get("bind", "").split()]
    alone = not ports or (bool(addresses) and all(map(_is_loopback, addresses)))
    guarded = found.get("protected-mode") == "yes"
    if alone or guarded:
        text = "no password; only this machine can reach it"
        yield Check("authentication", True, text)
    else:
        where = ", ".join(addresses) or "every address"
        text = f"none, and it listens on {where} with protected-mode off"
        fix += ", or bind it to 127.0.0.1"
        yield Check("authentication", False, text, fix)


def _needs_password(client: Any) -> bool:
    """Is somebody without a name and a password refused, from here?"""
    pool = client.connection_pool
    options = dict(pool.connection_kwargs)
    for name in ("username", "password", "credential_provider", "client_name"):
        options.pop(name, None)
    with redis.Redis(
        connection_pool=redis.ConnectionPool(pool.connection_class, **options)
    ) as nobody:
        try:
            nobody.ping()
        except (redis.exceptions.AuthenticationError, redis.exceptions.ResponseError):
            return True
        finally:
            nobody.connection_pool.disconnect()
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _config(client: Any, *names: str) -> dict[str, str]:
    return {name: value for one in names for name, value in client.config_get(one).items()}


def _clock(client: Any) -> Checks:
    before = time.time()
    seconds, micros = client.time()
    server, ours = seconds + micros / 1e6, (before + time.time()) / 2
    apart = server - ours
    text = f"{abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} ours"
    fix = "nothing depends on it, but dates look odd: let both machines keep time (NTP)"
    yield Check("clock", abs(apart) <= CLOCK_S, text, fix, warning=True)
    at_ms = float(client.hget(keys.maintenance(), "at") or 0)
    if (back := at_ms / 1000 - server) > CLOCK_S:
        text = f"the server's clock went back by {back:.0f} s"
        fix = "let it keep time (NTP): what is due waits for so much longer"
        yield Check("clock jump", False, text, fix, warning=True)


# -- the cluster


def _nodes(nodes: list[dict[str, Any]]) -> Check:
    silent = [node["id"] for node in nodes if node["state"] == "silent"]
    text = f"{len(nodes)} registered" + (f", silent: {', '.join(silent)}" if silent else "")
    return Check("nodes", bool(nodes) and not silent, text, "`penstock worker start`", warning=True)


def _orchestrators(client: Any) -> Check:
    leader = client.hget(keys.lock("leader"), "owner")
    text = f"{leader.decode()} leads" if leader else "none"
    return Check("orchestrators", bool(leader), text, "`penstock orchestrator start`", warning=True)


def _workers(client: Any, nodes: list[dict[str, Any]]) -> Checks:
    ours = {keys.rq_worker(node["id"]) for node in nodes}
    others = sorted(
        key.decode() for key in client.smembers("rq:workers") if key.decode() not in ours
    )
    alive = [key for key in others if client.exists(key) and not client.hexists(key, "penstock")]
    yield Check(
        "other workers",
        not alive,
        ", ".join(alive) or "none",
        "our queues are served by our nodes only: stop them, or give them queues of their own",
    )


def _audit(found: Sequence[Finding]) -> Checks:
    """What cannot go on by itself: `orchestrator/audit.py`."""
    leases = [str(one) for one in found if one.kind == "node"]
    others = [str(one) for one in found if one.kind != "node"]
    for name, told in (("stuck executions", others), ("orphaned leases", leases)):
        fix = "`penstock doctor --repair` mends what it can"
        yield Check(name, not told, str(len(told) or "none"), fix, findings=tuple(told))
