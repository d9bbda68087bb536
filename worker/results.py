"""A job's return value as JSON, its metrics, and its errors. Pure: no I/O."""

from __future__ import annotations

import json
import math
import os
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol

from ..common.errors import PenstockError
from ..common.jsontext import json_writer
from ..common.outcomes import LARGEST_INTEGER
from ..common.values import Unwritable, codec_of

MAX_METRICS = 1000
MAX_MESSAGE = 8 * 1024
MAX_TRACEBACK = 64 * 1024


class ResultError(PenstockError):
    """A job returned what cannot be recorded; the message says what and where."""


class Keeper(Protocol):
    """Writes to a file what does not travel inline; gives what stands for it in the JSON."""

    def value(self, value: Any) -> Any:
        """Of a type that JSON does not hold. Raises TypeError where no codec does either."""

    def text(self, text: bytes, beside: dict[str, Any]) -> Any:
        """JSON that is large, with `numbers_beside` it; None where it travels inline all the same."""


def encode_result(value: Any, limit_bytes: int, keeper: Keeper) -> bytes:
    """`value` as JSON text. Tuples become lists, numpy scalars numbers, other types what `keeper` makes
    of them, as does the whole where its text is over `limit_bytes`.

    Raises ResultError for what cannot travel, with the type and the path to it, and what `keeper` raises.
    """
    try:
        text = _dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        text = _with_kept(value, error, keeper)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # a lone surrogate: \uXXXX can carry it
        encoded = json.dumps(json.loads(text)).encode()
    if len(encoded) > limit_bytes:
        try:
            kept = keeper.text(encoded, numbers_beside(value))
        except Unwritable as error:
            raise ResultError(str(error)) from None
        encoded = encoded if kept is None else json.dumps(kept).encode()
    return encoded


def _with_kept(value: Any, error: Exception, keeper: Keeper) -> str:
    def default(part: Any) -> Any:
        try:
            return _scalar(part)
        except TypeError:
            pass
        try:
            return keeper.value(part)
        except Unwritable as error:
            raise ResultError(f"{_place(part, 'result', value)}: {error}") from None

    if isinstance(error, TypeError):
        try:
            return json.dumps(value, ensure_ascii=False, default=default)
        except (TypeError, ValueError, RecursionError) as again:
            error = again
    raise ResultError(_explain(value, error)) from None


def metrics_of(value: Any) -> dict[str, float]:
    """All finite numbers where fan-ins look for a metric: in `value["metrics"]` if that is a mapping, then
    at the top level."""
    if not isinstance(value, dict):
        return {}
    inner = value.get("metrics")
    found: dict[str, float] = {}
    for source in (inner, value) if isinstance(inner, dict) else (value,):
        for name, item in source.items():
            if not isinstance(name, str) or name in found or not _travels(name):
                continue
            if (number := _number(item)) is not None:
                found[name] = number
                if len(found) == MAX_METRICS:
                    return found
    return found


def _travels(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def numbers_beside(value: Any) -> dict[str, Any]:
    """The numbers of a result where fan-ins look for them, as they are there: at its top level and in its
    `metrics`."""
    if not isinstance(value, dict):
        return {}
    inner = value.get("metrics")
    found = _plain_numbers(value)
    return {**found, "metrics": _plain_numbers(inner)} if isinstance(inner, dict) else found


def _plain_numbers(source: dict[Any, Any]) -> dict[str, float]:
    found = {}
    for name, item in source.items():
        with suppress(TypeError):
            number = item if isinstance(item, bool | int | float) else _scalar(item)
            if isinstance(name, str) and type(number) in (int, float):
                found[name] = number
    return found


_OURS = os.path.join(os.path.dirname(__file__), "")


def describe_error(error: BaseException) -> bytes:
    """The JSON record of an exception: type, message, traceback, mro (class names).

    The frames of ours that the traceback begins with are left out. Holds for
    exceptions that break when they are printed, too.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return error_record(
        type(error).__name__,
        _message(error),
        _traceback(error, trace),
        [cls.__name__ for cls in type(error).__mro__ if cls is not object],
    )


def error_record(type_: str, message: str, trace: str = "", mro: list[str] | None = None) -> bytes:
    """The JSON record of an error that need not be an exception here."""
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + " ..."
    if len(trace) > MAX_TRACEBACK:
        trace = "... " + trace[-MAX_TRACEBACK:]
    record = {"type": type_, "message": message, "traceback": trace, "mro": mro or [type_]}
    return json.dumps(record).encode()


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the job called sys.exit({error.code!r}); return instead"
    if isinstance(error, KeyboardInterrupt):
        return "the job was interrupted (KeyboardInterrupt)"
    try:
        return str(error)
    except BaseException as second:
        return f"<its text cannot be read: str() raised {type(second).__name__}>"


def _traceback(error: BaseException, trace: Any) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as second:
        return f"<no traceback: printing it raised {type(second).__name__}>"


def _scalar(value: Any) -> Any:
    """What a numpy scalar (or an array without dimensions) holds."""
    if getattr(value, "shape", None) == () and hasattr(value, "dtype") and hasattr(value, "item"):
        return value.item()
    raise TypeError(type(value).__name__)


_dumps = json_writer(ensure_ascii=False, default=_scalar, check_circular=True)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if not isinstance(value, int | float):
        try:
            value = _scalar(value)
        except TypeError:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _place(part: Any, path: str, value: Any) -> str:
    """Where a part is that JSON has come to, so that none before it holds itself; '' where it is not."""
    waiting = [(path, value)]
    while waiting:
        place, found = waiting.pop()
        if found is part:
            return place
        if isinstance(found, dict):
            waiting += [(f"{place}.{key}", item) for key, item in found.items()][::-1]
        elif isinstance(found, list | tuple):
            waiting += [(f"{place}[{index}]", item) for index, item in enumerate(found)][::-1]
    return ""


def _explain(value: Any, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the result is nested too deeply for JSON"
    for path, fault in _faults("result", value, frozenset()):
        return f"{path}: {fault}"
    return f"the result is not JSON: {error}"


def _faults(path: str, value: Any, above: frozenset[int]) -> Iterator[tuple[str, str]]:
    """(path, what is wrong) of each part of `value` that JSON cannot hold."""
    if id(value) in above:
        yield path, "refers to itself"
    elif isinstance(value, dict):
        for key, item in value.items():
            if key is not None and not isinstance(key, str | int | float):
                yield path, f"has a key of type {type(key).__name__}; keys are text"
            else:
                yield from _faults(f"{path}.{key}", item, above | {id(value)})
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _faults(f"{path}[{index}]", item, above | {id(value)})
    elif value is not None and not isinstance(value, str | int | float):
        try:
            _scalar(value)
        except TypeError:
            if codec_of(value) is None:
                yield (
                    path,
                    f"{type(value).__name__} is not JSON, and no codec is registered for it (register_codec), "
                    "nor is there a PENSTOCK_PICKLE_KEY",
                )
