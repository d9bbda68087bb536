"""The child process that imports the user's code (`probe.py`), and what it found out.

It is started with Python's safe path, given the user's folder explicitly, and ended after a
minute. To start it takes longer than most imports, so one may be kept ready (`prepare`).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import IO, TYPE_CHECKING, Any

from ..context import current
from ..handlers import CONTROL_TYPES, HANDLERS_MODULE, registered
from .arguments import Signature
from .wording import near

if TYPE_CHECKING:
    from .places import Problem

#: Functions (`module:function`) that can be imported, and how they can be called.
Known = dict[str, Signature | None]
#: How long all imports together may take, in seconds.
IMPORT_LIMIT_S = 60.0
#: A child that is kept ready ends when it is not asked anything for so long, in seconds.
READY_S = 60.0
_CHILD = "penstock.common.spec.probe"


class Answers:
    """What the child found out."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.signatures: Known = {}
        self.runs: dict[str, str | None] = {}
        self.bindings: list[str] = []
        self.broken: list[Problem] = []
        self.step: dict[str, Any] = {}
        self.heard = False
        self.done = False

    def take(self, answer: dict[str, Any]) -> None:
        """Note one line of the child's."""
        self.heard = True
        if "importing" in answer:
            self.step = answer
        elif "function" in answer:
            name, error, found = answer["function"], answer["error"], answer["signature"]
            if error:
                self.errors[name] = error
            else:
                self.signatures[name] = found and Signature(
                    tuple(found["names"]),
                    tuple(found["required"]),
                    found["open"],
                    found["first"],
                )
        elif "handlers" in answer:
            if answer["handlers"]:
                self.broken.append(((f"{HANDLERS_MODULE}.py",), answer["handlers"]))
        elif "folder" in answer:
            self.broken.append(((), answer["folder"]))
        elif "types" in answer:
            self.runs, self.bindings = answer["types"], answer["known"]
        elif "done" in answer:
            self.done = True

    def cut_short(self, functions: list[str], why: str) -> None:
        """The child ended before it was done: blame what it was importing."""
        module = self.step.get("importing", "")
        message = f"importing '{module}' {why}; move what it does at import into functions"
        blamed = [name for name in functions if name.split(":")[0] == module]
        self.errors |= dict.fromkeys(blamed, message)
        if not blamed:
            place = (f"{module}.py",) if module else ()
            self.broken.append((place, message if module else f"the check of functions {why}"))

    def fault_of_type(self, name: str) -> str:
        """What is wrong with the handler of a type; nothing if it has a good one."""
        run = self.runs.get(name)
        if run:
            error = self.errors.get(run)
            return f"its handler: {error}" if error else ""
        if self.broken or not self.done:
            return ""
        hint = near(name, [*self.bindings, *CONTROL_TYPES])
        return (
            f"no handler for the type '{name}'{hint}; give the job run: or command:, or bind a"
            f" function with @penstock.handler('{name}') in {HANDLERS_MODULE}.py beside the file"
        )


class _Child:
    """A process that answers one request. Raises OSError when it cannot be started."""

    def __init__(self) -> None:
        self._owner, self._environment = os.getpid(), dict(os.environ)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD, f"{READY_S:g}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def give_way(self, others_first: bool) -> None:
        """Lets it start in time that nobody else needs (Linux), or gives it its share again."""
        if sys.platform == "linux":
            policy = os.SCHED_IDLE if others_first else os.SCHED_OTHER
            with contextlib.suppress(OSError):
                os.sched_setscheduler(self._process.pid, policy, os.sched_param(0))

    @property
    def ready(self) -> bool:
        """It is there, it is ours, and a new one would be no different."""
        same = self._owner == os.getpid() and self._environment == os.environ
        return same and self._process.poll() is None

    def ask(self, request: dict[str, Any], answers: Answers) -> str:
        """Takes its answers, and ends it. How it ended before it was done; nothing if it was done."""
        assert self._process.stdin is not None
        self.give_way(others_first=False)
        try:
            with contextlib.suppress(BrokenPipeError), self._process.stdin as stream:
                stream.write(json.dumps(request).encode())
            ended = _listen(self._process.stdout, answers)
        finally:
            code = self.end()
        if answers.done:
            return ""
        return (
            f"ended the process (exit code {code})"
            if ended
            else f"took longer than {IMPORT_LIMIT_S:g} s"
        )

    def end(self) -> int:
        """Ends it with whatever the imports started; its exit code."""
        if self._owner != os.getpid():
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        return self._process.wait()


_ready: list[_Child] = []


def prepare() -> None:
    """Starts a child for the next `ask`, which then need not wait for that.

    It takes some 10 MiB, and ends with this process, or after a minute.
    """
    if current() is not None or any(child.ready for child in _ready):
        return  # a job must leave no processes
    with contextlib.suppress(OSError):
        _ready.append(_Child())
        _ready[-1].give_way(others_first=True)


@atexit.register
def _end_those_ready() -> None:
    while _ready:
        _ready.pop().end()


def ask(root: FilePath, functions: list[str], types: list[str], *, check: bool) -> Answers:
    """What a child finds out that imports what is named from the folder `root`."""
    request = {
        "root": str(root),
        "functions": functions,
        "types": types,
        "registered": registered() if types else {},
        "check": check,
        "limit_s": IMPORT_LIMIT_S,
    }
    answers, why = Answers(), ""
    try:
        for child in _children():
            why = child.ask(request, answers)
            if answers.heard:  # else it had just ended by itself
                break
    except OSError as error:
        answers.broken.append(((), f"the check of functions cannot be started: {error.strerror}"))
        return answers
    if why:
        answers.cut_short(functions, why)
    return answers


def _children() -> Iterator[_Child]:
    """The one that is ready, then a new one."""
    while _ready:
        with contextlib.suppress(IndexError):  # another thread may be quicker
            child = _ready.pop()
            if child.ready:
                yield child
            child.end()
    yield _Child()


def _listen(stream: IO[bytes] | None, answers: Answers) -> bool:
    """Takes answers until the child is done (or has ended: True); False if its time is up."""
    assert stream is not None
    deadline = time.monotonic() + IMPORT_LIMIT_S
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            data = os.read(stream.fileno(), 65536)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):
                    answers.take(json.loads(line))
            if answers.done or not data:
                return True
    return False
