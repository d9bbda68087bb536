"""The cluster of this machine alone: the server of the data folder, an orchestrator, a worker."""

from __future__ import annotations

from contextlib import ExitStack

from ...common.embedded import EmbeddedServer
from ...common.settings import Settings
from ..host import LocalHost


class Machine:
    """Runs from the start on, until `close`. Whatever uses the same data folder shares it."""

    def __init__(self, settings: Settings):
        """Raises RedisUnavailable when the server cannot be started."""
        with ExitStack() as stack:
            server = stack.enter_context(EmbeddedServer(settings.home))
            #: The server's URL.
            self.url = server.url
            stack.enter_context(LocalHost(settings.home, server.url))
            self._parts = stack.pop_all()

    def close(self) -> None:
        """Ends what was started here. Safe twice."""
        self._parts.close()
