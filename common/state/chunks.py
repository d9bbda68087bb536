"""Jobs as they are added to an execution, chunk by chunk, and the workflow that they come from."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

Field = str | int | float

#: jobs in one chunk of an extension; a script touches 200 at most
CHUNK = 100
#: the stage of the jobs that the workflow names; no fan-out can have this name
STATIC = ":static"
#: characters of a workflow beyond which it is stored compressed (zlib)
READABLE = 16_384


class NewJob(NamedTuple):
    """A job to be added: its name, what it waits for (`b?`: b's outcome does not matter), its fields."""

    name: str
    upstreams: tuple[str, ...]
    fields: dict[str, Field]


class Chunk(NamedTuple):
    """One chunk of an execution's jobs, as `Store.extend` takes it."""

    stage: str
    number: int
    last: bool
    jobs: Sequence[NewJob]


def with_shared(jobs: Sequence[NewJob]) -> tuple[Sequence[NewJob], dict[str, Field]]:
    """The jobs without the fields that all of them have alike, and these."""
    shared = dict(jobs[0].fields) if jobs else {}
    for job in jobs:
        for name in [name for name in shared if job.fields.get(name) != shared[name]]:
            del shared[name]
    own = [
        NewJob(
            job.name,
            job.upstreams,
            {name: value for name, value in job.fields.items() if name not in shared},
        )
        for job in jobs
    ]
    return own, shared


def packed(spec: str) -> str | bytes:
    """A workflow as it is stored: one that nobody could read in a terminal is compressed."""
    return zlib.compress(spec.encode(), 1) if len(spec) > READABLE else spec


def unpacked(spec: bytes) -> str:
    """The inverse of `packed`; empty when there is none."""
    return (spec if spec[:1] in (b"{", b"") else zlib.decompress(spec)).decode()
