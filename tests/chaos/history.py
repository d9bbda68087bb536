"""What happened, as a list of records: one JSON line each, one file a writer.

A record is `{"at": seconds since 1970, "what": word, ...}`. A job is named by `execution`
and `job`, an attempt by `attempt` (from 1) as well. The words are no product's own, so that one
checker judges any system that can be made to write them:

| what | written by | fields |
|---|---|---|
| accepted | the client | execution, jobs: name -> `spec()` |
| cancel_acked, resubmitted | the client | execution (resubmitted: what failed runs again) |
| canceled, reopened | the system | execution: the moment from which that holds |
| node | the system | node, tags: what it offers from now on |
| claimed | the system | job, attempt, node, class (not for control jobs) |
| committed | the system | job, attempt |
| ended | the system | job, attempt, status: failed, canceled, stopped |
| crashed, lost, handed_back, retrying | the system | job, attempt: the claim is void, because ... |
| stale | the system | job, attempt, node: a late settle was refused |
| reset | the system | job: it may run again, though it had ended |
| start, tick, end | the job's own code | job, attempt, pid, node; end: result (a digest) |
| fault | the nemesis | scenario, kind, target, jobs: attempts that it hit |
| continued | the nemesis | target, jobs: attempts of a stopped node that goes on; late: those of |
|           |             | them that ended while nobody could settle them |
| dbsize | the scenario | label: before, after; keys |
| undone | the recorder | since, till: its entries after `since` up to `till`, told already, were lost with Redis |
| missed | the recorder | entries of the system's record that were gone before they were read |
| final | the client | execution, status, jobs: name -> status, attempt, told, result, inputs |

Of `final`: `told` is the attempt that the stored result itself names, `result` its digest,
`inputs` (of a job that collects) the digests of what it read, in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

Record = dict[str, Any]
History = list[Record]


def spec(
    upstreams: Sequence[str] = (),
    class_: str = "any",
    *,
    retries: int = 0,
    group: str | None = None,
    collects: str | None = None,
    control: bool = False,
) -> Record:
    """What was accepted of one job.

    `upstreams` must have committed before it starts (`name?`: have ended, in whatever way).
    `group` is the fan-out that it is a child of, `collects` the one whose children it reads;
    a control job is the system's own work and runs no code of the user's.
    """
    return {
        "upstreams": list(upstreams),
        "class": class_,
        "retries": retries,
        "group": group,
        "collects": collects,
        "control": control,
    }


def digest(value: Any) -> str:
    """A short name for a JSON value, equal for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=8).hexdigest()


class Journal:
    """One writer's file of records. Not to be shared by threads."""

    def __init__(self, folder: Path, writer: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{writer}.jsonl"
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, what: str, at: float | None = None, **fields: Any) -> Record:
        """Adds a record, of now or of `at`, and returns it."""
        record = {"at": time.time() if at is None else at, "what": what, **fields}
        self._file.write(json.dumps(record) + "\n")
        return record

    def flush(self) -> None:
        """What was written can be read by others."""
        self._file.flush()

    def close(self) -> None:
        """Safe twice."""
        self._file.close()


def read(folder: Path) -> History:
    """All writers' records by time; those of one writer stay in their order.

    A last line that was cut off (its writer died, or the disk was full) does not count.
    """
    records: History = []
    for path in sorted(folder.glob("*.jsonl")):
        records += read_file(path)
    records.sort(key=lambda record: record["at"])  # stable
    return records


def read_file(path: Path) -> History:
    """One writer's records."""
    records = []
    for line in path.read_bytes().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


class Tail:
    """A writer's file while it is written. It need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def new(self) -> History:
        """What whole records came since the last time."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def save(history: History, path: Path) -> None:
    """Writes a whole history into one file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in history), encoding="utf-8")
