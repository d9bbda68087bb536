"""Fan-in: one result of many, whatever the order in which the children ended.

A child that did not finish is a fault (`on_failed="fail"`), is left out (`"skip"`), or is passed on
(`"pass"`): `collect-all` and `custom` then get `{"index", "status", "error"}` in its place, the
others leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from .errors import AggregationError
from .folds import Best, Collected, Options, Partial, Vote, fold_of
from .outcomes import FINISHED, ChildOutcome

__all__ = ["FINISHED", "AggregationError", "ChildOutcome", "aggregate", "collect_outputs"]

#: What `quantiles` gives where nothing is named.
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def aggregate(
    strategy: str,
    children: Iterable[ChildOutcome],
    *,
    metric_name: str | None = None,
    ascending: bool = False,
    k: int | None = None,
    quantiles: Sequence[float] | None = None,
    on_failed: str = "fail",
    min_success: int | float | None = None,
    source_job_id: str = "",
    folded: Iterable[tuple[int, Any]] = (),
) -> dict[str, Any]:
    """`{aggregated_result, strategy, input_count, source_job_id}` of a fan-out's children; beside these
    best-metric, worst-metric and top-k have `chosen`, the indexes of the children that they took, and
    majority-vote has `votes`, how many gave the most common output.

    `folded` are finished children that are not among them: how many, and the `state` of their fold.
    `ascending` means that the lowest value of the metric is the best; `k` (1) is how many top-k gives,
    `quantiles` (0, 0.25, 0.5, 0.75, 1) which of them quantiles does. `custom` is not run here:
    give its function what `collect_outputs` returns. Raises AggregationError.
    """
    options = options_of(metric_name, ascending, k, quantiles)
    fold = fold_of(strategy, options)
    takes_failed = on_failed == "pass" and isinstance(fold, Collected)
    gate = _Gate(on_failed, min_success)
    taken = 0
    for count, state in folded:
        cast(Partial, fold).take(state)
        gate.finished += count
        taken += count
    for child in children:
        if gate.count(child) or takes_failed:
            fold.add(child)
            taken += 1
    gate.check(taken)
    made = {
        "aggregated_result": fold.result(),
        "strategy": strategy,
        "input_count": taken,
        "source_job_id": source_job_id,
    }
    if isinstance(fold, Best):
        made["chosen"] = [index for index, _ in fold.chosen()]
    if isinstance(fold, Vote):
        made["votes"] = fold.most()[0]
    return made


def options_of(
    metric_name: str | None,
    ascending: bool,
    k: int | None,
    quantiles: Sequence[float] | None,
) -> Options:
    """What a strategy looks at, with what holds where nothing is named."""
    return Options(metric_name, ascending, k or 1, tuple(quantiles or QUARTILES))


def collect_outputs(
    children: Iterable[ChildOutcome],
    on_failed: str = "fail",
    min_success: int | float | None = None,
) -> list[Any]:
    """The outputs in index order, for a custom aggregator. Raises AggregationError."""
    found: list[Any] = aggregate(
        "collect-all", children, on_failed=on_failed, min_success=min_success
    )["aggregated_result"]
    return found


class _Gate:
    """What becomes of children that did not finish."""

    def __init__(self, on_failed: str, min_success: int | float | None) -> None:
        self.on_failed = on_failed
        self.min_success = min_success
        self.finished = 0
        self.failed = 0
        self.first_failed: ChildOutcome | None = None

    def count(self, child: ChildOutcome) -> bool:
        """Note how a child ended; whether it gave an output."""
        if child.status == FINISHED:
            self.finished += 1
            return True
        self.failed += 1
        if self.first_failed is None or child.index < self.first_failed.index:
            self.first_failed = child
        return False

    def check(self, taken: int) -> None:
        """Raise AggregationError unless the children suffice, of whom `taken` were taken in."""
        total = self.finished + self.failed
        first = self.first_failed
        if not total:
            raise AggregationError("FANIN_NO_RESULTS", "the fan-out made no jobs")
        if first and self.on_failed == "fail":
            raise AggregationError(
                "FANIN_CHILD_FAILED",
                f"{self.failed} of {total} children did not finish, the first is {first.index}"
                f" ({first.status}{_reason(first.error)}); set on_failed: skip or pass to go on",
                index=first.index,
            )
        needed = _needed(self.min_success, total)
        if self.finished < needed:
            raise AggregationError(
                "FANIN_TOO_FEW_RESULTS",
                f"{self.finished} of {total} children finished; min_success asks for {needed}",
            )
        if not taken:
            raise AggregationError(
                "FANIN_NO_RESULTS", f"none of {total} children finished{self._why()}"
            )

    def _why(self) -> str:
        first = self.first_failed
        return f"; child {first.index} {first.status}{_reason(first.error)}" if first else ""


def _needed(min_success: int | float | None, total: int) -> int:
    """How many must finish; a fraction is of the total, rounded up."""
    if min_success is None:
        return 0
    if isinstance(min_success, int):
        return min_success
    return math.ceil(round(min_success * total, 9))


def _reason(error: Any) -> str:
    if isinstance(error, Mapping):
        return f", {error.get('type', 'error')}: {str(error.get('message', ''))[:200]}"
    return f", {str(error)[:200]}" if error else ""
