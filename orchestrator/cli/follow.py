"""Following an execution to its end: progress, Ctrl-C, the summary and the exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from .app import App
from .output import clean, console, emit, quiet_pipe, say
from .plain import Plain
from .view import EXIT_CODES, duration, error_line, failures, last_lines, seconds

if TYPE_CHECKING:
    from ..service import Service
    from .display import Display

#: How long a cancelled execution may take to end before the command leaves, in seconds.
CANCEL_WAIT_S = 15.0
#: Failed jobs that a summary describes.
MOST_FAILURES = 5


class Ended(KeyboardInterrupt):
    """A signal asks the command to end: SIGTERM or SIGHUP, treated as Ctrl-C."""


def progress() -> Display | Plain:
    """The live display on a terminal, plain lines elsewhere; both go to stderr."""
    import os

    if not sys.stderr.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        return Plain()
    from .display import Display

    return Display(console(stderr=True))


def follow(service: Service, execution: str, timeout_s: float | None = None) -> dict[str, Any]:
    """Shows progress until the execution has ended; returns its last state.

    Raises WaitTimeout, and KeyboardInterrupt as it comes.
    """
    state: dict[str, Any] = {}
    with progress() as shown:
        for state in service.watch(execution, timeout_s):
            shown.update(state)
    return state


def follow_or_cancel(service: Service, execution: str) -> dict[str, Any]:
    """As `follow`, but Ctrl-C cancels the execution and waits for its end; a second one leaves."""
    state: dict[str, Any] = {}
    with progress() as shown:
        try:
            for state in service.watch(execution):
                shown.update(state)
        except KeyboardInterrupt:
            shown.note(f"canceling {execution}; Ctrl-C once more leaves at once")
            state = _cancel(service, execution, shown)
    return state


def _cancel(service: Service, execution: str, shown: Display | Plain) -> dict[str, Any]:
    from ...common.errors import WaitTimeout

    state: dict[str, Any] = {}
    try:
        service.cancel(execution)
        for state in service.watch(execution, CANCEL_WAIT_S):
            shown.update(state)
        shown.note("")
    except (KeyboardInterrupt, WaitTimeout):
        shown.note(f"left {execution} while its jobs were still ending")
    return state or service.execution(execution)


@contextmanager
def ending_signals() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP interrupt the command, so that it cleans up behind itself."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: cleaning up is not interrupted
        raise Ended(signal.Signals(number).name)

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def conclude(app: App, service: Service, state: Mapping[str, Any]) -> int:
    """Prints how an execution ended and its result; returns the exit code."""
    status = str(state.get("status"))
    if "result" in state:
        from ...common.values import with_json

        state = {**state, "result": with_json(state["result"], service.artifacts)}
    with quiet_pipe():
        if app.json:
            emit(state)
        else:
            _summary(state)
            if status == "succeeded":
                _result(state)
    # One that was left before its end was left by Ctrl-C.
    return EXIT_CODES.get(status, 3)


def _summary(state: Mapping[str, Any]) -> None:
    id_, counts = state["id"], state.get("progress") or {}
    jobs = int(counts.get("total") or 0)
    unneeded = int(counts.get("canceled") or 0) if state["status"] == "succeeded" else 0
    said = f"{jobs - unneeded} of {jobs}" if unneeded else str(jobs)
    say(
        f"{clean(str(state['name']))} {state['status']}: {said} {'job' if jobs == 1 else 'jobs'}"
        f" in {duration(seconds(state)) or 'no time'} ({id_})"
    )
    failed = failures(state)
    for name, job in list(failed.items())[:MOST_FAILURES]:
        tries = int(job.get("attempt") or 1)
        say(f"\n{name} failed{f' in attempt {tries}' if tries > 1 else ''}:")
        say(f"  {clean(error_line(job.get('error')))}")
        for line in last_lines(job.get("error")):
            say(f"  | {clean(line)}")
        if job.get("node"):  # it ran
            say(f"  its output: penstock logs {id_} {name}")
    if len(failed) > MOST_FAILURES:
        say(f"\n{len(failed) - MOST_FAILURES} more failed: penstock status {id_} --all")
    if state.get("error") and not failed:
        say(f"  {clean(error_line(state['error']))}")
    if failed and state["status"] != "succeeded":
        say(f"\nrun the failed ones again: penstock retry {id_} --failed")


def _result(state: Mapping[str, Any]) -> None:
    value = state.get("result")
    if value is None:
        return
    from .render import print_result

    say("")
    print_result(value, more=f"penstock result {state['id']}")
