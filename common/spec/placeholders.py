"""Placeholders: `${params.lr}`, `${lr}`, `${item.path}`, `${jobs.split.result.chunks[0]}`.

A placeholder that is the whole string keeps the value's type, at any depth; inside a longer
string, and in keys of mappings, it becomes text (numbers and booleans as JSON writes them).
`$${x}` is literal.

A value is filled in stages, each a single pass: parameters when the workflow is read, axes or
items when a fan-out is expanded (`bind`), results of jobs when the job runs (`resolve`). What a
stage inserts is data: a dollar in it that could start a placeholder is written `${"$"}`, which
only the last stage turns back into a dollar, so that no value is ever read as a placeholder by a
later stage.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from ..errors import InputError, NoSuchPart
from ..jsontext import json_writer
from ..values import named
from .places import Path
from .wording import near

#: Names that an axis or item may not have.
RESERVED = ("params", "jobs")

_ESCAPE = "$${"
_DOLLAR = '${"$"}'
_KEY = r"[A-Za-z0-9_-]+"
_TOKEN = re.compile(
    r"\$\$\{"
    r'|\$\{"\$"\}'
    rf"|\$\{{(?P<name>[A-Za-z_][A-Za-z0-9_-]*)(?P<path>(?:\.{_KEY}|\[-?\d+\]|\[\"[^\"$]+\"\])*)\}}"
    r"|\$\{(?P<rest>[^{}$]*\}?)"
)
_STEP = re.compile(rf"\.({_KEY})|\[(-?\d+)\]|\[\"([^\"$]+)\"\]")
_SCALARS = {int, float, bool, type(None)}
_as_json = json_writer(ensure_ascii=False)
_LITERAL = {_ESCAPE: "${", _DOLLAR: "$"}
#: Texts up to this length are cut into pieces once, since a template is filled in again and again.
_CACHED_LENGTH = 500
_RISKY = re.compile(r"\$(?=[{$]|\Z)")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One placeholder: its text, its root name, and the steps of its path."""

    text: str
    name: str
    steps: tuple[str | int, ...]

    @property
    def shown(self) -> str:
        """The text for a message, cut where it is long."""
        return self.text if len(self.text) <= 80 else f"{self.text[:77]}..."

    @property
    def job(self) -> str | None:
        """The job whose result is named; None if it names something else."""
        is_result = self.name == "jobs" and len(self.steps) > 1 and self.steps[1] == "result"
        return str(self.steps[0]) if is_result else None


#: what a value stands for that may be elsewhere; any other value as it is
Opened = Callable[[Any], Any]


def as_it_is(value: Any) -> Any:
    """Nothing is elsewhere."""
    return value


class Malformed(InputError):
    """A `${` that begins no placeholder."""


def substitute(
    value: Any, names: Mapping[str, Any], *, final: bool, opened: Opened = as_it_is
) -> Any:
    """The value with the placeholders whose root is in `names` filled in; a copy, in a single pass.

    `final` removes escapes and refuses placeholders that nothing fills; else both are kept for a
    later stage, and inserted values are escaped. `opened` gives what a value stands for, where a path
    leads on from it or it becomes text. Raises InputError for a path that leads nowhere.
    """
    if isinstance(value, str):
        return _fill(value, names, final, opened) if "$" in value else value
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return _fill_mapping(value, names, final, opened)
    if isinstance(value, list | tuple):
        if _SCALARS.issuperset(map(type, value)):
            return list(value)
        return [substitute(item, names, final=final, opened=opened) for item in value]
    return value


def bind(value: Any, names: Mapping[str, Any], opened: Opened = as_it_is) -> Any:
    """Fill in what `names` holds; every other placeholder and all escapes stay as they are."""
    return substitute(value, names, final=False, opened=opened)


def binder(value: Any) -> Callable[[Mapping[str, Any], Opened], Any]:
    """`bind` for one value and many `names`: what has no placeholders is gone through once, and given as it is."""
    if isinstance(value, Mapping) and not any("$" in key for key in value if isinstance(key, str)):
        parts = [(key, binder(item)) for key, item in value.items()]
        return lambda names, opened: {key: part(names, opened) for key, part in parts}
    if isinstance(value, str) and "$" in value:
        first, *more = _cut(value)
        if isinstance(first, Placeholder) and not (first.steps or more):
            return partial(_fill_whole, value, first.name)
        return lambda names, opened: _fill(value, names, False, opened)
    if isinstance(value, str) or type(value) in _SCALARS:
        return lambda names, opened: value
    return lambda names, opened: bind(value, names, opened)


def resolve(value: Any, results: Mapping[str, Any], opened: Opened = as_it_is) -> Any:
    """The final value: `${jobs.NAME.result...}` filled from results by job name, escapes removed.

    `opened` as for `substitute`. Raises InputError that names the placeholder and what exists.
    """
    jobs = {name: {"result": result} for name, result in results.items()}
    return substitute(value, {"jobs": jobs}, final=True, opened=opened)


def unescape(value: Any) -> Any:
    """The final value of one that names no job: escapes removed."""
    return substitute(value, {}, final=True)


def escape(value: Any) -> Any:
    """The value written so that no stage finds a placeholder in it; `unescape` gives it back."""
    return _map_strings(value, _escape_text)


def references(value: Any) -> tuple[str, ...]:
    """Names of the jobs whose results the value names, in order, each once."""
    jobs = (found.job for _, found in placeholders(value) if isinstance(found, Placeholder))
    return tuple(dict.fromkeys(job for job in jobs if job is not None))


def placeholders(value: Any, path: Path = ()) -> Iterator[tuple[Path, Placeholder | Malformed]]:
    """Every placeholder in the value, with the path to its string; a malformed one ends a string."""
    if isinstance(value, str):
        for match in _TOKEN.finditer(value) if "${" in value else ():
            if match.group() not in _LITERAL:
                found = _parsed(match)
                yield path, found
                if isinstance(found, Malformed):
                    return
    elif type(value) in _SCALARS:
        return
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from placeholders(key, (*path, key))
            yield from placeholders(item, (*path, key))
    elif isinstance(value, list | tuple) and not _SCALARS.issuperset(map(type, value)):
        for index, item in enumerate(value):
            yield from placeholders(item, (*path, index))


def lookup(placeholder: Placeholder, names: Mapping[str, Any], opened: Opened = as_it_is) -> Any:
    """The value that a placeholder names; InputError says how far its path leads."""
    if not placeholder.steps and placeholder.name in names:
        return names[placeholder.name]
    found: Any = names
    walked = ""
    for step in (placeholder.name, *placeholder.steps):
        found = opened(found)
        try:
            found = _step(found, step)
        except (KeyError, IndexError, TypeError):
            hint = near(str(step), map(str, found)) if isinstance(found, Mapping) else ""
            raise NoSuchPart(
                f"{placeholder.shown} names nothing: {walked[:60] or 'here'} {_contents(found)}{hint}"
            ) from None
        walked += f"[{step}]" if isinstance(step, int) else f".{step}" if walked else str(step)
    return found


def _whole(value: Any, opened: Opened) -> Any:
    """The value with all that it stands for, at any depth."""
    if opened is as_it_is:
        return value
    value = opened(value)
    if isinstance(value, Mapping):
        return {key: _whole(item, opened) for key, item in value.items()}
    return [_whole(item, opened) for item in value] if isinstance(value, list) else value


def as_text(value: Any) -> str:
    """A value inside a longer string: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else _as_json(value)


def _fill(text: str, names: Mapping[str, Any], final: bool, opened: Opened) -> Any:
    pieces = _pieces(text) if len(text) <= _CACHED_LENGTH else _cut(text)
    if len(pieces) == 1 and isinstance(pieces[0], Placeholder):
        found = pieces[0]
        if not final and found.name not in names:
            return text
        value = lookup(found, names, opened)
        return value if final or type(value) in _SCALARS else escape(value)
    return "".join([_written(piece, names, final, opened) for piece in pieces])


def _fill_whole(text: str, name: str, names: Mapping[str, Any], _: Opened) -> Any:
    """`_fill` for a text that is `${name}`."""
    if name not in names:
        return text
    value = names[name]
    return value if type(value) in _SCALARS else escape(value)


def _written(
    piece: str | Placeholder | Malformed, names: Mapping[str, Any], final: bool, opened: Opened
) -> str:
    """One piece of a longer text, filled in or kept for a later stage."""
    if isinstance(piece, str):
        return _LITERAL.get(piece, piece) if final else piece
    if isinstance(piece, Malformed):
        raise InputError(str(piece))
    if not final and piece.name not in names:
        return piece.text
    inserted = as_text(_whole(lookup(piece, names, opened), opened))
    return inserted if final else _escape_text(inserted)


def _fill_mapping(
    value: Mapping[Any, Any], names: Mapping[str, Any], final: bool, opened: Opened
) -> Any:
    filled: dict[Any, Any] = {}
    for key, item in value.items():
        name = key
        if isinstance(key, str) and "$" in key:
            name = "".join([_written(piece, names, final, opened) for piece in _cut(key)])
        if name in filled:
            raise InputError(f"the key {key!r} becomes {name!r}, which is there already")
        filled[name] = substitute(item, names, final=final, opened=opened)
    return filled


def _cut(text: str) -> tuple[str | Placeholder | Malformed, ...]:
    """A text as literals, escapes and placeholders, in order."""
    pieces: list[str | Placeholder | Malformed] = []
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            pieces.append(text[end : match.start()])
        end = match.end()
        pieces.append(match.group() if match.group() in _LITERAL else _parsed(match))
    if end < len(text):
        pieces.append(text[end:])
    return tuple(pieces)


_pieces = lru_cache(maxsize=1024)(_cut)


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {
            change(key) if isinstance(key, str) else key: _map_strings(item, change)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_map_strings(item, change) for item in value]
    return value


def _escape_text(text: str) -> str:
    return _RISKY.sub(lambda _: _DOLLAR, text) if "$" in text else text


def _parsed(match: re.Match[str]) -> Placeholder | Malformed:
    """The Placeholder of a match, or the error for one that is malformed."""
    if match["name"] is None:
        return Malformed(
            f"{match.group()[:60]!r} is no placeholder; write ${{params.x}}, ${{axis}} or"
            " ${jobs.NAME.result.x}, and $${ for a literal ${"
        )
    steps = tuple(
        int(index) if index else key or quoted
        for key, index, quoted in _STEP.findall(match["path"])
    )
    return Placeholder(match.group(), match["name"], steps)


def _step(found: Any, step: str | int) -> Any:
    if isinstance(found, Mapping):
        return found[step] if step in found else found[str(step)]
    if isinstance(found, list | tuple):
        return found[int(step) if isinstance(step, int) or step.isdigit() else _not_an_index(step)]
    raise TypeError


def _not_an_index(step: str) -> int:
    raise KeyError(step)


def _contents(found: Any) -> str:
    if (about := named(found)) is not None:
        return f"is a value in a file ({about['codec']}), whose parts have no names"
    if isinstance(found, Mapping):
        names = [str(key) for key in list(found)[:20]]
        return f"holds {', '.join(names)}" if names else "is empty"
    if isinstance(found, list | tuple):
        return f"is a list of {len(found)}"
    return f"is {json.dumps(found, default=str)[:60]}, which has no parts"
