"""Fills the results of other jobs into a job's configuration.

The daemon does it, but for a configuration that is large (it holds the outputs of a fan-out), and for
results that are files and that a placeholder looks into: that is left to the job's own process, so that
nobody else waits for it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from ..common.spec.placeholders import resolve
from ..common.values import MARK, Where, named_json, opened

#: Results are immutable, so they are kept: this much JSON, in bytes.
CACHE_BYTES = 64 * 1024 * 1024


#: A configuration of more bytes is filled in by the job's process.
FILLED_HERE_BYTES = 256 * 1024

_NULL: tuple[int, Any] = (0, None)
#: what the daemon leaves to the job's process, under MARK
_CONFIG, _RESULTS = "config", "results"


class References:
    """A bounded cache of results, by execution and job, and what is made of them."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._known: OrderedDict[tuple[str, str], tuple[int, Any]] = OrderedDict()

    def missing(self, execution: str, names: tuple[str, ...]) -> list[str]:
        """Those whose results have yet to be fetched.

        A null is fetched anew: it may stand for a job that failed and was tolerated,
        and has a result after a retry.
        """
        return [name for name in names if self._known.get((execution, name), _NULL)[1] is None]

    def add(self, execution: str, results: dict[str, bytes]) -> None:
        """Results as they were fetched, JSON by name; what is no JSON counts as missing."""
        for name, text in results.items():
            with suppress(ValueError):
                value = json.loads(text)
                self._size += len(text) - self._known.pop((execution, name), (0, None))[0]
                self._known[execution, name] = len(text), value

    def fill(self, execution: str, names: tuple[str, ...], config: bytes) -> bytes:
        """The configuration with the results of `names` in it, or what `filled` makes that of.

        Raises InputError for a path that a result does not have, and for one of
        a job without a result.
        """
        found = {}
        for name in names:
            if (execution, name) in self._known:
                self._known.move_to_end((execution, name))
                found[name] = self._known[execution, name][1]
        if len(config) <= FILLED_HERE_BYTES:
            with suppress(_Elsewhere):
                return json.dumps(resolve(json.loads(config), found, _only_here)).encode()
        # the configuration is not even read
        left = {MARK: {_CONFIG: None, _RESULTS: found}}
        return json.dumps(left).encode().replace(b"null", config, 1)

    def trim(self) -> None:
        """Forgets what was used longest ago, down to the limit."""
        while self._size > self._limit:
            self._size -= self._known.popitem(last=False)[1][0]


def filled(config: dict[str, Any], where: Where) -> dict[str, Any]:
    """The configuration, with what the daemon left to be filled in. Raises what `References.fill` and reading
    a file do."""
    left = config.get(MARK)
    if not isinstance(left, dict) or set(left) != {_CONFIG, _RESULTS}:
        return config
    found: dict[str, Any] = resolve(left[_CONFIG], left[_RESULTS], lambda one: opened(one, where))
    return found


class _Elsewhere(Exception):
    """A placeholder looks into a file."""


def _only_here(value: Any) -> Any:
    if named_json(value) is not None:
        raise _Elsewhere
    return value
