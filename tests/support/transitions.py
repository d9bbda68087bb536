"""The stream of events as tests read it: one row for each job, where one entry stands for many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from penstock.common.state import keys

Row = dict[str, str]


def transitions(client: Any) -> Iterator[Row]:
    """All that the stream holds, oldest first, with the time of each in ms as `ms`."""
    for id_, raw in client.xrange(keys.events()):
        yield from each_job({**decoded(raw), "ms": id_.decode().partition("-")[0]})


def each_job(event: Row) -> Iterator[Row]:
    """An entry of the stream, once for each job that is named in it."""
    names = event["job"].split() if "job" in event else []
    if not names:
        yield event
    for name in names:
        yield {**event, "job": name}


def decoded(raw: dict[bytes, bytes]) -> Row:
    """An entry as redis-py gives it, as text."""
    return {key.decode(): value.decode() for key, value in raw.items()}
