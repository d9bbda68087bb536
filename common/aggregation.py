"""Fan-in: one result of many, whatever the order in which the children ended.

best, worst and average hold constant memory, a vote that of its distinct outputs. A child that
did not finish is a fault (`on_failed="fail"`), is left out (`"skip"`), or is passed on
(`"pass"`): `collect-all` and `custom` then get `{"index", "status", "error"}` in its place, the
others leave it out.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from .errors import AggregationError

#: The status of a child that gave an output.
FINISHED = "finished"
#: The most distinct outputs that a vote counts.
MOST_DISTINCT = 100_000

__all__ = [
    "AggregationError",
    "ChildOutcome",
    "PartialSum",
    "aggregate",
    "canonical_json",
    "collect_outputs",
    "metrics_of",
]


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    """How one child of a fan-out ended.

    `metrics` are those sent beside the result; they serve where the output itself was not kept.
    """

    index: int
    status: str = FINISHED
    output: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: Any = None


def aggregate(
    strategy: str,
    children: Iterable[ChildOutcome],
    *,
    metric_name: str | None = None,
    ascending: bool = False,
    on_failed: str = "fail",
    min_success: int | float | None = None,
    total: int | None = None,
    source_job_id: str = "",
) -> dict[str, Any]:
    """`{aggregated_result, strategy, input_count, source_job_id}` of a fan-out's children.

    `total` is the number of jobs that the fan-out made (by default the number of children given).
    `ascending` means that the lowest value of the metric is the best. `custom` is not run here:
    give its function what `collect_outputs` returns. Raises AggregationError.
    """
    fold = _fold(strategy, metric_name, ascending)
    takes_failed = on_failed == "pass" and isinstance(fold, _Collected)
    gate = _Gate(on_failed, min_success, total)
    taken = 0
    for child in children:
        if gate.count(child) or takes_failed:
            fold.add(child)
            taken += 1
    gate.check(taken)
    return {
        "aggregated_result": fold.result(),
        "strategy": strategy,
        "input_count": taken,
        "source_job_id": source_job_id,
    }


def collect_outputs(
    children: Iterable[ChildOutcome],
    on_failed: str = "fail",
    min_success: int | float | None = None,
    total: int | None = None,
) -> list[Any]:
    """The outputs in index order, for a custom aggregator. Raises AggregationError."""
    found: list[Any] = aggregate(
        "collect-all", children, on_failed=on_failed, min_success=min_success, total=total
    )["aggregated_result"]
    return found


def metrics_of(output: Any) -> dict[str, float]:
    """All finite numbers of `output["metrics"]` if it is there, else of the top level."""
    if not isinstance(output, Mapping):
        return {}
    inner = output.get("metrics")
    source = inner if isinstance(inner, Mapping) else output
    numbers = ((str(name), _number(value)) for name, value in source.items())
    return {name: value for name, value in numbers if value is not None and math.isfinite(value)}


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, whole floats as integers."""
    plain = _plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class PartialSum:
    """An exact sum of finite floats, added in any order (partials as in Shewchuk 1997).

    The partials do not overlap, so that there are at most about 40; what leaves the range of floats
    is kept as a fraction.
    """

    __slots__ = ("beyond", "count", "partials")

    def __init__(self, partials: Iterable[float] = (), count: int = 0) -> None:
        self.partials = list(partials)
        self.count = count
        self.beyond = Fraction(0)

    def add(self, number: float) -> None:
        """Add one finite number."""
        self.count += 1
        whole, rest = number, []
        for partial in self.partials:
            large, small = (whole, partial) if abs(whole) >= abs(partial) else (partial, whole)
            whole = large + small
            if math.isinf(whole):
                self.beyond += sum(map(Fraction, self.partials), Fraction(number))
                self.partials = []
                return
            if lost := small - (whole - large):
                rest.append(lost)
        self.partials = [*rest, whole]

    def mean(self) -> float:
        """The mean of what was added, rounded once."""
        return float(sum(map(Fraction, self.partials), self.beyond) / self.count)


class _Gate:
    """What becomes of children that did not finish."""

    def __init__(self, on_failed: str, min_success: int | float | None, total: int | None) -> None:
        self.on_failed = on_failed
        self.min_success = min_success
        self.total = total
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
        total = self.finished + self.failed if self.total is None else self.total
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


class _Fold(Protocol):
    def add(self, child: ChildOutcome) -> None: ...

    def result(self) -> Any: ...


def _fold(strategy: str, metric_name: str | None, ascending: bool) -> _Fold:
    if strategy == "collect-all":
        return _Collected()
    if strategy == "average-metrics":
        return _Average()
    if strategy == "majority-vote":
        return _Vote()
    if strategy in ("best-metric", "worst-metric"):
        if not metric_name:
            raise AggregationError("FANIN_MISSING_METRIC", f"{strategy} needs a metric_name")
        return _Chosen(metric_name, highest=(strategy == "best-metric") != ascending)
    raise AggregationError("FANIN_UNKNOWN_STRATEGY", f"'{strategy}' is not folded here")


class _Collected:
    def __init__(self) -> None:
        self.items: list[tuple[int, Any]] = []

    def add(self, child: ChildOutcome) -> None:
        output = child.output
        if child.status != FINISHED:
            output = {"index": child.index, "status": child.status, "error": child.error}
        self.items.append((child.index, output))

    def result(self) -> list[Any]:
        return [output for _, output in sorted(self.items, key=lambda item: item[0])]


class _Chosen:
    """The output with the highest (or lowest) value of one metric; ties go to the lowest index."""

    def __init__(self, metric: str, *, highest: bool) -> None:
        self.metric = metric
        self.sign = 1.0 if highest else -1.0
        self.best: tuple[float, int] | None = None
        self.output: Any = None
        self.lacking: ChildOutcome | None = None

    def add(self, child: ChildOutcome) -> None:
        value = _metric(child, self.metric)
        if value is None:
            if self.lacking is None or child.index < self.lacking.index:
                self.lacking = child
            return
        rank = (value * self.sign, -child.index)
        if not math.isnan(value) and (self.best is None or rank > self.best):
            self.best, self.output = rank, child.output

    def result(self) -> Any:
        if self.lacking:
            raise AggregationError(
                "FANIN_MISSING_METRIC",
                f"child {self.lacking.index} has no number '{self.metric}'; {_has(self.lacking)}",
                index=self.lacking.index,
                metric=self.metric,
            )
        if self.best is None:
            raise AggregationError("FANIN_NO_RESULTS", f"no child has a '{self.metric}' but NaN")
        return self.output


class _Average:
    """The mean of every finite metric, over the children that have it."""

    def __init__(self) -> None:
        self.sums: dict[str, PartialSum] = {}
        self.first: ChildOutcome | None = None

    def add(self, child: ChildOutcome) -> None:
        if self.first is None or child.index < self.first.index:
            self.first = child
        for name, value in (metrics_of(child.output) or metrics_of(child.metrics)).items():
            self.sums.setdefault(name, PartialSum()).add(value)

    def result(self) -> dict[str, float]:
        if not self.sums:
            has = f"; child {self.first.index}: {_has(self.first)}" if self.first else ""
            raise AggregationError("FANIN_MISSING_METRIC", f"no child has a numeric metric{has}")
        return {name: self.sums[name].mean() for name in sorted(self.sums)}


class _Vote:
    """The most common output; ties go to the one that the lowest index has."""

    def __init__(self) -> None:
        self.votes: dict[str, list[Any]] = {}

    def add(self, child: ChildOutcome) -> None:
        key = canonical_json(child.output)
        vote = self.votes.get(key)
        if vote is None:
            if len(self.votes) >= MOST_DISTINCT:
                raise AggregationError(
                    "FANIN_TOO_MANY_OUTPUTS",
                    f"a vote over more than {MOST_DISTINCT:,} distinct outputs; vote on a label",
                )
            self.votes[key] = [1, child.index, child.output]
            return
        vote[0] += 1
        if child.index < vote[1]:
            vote[1], vote[2] = child.index, child.output

    def result(self) -> Any:
        if not self.votes:
            raise AggregationError("FANIN_NO_RESULTS", "no child gave an output to vote with")
        return max(self.votes.values(), key=lambda vote: (vote[0], -vote[1]))[2]


def _metric(child: ChildOutcome, name: str) -> float | None:
    """The metric in `metrics`, then at the top level, then beside the output."""
    if isinstance(child.output, Mapping):
        inner = child.output.get("metrics")
        for source in (inner, child.output):
            value = _number(source.get(name)) if isinstance(source, Mapping) else None
            if value is not None:
                return value
    return _number(child.metrics.get(name))


def _number(value: Any) -> float | None:
    """The value as a float; booleans are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _has(child: ChildOutcome) -> str:
    names = sorted({*metrics_of(child.output), *child.metrics})
    if names:
        return f"it has: {', '.join(names[:20])}"
    if isinstance(child.output, Mapping):
        return f"its output holds: {', '.join(map(str, list(child.output)[:20])) or 'nothing'}"
    return f"its output is a {type(child.output).__name__}, not a mapping with metrics"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
