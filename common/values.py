"""How values travel: JSON inline; other types, and what is too large, as a file that the JSON names.

The name stands where the value does: `{"$penstock": {"codec", "key", "bytes"}}`. Which codec writes and
reads a value goes by its type; none of them runs code of a file that it reads (NumPy's pickles are refused).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from .errors import InputError, PenstockError

if TYPE_CHECKING:
    from .artifacts import Artifacts

#: the key of a mapping that stands for a value elsewhere
MARK = "$penstock"
#: as it stands in JSON, where most texts have none
MARK_BYTES = b'"$penstock"'
_SHARED = "set PENSTOCK_ARTIFACTS to a folder that all machines share, or to a URL such as s3://bucket/folder"


class ValueFailed(PenstockError):
    """A value cannot be written, or not be read; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Codec:
    """`dump(value, file)` writes a value, `load(file)` reads it again; files are binary, and seekable."""

    name: str
    fits: Callable[[Any], bool]
    dump: Callable[[Any, IO[bytes]], object]
    load: Callable[[IO[bytes]], Any]


def register_codec(
    name: str,
    type_: type,
    dump: Callable[[Any, IO[bytes]], object],
    load: Callable[[IO[bytes]], Any],
) -> None:
    """Lets values of a type (and of its subclasses) travel: `dump(value, file)`, `load(file)`.

    Call it where jobs and program import it, such as beside the type. The last one of a name counts.
    Raises InputError for a name that is taken by a codec of ours.
    """
    if name in _OURS or not name.replace("-", "").replace("_", "").isalnum():
        taken = (
            "is one of Penstock's own" if name in _OURS else "is no name: use letters, digits, - _"
        )
        raise InputError(f"the codec {name!r} {taken}")
    _codecs[name] = Codec(name, lambda value: isinstance(value, type_), dump, load)


def codec_of(value: Any) -> Codec | None:
    """The codec that writes a value; of several the last one that was registered."""
    return next((codec for codec in reversed(_codecs.values()) if codec.fits(value)), None)


def keep(value: Any, to: Artifacts | None, execution: str, job: str) -> dict[str, Any]:
    """Writes a value that JSON does not hold; what stands for it there.

    Raises TypeError for a type without a codec, ValueFailed where it cannot be written.
    """
    codec = codec_of(value)
    if codec is None:
        raise TypeError(f"{type(value).__name__} is not JSON")
    return _written(codec, value, to, execution, job)


def keep_json(
    text: bytes, metrics: Mapping[str, float], to: Artifacts | None, execution: str, job: str
) -> dict[str, Any]:
    """Writes a result that is too large; what stands for it, with its metrics for fan-ins.

    Raises ValueFailed where it cannot be written.
    """
    if to is None:
        raise ValueFailed(
            f"the result is {len(text) / 2**20:.1f} MiB of JSON, over PENSTOCK_RESULT_LIMIT_BYTES: {_SHARED}, or "
            "write it to a file and return the path"
        )
    made = _written(_JSON, text, to, execution, job)
    return {**made, "metrics": dict(metrics)} if metrics else made


def loaded(value: Any, where: Callable[[], Artifacts | None]) -> Any:
    """The value with all that it names elsewhere. Raises ValueFailed, NotFound."""
    if isinstance(value, dict):
        named = value.get(MARK)
        if isinstance(named, dict):
            return _read(named, where())
        return {key: loaded(one, where) for key, one in value.items()}
    if isinstance(value, list):
        return [loaded(one, where) for one in value]
    return value


def loads(text: bytes, where: Callable[[], Artifacts | None]) -> Any:
    """JSON, with all that it names elsewhere."""
    value = json.loads(text)
    return loaded(value, where) if MARK_BYTES in text else value


def _written(
    codec: Codec, value: Any, to: Artifacts | None, execution: str, job: str
) -> dict[str, Any]:
    if to is None:
        raise ValueFailed(f"a {type(value).__name__} travels as a file: {_SHARED}")
    try:
        with to.new(execution, job) as (key, file):
            codec.dump(value, file)
            size = file.tell()
    except PenstockError:
        raise
    except Exception as error:
        raise ValueFailed(
            f"a {type(value).__name__} could not be written by the codec {codec.name}: {error}"
        ) from error
    return {MARK: {"codec": codec.name, "key": key, "bytes": size}}


def _read(named: Mapping[str, Any], at: Artifacts | None) -> Any:
    name, key = str(named.get("codec")), str(named.get("key"))
    codec = _codecs.get(name)
    if codec is None:
        raise ValueFailed(
            f"the value {key} was written by the codec {name!r}, which is not registered here; import the "
            "module that calls register_codec"
        )
    if at is None:
        raise ValueFailed(f"the value {key} is a file: set PENSTOCK_ARTIFACTS to where it is")
    with at.open(key) as file:
        size = file.seek(0, io.SEEK_END)
        if size != named.get("bytes"):
            raise ValueFailed(
                f"the value {key} has {size} bytes, and was written with {named.get('bytes')}"
            )
        file.seek(0)
        try:
            return codec.load(file)
        except Exception as error:
            raise ValueFailed(
                f"the value {key} could not be read by the codec {name}: {error}"
            ) from error


def _is(package: str, *names: str) -> Callable[[Any], bool]:
    """Of a type of a package that need not be installed."""

    def fits(value: Any) -> bool:
        return any(
            cls.__name__ in names and cls.__module__.partition(".")[0] == package
            for cls in type(value).__mro__
        )

    return fits


def _dump_array(value: Any, file: IO[bytes]) -> None:
    import numpy

    numpy.save(file, value, allow_pickle=False)


def _load_array(file: IO[bytes]) -> Any:
    import numpy

    return numpy.load(file, allow_pickle=False)


def _dump_frame(value: Any, file: IO[bytes]) -> None:
    buffer = io.BytesIO()  # pandas closes what it is given
    value.to_parquet(buffer)
    file.write(buffer.getbuffer())


def _load_frame(file: IO[bytes]) -> Any:
    import pandas

    return pandas.read_parquet(io.BytesIO(file.read()))


_JSON = Codec("json", lambda value: False, lambda text, file: file.write(text), json.load)
_codecs = {
    codec.name: codec
    for codec in (
        _JSON,
        Codec(
            "bytes",
            lambda value: isinstance(value, bytes | bytearray | memoryview),
            lambda value, file: file.write(value),
            lambda file: file.read(),
        ),
        Codec("numpy", _is("numpy", "ndarray"), _dump_array, _load_array),
        Codec("pandas", _is("pandas", "DataFrame"), _dump_frame, _load_frame),
    )
}
_OURS = frozenset(_codecs)
