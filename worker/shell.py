"""Runs a job that is a shell command."""

from __future__ import annotations

import errno
import json
import os
import selectors
import subprocess
from typing import Any

from ..common.errors import PenstockError

#: Most of a command's output that its result carries, in bytes.
TAIL_BYTES = 64 * 1024
#: Lines of output that the error of a failed command quotes.
LAST_LINES = 10


class CommandFailed(PenstockError):
    """A command ended with a non-zero exit code, or by a signal."""


def run(command: str | list[str], **config: Any) -> dict[str, Any]:
    """Runs `command`: text by /bin/sh, a list as its arguments, as they are.

    What else the job's config holds is in the command's environment: each value under
    its key (text as it is, anything else as JSON), and all of it as JSON in
    PENSTOCK_CONFIG. Output goes to the job's log; the result is the exit code and
    the last 64 KiB of stdout. Raises CommandFailed with the code and the last lines.
    """
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else [*map(_text, command)]
    values = {key: _text(value) for key, value in config.items()}
    environment = {**os.environ, **values, "PENSTOCK_CONFIG": json.dumps(config)}
    environment.pop("PENSTOCK_PICKLE_KEY", None)  # of no use to it, and it may print what it has
    with _started(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        stdout, last = _relay(process)
        code = process.returncode
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        shown = command if isinstance(command, str) else " ".join(argv)
        raise CommandFailed(f"the command {shown!r} {how}{_quote(last)}")
    return {"exit_code": 0, "stdout": stdout.decode(errors="replace")}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _started(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(argv, **options)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        size = max(map(len, [*argv, *options["env"].values()]))
        raise CommandFailed(
            f"the command cannot be started: its arguments and its config, which is its environment, are longer "
            f"than this system takes (the longest has {size:,} characters); give it the path of a file"
        ) from None


def _relay(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Copies the output to ours until the command has ended.

    Returns the tail of stdout and that of all output. What background processes of
    the command print after its end is not waited for.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    stdout, everything = bytearray(), bytearray()
    exited = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, 1)
        selector.register(process.stderr, selectors.EVENT_READ, 2)
        selector.register(exited, selectors.EVENT_READ, 0)
        over = False
        while len(selector.get_map()) > 1 or not over:
            events = selector.select(0 if over else None)
            readable = [(key.fileobj, key.data) for key, _ in events if key.data]
            over = over or any(not key.data for key, _ in events)
            for pipe, fd in readable:
                chunk = os.read(pipe.fileno(), TAIL_BYTES)  # type: ignore[union-attr]
                if not chunk:
                    selector.unregister(pipe)
                    continue
                _write_all(fd, chunk)
                _keep(everything, chunk)
                if fd == 1:
                    _keep(stdout, chunk)
            if over and not readable:
                break
    os.close(exited)
    process.wait()
    return bytes(stdout), bytes(everything)


def _write_all(fd: int, chunk: bytes) -> None:
    while chunk:
        chunk = chunk[os.write(fd, chunk) :]


def _keep(tail: bytearray, chunk: bytes) -> None:
    tail += chunk
    del tail[:-TAIL_BYTES]


def _quote(output: bytes) -> str:
    lines = output.decode(errors="replace").rstrip().splitlines()[-LAST_LINES:]
    return ":\n" + "\n".join(lines) if lines else " and printed nothing"
