"""What a daemon and its slots say to each other, and how it is framed on their socket.

A frame is a 4-byte big-endian length and a msgpack array. Configurations and
results inside are JSON bytes that nobody here looks into.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

_HEAD = struct.Struct(">I")
_encode = msgspec.msgpack.Encoder().encode


class Load(msgspec.Struct, array_like=True, tag="load"):
    """To a slot, once, before its first order: the code root to import from."""

    root: str
    digest: str


class Order(msgspec.Struct, array_like=True):
    """One attempt to run. `seq` counts up over a slot's life; `cpus` are whole ones, at least 1."""

    seq: int
    job: str
    execution: str
    name: str
    attempt: int
    run: str
    config: bytes
    cpus: int = 1


class Run(msgspec.Struct, array_like=True, tag="run"):
    """To a slot: run these, in this order."""

    orders: list[Order]


class Ended(msgspec.Struct, array_like=True, tag="ended"):
    """From a slot: an order ran. Times: wall clock in ms; `run_us` without the import.

    The output lies in the slot's file from `log_from` to `log_to`. `dirty`: the
    job left processes behind, the slot takes no further order.
    """

    seq: int
    ok: bool
    result: bytes
    error: bytes
    metrics: dict[str, float]
    started_ms: int
    ended_ms: int
    run_us: int
    log_from: int
    log_to: int
    dirty: bool


class Skipped(msgspec.Struct, array_like=True, tag="skipped"):
    """From a slot: it met the fence and did not run this order."""

    seq: int


class Waiting(msgspec.Struct, array_like=True, tag="waiting"):
    """From a slot: the running job began (or ended) to wait for other jobs."""

    seq: int
    waiting: bool


ToSlot = Load | Run
FromSlot = Ended | Skipped | Waiting

to_slot = msgspec.msgpack.Decoder(ToSlot)
from_slot = msgspec.msgpack.Decoder(FromSlot)


def pack(message: ToSlot | FromSlot) -> bytes:
    """The frame of a message."""
    body = _encode(message)
    return _HEAD.pack(len(body)) + body


class Unpacker:
    """Cuts a byte stream, however it arrives, into the messages of a decoder."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """Part of a frame is here, the rest has yet to come."""
        return bool(self._buffer)

    def feed(self, data: bytes | memoryview) -> list[Any]:
        """The messages that `data` completes, in order."""
        buffer = self._buffer
        buffer += data
        messages = []
        at, size = 0, len(buffer)
        view = memoryview(buffer)
        while size - at >= 4:
            end = at + 4 + _HEAD.unpack_from(view, at)[0]
            if end > size:
                break
            messages.append(self._decoder.decode(view[at + 4 : end]))
            at = end
        view.release()
        del buffer[:at]
        return messages
