"""Durations and sizes as people write them."""

import math
import re

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SECONDS = r"\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.I)
_PARTS = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)\s*)+", re.I)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?", re.I)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION_FORMS = "write seconds, or '90s', '5m', '2h', '00:03:00', '1-00:00:00'"
_SIZE_FORMS = "write bytes, or '256M', '4GB', '4GiB'"

#: The longest duration that is accepted, in seconds (ten years).
LONGEST_S = 10 * 366 * 86400.0


def parse_duration_s(value: object, *, zero: bool = False) -> float:
    """Seconds of `5m`, `1h30m`, `90s`, `00:03:00`, `05:30` (minutes), `1-00:00:00` or a number.

    Zero is refused unless `zero` allows it. Raises ValueError with the forms that are right.
    """
    seconds = _duration_of_text(value) if isinstance(value, str) else _number(value)
    if seconds is None:
        raise ValueError(f"{value!r} is not a duration; {_DURATION_FORMS}")
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        least = "zero or more" if zero else "above zero"
        raise ValueError(f"{value!r} is not a duration {least}; {_DURATION_FORMS}")
    if seconds > LONGEST_S:
        raise ValueError(f"{value!r} is longer than ten years; {_DURATION_FORMS}")
    return seconds


def parse_size_bytes(value: object) -> int:
    """Bytes of `256M`, `4GB`, `4GiB`, or a number of bytes.

    One letter and `iB` are powers of 1,024 (as Slurm and Docker read them), `B` of 1,000.
    Raises ValueError with the forms that are right.
    """
    if (number := _number(value)) is not None:
        return _whole(number, value)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{value!r} is not a size; {_SIZE_FORMS}")
    amount, letter, suffix = match.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    return _whole(float(amount) * base ** _POWER[letter.lower()], value)


def _whole(size: float, value: object) -> int:
    if not 0 <= size < 2**53:
        raise ValueError(f"{value!r} is not a size between 0 and 8 PiB; {_SIZE_FORMS}")
    return round(size)


def _number(value: object) -> float | None:
    """The value of a number that is no boolean; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.inf if abs(value) > 2**63 else float(value)


def _duration_of_text(value: str) -> float | None:
    text = value.strip()
    if re.fullmatch(rf"-?{_SECONDS}", text, re.I):
        return float(text)
    if _PARTS.fullmatch(text):
        return math.fsum(float(n) * _UNIT_S[unit.lower()] for n, unit in _PART.findall(text))
    match = _CLOCK.fullmatch(text)
    return _clock(*match.groups()) if match else None


def _clock(days: str | None, first: str, second: str, third: str | None) -> float:
    """Slurm's forms: `M:SS`, `H:MM:SS`, `D-HH:MM`, `D-HH:MM:SS`."""
    if third is None and days is None:
        return int(first) * 60.0 + int(second)
    return int(days or 0) * 86400.0 + int(first) * 3600.0 + int(second) * 60.0 + int(third or 0)
