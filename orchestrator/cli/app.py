"""What every command shares: its options, its state and its base classes.

`--json`, `--debug` and `--redis-url` may stand on any command, so they are
added by the command class rather than written forty times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ...common.settings import Settings


@dataclass(slots=True)
class App:
    """One invocation of the command line."""

    json: bool = False
    debug: bool = False
    redis_url: str | None = None

    def settings(self) -> Settings:
        """The settings, with those of the command line in front.

        Raises InputError when one of them has a bad value.
        """
        from ...common.settings import Settings

        return Settings.load(redis_url=self.redis_url)


pass_app = click.make_pass_decorator(App, ensure=True)


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Stores a shared option in the App, whichever level it was given at."""
    if value and param.name:
        setattr(ctx.find_root().ensure_object(App), param.name, value)
    return value


def shared_options() -> list[click.Option]:
    """The options that every command takes."""
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_keep,
            help="Print one JSON value on stdout, all else on stderr.",
        ),
        click.Option(
            ["--redis-url"],
            metavar="URL",
            expose_value=False,
            callback=_keep,
            help="The Redis to use (else PENSTOCK_REDIS_URL, else the embedded server).",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_keep,
            help="Show tracebacks of errors.",
        ),
    ]


class Command(click.Command):
    """A command with the shared options at the end of its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(shared_options())


class Group(click.Group):
    """A group whose commands, and which itself, take the shared options."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(shared_options())
        self.examples: str = ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order they were added: by what a user does first."""
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples as they stand: click would re-wrap an epilog."""
        if self.examples:
            formatter.write("\nExamples:\n")
            formatter.write("".join(f"  {line}\n" for line in self.examples.strip().splitlines()))


Group.group_class = Group


def workflow_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds FILE, which may be given with -f as well; the command gets `file`."""
    path = click.Path()  # what is wrong with it, the loader says
    command = click.option("-f", "--file", "file_option", type=path, help="The same as FILE.")(
        command
    )
    return click.argument("file", type=path, required=False)(command)


def one_file(file: str | None, file_option: str | None) -> str:
    """The one file of FILE and -f; raises click.UsageError on none or on two."""
    if file and file_option and file != file_option:
        raise click.UsageError("give the workflow file once: as FILE or with -f")
    chosen = file or file_option
    if not chosen:
        raise click.UsageError("which workflow? Give its file: penstock run FILE")
    return chosen
