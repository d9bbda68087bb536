"""The types of the models' fields, each with a message that says what is right."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from ..handlers import normalise_type
from .placeholders import RESERVED
from .units import parse_duration_s, parse_size_bytes
from .wording import short

STRATEGIES = (
    "collect-all",
    "best-metric",
    "worst-metric",
    "top-k",
    "average-metrics",
    "quantiles",
    "count",
    "majority-vote",
    "custom",
)
CACHES = ("none", "memory", "redis", "disk", "hybrid")
#: How deep lists and mappings may lie inside each other.
DEEPEST = 100
#: Whole numbers up to here are told apart wherever they go.
_LARGEST = 2**53

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,100}")
_AXIS = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_TAG = re.compile(r"[a-z0-9._-]+")


def text(value: object) -> str:
    """Text; numbers, which YAML finds in `id: 7`, are written out."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{short(value)} is not text")


def travelling(value: object) -> str:
    """Text that the scripts can be told."""
    found = text(value)
    try:
        found.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{short(found)} holds half a character") from None
    return found


def identifier(value: object) -> str:
    name = text(value)
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{short(name)} is not an id; use 1 to 100 of A-Z a-z 0-9 _ -")
    return name


def axis_name(value: object) -> str:
    name = text(value)
    if not _AXIS.fullmatch(name) or name in RESERVED:
        raise ValueError(
            f"{short(name)} cannot name a parameter; use a letter, then A-Z a-z 0-9 _"
            f" (not {' or '.join(RESERVED)})"
        )
    return name


def function(value: object) -> str:
    if not isinstance(value, str) or not _FUNCTION.fullmatch(value.strip()):
        raise ValueError(f"{short(value)} is not a function; write module:function")
    return value.strip()


def command(value: object) -> str | tuple[str, ...]:
    """A line for the shell, or a list of arguments."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list | tuple) and value:
        return tuple(text(part) for part in value)
    raise ValueError(f"{short(value)} is not a command; write a line or a list of arguments")


_PLAIN = {str, int, float, bool, type(None)}


def json_value(value: Any, depth: int = 0) -> Any:
    """A copy of a value that JSON can hold; ValueError names the part that it cannot."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if depth >= DEEPEST:
        raise ValueError(f"lists and mappings lie more than {DEEPEST} deep")
    if isinstance(value, list | tuple):
        if _PLAIN.issuperset(map(type, value)):  # the values of an axis are many, and mostly such
            return list(value)
        return [json_value(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {_key(key): json_value(item, depth + 1) for key, item in value.items()}
    raise ValueError(f"{short(value)} is a {type(value).__name__}, which JSON cannot hold")


def json_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{short(value)} is not a mapping of names to values")
    return dict(json_value(value))


def json_list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{short(value)} is not a list of values")
    return list(json_value(value))


def span(value: object) -> tuple[int, int, int]:
    """A stop, or start and stop, or start, stop and step, as Python's `range` takes them."""
    parts = list(value) if isinstance(value, list | tuple) else [value]
    numbers = [number for part in parts if (number := _whole(part)) is not None]
    large = any(abs(number) > _LARGEST for number in numbers)
    if large or len(numbers) != len(parts) or not 1 <= len(parts) <= 3 or numbers[2:] == [0]:
        raise ValueError(f"{short(value)} is no range; write 10, [0, 10] or [0, 10, 2]")
    whole = range(*numbers)
    return whole.start, whole.stop, whole.step


def names(value: object) -> tuple[str, ...]:
    """A list of names; one name alone is a list of one."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{short(value)} is not a list of names")
    return tuple(dict.fromkeys(text(name) for name in value))


def tags(value: object) -> tuple[str, ...]:
    found = names(value)
    for tag in found:
        if not _TAG.fullmatch(tag):
            hint = f"; write '{tag.lower()}'" if _TAG.fullmatch(tag.lower()) else ""
            raise ValueError(f"{short(tag)} is not a capability; use a-z 0-9 . _ -{hint}")
    return tuple(sorted(found))


def domain(value: object) -> str:
    name = text(value)
    if not _TAG.fullmatch(name) or len(name) > 100:
        raise ValueError(f"{short(name)} is not a domain; use 1 to 100 of a-z 0-9 . _ -")
    return name


def domains(value: object) -> tuple[str, ...]:
    """Domains as a list, or as text with commas between them; a text has to name one."""
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not parts:
            raise ValueError(f"{short(value)} names no domain; leave it out to serve all")
        value = parts
    return tuple(dict.fromkeys(domain(one) for one in names(value)))


def between(low: int, high: int) -> Callable[[object], int]:
    """A whole number in a range, both ends included."""

    def check(value: object) -> int:
        number = _whole(value)
        if number is None or not low <= number <= high:
            raise ValueError(f"{short(value)} is not between {low} and {high}")
        return number

    return check


def at_least(least: int) -> Callable[[object], int]:
    """A whole number from `least` on."""

    def check(value: object) -> int:
        number = _whole(value)
        if number is None or not least <= number < 2**31:
            raise ValueError(f"{short(value)} is not a whole number of at least {least}")
        return number

    return check


def amount(least: float, most: float = math.inf) -> Callable[[object], float]:
    """A finite number in a range, both ends included."""

    def check(value: object) -> float:
        number = _number(value)
        if number is None or not least <= number <= most:
            limits = f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"
            raise ValueError(f"{short(value)} is not a number ({limits})")
        return number

    return check


def number(value: object) -> float:
    found = _number(value)
    if found is None:
        raise ValueError(f"{short(value)} is not a number")
    return found


def one_of(*choices: str) -> Callable[[object], str]:
    """One of some words, in any case, with `-` or `_`, or in camelCase."""

    def check(value: object) -> str:
        key = _plain(value) if isinstance(value, str) else None
        for choice in choices:
            if key == _plain(choice):
                return choice
        raise ValueError(f"{short(value)} is not one of {', '.join(choices)}")

    return check


def cache(value: object) -> str:
    if isinstance(value, bool):
        return "hybrid" if value else "none"
    return one_of(*CACHES)(value)


def min_success(value: object) -> int | float:
    """A count of children, or a fraction of them above 0 and up to 1 (written with a point)."""
    fraction = isinstance(value, float) and 0 < value <= 1
    count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31
    if isinstance(value, int | float) and (fraction or count):
        return value
    raise ValueError(f"{short(value)} is not a count from 1 or a fraction from 0 to 1")


def workers(value: object) -> int | str:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    number = _whole(value)
    if number is None or number < 1:
        raise ValueError(f"{short(value)} is not a number of workers; write 1 or more, or auto")
    return number


def seconds_of_ms(value: object) -> float:
    number = _number(value)
    if number is None or number <= 0:
        raise ValueError(f"{short(value)} is not a number of milliseconds above zero")
    return parse_duration_s(number / 1000)


def _whole(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,15}", value.strip()):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


def fractions(value: object) -> tuple[float, ...]:
    """Numbers from 0 to 1, at least one; one alone stands for a list of it."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise ValueError("names no number from 0 to 1; write [0.5, 0.9]")
    return tuple(amount(0, 1)(one) for one in values)


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the key {short(key)} is not text, which JSON needs; write '{key}'")
    return key


def _plain(word: str) -> str:
    return word.strip().lower().replace("_", "").replace("-", "")


Text = Annotated[str, BeforeValidator(text)]
Travelling = Annotated[str, BeforeValidator(travelling)]
Identifier = Annotated[str, BeforeValidator(identifier)]
AxisName = Annotated[str, BeforeValidator(axis_name)]
TypeName = Annotated[str, BeforeValidator(lambda value: normalise_type(text(value)))]
Function = Annotated[str, BeforeValidator(function)]
Command = Annotated[str | tuple[str, ...], BeforeValidator(command)]
Json = Annotated[Any, BeforeValidator(json_value)]
JsonObject = Annotated[dict[str, Any], BeforeValidator(json_object)]
Span = Annotated[tuple[int, int, int], BeforeValidator(span)]
JsonList = Annotated[list[Any], BeforeValidator(json_list)]
Names = Annotated[tuple[str, ...], BeforeValidator(names)]
ErrorNames = Names
Tags = Annotated[tuple[str, ...], BeforeValidator(tags)]
Count = Annotated[int, BeforeValidator(at_least(0))]
Positive = Annotated[int, BeforeValidator(at_least(1))]
Priority = Annotated[int, BeforeValidator(between(1, 10))]
Amount = Annotated[float, BeforeValidator(amount(0))]
Number = Annotated[float, BeforeValidator(number)]
Factor = Annotated[float, BeforeValidator(amount(1))]
Fraction = Annotated[float, BeforeValidator(amount(0, 1))]
Fractions = Annotated[tuple[float, ...], BeforeValidator(fractions)]
Size = Annotated[int, BeforeValidator(parse_size_bytes)]
Duration = Annotated[float, BeforeValidator(parse_duration_s)]
Delay = Annotated[float, BeforeValidator(lambda value: parse_duration_s(value, zero=True))]
StrategyName = Annotated[str, BeforeValidator(one_of(*STRATEGIES))]
FailedChildren = Annotated[str, BeforeValidator(one_of("fail", "skip", "pass"))]
OnFailure = Annotated[str, BeforeValidator(one_of("fail", "continue"))]
Domain = Annotated[str, BeforeValidator(domain)]
FailurePolicy = Annotated[str, BeforeValidator(one_of("continue", "fail_fast"))]
Combine = Annotated[str, BeforeValidator(one_of("product", "zip"))]
Cache = Annotated[str, BeforeValidator(cache)]
MinSuccess = Annotated[int | float, BeforeValidator(min_success)]
Workers = Annotated[int | str, BeforeValidator(workers)]
