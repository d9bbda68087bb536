"""Values of any type, by cloudpickle: only where a key is set, and signed with it.

Unpickling runs what the pickle says. So one is read only if somebody who has the key wrote it, to
this place: the signature is over its key in the store and the digest of its content.
"""

from __future__ import annotations

import hashlib
import hmac
import io
from functools import cache
from typing import IO, Any

from .errors import NotTrusted

#: what the codec is called in the JSON that names a file
CLOUDPICKLE = "cloudpickle"


@cache
def _key() -> bytes:
    from .settings import Settings  # slow to import, and most slots do without

    key = Settings.load().pickle_key
    return key.get_secret_value().encode() if key else b""


def switched_on() -> bool:
    """Is there a key? Raises InputError for one that is too short."""
    return bool(_key())


def dump(value: Any, file: IO[bytes]) -> None:
    """Writes a value. Raises ModuleNotFoundError, and what pickling it raises."""
    file.write(_cloudpickle().dumps(value))


def load(file: IO[bytes], place: str, digest: str, signature: str) -> Any:
    """The value in a file, which was written under the key `place`; `digest` is the sha256 of its
    content. Raises NotTrusted, and what unpickling it raises."""
    if not switched_on():
        raise NotTrusted(
            f"the value {place} is a pickle: set PENSTOCK_PICKLE_KEY to the key that it was signed with, if you "
            "trust all that have it"
        )
    content = file.read()
    if hashlib.sha256(content).hexdigest() != digest or not hmac.compare_digest(
        sign(place, digest), signature
    ):
        raise NotTrusted(
            f"the value {place} is a pickle, and not signed with the PENSTOCK_PICKLE_KEY of this machine, or changed "
            "since: it was not read"
        )
    return _cloudpickle().load(io.BytesIO(content))


def sign(place: str, digest: str) -> str:
    """The signature of a pickle, 64 hex digits: HMAC-SHA256 (RFC 2104)."""
    return hmac.new(_key(), f"{place} {digest}".encode(), hashlib.sha256).hexdigest()


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "PENSTOCK_PICKLE_KEY is set, and cloudpickle is not installed: pip install 'penstock[pickle]'"
        ) from None
    return cloudpickle
