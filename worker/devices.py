"""Which GPUs of the node are given to which job. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Devices:
    """Whole devices, by the names that CUDA_VISIBLE_DEVICES knows them by."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._taken: set[str] = set()

    def take(self, count: int) -> tuple[str, ...] | None:
        """The first free ones; None when there are not that many."""
        free = [name for name in self._names if name not in self._taken]
        if count > len(free):
            return None
        self._taken.update(free[:count])
        return tuple(free[:count])

    def give_back(self, names: Sequence[str]) -> None:
        """They are free again: the processes that used them are gone."""
        self._taken.difference_update(names)
