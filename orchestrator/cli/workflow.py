"""Looking at workflow files: validate, graph."""

from __future__ import annotations

import re
from pathlib import Path

import click

from . import loaded, session
from .app import App, Command, one_file, pass_app, workflow_file
from .output import emit, write
from .parameters import set_option

#: What an execution's id looks like; anything else is a file.
_ID = re.compile(r"[0-9a-z]{12,26}|last")


@click.command(cls=Command)
@workflow_file
@set_option
@pass_app
def validate(
    app: App,
    file: str | None,
    file_option: str | None,
    assignments: tuple[tuple[str, object], ...],
) -> None:
    """Check a workflow file and tell every fault in it.

    Each with its file, line, job and field; exits with 2 if there are any.
    """
    from . import plan

    path = one_file(file, file_option)
    workflow = loaded.load(app, path, assignments).workflow
    if app.json:
        emit({"ok": True, "name": workflow.name, "jobs": plan.count(workflow)})
    else:
        write(f"{path}: {workflow.name} is fine, {plan.counted(workflow)}")


@click.command(cls=Command)
@click.argument("source", metavar="FILE|ID")
@pass_app
def graph(app: App, source: str) -> None:
    """Print the graph of the jobs as Mermaid text.

    Of a file as it stands, of an execution coloured by the state of its jobs.
    """
    from . import plan
    from .graph import mermaid
    from .view import rows

    if Path(source).exists() or not _ID.fullmatch(source):
        text = mermaid(plan.nodes(loaded.load(app, source).workflow))
    else:
        with session.open_session(app) as opened:
            id_ = opened.service.resolve(source)
            workflow = opened.service.workflow(id_)
            statuses = {row.name: row.status for row in rows(opened.service.execution(id_))}
        text = mermaid(plan.nodes(workflow), statuses)
    if app.json:
        emit({"mermaid": text})
    else:
        write(text)


COMMANDS = (validate, graph)
