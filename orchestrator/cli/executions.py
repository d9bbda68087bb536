"""Looking at executions: status, ls, result, logs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from ...common.errors import masked
from ...common.values import with_json
from . import session
from .app import App, Command, pass_app
from .output import clean, emit, say, show, write
from .view import WAITING, Row, duration, rows, seconds, shorten


@click.command(cls=Command)
@click.argument("id", required=False)
@click.option("--all", "every", is_flag=True, help="List every generated job of a fan-out.")
@pass_app
def status(app: App, id: str | None, every: bool) -> None:
    """Show an execution's jobs, or all that goes on.

    Without ID: where Redis is, the nodes, the queues and the latest executions.
    """
    with session.open_session(app) as opened:
        if id is None:
            _summary(app, opened)
            return
        execution = opened.service.execution(opened.service.resolve(id))
    if app.json:
        emit(execution)
    else:
        show_execution(execution, every=every)


def _summary(app: App, opened: session.Session) -> None:
    service = opened.service
    value: dict[str, Any] = {
        "redis_url": opened.url,
        "redis_cli": opened.redis_cli,
        "embedded": opened.embedded,
        "nodes": service.nodes(),
        "queues": service.queues(),
        "executions": service.executions(limit=10),
    }
    if app.json:
        emit(value)
        return
    from .tables import executions_table, nodes_table, queues_table

    write(f"Redis      {masked(opened.url)}{'  (embedded)' if opened.embedded else ''}")
    write(f"redis-cli  {masked(opened.redis_cli)}")
    for title, lines, made in (
        ("Nodes", value["nodes"], nodes_table),
        ("Queues", [q for q in value["queues"] if _busy(q)], queues_table),
        ("Executions", value["executions"], executions_table),
    ):
        write(f"\n{title}" if lines else f"\n{title}: none")
        if lines:
            show(made(lines))


def _busy(queue: Mapping[str, Any]) -> bool:
    return bool(queue.get("waiting") or queue.get("running") or queue.get("paused"))


def show_execution(execution: Mapping[str, Any], *, every: bool) -> None:
    """Prints an execution: a head line and a table of its jobs."""
    from rich.text import Text

    from .render import STYLES, status_text, table
    from .tables import fan_counts

    now = datetime.now(UTC)
    state = str(execution["status"])
    show(
        Text.assemble(
            (clean(str(execution["name"])), "bold"),
            f"  {execution['id']}  ",
            (state, STYLES.get(state, "dim")),
            (f"  {duration(seconds(execution, now))}", "dim"),
        )
    )
    lines = []
    for row in _expanded(execution, every):
        running = row.status == "started"
        ran = "" if row.status in WAITING else duration(seconds(row.job, now if running else None))
        counts = fan_counts(row)
        attempt = row.job.get("attempt") or ""
        node = row.job.get("node") or ""
        note = "  ".join(text for text in (counts, _note(row)) if text)
        lines.append((row.name, status_text(row.status), ran, attempt, node, note))
    show(table(["job", "status", "time", "attempt", "node", "note"], lines, right="attempt"))


def _expanded(execution: Mapping[str, Any], every: bool) -> list[Row]:
    found = []
    for row in rows(execution):
        found.append(row)
        if every:
            found.extend(Row(name, job) for name, job in row.children.items())
    return found


def _note(row: Row) -> str:
    if row.status == "failed":
        return shorten(clean(row.failure), 80)
    return clean(row.reason)


@click.command(cls=Command)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--all", "every", is_flag=True, help="List those too that workflows in jobs have made."
)
@pass_app
def ls(app: App, limit: int, every: bool) -> None:
    """List the latest executions."""
    with session.open_session(app) as opened:
        found = opened.service.executions(limit=limit, inner=every)
    if app.json:
        emit(found)
    elif not found:
        say("no executions yet: penstock run FILE starts one")
    else:
        from .tables import executions_table

        show(executions_table(found))


@click.command(cls=Command)
@click.argument("id")
@click.argument("job", required=False)
@pass_app
def result(app: App, id: str, job: str | None) -> None:
    """Print the result of an execution, or of one of its jobs."""
    with session.open_session(app) as opened:
        found = opened.service.result(opened.service.resolve(id), job)
        value = with_json(found, opened.service.artifacts)
    if app.json:
        emit(value)
    elif isinstance(value, str):
        write(value)
    else:
        from .render import print_result

        print_result(value)


@click.command(cls=Command)
@click.argument("id")
@click.argument("job", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the execution has ended.")
@pass_app
def logs(app: App, id: str, job: str | None, follow: bool) -> None:
    """Print what the jobs of an execution printed."""
    with session.open_session(app) as opened:
        execution = opened.service.resolve(id)
        if app.json:
            if follow:
                for _ in opened.service.watch(execution):
                    pass
            found = opened.service.logs(execution, job)
            emit([{"job": name, "text": text} for name, text in found])
            return
        printer = LogPrinter(job)
        if follow:
            for _ in opened.service.watch(execution):
                printer.show(opened.service.logs(execution, job))
        found = opened.service.logs(execution, job)
        printer.show(found, last=True)
        if not found:
            say("nothing was printed")


class LogPrinter:
    """Prints logs, and of logs seen before only what is new."""

    def __init__(self, job: str | None) -> None:
        self._job = job
        self._seen: dict[str, int] = {}

    def show(self, logs: list[tuple[str, str]], *, last: bool = False) -> None:
        """Prints the new lines, behind their job's name where it is not the one that was asked for.

        A line without its end waits for the rest of it, unless this is the `last` call.
        """
        for name, text in logs:
            start = self._seen.get(name, 0)
            # The log of a further attempt may begin anew, shorter than the last one.
            start = start if len(text) >= start else 0
            end = len(text) if last else text.rfind("\n") + 1
            self._seen[name] = max(start, end)
            for line in text[start:end].splitlines():
                write(line if name == self._job else f"{name}  {line}")


COMMANDS = (status, ls, result, logs)
