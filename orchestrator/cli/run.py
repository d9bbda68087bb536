"""Running workflows: run, submit, wait."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from . import follow, loaded, session
from .app import App, Command, one_file, pass_app, workflow_file
from .output import emit, say, write
from .parameters import Duration, Workers, set_option

bundle_option = click.option(
    "--bundle",
    metavar="DIR",
    help="Pack this folder, which holds the file and its code, and let the workers unpack it.",
)
#: Exit code of a command that Ctrl-C has ended.
CANCELED = 3


@click.command(cls=Command)
@workflow_file
@set_option
@click.option(
    "-p",
    "--parallel/--no-parallel",
    default=None,
    help="Run jobs at the same time, or one by one (over parallel_execution of the file).",
)
@click.option(
    "-w", "--workers", type=Workers(), help="How many jobs may run at once (else one a core)."
)
@bundle_option
@click.option("--dry-run", is_flag=True, help="Check the file, show what would run, and stop.")
@pass_app
def run(
    app: App,
    *,
    file: str | None,
    file_option: str | None,
    assignments: tuple[tuple[str, Any], ...],
    parallel: bool | None,
    workers: int | str | None,
    bundle: str | None,
    dry_run: bool,
) -> int:
    """Run a workflow file and show its progress and its result.

    Without a Redis URL everything it needs is started for it and stopped after it;
    with one, the cluster there runs it. Ctrl-C cancels it.
    """
    ready = loaded.load(app, one_file(file, file_option), assignments, bundle)
    count = loaded.slots(
        ready.workflow.parallel_execution,
        ready.workflow.num_workers,
        parallel=parallel,
        workers=workers,
        cores=loaded.cores(),
    )
    if dry_run:
        from .plan import show_plan

        show_plan(app, ready.workflow, count)
        return 0
    with follow.ending_signals(), session.open_session(app) as opened:
        told = workers is not None or parallel is not None
        if told and not opened.embedded:
            say("-w and -p do nothing here: the cluster's workers decide how much runs at once")
        with hosted(opened, count, told=told) as check:
            execution = opened.service.submit(ready.workflow, code=ready.code, bundle=ready.bundle)
            state = follow.follow_or_cancel(opened.service, execution)
            check()
            return follow.conclude(app, opened.service, state)


@contextmanager
def hosted(
    opened: session.Session, slots: int | None, *, told: bool = False
) -> Iterator[Callable[[], None]]:
    """Sees to it that something runs the jobs of the embedded server, as long as it is open.

    Where a Redis URL is given that is the cluster's business. Yields a check, which
    raises PenstockError if orchestrator or worker do not stay up; when they die for
    good the command is interrupted.
    """
    if not opened.embedded:
        yield lambda: None
        return
    from ...common.errors import PenstockError
    from ..local import LocalHost

    host = LocalHost(
        opened.settings.home,
        opened.url,
        concurrency=slots,
        on_failure=lambda _: _thread.interrupt_main(),
    )

    def check() -> None:
        if host.failure:
            raise PenstockError(host.failure)

    opened.service.hosted = lambda: host.starts_worker
    with host:
        if told and not host.owner:
            say("a worker runs here already, with its own number of slots: -w and -p do nothing")
        yield check


@click.command(cls=Command)
@workflow_file
@set_option
@bundle_option
@click.option("--key", help="Submitting again under the same key gives the same execution.")
@pass_app
def submit(
    app: App,
    *,
    file: str | None,
    file_option: str | None,
    assignments: tuple[tuple[str, Any], ...],
    bundle: str | None,
    key: str | None,
) -> None:
    """Hand a workflow over and print its execution's ID alone."""
    ready = loaded.load(app, one_file(file, file_option), assignments, bundle)
    with session.open_session(app) as opened:
        execution = opened.service.submit(
            ready.workflow, key=key, code=ready.code, bundle=ready.bundle
        )
        idle = session.nobody_works(opened)
    if app.json:
        emit({"id": execution})
    else:
        write(execution)
    if idle:
        say(session.HOW_TO_RUN.format(execution))


@click.command(cls=Command)
@click.argument("id")
@click.option(
    "--timeout",
    "timeout_s",
    type=Duration(),
    help="Give up after this time, with exit code 4.",
)
@pass_app
def wait(app: App, id: str, timeout_s: float | None) -> int:
    """Wait for the end of an execution and print its result.

    It exits as `run` does. Without a Redis URL, and where no worker runs here, the
    jobs are run by this command. Ctrl-C stops the waiting, not the execution.
    """
    with follow.ending_signals(), session.open_session(app) as opened:
        execution = opened.service.resolve(id)
        with hosted(opened, None) as check:
            try:
                state = follow.follow(opened.service, execution, timeout_s)
            except KeyboardInterrupt:
                check()
                say(f"stopped waiting; {execution} goes on where a worker runs")
                return CANCELED
            check()
            return follow.conclude(app, opened.service, state)


COMMANDS = (run, submit, wait)
