"""How a command gets its Redis and its Service.

With a URL (`--redis-url`, PENSTOCK_REDIS_URL) that Redis is used. Without one the
embedded server of PENSTOCK_HOME is, started for the command's own duration unless
it runs already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..rediscli import redis_cli_line
from .app import App

if TYPE_CHECKING:
    from ...common.settings import Settings
    from ..service import Service


@dataclass(frozen=True, slots=True)
class Session:
    """An open way to the state; `embedded` where the server is this machine's own."""

    service: Service
    settings: Settings
    url: str
    redis_cli: str
    embedded: bool


#: What to do about an execution that nobody works on.
HOW_TO_RUN = "no worker runs here: `penstock wait {0}` runs it, or `penstock up`"


@contextmanager
def open_session(app: App, *, unsafe: bool = False) -> Iterator[Session]:
    """The session of one command, closed with it; `unsafe` takes a Redis that may drop our keys.

    Raises InputError on a bad setting, RedisUnavailable or UnsafeRedis on such a Redis.
    """
    from ...common.errors import UnsafeRedis
    from ...common.state.connection import check, connect
    from ...common.state.scripts import Limits
    from ...common.state.store import Store
    from ..service import Service

    settings = app.settings()
    with ExitStack() as stack:
        url, redis_cli = settings.redis_url, redis_cli_line(settings.redis_url or "")
        if url is None:
            from ...common.embedded import EmbeddedServer

            server = stack.enter_context(EmbeddedServer(settings.home))
            url, redis_cli = server.url, server.redis_cli
        client = connect(url)
        stack.callback(client.close)
        try:
            check(client, url)
        except UnsafeRedis:
            if not unsafe:
                raise
        service = Service(Store(client, Limits.of(settings)), settings)
        yield Session(service, settings, url, redis_cli, settings.redis_url is None)


def nobody_works(opened: Session) -> bool:
    """Whether what is submitted would lie there, since this machine's own server is alone."""
    from ..local import is_up

    if not opened.embedded or is_up(opened.settings.home):
        return False
    return all(node["state"] == "silent" for node in opened.service.nodes())
