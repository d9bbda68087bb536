"""How values travel: JSON inline; other types, and what is too large, as a file that the JSON names.

The name stands where the value does: `{"$penstock": {"codec", "key", "bytes", "sha256"}}`. Which codec writes
and reads a value goes by its type; none of them runs code of a file that it reads (NumPy's pickles are refused),
but for pickles, where they are switched on (pickles.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, cast

from . import pickles
from .errors import InputError, PenstockError, ValueFailed

if TYPE_CHECKING:
    from .artifacts import Artifacts

#: the key of a mapping that stands for a value elsewhere
MARK = "$penstock"
#: as it stands in JSON, where most texts have none
MARK_BYTES = b'"$penstock"'
_NAMED = {"codec", "key", "bytes", "sha256"}
_SIGNED = {*_NAMED, "signature"}
#: the last JSON file that was looked into stays in memory if it is no larger, bytes
KEPT_BYTES = 4 * 1024 * 1024
_SHARED = "set PENSTOCK_ARTIFACTS to a folder that all machines share, or to a URL such as s3://bucket/folder"

Where = Callable[[], "Artifacts | None"]


class Unwritable(ValueFailed):
    """A codec refuses a value, or there is no place for it; so it will be again."""


@dataclass(frozen=True, slots=True)
class Codec:
    """`dump(value, file)` writes a value, `load(file)` reads it again; files are binary."""

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
    """Lets values of a type (and of its subclasses) travel: `dump(value, file)` writes one from the file's
    beginning to its end, `load(file)` reads it.

    Call it where jobs and program import it, such as beside the type. The last one of a name counts.
    Raises InputError for a name that is taken by a codec of ours, or what is no type or function.
    """
    if name in _OURS or not name.replace("-", "").replace("_", "").isalnum():
        taken = (
            "is one of Penstock's own" if name in _OURS else "is no name: use letters, digits, - _"
        )
        raise InputError(f"the codec {name!r} {taken}")
    if not isinstance(type_, type) or not callable(dump) or not callable(load):
        raise InputError(f"the codec {name!r} needs a type, and two functions: dump and load")
    _codecs[name] = Codec(name, lambda value: isinstance(value, type_), dump, load)


def codec_of(value: Any) -> Codec | None:
    """The codec that writes a value; of several the last one that was registered, of none pickling where that
    is switched on."""
    for codec in reversed(_codecs.values()):
        if codec.fits(value):
            return codec
    return _codecs[pickles.CLOUDPICKLE] if pickles.switched_on() else None


def keep(value: Any, to: Artifacts | None, execution: str, job: str) -> dict[str, Any]:
    """Writes a value that JSON does not hold; what stands for it there.

    Raises TypeError for a type without a codec, ValueFailed where it cannot be written.
    """
    return _written(_codec_for(value), value, to, (execution, job, uuid.uuid4().hex[:16]))


def keep_by_content(value: Any, to: Artifacts | None, execution: str, job: str) -> dict[str, Any]:
    """As `keep`, under a name that is the same whenever the value is: the call that is made again, by a
    further attempt of a workflow, is the one that was made."""
    codec, buffer = _codec_for(value), io.BytesIO()
    _dump(codec, value, buffer)
    return _by_content(codec, buffer.getvalue(), to, execution, job)


def keep_json_by_content(
    text: bytes, to: Artifacts | None, execution: str, job: str
) -> dict[str, Any]:
    """Writes JSON that is large, under a name that is the same whenever the text is; what stands for it.

    Raises ValueFailed where it cannot be written.
    """
    return _by_content(_JSON, text, to, execution, job)


def _by_content(
    codec: Codec, data: bytes, to: Artifacts | None, execution: str, job: str
) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    of = (execution, job, digest[:32])
    with suppress(Exception):  # if it cannot be asked for, it is written
        if to and to.has(key := to.key(*of), len(data)):
            return _mark(codec, key, len(data), digest)
    raw = Codec(codec.name, codec.fits, lambda data, file: file.write(data), codec.load)
    return _written(raw, data, to, of)


def _mark(codec: Codec, key: str, size: int, digest: str) -> dict[str, Any]:
    about: dict[str, Any] = {"codec": codec.name, "key": key, "bytes": size, "sha256": digest}
    if codec.name == pickles.CLOUDPICKLE:
        about["signature"] = pickles.sign(key, digest)
    return {MARK: about}


def keep_json(
    text: bytes, beside: Mapping[str, Any], to: Artifacts | None, execution: str, job: str
) -> dict[str, Any]:
    """Writes a result that is too large; what stands for it, with those of its numbers that fan-ins look at.

    Raises ValueFailed where it cannot be written.
    """
    if to is None:
        raise Unwritable(
            f"the result is {len(text) / 2**20:.1f} MiB of JSON, over PENSTOCK_RESULT_LIMIT_BYTES: {_SHARED}, or "
            "write it to a file and return the path"
        )
    made = _written(_JSON, text, to, (execution, job, uuid.uuid4().hex[:16]))
    return {**beside, **made}


def named(value: Any) -> Mapping[str, Any] | None:
    """What a mapping says of the value elsewhere that it stands for; None of any other value."""
    about = value.get(MARK) if isinstance(value, Mapping) else None
    return about if isinstance(about, Mapping) and set(about) in (_NAMED, _SIGNED) else None


def named_json(value: Any) -> Mapping[str, Any] | None:
    """As `named`, for JSON in a file alone."""
    about = named(value)
    return about if about is not None and about["codec"] == _JSON.name else None


def opened(value: Any, where: Where) -> Any:
    """The JSON in the file that a value names, which may name further ones; any other value as it is. Not to be
    changed, as the next one may get it too. Raises ValueFailed, NotFound."""
    about = named_json(value)
    if about is None:
        return value
    if about["bytes"] > KEPT_BYTES:
        return _read(about, where)
    return _kept(json.dumps(about), where)


@lru_cache(maxsize=1)  # the jobs of a fan-out look into the same one
def _kept(about: str, where: Where) -> Any:
    return _read(json.loads(about), where)


def with_json(value: Any, where: Where) -> Any:
    """The value with the JSON in the files that it names, but for those that cannot be read here."""
    if isinstance(value, dict):
        if named_json(value) is None:
            return {key: with_json(one, where) for key, one in value.items()}
        try:
            return with_json(opened(value, where), where)
        except PenstockError:
            return value
    return [with_json(one, where) for one in value] if isinstance(value, list) else value


def without_pickles(value: Any) -> Any:
    """JSON in which one pickle is as another: the same value can be pickled differently each time."""
    if isinstance(value, dict):
        about = named(value)
        if about is not None and about["codec"] == pickles.CLOUDPICKLE:
            return pickles.CLOUDPICKLE
        return {key: without_pickles(one) for key, one in value.items()}
    return [without_pickles(one) for one in value] if isinstance(value, list) else value


def loaded(value: Any, where: Where) -> Any:
    """The value with all that it names elsewhere. Raises ValueFailed, NotFound."""
    if isinstance(value, dict):
        about = named(value)
        if about is not None:
            found = _read(about, where)
            return loaded(found, where) if about["codec"] == _JSON.name else found
        return {key: loaded(one, where) for key, one in value.items()}
    if isinstance(value, list):
        return [loaded(one, where) for one in value]
    return value


def loads(text: bytes, where: Where) -> Any:
    """JSON, with all that it names elsewhere. Raises ValueFailed, NotFound."""
    value = json.loads(text)
    return loaded(value, where) if MARK_BYTES in text else value


class _Hashing(io.RawIOBase):
    """A file that is written from its beginning to its end: its size and its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size, self.digest = 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            self._file.write(view)
        except OSError:
            raise
        except Exception as error:  # of the store's own kind; the codec is not to blame
            raise OSError(str(error) or repr(error)) from error
        self.digest.update(view)
        self.size += view.nbytes
        return view.nbytes


def _codec_for(value: Any) -> Codec:
    codec = codec_of(value)
    if codec is None:
        raise TypeError(
            f"{type(value).__name__} is not JSON, and no codec is registered for it (register_codec), "
            "nor is there a PENSTOCK_PICKLE_KEY"
        )
    return codec


def _dump(codec: Codec, value: Any, file: IO[bytes]) -> None:
    try:
        codec.dump(value, file)
    except io.UnsupportedOperation as error:
        raise Unwritable(
            f"the codec {codec.name} must write from the beginning of its file to the end: {error}"
        ) from error
    except OSError:
        raise
    except Exception as error:
        raise Unwritable(
            f"{type(value).__name__} could not be written by the codec {codec.name}: {error}"
        ) from error


def _written(
    codec: Codec, value: Any, to: Artifacts | None, of: tuple[str, str, str]
) -> dict[str, Any]:
    if to is None:
        raise Unwritable(f"{type(value).__name__} travels as a file: {_SHARED}")
    key = to.key(*of)
    try:
        with to.new(key) as file:
            hashing = _Hashing(file)
            _dump(codec, value, cast("IO[bytes]", hashing))
    except PenstockError:
        raise
    except Exception as error:
        raise ValueFailed(f"the value {key} could not be written to {to.where}: {error}") from error
    return _mark(codec, key, hashing.size, hashing.digest.hexdigest())


def _read(about: Mapping[str, Any], where: Where) -> Any:
    name, key = str(about["codec"]), str(about["key"])
    codec, at = _codecs.get(name), where()
    if codec is None:
        raise ValueFailed(
            f"the value {key} was written by the codec {name!r}, which is not registered here; import the "
            "module that calls register_codec"
        )
    if at is None:
        raise ValueFailed(f"the value {key} is a file: set PENSTOCK_ARTIFACTS to where it is")
    try:
        with at.open(key) as file:
            size = file.seek(0, io.SEEK_END)
            if size != about["bytes"]:
                raise ValueFailed(
                    f"the value {key} has {size} bytes, and was written with {about['bytes']}"
                )
            file.seek(0)
            if name == pickles.CLOUDPICKLE:
                return pickles.load(file, key, str(about["sha256"]), str(about.get("signature")))
            return codec.load(file)
    except PenstockError:
        raise
    except Exception as error:
        raise ValueFailed(
            f"the value {key} could not be read from {at.where} by the codec {name}: {error}"
        ) from error


def _is(package: str, *names: str) -> Callable[[Any], bool]:
    """Of a type of a package that need not be installed. Not of its subclasses, which hold more (a mask, a
    unit): those would come back without it."""
    return lambda value: (
        type(value).__name__ in names and type(value).__module__.partition(".")[0] == package
    )


def _dump_array(value: Any, file: IO[bytes]) -> None:
    import numpy

    numpy.save(file, value, allow_pickle=False)


def _load_array(file: IO[bytes]) -> Any:
    import numpy

    return numpy.load(file, allow_pickle=False)


def _check_parquet() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ValueFailed(
            "pandas needs pyarrow for Parquet, which a DataFrame travels as; `pip install pyarrow`, on the "
            "nodes as well as here"
        ) from None


def _dump_frame(value: Any, file: IO[bytes]) -> None:
    _check_parquet()
    buffer = io.BytesIO()  # pandas closes what it is given
    value.to_parquet(buffer)
    file.write(buffer.getbuffer())


def _load_frame(file: IO[bytes]) -> Any:
    _check_parquet()
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
            lambda value, file: file.write(bytes(value)),
            lambda file: file.read(),
        ),
        Codec("numpy", _is("numpy", "ndarray", "memmap"), _dump_array, _load_array),
        Codec("pandas", _is("pandas", "DataFrame"), _dump_frame, _load_frame),
        # the last resort (`codec_of`), and read by `_read` with its signature
        Codec(pickles.CLOUDPICKLE, lambda value: False, pickles.dump, lambda file: None),
    )
}
_OURS = frozenset(_codecs)
