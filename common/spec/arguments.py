"""Whether a job's configuration fits the function that it is given to. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .places import Path, Problem
from .wording import near_or_all, nearest


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function can be given by name. `open`: any other name as well. `first`: the name of the argument
    that a single one by place would be; '' where that has none, None where there can be no such argument."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    open: bool
    first: str | None = ""

    def behind_the_first(self) -> Signature:
        """What it can be given by name when its first argument is given by place."""
        names = tuple(name for name in self.names if name != self.first)
        required = tuple(name for name in self.required if name != self.first)
        return Signature(names, required, self.open)


def signature_of(function: Callable[..., Any]) -> Signature | None:
    """The signature with which it is called; None where that is not known.

    A decorator's own counts, not that of what it wraps: it may give arguments that the job does not.
    """
    try:
        parameters = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):
        return None
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if any(one.kind is one.POSITIONAL_ONLY and one.default is one.empty for one in parameters):
        return None
    return Signature(
        names=tuple(one.name for one in named),
        required=tuple(one.name for one in named if one.default is one.empty),
        open=any(one.kind is one.VAR_KEYWORD for one in parameters),
        first=_first(parameters),
    )


def _first(parameters: list[inspect.Parameter]) -> str | None:
    for one in parameters[:1]:
        if one.kind is one.POSITIONAL_OR_KEYWORD:
            return one.name
        if one.kind in (one.POSITIONAL_ONLY, one.VAR_POSITIONAL):
            return ""
    return None


def argument_problems(
    path: Path, run: str, config: Mapping[Any, Any], signature: Signature
) -> Iterator[Problem]:
    """Arguments that the function `run` does not take, and those that it lacks (not those that were misspelt).

    A key that holds a placeholder may become any name.
    """
    name = run.partition(":")[2]
    if any("$" in str(key) for key in config):
        return
    unknown = [] if signature.open else [key for key in config if key not in signature.names]
    for key in unknown:
        hint = near_or_all(str(key), signature.names) or "; it takes none"
        yield (*path, "config", str(key)), f"{name}() has no argument '{key}'{hint}"
    given = {*config, *(nearest(str(key), signature.names) for key in unknown)}
    lacking = [f"'{needed}'" for needed in signature.required if needed not in given]
    if lacking:
        plural = "s" if len(lacking) > 1 else ""
        yield (*path, "config"), f"{name}() needs the argument{plural} {', '.join(lacking)}"
