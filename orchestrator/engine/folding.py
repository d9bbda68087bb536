"""Fan-ins that take children in as they finish, so that these need not stay in Redis.

While a large fan-out goes on, whoever makes its further jobs first folds those that have finished into a
text: for each fan-in what it needs of them. The script that writes the text takes them out, so each counts
once. The fan-in itself adds what is left. Nothing waits for a fold: where none is made, children just stay.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...common.aggregation import options_of
from ...common.folds import Partial, partial_of
from ...common.outcomes import FINISHED, ChildOutcome
from ...common.spec.expansion import Expansion, child_index
from ...common.spec.models import Job, Workflow
from ...common.state import fanouts
from ...common.state.fanouts import FOLDED_AT_ONCE, Folded
from ...common.state.states import JOB_TERMINAL
from ...common.state.store import Store

log = logging.getLogger("penstock.orchestrator")

#: a fan-out of more jobs does not keep those that have finished, unless it says `keep_results: true`
KEPT_CHILDREN = 10_000
#: a text whose folds grow is added to up to here, characters; no text is longer than the latter
LONG_TEXT, LONGEST_TEXT = 65_536, 64 * 1024 * 1024

#: a child that has finished: its name, and its result (JSON)
Finished = tuple[str, bytes]


def folding_readers(workflow: Workflow, job: Job, size: int) -> list[Job] | None:
    """The fan-ins for which finished children of the fan-out `job` are folded; None where they stay."""
    readers = [one for one in workflow.jobs.values() if one.fan_out_job_id == job.id]
    if job.keep_results is None:
        # A job that depends on it may look for its children by their ids.
        others = sum(job.id in one.upstreams for one in workflow.jobs.values()) - len(readers)
        if size <= KEPT_CHILDREN or others or not readers:
            return None
    return None if job.keep_results or None in map(_fold, readers) else readers


def fold(
    store: Store, execution: str, job: Job, readers: Sequence[Job], go_on: Callable[[], None]
) -> None:
    """Folds the children of a fan-out that have finished, as far as that can be done now."""
    group = store.group(execution, job.id)
    folds = int(group.get("folds", 0))
    live = [int(chunk) for chunk in group.get("live", "").split()]
    names = fanouts.pages(store.client, execution, job.id, live)
    for chunks, finished in _batches(_read(store, execution, live, names, go_on)):
        text = _folded_text(store, execution, job, readers, finished)
        if text is None or not fanouts.fold(store, execution, job.id, folds, *text, chunks):
            return
        folds += 1
        go_on()


def folded_for(store: Store, execution: str, fan_in: Job) -> list[tuple[int, Any]]:
    """What a fan-in has of children that were folded: how many, and their fold's state."""
    texts = fanouts.folded(store.client, execution, fan_in.fan_out_job_id or "")
    found = (json.loads(text) for text in texts)
    return [(one["count"], one["fan_ins"][fan_in.id]) for one in found]


def children_left(store: Store, execution: str, expansion: Expansion) -> Iterator[tuple[int, str]]:
    """(index, name) of the children of a fan-out that were not folded, by index; also of those that were
    never made, where it could not go on (not where it was stopped early)."""
    group, first = store.group(execution, expansion.source), 0
    if "folds" in group:
        pages = fanouts.all_pages(store.client, execution, expansion.source).values()
        yield from sorted((_index(expansion.source, name), name) for page in pages for name in page)
        first = int(group["created"])
    yield from ((index, expansion.id(index)) for index in range(first, int(group["total"])))


def _fold(reader: Job) -> Partial | None:
    how = reader.aggregation
    if how is None:
        return None
    options = options_of(how.metric_name, how.ascending, how.k, how.quantiles)
    return partial_of(how.strategy, options)


def _index(fan_out: str, name: str) -> int:
    index = child_index(fan_out, name)
    assert index is not None, f"{name} is no child of {fan_out}"
    return index


def _read(
    store: Store,
    execution: str,
    chunks: Sequence[int],
    names: Mapping[int, Sequence[str]],
    go_on: Callable[[], None],
) -> Iterator[tuple[Folded, list[Finished]]]:
    """The chunks of which something can be folded, or nothing ever will."""
    for number in chunks:
        page = names.get(number, ())
        outcomes = dict(zip(page, store.outcomes(execution, page), strict=True))
        finished = [(name, text) for name, (status, text) in outcomes.items() if status == FINISHED]
        is_open = any(status not in JOB_TERMINAL for status, _ in outcomes.values())
        if finished or not is_open:
            yield Folded(number, is_open, [name for name, _ in finished]), finished
        go_on()


def _batches(
    pages: Iterator[tuple[Folded, list[Finished]]],
) -> Iterator[tuple[list[Folded], list[Finished]]]:
    """As much as one script may take out at a time."""
    chunks: list[Folded] = []
    finished: list[Finished] = []
    for chunk, more in pages:
        if chunks and len(finished) + len(more) > FOLDED_AT_ONCE:
            yield chunks, finished
            chunks, finished = [], []
        chunks.append(chunk)
        finished += more
    if chunks:
        yield chunks, finished


def _folded_text(
    store: Store,
    execution: str,
    job: Job,
    readers: Sequence[Job],
    finished: Sequence[Finished],
) -> tuple[str, bool] | None:
    """The text that holds these, too, and whether it takes the last one's place; None where there is none.

    What keeps a child from being folded its fan-in will meet as well, and say.
    """
    last = fanouts.folded(store.client, execution, job.id, -1)
    try:
        before = json.loads(last[0]) if last else None
        partials = _partials(readers, before)
        if before and len(last[0]) > LONG_TEXT and any(one.grows for one in partials.values()):
            before, partials = None, _partials(readers, None)
        for name, result in finished:
            output = json.loads(result) if result else None
            for partial in partials.values():
                partial.add(ChildOutcome(_index(job.id, name), output=output))
        count = len(finished) + (before["count"] if before else 0)
        states = {id_: partial.state() for id_, partial in partials.items()}
        text = json.dumps({"count": count, "fan_ins": states})
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"what its fan-ins need of it has {len(text)} characters")
    except Exception as error:
        log.warning("event=not_folded execution=%s job=%s error=%r", execution, job.id, error)
        return None
    return text, before is not None


def _partials(readers: Sequence[Job], before: Mapping[str, Any] | None) -> dict[str, Partial]:
    """A fold for each fan-in, which goes on from a text."""
    partials = {reader.id: partial for reader in readers if (partial := _fold(reader))}
    if before:
        for id_, partial in partials.items():
            partial.take(before["fan_ins"][id_])
    return partials
