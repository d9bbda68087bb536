"""JSON text as the standard library writes it, without an encoder of its own for each value."""

from __future__ import annotations

from collections.abc import Callable
from json import JSONEncoder, encoder
from typing import Any


def json_writer(
    *, ensure_ascii: bool = True, default: Callable[[Any], Any] | None = None
) -> Callable[[Any], str]:
    """What `json.dumps` does with these arguments, as a function of the value.

    `json.dumps` makes its C encoder anew for each value, which for a small one takes most of
    the time. The function raises TypeError and ValueError as `json.dumps` does, but
    RecursionError for a value that holds itself.
    """
    plain = JSONEncoder(ensure_ascii=ensure_ascii, default=default, check_circular=False)
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:  # only CPython has it
        return plain.encode
    text: Any = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    pieces = make(None, plain.default, text, None, ": ", ", ", False, False, True)
    return lambda value: "".join(pieces(value, 0))
