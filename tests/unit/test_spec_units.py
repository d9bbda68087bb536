"""Durations and sizes in all forms that are promised."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common.spec.units import parse_duration_s, parse_size_bytes


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5m", 300),
        ("00:03:00", 180),
        ("1-00:00:00", 86400),
        ("1-02:30", 95400),
        ("05:30", 330),
        ("10:00:00", 36000),
        ("90s", 90),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (" 7 ", 7),
        ("7.5", 7.5),
        ("1e2", 100),
        (30, 30),
        (0.25, 0.25),
        ("5M", 300),
    ],
)
def test_durations(value: Any, seconds: float) -> None:  # W1
    assert parse_duration_s(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        *(0, -5, "-5", "0s", "00:00:00", "", "5 parsecs", "m", "1:2:3:4", "5m-", "-5m", True),
        *(None, [5], math.nan, math.inf, "nan", "inf", "1e400", 10**400, 1e300, "99999999d"),
    ],
)
def test_bad_durations_are_refused_with_the_way_out(value: Any) -> None:  # W3
    with pytest.raises(ValueError, match="'00:03:00'"):
        parse_duration_s(value)


def test_zero_is_a_duration_only_where_it_is_allowed() -> None:
    assert parse_duration_s(0, zero=True) == 0
    with pytest.raises(ValueError, match="zero or more"):
        parse_duration_s(-1, zero=True)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("256M", 256 * 2**20),
        ("4GB", 4 * 10**9),
        ("4GiB", 4 * 2**30),
        ("4gib", 4 * 2**30),
        ("1.5K", 1536),
        ("1T", 2**40),
        ("100", 100),
        ("100B", 100),
        ("2 MB", 2 * 10**6),
        (1024, 1024),
        (0, 0),
    ],
)
def test_sizes(value: Any, size: int) -> None:  # W1 Q3
    assert parse_size_bytes(value) == size


@pytest.mark.parametrize(
    "value",
    [-1, "-1M", "M", "", "4 QB", "4GiBs", True, None, math.nan, math.inf, 10**400, "9999999P"],
)
def test_bad_sizes_are_refused_with_the_way_out(value: Any) -> None:  # W3
    with pytest.raises(ValueError, match="'4GiB'"):
        parse_size_bytes(value)


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_duration_s, parse_size_bytes):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
