"""What a fan-in keeps of each child: results that do not depend on the order in which children end.

best, worst, top-k and average hold constant memory, a vote that of its distinct outputs, quantiles
eight bytes a child, collect-all everything.
"""

import heapq
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from .errors import AggregationError
from .outcomes import (
    FINISHED,
    ChildOutcome,
    PartialSum,
    canonical_json,
    describe,
    metric_of,
    metrics_of,
    sources,
)

#: The most distinct outputs that a vote counts.
MOST_DISTINCT = 100_000
#: Of so many outputs or metrics what a fold holds is small.
FEW = 100
#: The most outputs that top-k takes in as children finish; where it is to give more they are all kept.
MOST_KEPT = 1000
#: The strategies that look at the one metric that they name.
OF_ONE_METRIC = ("best-metric", "worst-metric", "top-k", "quantiles")


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


class Partial(Fold, Protocol):
    """A fold that can be written down, and taken in by another of its kind."""

    @property
    def grows(self) -> bool:
        """Is what it holds large, or will it be with more children?"""

    def state(self) -> Any:
        """What it holds, as JSON."""

    def take(self, state: Any) -> None:
        """All that another one held."""


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


def partial_of(strategy: str, options: Options) -> Partial | None:
    """`fold_of`, where it holds less than all that it took in; None where it keeps (nearly) every output."""
    if strategy in ("collect-all", "custom") or (strategy == "top-k" and options.k > MOST_KEPT):
        return None
    return cast(Partial, fold_of(strategy, options))


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


#: The first child of which something is to be said, and what.
_Remark = tuple[int, str] | None


def _is_before(index: int, remark: _Remark) -> bool:
    return remark is None or index < remark[0]


def _first(one: _Remark, other: Sequence[Any] | None) -> _Remark:
    if other is None or (one is not None and one[0] < other[0]):
        return one
    return (other[0], other[1])


class _Count:
    """How many children gave an output."""

    grows = False

    def __init__(self) -> None:
        self.count = 0

    def state(self) -> int:
        return self.count

    def take(self, state: int) -> None:
        self.count += state

    def add(self, child: ChildOutcome) -> None:
        self.count += 1

    def result(self) -> int:
        return self.count


class _Metric:
    """One metric by its name, and the first child that lacks it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lacking: _Remark = None

    def of(self, child: ChildOutcome) -> float | None:
        """Its value; None where there is none, or NaN."""
        value = metric_of(child, self.name)
        if value is None and _is_before(child.index, self.lacking):
            large = any(type(one.get(self.name)) is int for one in sources(child))
            why = "it is an integer beyond 2^53" if large else describe(child)
            self.lacking = (child.index, why)
        return None if value is None or math.isnan(value) else value

    def take(self, lacking: _Remark) -> None:
        """What another one noted."""
        self.lacking = _first(self.lacking, lacking)

    def check(self, found: int) -> None:
        """Raises AggregationError where a child lacks it, or where none was `found`."""
        if self.lacking:
            index, why = self.lacking
            raise AggregationError(
                "FANIN_MISSING_METRIC",
                f"child {index} has no number '{self.name}'; {why}",
                index=index,
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
        self._rank((value * self.sign, -child.index, child.output))

    def _rank(self, ranked: tuple[float, int, Any]) -> None:
        if len(self.heap) < (self.k or 1):
            heapq.heappush(self.heap, ranked)
        else:
            heapq.heappushpop(self.heap, ranked)

    @property
    def grows(self) -> bool:
        return (self.k or 1) > FEW

    def state(self) -> dict[str, Any]:
        return {"lacking": self.metric.lacking, "best": self.heap}

    def take(self, state: dict[str, Any]) -> None:
        self.metric.take(state["lacking"])
        for value, index, output in state["best"]:
            self._rank((value, index, output))

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

    grows = True

    def __init__(self, metric: _Metric, quantiles: Sequence[float]) -> None:
        self.metric = metric
        self.quantiles = quantiles
        self.values = array("d")

    def add(self, child: ChildOutcome) -> None:
        value = self.metric.of(child)
        if value is not None:
            self.values.append(value)

    def state(self) -> dict[str, Any]:
        return {"lacking": self.metric.lacking, "values": self.values.tolist()}

    def take(self, state: dict[str, Any]) -> None:
        self.metric.take(state["lacking"])
        self.values.extend(state["values"])

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
        self.first: _Remark = None

    def add(self, child: ChildOutcome) -> None:
        if _is_before(child.index, self.first):
            self.first = (child.index, describe(child))
        for name, value in (metrics_of(child.output) or metrics_of(child.metrics)).items():
            self.sums.setdefault(name, PartialSum()).add(value)

    @property
    def grows(self) -> bool:
        return len(self.sums) > FEW

    def state(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "sums": {name: total.state() for name, total in self.sums.items()},
        }

    def take(self, state: dict[str, Any]) -> None:
        self.first = _first(self.first, state["first"])
        for name, total in state["sums"].items():
            self.sums.setdefault(name, PartialSum()).take(total)

    def result(self) -> dict[str, float]:
        if not self.sums:
            has = f"; child {self.first[0]}: {self.first[1]}" if self.first else ""
            raise AggregationError("FANIN_MISSING_METRIC", f"no child has a numeric metric{has}")
        return {name: self.sums[name].mean() for name in sorted(self.sums)}


class Vote:
    """The most common output; ties go to the one that the lowest index has."""

    grows = True

    def __init__(self) -> None:
        self.votes: dict[str, list[Any]] = {}

    def add(self, child: ChildOutcome) -> None:
        self._count(1, child.index, child.output)

    def _count(self, times: int, index: int, output: Any) -> None:
        key = canonical_json(output)
        vote = self.votes.get(key)
        if vote is None:
            if len(self.votes) >= MOST_DISTINCT:
                raise AggregationError(
                    "FANIN_TOO_MANY_OUTPUTS",
                    f"a vote over more than {MOST_DISTINCT:,} distinct outputs; vote on a label",
                )
            self.votes[key] = [times, index, output]
            return
        vote[0] += times
        if index < vote[1]:
            vote[1], vote[2] = index, output

    def state(self) -> list[list[Any]]:
        return list(self.votes.values())

    def take(self, state: list[list[Any]]) -> None:
        for times, index, output in state:
            self._count(times, index, output)

    def most(self) -> list[Any]:
        """[how many, the lowest index, the output] of the most common one."""
        if not self.votes:
            raise AggregationError("FANIN_NO_RESULTS", "no child gave an output to vote with")
        return max(self.votes.values(), key=lambda vote: (vote[0], -vote[1]))

    def result(self) -> Any:
        return self.most()[2]
