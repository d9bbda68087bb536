"""Fan-ins that take children in as they finish, so that these need not stay in Redis.

While a large fan-out goes on, whoever makes its further jobs first folds those that have finished into a
text: for each fan-in what it needs of them. The script that writes the text takes them out, so each counts
once. The fan-in itself adds what is left. Nothing waits for a fold: where none is made, children just stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...common.aggregation import options_of
from ...common.errors import AggregationError
from ...common.folds import Partial, partial_of
from ...common.outcomes import FINISHED, ChildOutcome
from ...common.spec.expansion import Expansion, child_index
from ...common.spec.models import Job, Workflow
from ...common.state import fanouts
from ...common.state.fanouts import FOLDED_AT_ONCE, Folded
from ...common.state.states import JOB_TERMINAL
from ...common.state.store import Store

#: a fan-out of more jobs does not keep those that have finished, unless it says `keep_results: true`
KEPT_CHILDREN = 10_000
#: a text of a fold that grows with its children is added to up to here, characters
LONG_TEXT = 65_536

#: a chunk's number, and of each of its jobs its name, its status, and what it gave
Page = tuple[int, list[tuple[str, str, bytes]]]


def folding_readers(workflow: Workflow, job: Job, size: int) -> list[Job]:
    """The fan-ins for which finished children of the fan-out `job` are folded; none where they stay."""
    if job.keep_results or (job.keep_results is None and size <= KEPT_CHILDREN):
        return []
    readers = [one for one in workflow.jobs.values() if one.fan_out_job_id == job.id]
    return readers if all(_fold(reader) for reader in readers) else []


def fold(store: Store, execution: str, job: Job, readers: Sequence[Job]) -> None:
    """Folds the children of a fan-out that have finished, as far as that can be done now."""
    group = store.group(execution, job.id)
    folds = int(group.get("folds", 0))
    live = [int(chunk) for chunk in group.get("live", "").split()]
    names = fanouts.pages(store.client, execution, job.id, live)
    for pages in _batches(names):
        if not _fold_pages(store, execution, job, readers, folds, _read(store, execution, pages)):
            return
        folds += 1


def folded_for(store: Store, execution: str, fan_in: Job) -> list[tuple[int, Any]]:
    """What a fan-in has of children that were folded: how many, and their fold's state."""
    texts = fanouts.folded(store.client, execution, fan_in.fan_out_job_id or "")
    found = (json.loads(text) for text in texts)
    return [(one["count"], one["fan_ins"][fan_in.id]) for one in found]


def children_left(store: Store, execution: str, expansion: Expansion) -> Iterator[tuple[int, str]]:
    """(index, name) of the children of a fan-out that were not folded, by index."""
    fan_out = expansion.source
    if "folds" not in store.group(execution, fan_out):
        yield from ((index, expansion.id(index)) for index in range(len(expansion)))
        return
    pages = fanouts.pages(store.client, execution, fan_out).values()
    yield from sorted((child_index(fan_out, name) or 0, name) for page in pages for name in page)


def _fold(reader: Job) -> Partial | None:
    how = reader.aggregation
    if how is None:
        return None
    return partial_of(
        how.strategy, options_of(how.metric_name, how.ascending, how.k, how.quantiles)
    )


def _batches(names: Mapping[int, Sequence[str]]) -> Iterator[dict[int, Sequence[str]]]:
    """Chunks, as many as one script may take out."""
    batch: dict[int, Sequence[str]] = {}
    for number, chunk in names.items():
        if batch and sum(map(len, batch.values())) + len(chunk) > FOLDED_AT_ONCE:
            yield batch
            batch = {}
        batch[number] = chunk
    if batch:
        yield batch


def _read(store: Store, execution: str, names: Mapping[int, Sequence[str]]) -> list[Page]:
    outcomes = iter(store.outcomes(execution, [name for chunk in names.values() for name in chunk]))
    return [
        (number, [(name, *next(outcomes)) for name in chunk]) for number, chunk in names.items()
    ]


def _fold_pages(
    store: Store,
    execution: str,
    job: Job,
    readers: Sequence[Job],
    folds: int,
    pages: Sequence[Page],
) -> bool:
    """False when no more can be folded now."""
    last = fanouts.folded(store.client, execution, job.id, -1)
    partials = {reader.id: _fold(reader) for reader in readers}
    grows = any(partial and partial.grows for partial in partials.values())
    before = json.loads(last[0]) if last and not (grows and len(last[0]) > LONG_TEXT) else None
    finished = [
        ChildOutcome(child_index(job.id, name) or 0, output=json.loads(text))
        for _, jobs in pages
        for name, status, text in jobs
        if status == FINISHED
    ]
    try:
        for id_, partial in partials.items():
            assert partial is not None  # `folding_readers` saw to it
            if before:
                partial.take(before["fan_ins"][id_])
            for child in finished:
                partial.add(child)
    except AggregationError:
        return False  # the fan-in will say so, of all its children
    count = len(finished) + (before["count"] if before else 0)
    states = {id_: partial.state() for id_, partial in partials.items() if partial}
    text = json.dumps({"count": count, "fan_ins": states})
    chunks = [_folded(number, jobs) for number, jobs in pages]
    return fanouts.fold(store, execution, job.id, folds, text, bool(before), chunks)


def _folded(number: int, jobs: list[tuple[str, str, bytes]]) -> Folded:
    may_finish = any(status not in JOB_TERMINAL for _, status, _ in jobs)
    return Folded(number, may_finish, [name for name, status, _ in jobs if status == FINISHED])
