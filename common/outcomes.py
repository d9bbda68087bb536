"""What one child of a fan-out gave, and the numbers in it."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .values import named

#: The status of a child that gave an output.
FINISHED = "finished"
#: Every integer up to here is a float of its own; a larger one is no metric.
LARGEST_INTEGER = 2**53


@dataclass(slots=True)
class ChildOutcome:
    """How one child of a fan-out ended.

    `metrics` are those sent beside the result; they serve where the output itself was not kept.
    """

    index: int
    status: str = FINISHED
    output: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: Any = None


def metrics_of(output: Any) -> dict[str, float]:
    """All finite numbers of `output["metrics"]` if it is there, else of the top level."""
    if not isinstance(output, Mapping):
        return {}
    inner = output.get("metrics")
    source = inner if isinstance(inner, Mapping) else output
    numbers = ((str(name), _number(value)) for name, value in source.items())
    return {name: value for name, value in numbers if value is not None and math.isfinite(value)}


def metric_of(child: ChildOutcome, name: str) -> float | None:
    """The metric in `metrics`, then at the top level, then beside the output."""
    values = (_number(source.get(name)) for source in sources(child))
    return next((value for value in values if value is not None), None)


def sources(child: ChildOutcome) -> list[Mapping[str, Any]]:
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


def describe(child: ChildOutcome) -> str:
    names = sorted({*metrics_of(child.output), *child.metrics})
    if names:
        return f"it has: {', '.join(names[:20])}"
    if isinstance(child.output, Mapping):
        return f"its output holds: {', '.join(map(str, list(child.output)[:20])) or 'nothing'}"
    return f"its output is a {type(child.output).__name__}, not a mapping with metrics"


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, whole floats as integers."""
    plain = _plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        if (about := named(value)) is not None:  # files of equal content are equal
            return {"codec": about["codec"], "sha256": about["sha256"]}
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


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

    def state(self) -> list[Any]:
        """All of it, as JSON."""
        return [self.count, self.partials, str(self.beyond)]

    def take(self, state: list[Any]) -> None:
        """Add what another one holds."""
        count, partials, beyond = state
        count += self.count
        for partial in partials:
            self.add(partial)
        self.beyond += Fraction(beyond)
        self.count = count

    def mean(self) -> float:
        """The mean of what was added, as `math.fsum(numbers) / count`; also where such a sum overflows."""
        total = sum(map(Fraction, self.partials), self.beyond)
        try:
            return float(total) / self.count
        except OverflowError:
            return float(total / self.count)
