"""JSON text as the standard library writes it, without an encoder of its own for each value."""

from __future__ import annotations

from collections.abc import Callable
from json import JSONEncoder, encoder
from typing import Any


def json_writer(
    *,
    ensure_ascii: bool = True,
    default: Callable[[Any], Any] | None = None,
    check_circular: bool = False,
) -> Callable[[Any], str]:
    """What `json.dumps` does with these arguments, as a function of the value.

    `json.dumps` makes its C encoder anew for each value, which for a small one takes most of
    the time. The function raises TypeError and ValueError as `json.dumps` does. A value may hold
    itself only with `check_circular`, which makes the function one for a single thread: without,
    all that stands before the cycle is written again and again, until RecursionError.
    """
    plain = JSONEncoder(ensure_ascii=ensure_ascii, default=default, check_circular=check_circular)
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:  # only CPython has it
        return plain.encode
    text: Any = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    open_now: dict[int, Any] | None = {} if check_circular else None
    pieces = make(open_now, plain.default, text, None, ": ", ", ", False, False, True)

    def write(value: Any) -> str:
        try:
            return "".join(pieces(value, 0))
        except BaseException:
            if open_now:
                open_now.clear()
            raise

    return write
