"""Connections to Redis, with every time-out set by us.

redis-py 8 re-sends a command up to 10 times after a lost reply, which would
queue a job several times, and closes a connection after 5 s of silence, which
would end every longer wait: both are switched off here.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import InputError, RedisUnavailable, UnsafeRedis, masked

#: a reply that takes longer than this is taken for lost, seconds
REPLY_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0

#: what a server answers while it cannot serve, but will again
PASSING = ("LOADING", "BUSY", "MISCONF", "READONLY", "OOM", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS",
           "CLUSTERDOWN", "UNBLOCKED")  # fmt: skip
#: the same where redis-py has a class for it, and takes the word away; and what we may not do
_OF_THE_SERVER = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterError,
    redis.exceptions.TryAgainError,
    redis.exceptions.NoPermissionError,
)


def connect(
    url: str, *, name: str = "", reply_timeout_s: float | None = REPLY_TIMEOUT_S
) -> redis.Redis:
    """A client for `url` (redis://, rediss:// or unix://); connects on first use.

    Raises InputError when the URL cannot be read.
    """
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": reply_timeout_s,
        "protocol": 2,
        "client_name": name or None,
    }
    if not url.startswith("unix:"):
        options["socket_connect_timeout"] = CONNECT_TIMEOUT_S
        options["socket_keepalive"] = True
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise InputError(
            f"PENSTOCK_REDIS_URL: {error}; for example redis://localhost:6379/0"
        ) from error


def why_refused(error: BaseException) -> str:
    """What is wrong where Redis refuses to write for a reason that may pass; '' for other errors."""
    if not isinstance(error, redis.exceptions.ResponseError):
        return ""
    text = str(error)
    if isinstance(error, redis.exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return (
            "Redis refuses to write, its memory is full: raise maxmemory or let executions expire"
        )
    if text.startswith("MISCONF"):
        return f"Redis refuses to write, its disk is full or broken ({text}): see to it"
    if isinstance(error, redis.exceptions.ReadOnlyError):
        return "Redis refuses to write, it is a replica: give the URL of the primary"
    return ""


def is_of_the_server(error: BaseException) -> bool:
    """Is the server lost, or serves nobody as we ask, so that the request itself is not to blame?"""
    if not isinstance(error, redis.exceptions.ResponseError):
        return isinstance(error, redis.exceptions.RedisError)
    return isinstance(error, _OF_THE_SERVER) or str(error).partition(" ")[0] in PASSING


def check(client: redis.Redis, url: str) -> None:
    """Raises RedisUnavailable when Redis does not answer, UnsafeRedis when it may drop our keys or is too old."""
    url = masked(url)  # what is raised may be logged
    try:
        too_old = _lacks_functions(client)
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.exceptions.AuthenticationError as error:  # to redis-py a ConnectionError
        raise RedisUnavailable(
            f"Redis at {url} refuses the login: {str(error).rstrip('.')}. Write the password into "
            "the URL, as redis://:PASSWORD@host:6379/0 (PENSTOCK_REDIS_URL or --redis-url)"
        ) from None
    except redis.exceptions.ConnectionError as error:
        raise RedisUnavailable(
            f"no Redis answers at {url}: {str(error).rstrip('.')}. Start it, or name another "
            "(PENSTOCK_REDIS_URL or --redis-url); without a URL, `penstock up` starts a private one"
        ) from None
    except redis.exceptions.TimeoutError as error:
        raise RedisUnavailable(f"Redis at {url} does not answer: {error}") from None
    except redis.exceptions.ResponseError:
        policy = "noeviction"  # CONFIG is forbidden to us (a managed Redis): `doctor` says what to look at
    if policy != "noeviction":
        raise UnsafeRedis(
            f"Redis at {url} has maxmemory-policy {policy}: it would drop jobs and results when "
            "memory runs short. Set `maxmemory-policy noeviction`, then try again"
        )
    if too_old:
        raise UnsafeRedis(
            f"the server at {url} has no functions (FCALL), which Penstock's scripts are: "
            "use Redis 7.0 or later, or Valkey"
        )


def _lacks_functions(client: Any) -> bool:
    try:
        client.fcall("penstock", 0)  # there is none of this name
    except redis.exceptions.BusyLoadingError:  # to redis-py a ConnectionError; it is waited for
        return False
    except redis.exceptions.ResponseError as error:
        return "unknown command" in str(error)
    return False
