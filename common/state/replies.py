"""What the server answers, in the types that leave the state layer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..jobs import Advanced, Beaten, Claimed, Token, config_of, parse_amounts


def parse_advance(reply: Any) -> Advanced:
    """The reply to `advance_request`."""
    status, verdicts, jobs = reply
    return Advanced(
        verdicts=as_texts(verdicts),
        claimed=[_claimed(row) for row in jobs],
        suspended=as_text(status) == "SUSPENDED",
        unknown=as_text(status) == "UNKNOWN",
    )


def parse_beat(tokens: Sequence[Token], reply: Any) -> Beaten:
    """The reply to `beat_request` about these tokens."""
    status, work, places = reply
    stale = [tokens[int(place) // 3] for place in places]
    word = as_text(status)
    return Beaten(word == "UNKNOWN", stale, bool(work), drain=word == "DRAIN")


def parse_results(names: Sequence[str], reply: Any) -> dict[str, bytes]:
    """The reply to `results_request`: JSON by name, for those that are finished."""
    return {name: value for name, value in zip(names, reply, strict=True) if value}


def _claimed(row: list[Any]) -> Claimed:
    run_ = as_text(row[5])
    return Claimed(
        token=Token(as_text(row[0]), int(row[1]), as_text(row[2])),
        execution=as_text(row[3]),
        name=as_text(row[4]),
        run=run_,
        root=as_text(row[6]),
        digest=as_text(row[7]),
        config=config_of(run_, row[8]),
        refs=tuple(as_text(row[9]).split()),
        timeout_s=float(row[10]),
        needs=parse_amounts(as_text(row[11])),
        priority=int(row[12]),
        queue=as_text(row[13]),
        retry=json.loads(row[14]) if row[14] else {},
        retries_left=int(row[15]),
        rider=bool(row[16]),
    )


def as_text(value: Any) -> str:
    """Bytes of the server as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def as_texts(values: Iterable[Any]) -> list[str]:
    """All of them as text."""
    return [as_text(value) for value in values]


def as_mapping(mapping: Any) -> dict[str, str]:
    """A hash as text."""
    return {as_text(name): as_text(value) for name, value in mapping.items()}
