"""The parts of a cluster: worker, orchestrator, queue."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from . import session
from .app import App, Group, pass_app
from .output import emit, say, show, write
from .parameters import Domains, Size, Tags, Workers


@click.group(cls=Group)
def worker() -> None:
    """Worker daemons: the nodes that run jobs."""


@worker.command()
@click.option("--capabilities", type=Tags(), help="Tags that jobs may ask for, as cpu,ssd.")
@click.option("--concurrency", type=Workers(), help="Jobs at once (else one a core).")
@click.option("--name", help="The node's id (else made from the host's name).")
@click.option("--cpus", type=click.FloatRange(0, min_open=True), help="Cores it may give out.")
@click.option("--gpus", type=click.IntRange(0), help="GPUs it may give out.")
@click.option("--ram", type=Size(), help="Memory it may give out, as 16G.")
@pass_app
def start(
    app: App,
    *,
    capabilities: tuple[str, ...] | None,
    concurrency: int | str | None,
    name: str | None,
    cpus: float | None,
    gpus: int | None,
    ram: int | None,
) -> None:
    """Run a worker daemon in this process until it is ended.

    SIGTERM or Ctrl-C lets running jobs finish; a second one stops them.
    """
    given = {
        "--capabilities": ",".join(capabilities) if capabilities else None,
        "--concurrency": concurrency,
        "--name": name,
        "--cpus": cpus,
        "--gpus": gpus,
        "--ram": ram,
    }
    options = [word for key, value in given.items() if value is not None for word in (key, value)]
    become(app, "penstock.worker.supervisor", [str(word) for word in options])


@worker.command("ls")
@pass_app
def worker_ls(app: App) -> None:
    """List the nodes, their load and their last beat."""
    with session.open_session(app) as opened:
        nodes = opened.service.nodes()
    if app.json:
        emit(nodes)
    elif not nodes:
        say("no worker runs: `penstock worker start` on a machine of yours, or `penstock up` here")
    else:
        from .tables import nodes_table

        show(nodes_table(nodes))


@worker.command()
@click.argument("name")
@pass_app
def drain(app: App, name: str) -> None:
    """Let a node finish its jobs, take no more, and end."""
    with session.open_session(app) as opened:
        opened.service.drain(name)
    if app.json:
        emit({"node": name, "state": "draining"})
    else:
        write(f"{name} draining")


@click.group(cls=Group)
def orchestrator() -> None:
    """Orchestrators: they expand workflows and see to what is due."""


@orchestrator.command("start")
@click.option("--domains", type=Domains(), help="Serve only these domains, as gpu,rag (else all).")
@pass_app
def orchestrator_start(app: App, *, domains: tuple[str, ...] | None) -> None:
    """Run an orchestrator in this process until it is ended."""
    options = ["--domains", ",".join(domains)] if domains else []
    become(app, "penstock.orchestrator.main", options)


def become(app: App, module: str, options: Sequence[str]) -> None:
    """Replaces this process by a daemon; with --json its pid and command are printed first.

    Raises RedisUnavailable where there is neither a URL nor a running embedded server:
    a daemon alone would have nobody to talk to.
    """
    from ...common.embedded import EmbeddedServer
    from ...common.errors import RedisUnavailable

    settings = app.settings()
    env = {**os.environ, "PENSTOCK_HOME": str(settings.home)}
    if settings.redis_url:
        env["PENSTOCK_REDIS_URL"] = settings.redis_url
    elif EmbeddedServer.running(settings.home):
        with EmbeddedServer(settings.home) as server:
            env["PENSTOCK_REDIS_URL"] = server.url
    else:
        raise RedisUnavailable(
            "no Redis to connect to: set PENSTOCK_REDIS_URL (or --redis-url) to your cluster's, "
            "or start everything on this machine with `penstock up`"
        )
    # -P: the folder it is started in never shadows a module of its own.
    command = [sys.executable, "-P", "-m", module, *options]
    if app.json:
        emit({"pid": os.getpid(), "command": command})
    os.execve(sys.executable, command, env)


@click.group(cls=Group)
def queue() -> None:
    """Queues, by capability class and priority."""


@queue.command("ls")
@pass_app
def queue_ls(app: App) -> None:
    """List the queues and what is in them."""
    with session.open_session(app) as opened:
        queues = opened.service.queues()
    if app.json:
        emit(queues)
    elif not queues:
        say("no queues: no job has been submitted yet")
    else:
        from .tables import queues_table

        show(queues_table(queues))


@queue.command()
@click.argument("names", nargs=-1)
@pass_app
def pause(app: App, names: tuple[str, ...]) -> None:
    """Let no job start from queues NAMES, or from any."""
    _gate(app, names, paused=True)


@queue.command()
@click.argument("names", nargs=-1)
@pass_app
def resume(app: App, names: tuple[str, ...]) -> None:
    """Let jobs start again from queues NAMES, or from all."""
    _gate(app, names, paused=False)


def _gate(app: App, names: tuple[str, ...], *, paused: bool) -> None:
    with session.open_session(app) as opened:
        gate = opened.service.pause_queues if paused else opened.service.resume_queues
        gate(list(names) or None)
    if app.json:
        emit({"queues": list(names) or None, "paused": paused})
    else:
        write(f"{', '.join(names) or 'all queues'} {'paused' if paused else 'resumed'}")


@queue.command()
@click.option("-n", "--limit", type=click.IntRange(1), default=50, show_default=True)
@pass_app
def dead(app: App, limit: int) -> None:
    """List jobs that used up their retries, and their attempts."""
    with session.open_session(app) as opened:
        jobs = opened.service.dead_letter(limit)
    if app.json:
        emit(jobs)
    elif not jobs:
        say("no dead-letter jobs")
    else:
        from .tables import dead_letters

        show(dead_letters(jobs))
        say("\n`penstock queue redrive ID` runs those of an execution again, --all runs all")


@queue.command()
@click.argument("id", required=False)
@click.option("--all", "every", is_flag=True, help="The dead-letter jobs of all executions.")
@pass_app
def redrive(app: App, id: str | None, every: bool) -> int:
    """Run dead-letter jobs again, of execution ID or --all.

    As `retry ID --failed` does. Executions that have not ended are skipped; exits with 1
    when all of them were.
    """
    if bool(id) == every:
        raise click.UsageError("give the ID of an execution, or --all (and not both)")
    with session.open_session(app) as opened:
        service = opened.service
        done = service.redrive(service.resolve(id) if id else None)
    if app.json:
        emit(done)
    else:
        for line in done["redriven"]:
            write(f"{line['execution']}  {_jobs(line['jobs'])} again")
        for line in done["skipped"]:
            say(f"{line['execution']}  skipped: {line['reason']}")
        if not done["redriven"] and not done["skipped"]:
            say("no dead-letter jobs")
    return int(bool(done["skipped"]) and not done["redriven"])


def _jobs(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} runs"
    return f"{', '.join(names) if len(names) < 4 else f'{len(names)} jobs'} run"


COMMANDS = (worker, orchestrator, queue)
