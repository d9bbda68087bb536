"""This machine: up, down, doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...common.errors import masked
from . import loaded, session
from .app import App, Command, pass_app
from .output import clean, emit, show, write
from .parameters import Workers

if TYPE_CHECKING:
    from rich.text import Text


#: How long `up` waits for its worker, in seconds.
READY_S = 15.0
#: Findings of one check that `doctor` shows.
SHOWN_FINDINGS = 10


@click.command(cls=Command)
@click.option("-w", "--workers", type=Workers(), help="Jobs at once (else one a core).")
@click.option("--name", help="The worker's id (else made from the host's name).")
@pass_app
def up(app: App, workers: int | str | None, name: str | None) -> None:
    """Leave server, orchestrator and worker running here.

    With a Redis URL, no server: orchestrator and worker join that Redis.
    Where they run already, a worker that was drained is followed by another.
    Where no worker comes up, what was started is ended again.
    """
    from .. import local

    settings = app.settings()
    slots = loaded.slots(None, None, parallel=None, workers=workers, cores=loaded.cores())
    if settings.redis_url:
        with session.open_session(app):
            pass  # A Redis that cannot be used is told before anything is started.
    started = local.up(settings.home, url=settings.redis_url, concurrency=slots, name=name)
    try:
        with session.open_session(app) as opened:
            asked: list[bool] = []
            opened.service.await_node(
                READY_S,
                lambda: asked.append(local.ask_for_worker(settings.home, settings.redis_url)),
            )
    except BaseException:
        if not started.already:
            local.down(settings.home, settings.redis_url)
        raise
    if app.json:
        emit(
            {
                "redis_url": started.url,
                "redis_cli": started.redis_cli,
                "pid": started.pid,
                "home": str(settings.home),
                "already": started.already,
            }
        )
        return
    again = "; another worker has started in place of the drained one" if any(asked) else ""
    write(f"already up{again}" if started.already else "up: orchestrator and worker")
    write(f"Redis      {masked(started.url)}")
    write(f"redis-cli  {masked(started.redis_cli)}")
    write("`penstock down` ends them; the data stays")


@click.command(cls=Command)
@pass_app
def down(app: App) -> None:
    """End what `up` left running; the data stays."""
    from .. import local

    settings = app.settings()
    ended = local.down(settings.home, settings.redis_url)
    if app.json:
        emit({"ended": ended})
    else:
        write("down" if ended else "nothing was up")


@click.command(cls=Command)
@click.option("--repair", is_flag=True, help="Mend what cannot go on by itself.")
@pass_app
def doctor(app: App, repair: bool) -> int:
    """Check Redis and the cluster, and say what to mend.

    Exits with 1 when something is wrong; a warning alone does not count.
    """
    with session.open_session(app, unsafe=True) as opened:
        mended = opened.service.repair() if repair else []
        checks = opened.service.doctor()
        url, redis_cli = opened.url, opened.redis_cli
    well = all(check["ok"] or check.get("warning") for check in checks)
    if app.json:
        value = {"ok": well, "redis_url": url, "redis_cli": redis_cli, "checks": checks}
        emit({**value, "repaired": mended} if repair else value)
        return int(not well)
    write(f"Redis      {masked(url)}")
    write(f"redis-cli  {masked(redis_cli)}\n")
    for line in mended:
        write(f"mended     {clean(line)}")
    if repair:
        write("" if mended else "nothing was mended\n")
    _print_checks(checks)
    return int(not well)


def _print_checks(checks: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for check in checks:
        mark = _mark(check)
        detail = Text(clean(str(check.get("detail") or "")))
        found = check.get("findings") or ()
        for line in found[:SHOWN_FINDINGS]:
            detail.append(f"\n{clean(line)}")
        if len(found) > SHOWN_FINDINGS:
            detail.append(f"\n... and {len(found) - SHOWN_FINDINGS} more (--json has them all)")
        if not check["ok"] and check.get("fix"):
            detail.append(f"\n{clean(str(check['fix']))}", style="yellow")
        grid.add_row(mark, Text(clean(str(check["check"]))), detail)
    show(grid)


def _mark(check: dict[str, Any]) -> Text:
    from rich.text import Text

    if check["ok"]:
        return Text("ok", style="green")
    if check.get("warning"):
        return Text("warning", style="yellow")
    return Text("wrong", style="bold red")


COMMANDS = (up, down, doctor)
