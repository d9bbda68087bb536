"""How long functions run, and so how many of their jobs a slot gets at once. Pure."""

from __future__ import annotations

from collections import OrderedDict

#: A function's code root, its digest, and its name: what makes two jobs alike.
Key = tuple[str, str, str]

#: Work that a slot is given at a time, and that is claimed ahead for it, in seconds.
FEED_S = 0.004
AHEAD_S = 0.010
MAX_FEED = 128
MAX_AHEAD = 384
#: So many jobs one advance settles, and so many it claims ahead, at most: that takes Redis some 3 ms. (With 32 it
#: did a quarter less in a second; with 192 no more.)
MAX_BATCH = 96
#: A job that runs longer holds up nobody: those behind it go elsewhere. In seconds.
PATIENCE_S = 0.020

#: Beyond this, how much longer a job ran says nothing more. In seconds.
_LONG_S = 0.1
_KNOWN = 4096
_WEIGHT = 0.25


class RunTimes:
    """The measured run time of each function, in seconds: a moving average."""

    def __init__(self) -> None:
        self._times: OrderedDict[Key, float] = OrderedDict()

    def get(self, key: Key) -> float | None:
        """The estimate; None for a function that has not run here yet."""
        return self._times.get(key)

    def add(self, key: Key, run_s: float) -> None:
        """One run was measured."""
        run_s = min(run_s, _LONG_S)
        before = self._times.pop(key, run_s)
        self._times[key] = before + _WEIGHT * (run_s - before)
        if len(self._times) > _KNOWN:
            self._times.popitem(last=False)

    def feed(self, key: Key) -> int:
        """How many jobs of this function a slot may hold at once, at least 1."""
        return self._fit(key, FEED_S, MAX_FEED)

    def ahead(self, key: Key) -> int:
        """How many jobs of this function to claim ahead for one slot; 0 for long ones."""
        fit = self._fit(key, AHEAD_S, MAX_AHEAD)
        return fit if fit > 1 else 0

    def _fit(self, key: Key, work_s: float, most: int) -> int:
        run_s = self._times.get(key)
        if run_s is None:
            return 1
        return max(1, min(most, int(work_s / max(run_s, 1e-6))))


def riders_wanted(
    times: RunTimes, lanes: dict[Key, int], here: dict[Key, int], coming: int = 0
) -> dict[str, int]:
    """Riders to ask for, by `<root>|<digest>|<run>`.

    `lanes` counts the lanes that serve, or could serve, a function; `here` its jobs
    that this node holds already; `coming` are on their way, of whatever function.
    """
    wanted: dict[str, int] = {}
    left = MAX_BATCH
    for key, count in lanes.items():
        most = min(times.ahead(key) * count, MAX_AHEAD)
        riders = min(most - here.get(key, 0) - coming, left)
        if riders > 0:
            wanted["|".join(key)] = riders
            left -= riders
    return wanted
