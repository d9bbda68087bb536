"""Cycles, in small graphs and in deep ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common.spec.graph import cycles


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({"a": ()}, []),
        ({"a": (), "b": ("a",), "c": ("a", "b")}, []),
        ({"a": ("a",)}, [["a"]]),
        ({"a": ("b",), "b": ("a",)}, [["a", "b"]]),
        ({"b": ("c",), "a": ("b",), "c": ("a",)}, [["b", "c", "a"]]),
        ({"x": ("a",), "a": ("b",), "b": ("a",), "y": ("x",)}, [["a", "b"]]),
        ({"a": ("b",), "b": ("a", "c"), "c": ("d",), "d": ("c",)}, [["a", "b"], ["c", "d"]]),
        ({"a": ("missing",)}, []),
    ],
)
def test_cycles(edges: dict[str, tuple[str, ...]], expected: list[list[str]]) -> None:  # W3
    assert list(cycles(edges)) == expected


def test_depth_is_no_problem() -> None:
    size = 20_000
    chain = {str(number): (str(number + 1),) for number in range(size)}
    assert list(cycles(chain)) == []
    (ring,) = cycles(chain | {str(size): ("0",)})
    assert len(ring) == size + 1


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef")).map(tuple)))
def test_a_reported_cycle_is_one_and_none_is_missed(edges: dict[str, tuple[str, ...]]) -> None:
    found = list(cycles(edges))
    for ring in found:
        for name, needed in zip(ring, ring[1:] + ring[:1], strict=True):
            assert needed in edges[name]
    done: set[str] = set()
    while ready := [
        n for n in edges if n not in done and not (set(edges[n]) & edges.keys()) - done
    ]:
        done.update(ready)
    assert bool(found) == bool(edges.keys() - done)
