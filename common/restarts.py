"""How often a thing that dies may be started again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class RestartBudget:
    """At most `most` restarts within any `within_s` seconds."""

    def __init__(
        self, most: int, within_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self.within_s = within_s
        self._clock = clock
        self._spent: deque[float] = deque(maxlen=most)

    def spend(self) -> bool:
        """Takes one restart; False if none is left for now."""
        now = self._clock()
        if len(self._spent) == self.most and now - self._spent[0] < self.within_s:
            return False
        self._spent.append(now)
        return True
