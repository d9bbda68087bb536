"""Fills the results of other jobs into a job's configuration.

The daemon does it, but for a result that is a file and that a placeholder looks into: the job's own
process reads that, so that nobody else waits for it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..common.spec.placeholders import Placeholder, placeholders, resolve
from ..common.values import MARK, Where, content, named_json

#: Results are immutable, so they are kept: this much JSON, in bytes.
CACHE_BYTES = 64 * 1024 * 1024


_NULL: tuple[int, Any] = (0, None)
#: what the daemon leaves to the job's process, under MARK
_CONFIG, _RESULTS = "config", "results"
#: steps of `${jobs.NAME.result}`
_WHOLE = 2


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
        """The configuration with the results of `names` in it.

        Raises InputError for a path that a result does not have, and for one of
        a job without a result.
        """
        found = {}
        for name in names:
            if (execution, name) in self._known:
                self._known.move_to_end((execution, name))
                found[name] = self._known[execution, name][1]
        value = json.loads(config)
        if any(named_json(result) for result in found.values()) and _looks_into(value, found):
            return json.dumps({MARK: {_CONFIG: value, _RESULTS: found}}).encode()
        return json.dumps(resolve(value, found)).encode()

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
    results = {
        name: content(about, where) if (about := named_json(result)) else result
        for name, result in left[_RESULTS].items()
    }
    found: dict[str, Any] = resolve(left[_CONFIG], results)
    return found


def _looks_into(config: Any, results: Mapping[str, Any]) -> bool:
    """Does a placeholder name a part of a result that is a file?"""
    return any(
        isinstance(found, Placeholder)
        and found.job is not None
        and len(found.steps) > _WHOLE
        and named_json(results.get(found.job)) is not None
        for _, found in placeholders(config)
    )
