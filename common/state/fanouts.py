"""The children of fan-outs by their chunks, and how those that have finished leave Redis.

A chunk's names stand together in one field. Where the fan-ins of a fan-out need only so much of each
child, an orchestrator folds children that have finished into a text, and takes them out of Redis in
the same script; so a fan-out of any width costs what has not finished, and that text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import keys
from .replies import as_mapping, as_text
from .scripts import Request, run

if TYPE_CHECKING:
    from .store import Store

#: children that one fold may take out
FOLDED_AT_ONCE = 200


class Folded(NamedTuple):
    """Of one chunk: its number, may more of it finish, and the children that go."""

    number: int
    open: bool
    names: Sequence[str]


def fold(
    store: Store,
    execution: str,
    fan_out: str,
    folds: int,
    text: str,
    replace: bool,
    chunks: Sequence[Folded],
) -> bool:
    """Takes finished children out of Redis, FOLDED_AT_ONCE at most; `text` (JSON) has what is needed of them.

    `folds` is how often that was done before; the text takes the last one's place (`replace`), or
    stands behind it. False where another did so meanwhile, or this is not the time: then nothing changes.
    """
    args: list[Any] = [execution, fan_out, folds, text, int(replace)]
    for chunk in chunks:
        args += (chunk.number, int(chunk.open), " ".join(chunk.names))
    return as_text(run(store.client, Request(store.scripts["group_fold"], args))) == "OK"


def folded(client: Any, execution: str, fan_out: str, start: int = 0) -> list[bytes]:
    """The texts of `fold`, from the `start`th on (-1: the last)."""
    return list(client.lrange(keys.folded(execution, fan_out), start, -1))


def pages(client: Any, execution: str, fan_out: str, chunks: Sequence[int]) -> dict[int, list[str]]:
    """The names of the children in these chunks that are in Redis."""
    places = [f"{fan_out}:{chunk}" for chunk in chunks]
    texts = client.hmget(keys.pages(execution), places) if places else []
    found = zip(chunks, texts, strict=True)
    return {chunk: as_text(text).split() for chunk, text in found if text}


def all_pages(client: Any, execution: str, fan_out: str = "") -> dict[str, list[str]]:
    """The names of all children that are in Redis (or of one fan-out's), by `<fan-out>:<chunk>`."""
    rows = as_mapping(client.hgetall(keys.pages(execution)))
    beginning = f"{fan_out}:" if fan_out else ""
    return {place: names.split() for place, names in rows.items() if place.startswith(beginning)}


class Width(NamedTuple):
    """How many jobs a fan-out makes (None before it opens), how many of them were made, and how many of
    these have finished and are in Redis no more."""

    total: int | None
    made: int
    folded: int


def widths(client: Any, execution: str, fan_outs: Sequence[str]) -> list[Width]:
    """Of each fan-out."""
    with client.pipeline(transaction=False) as pipe:
        for name in fan_outs:
            pipe.hmget(keys.group(execution, name), "total", "created", "folded")
        return [
            Width(None if total is None else int(total), int(made or 0), int(folded or 0))
            for total, made, folded in pipe.execute()
        ]
