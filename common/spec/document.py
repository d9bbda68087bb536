"""Reading YAML and JSON into plain data, with the line of every part.

YAML is built from the parser's events, without recursion: depth and the size that aliases would
expand to are bounded while reading. Numbers follow YAML 1.2 (`1e-3` is a number, `00:03:00` and
`2026-01-01` are text), keys are always text, tags other than the plain ones are refused.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from .fields import DEEPEST
from .places import Mark, Path, Problem

#: A document may expand through aliases to this many times the limit of its file.
ALIAS_FACTOR = 4

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_events: Any = yaml.parse
#: What is said of a document that is nested more deeply than it may be.
TOO_DEEP = f"lists and mappings lie more than {DEEPEST} deep"
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {None, "!", *(_TAG + name for name in ("str", "int", "float", "bool", "null"))}
_CONTAINER_TAGS = {None, "!", _TAG + "map", _TAG + "seq"}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"([-+]?)\.(?:(inf|Inf|INF)|nan|NaN|NAN)")
_NULLS = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}
_FALSE = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


class Unreadable(Exception):
    """The text is no document: the line (0 if unknown) and what is wrong."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(slots=True)
class Document:
    """The data of a file, the lines of its parts, and the keys that it gives twice."""

    data: Any = None
    mark: Mark = field(default_factory=lambda: Mark(1))
    problems: list[Problem] = field(default_factory=list)


def read_document(text: str, *, limit: int, prefer_json: bool = False) -> Document:
    """The document in a text, JSON or YAML by what it holds. Raises Unreadable.

    `limit` (characters) bounds what aliases expand to; `prefer_json` says whose error to report
    when the text is neither.
    """
    json_error = None
    if text.lstrip()[:1] == "{":
        try:
            return _read_json(text)
        except Unreadable as error:
            json_error = error
    try:
        return _Reader(limit * ALIAS_FACTOR).read(text)
    except Unreadable:
        if json_error and prefer_json:
            raise json_error from None
        raise
    except yaml.MarkedYAMLError as error:
        if json_error and prefer_json:
            raise json_error from None
        last = max(len(text.splitlines()), 1)
        line = min(error.problem_mark.line + 1, last) if error.problem_mark else 0
        if "nesting depth" in str(error):  # libyaml's own limit is met before ours
            raise Unreadable(line, TOO_DEEP) from None
        hint = "; indent with spaces, not tabs" if "cannot start any token" in str(error) else ""
        raise Unreadable(line, f"not valid YAML: {error.problem or error.context}{hint}") from None
    except yaml.YAMLError as error:
        raise Unreadable(0, f"not valid YAML: {str(error).splitlines()[0]}") from None


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being read."""

    data: Any
    mark: Mark
    anchor: str | None
    key: str | None = None
    key_line: int = 0
    size: int = 0
    merged: list[tuple[Any, Mark]] = field(default_factory=list)


@dataclass(slots=True)
class _Anchored:
    """What an anchor names, and the characters that it expands to; None while it is being read."""

    data: Any
    mark: Mark
    size: int | None


class _Reader:
    """Builds one document from YAML events."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.frames: list[_Frame] = []
        self.anchors: dict[str, _Anchored] = {}
        self.document: Document | None = None
        self.problems: list[Problem] = []

    def read(self, text: str) -> Document:
        for event in _events(text, Loader=_Loader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event, line)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(str(event.anchor), line)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event, line)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._close()
        document = self.document or Document()
        document.problems = self.problems
        return document

    def _scalar(self, event: Any, line: int) -> None:
        frame = self.frames[-1] if self.frames else None
        is_key = frame is not None and isinstance(frame.data, dict) and frame.key is None
        if event.tag not in _PLAIN_TAGS and not is_key:
            raise Unreadable(line, f"the tag {event.tag} is not allowed; use plain values")
        if frame is not None and is_key:
            frame.key, frame.key_line = event.value, line
            frame.size += len(event.value) + 1
            return
        value, size = _scalar(event, line), len(event.value) + 1
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(value, Mark(line), size)
        self._put(value, Mark(line), size)

    def _alias(self, name: str, line: int) -> None:
        anchored = self.anchors.get(name)
        if anchored is None:
            raise Unreadable(line, f"the alias *{name} has no anchor &{name} above it")
        if anchored.size is None:
            raise Unreadable(line, f"the alias *{name} stands inside what it names")
        self._check_key(line)
        self._put(anchored.data, anchored.mark, anchored.size)
        if sum(frame.size for frame in self.frames) > self.limit:
            raise Unreadable(line, f"its aliases expand to more than {self.limit:,} characters")

    def _open(self, event: Any, line: int) -> None:
        self._check_key(line)
        if event.tag not in _CONTAINER_TAGS:
            raise Unreadable(line, f"the tag {event.tag} is not allowed; use plain values")
        if len(self.frames) >= DEEPEST:
            raise Unreadable(line, TOO_DEEP)
        data: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        frame = _Frame(data, Mark(line, {}), event.anchor)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(data, frame.mark, None)
        self.frames.append(frame)

    def _check_key(self, line: int) -> None:
        frame = self.frames[-1] if self.frames else None
        if frame and isinstance(frame.data, dict) and frame.key is None:
            raise Unreadable(line, "a key must be text, not a list, a mapping or an alias")

    def _close(self) -> None:
        frame = self.frames.pop()
        for data, mark in frame.merged:
            for key, value in data.items():
                if key not in frame.data:
                    frame.data[key] = value
                    _children(frame.mark)[key] = _children(mark)[key]
        if frame.anchor:
            self.anchors[frame.anchor] = _Anchored(frame.data, frame.mark, frame.size + 2)
        self._put(frame.data, frame.mark, frame.size + 2)

    def _put(self, value: Any, mark: Mark, size: int) -> None:
        if not self.frames:
            if self.document is not None:
                raise Unreadable(mark.line, "a second document begins; keep one in a file")
            self.document = Document(value, mark)
            return
        frame = self.frames[-1]
        frame.size += size
        if isinstance(frame.data, list):
            _children(frame.mark)[len(frame.data)] = mark
            frame.data.append(value)
            return
        key, line = frame.key or "", frame.key_line
        frame.key = None
        if key == "<<":
            frame.merged += _merged(value, mark)
        elif key in frame.data:
            first = _children(frame.mark)[key].line
            path = tuple(self._path())
            self.problems.append(((*path, key), _given_twice(line, first)))
        else:
            frame.data[key] = value
            _children(frame.mark)[key] = Mark(line, mark.children)

    def _path(self) -> Iterator[str | int]:
        """The way to the frame that is being read."""
        for frame in self.frames[:-1]:
            yield len(frame.data) if isinstance(frame.data, list) else frame.key or ""


def _given_twice(line: int, first: int) -> str:
    where = f"in line {line} and" if line != first else "twice"
    return f"is given {where} in line {first}; keep one"


def _merged(value: Any, mark: Mark) -> list[tuple[Any, Mark]]:
    """What a merge key `<<` brings: one mapping, or several of which the first wins."""
    if isinstance(value, dict):
        return [(value, mark)]
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return [(item, _children(mark)[index]) for index, item in enumerate(value)]
    raise Unreadable(mark.line, "<< takes a mapping, or a list of mappings")


def _children(mark: Mark) -> dict[str | int, Mark]:
    if mark.children is None:
        mark.children = {}
    return mark.children


def _scalar(event: Any, line: int) -> Any:
    """The value of a scalar; only a plain one, or one with a tag, is other than text."""
    text = event.value
    tag = (event.tag or "").removeprefix(_TAG)
    if tag in ("str", "!") or (not tag and not event.implicit[0]):
        return text
    value = _plain(text, line)
    if tag and type(value).__name__ != {"null": "NoneType"}.get(tag, tag):
        if tag == "float" and isinstance(value, int):
            return float(value)
        raise Unreadable(line, f"{text!r} is not of the type !!{tag}")
    return value


def _plain(text: str, line: int) -> Any:
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    try:
        if _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    except ValueError:
        raise Unreadable(line, "a number has too many digits") from None
    if special := _SPECIAL_FLOAT.fullmatch(text):
        return float(special[1] + "inf") if special[2] else float("nan")
    return text


def _read_json(text: str) -> Document:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise Unreadable(error.lineno, f"not valid JSON: {error.msg}") from None
    except RecursionError:
        raise Unreadable(0, TOO_DEEP) from None
    except ValueError:
        raise Unreadable(0, "a number has too many digits") from None
    document = Document(data)
    _mark_json(text, document)
    return document


@dataclass(slots=True)
class _Open:
    """A JSON list or object whose parts are being marked."""

    mark: Mark
    is_object: bool
    key: str | None = None
    index: int = 0

    def step(self) -> str | int:
        return (self.key or "") if self.is_object else self.index


def _mark_json(text: str, document: Document) -> None:
    """Find the line of every part of a text that is known to be valid JSON."""
    stack: list[_Open] = []
    line, seen = 1, 0
    for token in _JSON_TOKEN.finditer(text):
        line += text.count("\n", seen, token.start())
        seen = token.start()
        word = token.group()
        top = stack[-1] if stack else None
        if word in "]}":
            stack.pop()
        elif word == ",":
            assert top is not None
            top.index, top.key = top.index + 1, None
        elif top and top.is_object and top.key is None:
            top.key = json.loads(word)
            _mark_key(top, line, tuple(above.step() for above in stack[:-1]), document)
        elif word != ":":
            _mark_value(word, line, stack, document)


def _mark_key(top: _Open, line: int, path: Path, document: Document) -> None:
    key = top.key or ""
    first = _children(top.mark).get(key)
    if first:
        document.problems.append(((*path, key), _given_twice(line, first.line)))
    _children(top.mark)[key] = Mark(line)


def _mark_value(word: str, line: int, stack: list[_Open], document: Document) -> None:
    if not stack:
        mark = document.mark
        mark.line = line
    elif stack[-1].is_object:
        mark = _children(stack[-1].mark)[stack[-1].key or ""]
    else:
        mark = _children(stack[-1].mark).setdefault(stack[-1].index, Mark(line))
    if word in "[{":
        if len(stack) >= DEEPEST:
            raise Unreadable(line, TOO_DEEP)
        stack.append(_Open(mark, word == "{"))
