"""What becomes of a job's return value, and of its errors."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.worker.results import (
    MAX_MESSAGE,
    ResultError,
    describe_error,
    encode_result,
    error_record,
    metrics_of,
)

LIMIT = 1 << 20

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_json_values_come_back_as_they_were(value: Any) -> None:  # W5
    assert json.loads(encode_result(value, LIMIT)) == value


class Estimator:
    """Something that JSON cannot hold."""


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append({"again": loop})
    return loop


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": Estimator()}, "result.model: Estimator is not JSON"),
        ([1, (2, {3})], "result[1][1]: set is not JSON"),
        (b"x", "result: bytes is not JSON"),
        ({(1, 2): 3}, "result: has a key of type tuple; keys are text"),
        ({"a": np.zeros(3)}, "result.a: ndarray is not JSON"),
        (_loop(), "result[0].again: refers to itself"),
        (_deep(), "the result is nested too deeply for JSON"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_place(value: Any, message: str) -> None:  # W5
    with pytest.raises(ResultError) as caught:
        encode_result(value, LIMIT)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, 2), b"[1, 2]"),
        (np.float64(0.5), b"0.5"),
        (np.float32(0.5), b"0.5"),
        (np.int64(7), b"7"),
        (np.bool_(True), b"true"),
        (float("nan"), b"NaN"),
        ("\udcff", b'"\\udcff"'),
        ("é", '"é"'.encode()),
    ],
)
def test_what_is_nearly_json_is_made_so(value: Any, text: bytes) -> None:  # W5
    assert encode_result(value, LIMIT) == text


def test_a_result_over_the_limit_is_refused() -> None:  # W5
    assert encode_result("x" * 8, 10) == b'"xxxxxxxx"'
    with pytest.raises(ResultError, match="PENSTOCK_RESULT_LIMIT_BYTES"):
        encode_result("x" * 9, 10)


@pytest.mark.parametrize(
    ("value", "metrics"),
    [
        (None, {}),
        ([1], {}),
        ({"a": 1, "b": 0.5, "c": "x", "d": True, "e": math.inf, "f": None}, {"a": 1.0, "b": 0.5}),
        ({"a": 1, "metrics": {"b": 2}}, {"b": 2.0}),
        ({"a": 1, "metrics": 3}, {"a": 1.0, "metrics": 3.0}),
        ({"a": np.float32(0.5), "b": np.bool_(True), "c": np.zeros(2)}, {"a": 0.5}),
        ({"a": 10**400, 5: 1}, {}),
    ],
)
def test_metrics_are_the_finite_numbers(value: Any, metrics: dict[str, float]) -> None:  # F5
    assert metrics_of(value) == metrics


class Broken(ValueError):
    """Breaks when it is printed."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no"), "no"),
        (Broken(), "<its text cannot be read: str() raised RuntimeError>"),
        (SystemExit(3), "the job called sys.exit(3); return instead"),
        (KeyboardInterrupt(), "the job was interrupted (KeyboardInterrupt)"),
    ],
)
def test_errors_are_told_whatever_they_do(error: BaseException, message: str) -> None:  # W6
    try:
        raise error
    except BaseException as caught:
        record = json.loads(describe_error(caught))
    assert (record["type"], record["message"]) == (type(error).__name__, message)
    assert record["mro"][0] == type(error).__name__
    assert "test_worker_results.py" in record["traceback"]


def test_a_long_error_is_cut() -> None:  # W6
    record = json.loads(error_record("E", "x" * 10**6, "y" * 10**6))
    assert len(record["message"]) < MAX_MESSAGE + 10
    assert record["traceback"].startswith("... y")
    assert record["mro"] == ["E"]
