"""The child process that imports the user's code (`probe.py`), and what it found out.

It is started with Python's safe path, given the user's folder explicitly, and ended after a
minute. To start it takes longer than most imports: a command starts it first (`start`), and of a
module that is imported for one function all functions are told.
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
from pathlib import Path as FilePath
from typing import IO, TYPE_CHECKING, Any

from ..handlers import CONTROL_TYPES, HANDLERS_MODULE, registered
from .arguments import Signature
from .wording import near

if TYPE_CHECKING:
    from .places import Problem

#: Functions (`module:function`) that can be imported, and how they can be called.
Known = dict[str, Signature | None]
#: How long all imports together may take, in seconds.
IMPORT_LIMIT_S = 60.0
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
        self.done = False

    def take(self, answer: dict[str, Any]) -> None:
        """Note one line of the child's."""
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
    """A process that answers one request, in the folder `root`. Raises OSError when it cannot be started."""

    def __init__(self, root: FilePath) -> None:
        self.root = root
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            start_new_session=True,
        )

    def ask(self, request: dict[str, Any], answers: Answers) -> str:
        """Takes its answers, and ends it. How it ended before it was done; nothing if it was done."""
        assert self._process.stdin is not None
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
        # macOS does not permit it where only the process itself is left, which has ended
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        return self._process.wait()


_started: list[_Child] = []


def start(root: FilePath) -> None:
    """Starts the child for the next `ask` of this folder, which then need not wait for that.

    Only for a process of ours that will ask at once: one of the user's may fork, or wait for any child.
    """
    with contextlib.suppress(OSError):  # `ask` will tell
        _started.append(_Child(root))


@atexit.register
def _end_those_left() -> None:
    while _started:
        _started.pop().end()


def ask(root: FilePath, functions: list[str], types: list[str], *, check: bool) -> Answers:
    """What a child finds out that imports what is named from the folder `root`."""
    request = {
        "functions": functions,
        "types": types,
        "registered": registered() if types else {},
        "check": check,
        "limit_s": IMPORT_LIMIT_S,
    }
    answers = Answers()
    try:
        child = _started.pop() if _started and _started[-1].root == root else _Child(root)
    except OSError as error:
        answers.broken.append(((), f"the code's folder {root} cannot be used: {error.strerror}"))
        return answers
    if why := child.ask(request, answers):
        answers.cut_short(functions, why)
    return answers


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
