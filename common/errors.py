"""Every error that Penstock raises on purpose.

::

    PenstockError                 exit code 1
    ├── InputError                2  what was given is wrong
    │   ├── SpecError             2  a workflow with faults, all of them in `.faults`
    │   ├── Conflict              2  the same key was used for another workflow
    │   └── NoSuchPart            2  a placeholder names what a result does not have
    ├── ExecutionFailed           1  the execution ended as failed
    ├── ExecutionCanceled         3  the execution was canceled
    ├── WaitTimeout               4  the wait ended before the execution did
    ├── NotFound                  5  nothing of that id
    ├── RedisUnavailable          6  the server does not answer
    ├── UnsafeRedis               6  the server may drop our keys
    ├── AggregationError          1  a fan-in that cannot give a result, `.code` says why
    ├── LockHeld                  1  another owner holds the lock
    ├── LockLost                  1  the lock was not renewed in time, another may hold it
    ├── JobFailed                 1  a job of a session ended badly
    ├── JobCanceled               3  a job of a session was canceled
    ├── ClientGone                1  the program of a session ended before it had made all jobs
    ├── ValueFailed               1  a value cannot be written, or not be read
    │   └── NotTrusted            1  a pickle that was not signed with this machine's key
    ├── StaleToken                1  the lease was given to another attempt
    └── CodeMissing               1  the code of a job is not on this machine

A message says what is wrong and what to do next. Ids that belong to an error are given as keyword
arguments and kept in `.about`, for logs and for `--json`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

#: Faults that the text of a SpecError shows; `.faults` always holds all of them.
SHOWN_FAULTS = 200


class PenstockError(Exception):
    """Root of all errors; `exit_code` is what a command ends with."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "", **about: object) -> None:
        super().__init__(message)
        self.about = about


class InputError(PenstockError):
    """What the caller gave is wrong; nothing was written."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a workflow: where (`flow.yaml:12: jobs.train.priority`), and what."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class SpecError(InputError):
    """A workflow that cannot be run, with all of its faults; the text has one line a fault."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        super().__init__()
        self.faults = list(faults)
        self.args = (self.faults,)

    def __str__(self) -> str:
        lines = [str(fault) for fault in self.faults[:SHOWN_FAULTS]]
        if (more := len(self.faults) - SHOWN_FAULTS) > 0:
            lines.append(f"... and {more} more")
        return "\n".join(lines)


class Conflict(InputError):
    """The same key was used before, for another workflow."""


class NoSuchPart(InputError):
    """A placeholder names what there is not, or what has no parts."""


class ExecutionFailed(PenstockError):
    """The execution ended as failed."""


class ExecutionCanceled(PenstockError):
    """The execution was canceled."""

    exit_code = 3


class JobFailed(PenstockError):
    """A job ended badly; `.about` has its `job`, and the `type` of the error on the worker."""


class JobCanceled(PenstockError):
    """A job was canceled, or what it waited for did not succeed."""

    exit_code = 3


class ClientGone(PenstockError):
    """A program ended, or was cut off, while it made the jobs of an array."""


class WaitTimeout(PenstockError):
    """The wait ended before the execution did; the execution goes on."""

    exit_code = 4


class NotFound(PenstockError):
    """Nothing of that id is stored (or its time to live has passed)."""

    exit_code = 5


class RedisUnavailable(PenstockError):
    """The Redis server cannot be reached or does not answer."""

    exit_code = 6


class UnsafeRedis(PenstockError):
    """The Redis server may evict our keys, so that jobs would be lost, or is too old for us."""

    exit_code = 6


class AggregationError(PenstockError):
    """A fan-in that cannot give a result; `code` is one word, such as FANIN_NO_RESULTS."""

    def __init__(self, code: str, message: str, **about: object) -> None:
        super().__init__(message, **about)
        self.code = code
        self.args = (code, message)

    def __str__(self) -> str:
        return f"{self.code}: {self.args[1]}"


class LockHeld(PenstockError):
    """The lock is held by another owner, `.about["holder"]`."""


class LockLost(PenstockError):
    """A lock was lost while its owner thought to hold it."""


class ValueFailed(PenstockError):
    """A value cannot be written, or not be read; the message says which and why."""


class NotTrusted(ValueFailed):
    """A pickle that is not read here: there is no key, or another one signed it."""


class StaleToken(PenstockError):
    """The attempt that this token proves is no longer the current one."""


class CodeMissing(PenstockError):
    """The code that a job names is not on this machine, or is another version of it."""


def masked(text: str) -> str:
    """`text` with the passwords of URLs in it hidden; PASSWORD itself only stands for one."""
    return re.sub(r"(\w+://[^:/@\s]*):(?!PASSWORD@)[^@\s]+@", r"\1:***@", text)
