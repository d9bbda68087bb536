"""Whatever a program makes of tasks, maps and nested futures: the values are those of plain calls."""  # S3

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock
from support.processes import Machines

#: programs: in the long form, and in the short one
FULL, SHORT = 500, 40

places = st.integers(0, 99)
#: (what, places of earlier values, how many at once)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.lists(places, min_size=2, max_size=2)),
        st.tuples(st.just("nested"), st.lists(places, min_size=4, max_size=4)),
        st.tuples(st.just("after"), st.lists(places, min_size=3, max_size=3)),
        st.tuples(st.just("map"), st.lists(places, min_size=1, max_size=5)),
        st.tuples(st.just("map array"), st.lists(places, min_size=1, max_size=1)),
        st.tuples(st.just("element"), st.lists(places, min_size=2, max_size=2)),
        st.tuples(st.just("reduce"), st.lists(places, min_size=1, max_size=1)),
    ),
    min_size=1,
    max_size=12,
)


class Plain:
    """Tasks as plain functions, arrays as lists."""

    def __init__(self, mix: Any) -> None:
        self.mix = mix.function

    def map(self, items: list[Any], limit: int | None) -> list[Any]:
        return [self._one(item) for item in items]

    def _one(self, item: Any) -> Any:
        if isinstance(item, dict):
            return self.mix(**item)
        return self.mix(*item) if isinstance(item, tuple) else self.mix(item)

    def after(self, *upstreams: Any) -> Any:
        return self.mix

    def values(self, found: list[Any]) -> list[Any]:
        return found


class Tasks:
    """The same on the cluster."""

    def __init__(self, mix: Any) -> None:
        self.mix = mix

    def map(self, items: Any, limit: int | None) -> Any:
        return self.mix.map(items, max_concurrent=limit)

    def after(self, *upstreams: Any) -> Any:
        return self.mix.after(*upstreams)

    def values(self, found: list[Any]) -> list[Any]:
        return [
            one.get_results(60) if isinstance(one, penstock.JobArray) else one.get_result(60)
            for one in found
        ]


def carried_out(program: list[tuple[str, list[int]]], by: Plain | Tasks) -> list[Any]:
    """All values that a program comes to, in their order."""
    ones: list[Any] = [by.mix(1), by.mix(2, of="$two ${of} them")]
    arrays: list[Any] = [by.map([3, (4, 5), {"a": 6, "of": {"k": [ones[0]]}}], 2)]
    for what, at in program:
        one = [ones[place % len(ones)] for place in at]
        array = arrays[at[0] % len(arrays)]
        if what == "call":
            ones.append(by.mix(one[0], one[1]))
        elif what == "nested":
            ones.append(by.mix([one[0], {"x": one[1]}], of={"y": [[one[2]], "$"], "z": one[3]}))
        elif what == "after":
            ones.append(by.after(array, one[1])(one[2]))
        elif what == "map":
            items = [(x, n) if n % 3 else {"a": n, "b": x, "of": [x]} for n, x in enumerate(one)]
            arrays.append(by.map(items, len(one) % 3 or None))
        elif what == "map array":
            arrays.append(by.map(array, None))
        elif what == "element":
            ones.append(by.mix(array[at[1] % len(array)], array[-1]))
        else:
            ones.append(by.mix(array, of={"all": arrays[-1]}))
    return by.values([*ones, *arrays])


@pytest.fixture(scope="module")
def mix(redis7, tmp_path_factory):
    """A task on a cluster of its own."""
    redis7.client.flushall()
    made = Machines(redis7.url, tmp_path_factory.mktemp("graphs"))
    made.worker("n", concurrency=2)
    sys.path.insert(0, str(made.code))
    yield importlib.import_module("sdk_tasks").mix
    sys.path.remove(str(made.code))
    sys.modules.pop("sdk_tasks")
    made.close()


@pytest.mark.timeout(900)
def test_programs_come_to_the_values_of_plain_calls(mix, redis7, full, figure):  # S3 F5
    cluster = penstock.Cluster(redis7.url)
    jobs = 0

    @settings(
        max_examples=FULL if full else SHORT,
        deadline=None,
        derandomize=not full,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(steps)
    def compare(program: list[tuple[str, list[int]]]) -> None:
        nonlocal jobs
        expected = carried_out(program, Plain(mix))
        with cluster:
            found = carried_out(program, Tasks(mix))
        assert found == expected
        jobs += sum(len(one) if isinstance(one, list) else 1 for one in expected)

    compare()
    cluster.close()
    figure(f"{FULL if full else SHORT} programs, {jobs} jobs, all values those of plain calls")
