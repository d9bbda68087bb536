"""What becomes of a job's return value, and of its errors."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common.values import Unwritable, codec_of
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


class Kept:
    """Keeps in memory what does not travel inline."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def value(self, value: Any) -> Any:
        if codec_of(value) is None:
            raise TypeError
        self.all.append(value)
        return {"kept": len(self.all) - 1}

    def text(self, text: bytes, metrics: dict[str, float]) -> Any:
        self.all.append(text)
        return {"text": len(self.all) - 1, "metrics": metrics}


@given(VALUES)
def test_json_values_come_back_as_they_were(value: Any) -> None:  # W5
    assert json.loads(encode_result(value, LIMIT, Kept())) == value


NO_CODEC = "is not JSON, and no codec is registered for it (register_codec), nor is there a PENSTOCK_PICKLE_KEY"


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
        ({"model": Estimator()}, f"result.model: Estimator {NO_CODEC}"),
        ([1, (2, {3})], f"result[1][1]: set {NO_CODEC}"),
        ({(1, 2): 3}, "result: has a key of type tuple; keys are text"),
        (_loop(), "result[0].again: refers to itself"),
        (_deep(), "the result is nested too deeply for JSON"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_place(value: Any, message: str) -> None:  # W5
    with pytest.raises(ResultError) as caught:
        encode_result(value, LIMIT, Kept())
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
    assert encode_result(value, LIMIT, Kept()) == text


def test_a_result_over_the_limit_is_kept_elsewhere_with_its_metrics() -> None:  # W5
    kept = Kept()
    assert encode_result("x" * 8, 10, kept) == b'"xxxxxxxx"'
    assert json.loads(encode_result({"loss": 0.5}, 10, kept)) == {
        "text": 0,
        "metrics": {"loss": 0.5},
    }
    assert kept.all == [b'{"loss": 0.5}']


def test_what_json_does_not_hold_is_kept_where_it_stands() -> None:  # W5
    kept, array = Kept(), np.zeros(3)
    encoded = encode_result(
        {"a": [1, array], "n": np.int64(2), "b": b"x", "u": "\udcff"}, LIMIT, kept
    )
    assert json.loads(encoded) == {"a": [1, {"kept": 0}], "n": 2, "b": {"kept": 1}, "u": "\udcff"}
    assert kept.all[0] is array
    assert kept.all[1] == b"x"


@pytest.mark.parametrize(
    ("value", "metrics"),
    [
        (None, {}),
        ([1], {}),
        ({"a": 1, "b": 0.5, "c": "x", "d": True, "e": math.inf, "f": None}, {"a": 1.0, "b": 0.5}),
        ({"a": 1, "b": 3, "metrics": {"b": 2}}, {"b": 2.0, "a": 1.0}),
        ({"a": 1, "metrics": 3}, {"a": 1.0, "metrics": 3.0}),
        ({"a": np.float32(0.5), "b": np.bool_(True), "c": np.zeros(2)}, {"a": 0.5}),
        ({"a": 10**400, "b": 2**53 + 1, 5: 1, "\ud800": 1}, {}),
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


class Refusing(Kept):
    """Whose codec writes no value."""

    def value(self, value: Any) -> Any:
        raise Unwritable("could not be written")


def test_the_place_of_what_cannot_be_written_is_told_though_a_value_holds_itself() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(ResultError, match=r"result\.a\[1\]: could not be written"):
        encode_result({"a": [1, {2}], "ring": ring}, LIMIT, Refusing())
