"""How faults are put: near names, short values, and pydantic's errors in our words."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .places import Path, Problem
from .spelling import AGGREGATION, JOB, RESOURCES, TEMPLATE, Spelling, spelling_at

if TYPE_CHECKING:
    from pydantic import ValidationError

#: What is written into an aggregation by mistake.
_BESIDE = ("config", "parameters", "retry", "timeout", "priority", "resources", "capabilities")
#: Names that are compared for a suggestion; a workflow may have many thousands of jobs.
_COMPARED = 2000

_EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_type": "text",
}


def near(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of the names, or nothing."""
    found = nearest(name, names)
    return f"; did you mean '{found}'?" if found else ""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant."""
    found = difflib.get_close_matches(name, itertools.islice(names, _COMPARED), 1, 0.6)
    return found[0] if found else None


def near_or_all(name: str, names: Iterable[str]) -> str:
    """The nearest name, else the names that exist."""
    known = list(itertools.islice(names, _COMPARED))
    return near(name, known) or (f"; there is: {', '.join(known[:20])}" if known else "")


def short(value: Any) -> str:
    """The value as it is shown in a fault: one line, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def problems_of(
    error: ValidationError, path: Path, spelling: Spelling | None = None
) -> list[Problem]:
    """The faults of a pydantic error, below a path; `spelling` has the keys at its top."""
    found: list[Problem] = []
    for detail in error.errors(include_url=False):
        loc = tuple(step for step in detail["loc"] if step != "[key]")
        found.append(((*path, *loc), _message(dict(detail), loc, spelling)))
    return found


def _message(detail: dict[str, Any], loc: Path, spelling: Spelling | None) -> str:
    kind = detail["type"]
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        keys = spelling if spelling and len(loc) == 1 else spelling_at(loc[:-1])
        return f"unknown key{_elsewhere(str(loc[-1]), keys)}"
    if kind in _EXPECTED:
        return f"{short(detail['input'])} is not {_EXPECTED[kind]}"
    message = str(detail["msg"])
    return f"{short(detail['input'])}: {message[:1].lower()}{message[1:]}"


def _elsewhere(name: str, keys: Spelling) -> str:
    """Where a key belongs that is not known here, or those that are."""
    if keys in (JOB, TEMPLATE) and name in RESOURCES.known():
        return f"; write it into resources: {{{name}: ...}}"
    if keys is AGGREGATION and name in _BESIDE:
        return "; it belongs beside the aggregation"
    return near_or_all(name, _names(keys))


def _names(spelling: Spelling) -> list[str]:
    return list(spelling.known())
