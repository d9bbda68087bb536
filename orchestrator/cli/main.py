"""The `penstock` command: the tree of commands, and the one place where errors end.

Every error becomes one message on stderr and an exit code here: 0 succeeded,
1 failed, 2 the input is wrong, 3 canceled, 4 timed out, 5 not found, 6 no Redis.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from ...common.errors import PenstockError, SpecError, masked
from . import cluster, control, executions, machine, run, workflow
from .app import App, Group
from .output import clean, emit, quiet_pipe, say

#: Exit codes of errors that are not a PenstockError.
FAILED, BAD_INPUT, CANCELED, NO_REDIS = 1, 2, 3, 6

EXAMPLES = """
penstock run sweep.yaml --set test_size=0.25   run a workflow here, all it needs included
penstock result last best                      what its job `best` returned
penstock logs last                             what its jobs printed
penstock up                                    keep a server and a worker running
penstock submit sweep.yaml                     hand a workflow over and go on
PENSTOCK_REDIS_URL=redis://host:6379/0 penstock worker start --capabilities cpu,ssd
"""


class Root(Group):
    """The top: its help carries the examples, and a reader that goes away ends quietly in it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; click itself would make exit code 1 of a closed pipe."""
        with quiet_pipe():
            return super().invoke(ctx)
        return 0

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples and where the help goes on."""
        super().format_epilog(ctx, formatter)
        formatter.write("\n`last` stands for the ID of the latest execution.\n")
        formatter.write("`penstock COMMAND --help` tells more about each command.\n")


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="penstock", message="penstock %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Runs workflows of jobs on this machine, or on a cluster of workers around one Redis."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


cli.examples = EXAMPLES

for module in (run, executions, workflow, control, machine, cluster):
    for command in module.COMMANDS:
        cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its code; the console script's entry point."""
    sys.exit(invoke(sys.argv[1:] if argv is None else argv))


def invoke(argv: Sequence[str]) -> int:
    """Runs one command and returns its exit code; nothing but SystemExit escapes."""
    app = App()
    try:
        code = cli.main(list(argv), prog_name="penstock", standalone_mode=False, obj=app)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return CANCELED
    except Exception as error:
        app.json = app.json or "--json" in argv
        app.debug = app.debug or "--debug" in argv
        with quiet_pipe():
            return report(error, app)
        return FAILED


def report(error: Exception, app: App) -> int:
    """Tells the user about an error, once and on stderr; returns its exit code."""
    code, message = describe(error)
    message = masked(message)
    if app.debug:
        say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, click.UsageError):
        error.show(sys.stderr)
    elif isinstance(error, SpecError):
        count = len(error.faults)
        say(f"penstock: {count} {'fault' if count == 1 else 'faults'}; nothing was started")
        say(clean(message))
    else:
        say(f"penstock: {clean(message)}")
        if code == FAILED and not isinstance(error, PenstockError) and not app.debug:
            say("this is a fault of penstock; --debug shows where, please report it")
    if app.json:
        emit({"error": _as_json(error, code, message)})
    return code


def describe(error: Exception) -> tuple[int, str]:
    """The exit code and the message of an error."""
    if isinstance(error, PenstockError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):
        return error.exit_code, error.format_message()
    if _is_connection_error(error):
        return NO_REDIS, f"Redis does not answer: {error}; is its URL right, and does it run?"
    if why := _why_refused(error):
        return NO_REDIS, why
    if isinstance(error, OSError):
        return FAILED, str(error)
    return FAILED, f"{type(error).__name__}: {error}"


def _is_connection_error(error: Exception) -> bool:
    """Whether Redis could not be reached, without importing redis to find out."""
    redis = sys.modules.get("redis.exceptions")
    return redis is not None and isinstance(error, redis.ConnectionError | redis.TimeoutError)


def _why_refused(error: Exception) -> str:
    """Why Redis refused to write, as `why_refused`, without importing redis to find out."""
    if "redis.exceptions" not in sys.modules:
        return ""
    from ...common.state.connection import why_refused

    return why_refused(error)


def _as_json(error: Exception, code: int, message: str) -> dict[str, Any]:
    made: dict[str, Any] = {"type": type(error).__name__, "message": message, "exit_code": code}
    if isinstance(error, PenstockError) and error.about:
        made["about"] = error.about
    if isinstance(error, SpecError):
        made["faults"] = [asdict(fault) for fault in error.faults]
    return made


if __name__ == "__main__":
    main()
