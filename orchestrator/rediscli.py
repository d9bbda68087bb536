"""The shell command that reaches a Redis, as people are told it."""

from __future__ import annotations

import re
import shlex


def redis_cli_line(url: str) -> str:
    """The shell command that reaches the Redis of a URL.

    A password without a user is the user `default`'s; redis-cli would send an empty name.
    """
    if url.startswith("unix://"):
        path, _, query = url.removeprefix("unix://").partition("?")
        database = re.search(r"(?:^|&)db=(\d+)", query)
        return f"redis-cli -s {shlex.quote(path)}" + (f" -n {database[1]}" if database else "")
    tls = " --tls" if url.startswith("rediss://") else ""
    named = re.sub(r"^(\w+://)(:[^/]*@)", r"\1default\2", url)
    return f"redis-cli{tls} -u {shlex.quote(named)}"
