"""JSON text is the standard library's, byte for byte (W5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common.jsontext import json_writer

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.floats() | st.booleans(), inner)
    ),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_it_writes_what_dumps_writes(value: Any, ensure_ascii: bool) -> None:
    written = json_writer(ensure_ascii=ensure_ascii)(value)
    assert written == json.dumps(value, ensure_ascii=ensure_ascii)


def test_default_is_asked_for_other_types() -> None:
    assert json_writer(default=str)([{1}]) == '["{1}"]'


def test_a_value_that_holds_itself_is_found_at_once() -> None:
    write = json_writer(check_circular=True)
    endless: dict[str, Any] = {"before": "x" * 5_000_000}
    endless["self"] = endless
    for _ in range(2):
        with pytest.raises(ValueError, match="Circular reference"):
            write(endless)
        assert write(["fine"]) == '["fine"]'
    with pytest.raises(TypeError):
        write([[{1}]])
    again: list[Any] = [1]
    assert write([again, again]) == "[[1], [1]]"


def test_what_json_cannot_hold_is_refused() -> None:
    for value in ({1}, b"x", object()):
        with pytest.raises(TypeError):
            json_writer()(value)
    with pytest.raises(TypeError):
        json_writer()({(1, 2): 3})
