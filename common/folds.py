"""What a fan-in keeps of each child: results that do not depend on the order in which children end.

best, worst, top-k and average hold constant memory, a vote that of its distinct outputs, quantiles
eight bytes a child, collect-all everything.
"""

import heapq
import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from .errors import AggregationError

#: The status of a child that gave an output.
FINISHED = "finished"
#: The most distinct outputs that a vote counts.
MOST_DISTINCT = 100_000
#: The strategies that look at the one metric that they name.
OF_ONE_METRIC = ("best-metric", "worst-metric", "top-k", "quantiles")
#: Every integer up to here is a float of its own; a larger one is no metric.
LARGEST_INTEGER = 2**53


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


@dataclass(frozen=True, slots=True)
class Options:
    """What some strategies need: see `aggregate`."""

    metric_name: str | None = None
    ascending: bool = False
    k: int = 1
    quantiles: tuple[float, ...] = ()


class Fold(Protocol):
    """Takes children in, in any order; `result` may raise AggregationError."""

    def add(self, child: ChildOutcome) -> None:
        """One more child."""

    def result(self) -> Any:
        """What has come of all of them."""


def fold_of(strategy: str, options: Options) -> Fold:
    """An empty fold. Raises AggregationError for a strategy that is none."""
    if strategy == "collect-all":
        return Collected()
    if strategy == "count":
        return _Count()
    if strategy == "average-metrics":
        return _Average()
    if strategy == "majority-vote":
        return Vote()
    if strategy not in OF_ONE_METRIC:
        raise AggregationError("FANIN_UNKNOWN_STRATEGY", f"'{strategy}' is not folded here")
    if not options.metric_name:
        raise AggregationError("FANIN_MISSING_METRIC", f"{strategy} needs a metric_name")
    metric = _Metric(options.metric_name)
    if strategy == "quantiles":
        return _Quantiles(metric, options.quantiles)
    highest = (strategy != "worst-metric") != options.ascending
    return Best(metric, highest, options.k if strategy == "top-k" else None)


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


class Collected:
    """All outputs, in the order of their index."""

    def __init__(self) -> None:
        self.items: list[tuple[int, Any]] = []

    def add(self, child: ChildOutcome) -> None:
        output = child.output
        if child.status != FINISHED:
            output = {"index": child.index, "status": child.status, "error": child.error}
        self.items.append((child.index, output))

    def result(self) -> list[Any]:
        return [output for _, output in sorted(self.items, key=lambda item: item[0])]


class _Count:
    """How many children gave an output."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, child: ChildOutcome) -> None:
        self.count += 1

    def result(self) -> int:
        return self.count


class _Metric:
    """One metric by its name, and the first child that lacks it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lacking: ChildOutcome | None = None

    def of(self, child: ChildOutcome) -> float | None:
        """Its value; None where there is none, or NaN."""
        value = _metric(child, self.name)
        if value is None and (self.lacking is None or child.index < self.lacking.index):
            self.lacking = child
        return None if value is None or math.isnan(value) else value

    def check(self, found: int) -> None:
        """Raises AggregationError where a child lacks it, or where none was `found`."""
        if self.lacking:
            large = any(type(one.get(self.name)) is int for one in _sources(self.lacking))
            why = "it is an integer beyond 2^53" if large else _has(self.lacking)
            raise AggregationError(
                "FANIN_MISSING_METRIC",
                f"child {self.lacking.index} has no number '{self.name}'; {why}",
                index=self.lacking.index,
                metric=self.name,
            )
        if not found:
            raise AggregationError("FANIN_NO_RESULTS", f"no child has a '{self.name}' but NaN")


class Best:
    """The `k` outputs with the highest (or lowest) value of a metric, the best first; without `k` the
    best one alone. Ties go to the lowest index."""

    def __init__(self, metric: _Metric, highest: bool, k: int | None) -> None:
        self.metric = metric
        self.sign = 1.0 if highest else -1.0
        self.k = k
        self.heap: list[tuple[float, int, Any]] = []  # its first is the worst

    def add(self, child: ChildOutcome) -> None:
        value = self.metric.of(child)
        if value is None:
            return
        ranked = (value * self.sign, -child.index, child.output)
        if len(self.heap) < (self.k or 1):
            heapq.heappush(self.heap, ranked)
        else:
            heapq.heappushpop(self.heap, ranked)

    def chosen(self) -> list[tuple[int, Any]]:
        """(index, output) of those, the best first."""
        self.metric.check(len(self.heap))
        ranked = sorted(self.heap, key=lambda one: one[:2], reverse=True)
        return [(-index, output) for _, index, output in ranked]

    def result(self) -> Any:
        outputs = [output for _, output in self.chosen()]
        return outputs[0] if self.k is None else outputs


class _Quantiles:
    """Quantiles of a metric, linear between two values (type 7 of Hyndman and Fan 1996, as NumPy)."""

    def __init__(self, metric: _Metric, quantiles: Sequence[float]) -> None:
        self.metric = metric
        self.quantiles = quantiles
        self.values = array("d")

    def add(self, child: ChildOutcome) -> None:
        value = self.metric.of(child)
        if value is not None:
            self.values.append(value)

    def result(self) -> dict[str, float]:
        self.metric.check(len(self.values))
        values = sorted(self.values)
        return {f"{quantile:.15g}": _at(values, quantile) for quantile in self.quantiles}


def _at(values: Sequence[float], quantile: float) -> float:
    place = quantile * (len(values) - 1)
    below, above = values[math.floor(place)], values[math.ceil(place)]
    return below if below == above else below + (above - below) * (place % 1)


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


class Vote:
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

    def most(self) -> list[Any]:
        """[how many, the lowest index, the output] of the most common one."""
        if not self.votes:
            raise AggregationError("FANIN_NO_RESULTS", "no child gave an output to vote with")
        return max(self.votes.values(), key=lambda vote: (vote[0], -vote[1]))

    def result(self) -> Any:
        return self.most()[2]


def _metric(child: ChildOutcome, name: str) -> float | None:
    """The metric in `metrics`, then at the top level, then beside the output."""
    values = (_number(source.get(name)) for source in _sources(child))
    return next((value for value in values if value is not None), None)


def _sources(child: ChildOutcome) -> list[Mapping[str, Any]]:
    """Where metrics may be."""
    inner = child.output.get("metrics") if isinstance(child.output, Mapping) else None
    return [one for one in (inner, child.output, child.metrics) if isinstance(one, Mapping)]


def _number(value: Any) -> float | None:
    """The value as a float; booleans are no numbers, nor are integers that floats do not tell apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return None
    return float(value)


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
