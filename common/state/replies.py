"""What the server answers, in the types that leave the state layer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from ..jobs import Advanced, Beaten, Claimed, Coming, Token, Work, config_at, parse_amounts

#: what the jobs of a run share: the place of their work, whether they ride, their attempt, and all names
_OF_A_RUN = 4


def parse_advance(claim: str, reply: Any) -> Advanced:
    """The reply to `advance_request` with this claim id."""
    status, verdicts, runs, raw_works = reply
    word, works = as_text(status), [_work(*row) for row in raw_works]
    heads = [works[run[0] - 1] for run in runs if not run[1]]
    riders = [works[at] for at in {run[0] - 1 for run in runs if run[1]}]
    size = sum(len(run) - _OF_A_RUN for run in runs)
    return Advanced(
        verdicts=as_text(verdicts).split(),
        coming=Coming(heads, riders, size),
        unpack=lambda: _claimed(claim, runs, works),
        suspended=word == "SUSPENDED",
        unknown=word == "UNKNOWN",
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


def parse_outcomes(replies: Sequence[Any]) -> list[tuple[str, bytes]]:
    """The replies to `job_outcomes`, in their order. Raises an error that is among them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return [
        (as_text(status), text)
        for reply in replies
        for status, text in zip(reply[::2], reply[1::2], strict=True)
    ]


def _claimed(claim: str, runs: list[Any], works: list[Work]) -> list[Claimed]:
    claimed = []
    for place, rider, attempt, names, *payloads in runs:
        work, is_rider = works[place - 1], bool(rider)
        start, head = work.execution + "-", config_at(work.run)
        for name, data in zip(as_text(names).split(" "), payloads, strict=True):
            token = Token(start + name, attempt, claim)
            claimed.append(Claimed(token, name, data[head:-1], is_rider, work))
    return claimed


@lru_cache(maxsize=64)
def _work(
    execution: bytes, run: bytes, root: bytes, digest: bytes, refs: bytes, timeout_s: bytes,
    needs: bytes, priority: bytes, queue: bytes, retry: bytes, left: bytes,
) -> Work:  # fmt: skip
    """What jobs that follow one another have in common, they mostly have with the next ones too."""
    return Work(
        execution=as_text(execution),
        run=as_text(run),
        root=as_text(root),
        digest=as_text(digest),
        refs=tuple(as_text(refs).split()),
        timeout_s=float(timeout_s),
        needs=parse_amounts(as_text(needs)),
        priority=int(priority),
        queue=as_text(queue),
        retry=json.loads(retry) if retry else {},
        retries_left=int(left),
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
