"""Steering executions: pause, resume, cancel, retry."""

from __future__ import annotations

import click

from ...common.errors import InputError
from ...common.state.states import EXECUTION_TERMINAL
from . import session
from .app import App, Command, pass_app
from .output import emit, say, write


def _steer(app: App, id: str, verb: str) -> None:
    """Calls the service's `verb` on an execution and tells the status it has now.

    Canceling what has ended is no fault: nothing of it runs.
    """
    with session.open_session(app) as opened:
        execution = opened.service.resolve(id)
        status = getattr(opened.service, verb)(execution)
    if verb != "cancel" and status in EXECUTION_TERMINAL:
        raise InputError(
            f"execution {execution} is {status}: there is nothing to {verb}; "
            f"`penstock retry {execution}` runs it again"
        )
    if app.json:
        emit({"id": execution, "status": status})
    else:
        write(f"{execution} {status}")


@click.command(cls=Command)
@click.argument("id")
@pass_app
def pause(app: App, id: str) -> None:
    """Start no further jobs of an execution; running ones finish."""
    _steer(app, id, "pause")


@click.command(cls=Command)
@click.argument("id")
@pass_app
def resume(app: App, id: str) -> None:
    """Let a paused execution go on."""
    _steer(app, id, "resume")


@click.command(cls=Command)
@click.argument("id")
@pass_app
def cancel(app: App, id: str) -> None:
    """End an execution: stop its jobs, drop those that wait."""
    _steer(app, id, "cancel")


@click.command(cls=Command)
@click.argument("id")
@click.option("--failed", is_flag=True, help="Keep what succeeded; run the rest in place.")
@pass_app
def retry(app: App, id: str, failed: bool) -> None:
    """Run an execution again, all of it or what failed.

    Prints the ID alone: a new one, or with --failed the same.
    """
    with session.open_session(app) as opened:
        execution = opened.service.retry(opened.service.resolve(id), failed)
        idle = session.nobody_works(opened)
    if app.json:
        emit({"id": execution, "failed_only": failed})
    else:
        write(execution)
    if idle:
        say(session.HOW_TO_RUN.format(execution))


COMMANDS = (pause, resume, cancel, retry)
