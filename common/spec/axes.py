"""The combinations of a fan-out's axes, each found by its index: nothing is materialised."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from ..outcomes import canonical_json
from .models import Axis, Job
from .places import Path, Problem
from .wording import short

#: The most jobs that one fan-out may make.
MOST_CHILDREN = 1_000_000_000
#: The most combinations out of which some may be excluded: the others are listed, four bytes each.
MOST_LISTED = 1_000_000


class Combinations(Sequence[dict[str, Any]]):
    """Values by the name of their axis. Combination `i` of a product has the values that `i` spells in
    mixed radix, the first axis slowest; zipped axes go together. Those that match an entry of `exclude`
    are left out, those of `include` come last. Of axes with faults (`axis_faults`) it is as good as can be."""

    def __init__(self, job: Job) -> None:
        axes, self._zipped = job.parameters, job.combine == "zip"
        self._axes = [(axis.name, axis.items) for axis in axes]
        self._included = [
            {axis.name: one.get(axis.name) for axis in axes} for one in job.include or ()
        ]
        # More is a fault, and more than a range can tell the length of.
        whole = min(_whole(axes, zipped=self._zipped), MOST_CHILDREN + 1)
        self._left: Sequence[int] = range(whole)
        if job.exclude and len(self._left) <= MOST_LISTED:
            gone: set[int] = set()
            matching = _Matching(axes, zipped=self._zipped)
            for one in job.exclude:
                gone.update(matching.of(one))
            self._left = array("I", (index for index in self._left if index not in gone))

    def __len__(self) -> int:
        return len(self._left) + len(self._included)

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self._left):
            return self._included[index - len(self._left)]
        return self._spelled(self._left[index])

    def _spelled(self, index: int) -> dict[str, Any]:
        if self._zipped or len(self._axes) == 1:
            return {name: items[index] for name, items in self._axes}
        values: list[tuple[str, Any]] = []
        for name, items in reversed(self._axes):
            index, place = divmod(index, len(items))
            values.append((name, items[place]))
        return dict(reversed(values))


def axis_faults(job: Job, path: Path) -> Iterator[Problem]:
    """What is wrong with the axes of a fan-out, and with what is taken out of them or added to them."""
    if job.over is not None:
        for field in ("combine", "include", "exclude"):
            if getattr(job, field) is not None:
                yield (*path, field), "belongs to parameters; over is one list"
        return
    counts: dict[str, int] = {}
    for index, axis in enumerate(job.parameters):
        if axis.name in counts:
            yield (*path, "parameters", index, "name"), f"'{axis.name}' is there already"
        counts[axis.name] = len(axis.items)
    if job.combine == "zip" and len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        yield (*path, "parameters"), f"zipped axes need as many values each: {told}"
        return
    whole = _whole(job.parameters, zipped=job.combine == "zip")
    if whole + len(job.include or ()) > MOST_CHILDREN:
        yield (*path, "parameters"), f"make {whole:,} jobs; the most is {MOST_CHILDREN:,}"
    for index, one in enumerate(job.include or ()):
        if not counts or set(one) != set(counts):
            message = f"names {_names(one)}; it needs a value for each axis: {_names(counts)}"
            yield (*path, "include", index), message
    if job.exclude and whole > MOST_LISTED:
        message = f"goes through all combinations: these are {whole:,}, the most is {MOST_LISTED:,}"
        yield (*path, "exclude"), message
    elif job.exclude:
        yield from _exclude_faults(job, job.exclude, set(counts), (*path, "exclude"))


def _exclude_faults(
    job: Job, exclude: Sequence[Mapping[str, Any]], axes: set[str], path: Path
) -> Iterator[Problem]:
    matching = _Matching(job.parameters, zipped=job.combine == "zip")
    for index, one in enumerate(exclude):
        if not one or not set(one) <= axes:
            yield (*path, index), f"names {_names(one)}; it takes values of axes: {_names(axes)}"
        elif next(matching.of(one), None) is None:
            yield (*path, index), f"{short(dict(one))} is no combination of the axes"


def _whole(axes: Sequence[Axis], *, zipped: bool) -> int:
    counts = [len(axis.items) for axis in axes]
    if not counts:
        return 0
    return min(counts) if zipped else prod(counts)


class _Places:
    """Where each value of an axis stands, asked for by value."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items
        self._by_value: dict[str, list[int]] = {}
        if not isinstance(items, range):
            for place, value in enumerate(items):
                self._by_value.setdefault(canonical_json(value), []).append(place)

    def of(self, value: Any) -> list[int]:
        if not isinstance(self._items, range):
            return self._by_value.get(canonical_json(value), [])
        whole = (
            isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        )
        return [self._items.index(int(value))] if whole and int(value) in self._items else []


class _Matching:
    """The indexes of the combinations that have certain values."""

    def __init__(self, axes: Sequence[Axis], *, zipped: bool) -> None:
        self._axes, self._zipped = axes, zipped
        self._places = {axis.name: _Places(axis.items) for axis in axes}

    def of(self, one: Mapping[str, Any]) -> Iterator[int]:
        found = {
            axis.name: self._places[axis.name].of(one[axis.name])
            for axis in self._axes
            if axis.name in one
        }
        if self._zipped:
            named = [set(places) for places in found.values()]
            yield from sorted(set.intersection(*named)) if named else ()
            return
        if not self._axes:
            return
        places: list[Sequence[int]] = [
            found.get(axis.name, range(len(axis.items))) for axis in self._axes
        ]
        for digits in product(*places):
            index = 0
            for axis, digit in zip(self._axes, digits, strict=True):
                index = index * len(axis.items) + digit
            yield index


def _names(named: Iterable[str]) -> str:
    return ", ".join(sorted(named)) or "nothing"
