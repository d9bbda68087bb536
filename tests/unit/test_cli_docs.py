"""docs/cli.md says what the command line does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from penstock.common import errors
from penstock.orchestrator.cli import main
from penstock.orchestrator.cli.view import EXIT_CODES

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_every_command_has_a_line_with_an_example_and_no_other_has() -> None:
    listed = dict(re.findall(r"^\| `([a-z ]+)` \| `penstock ([^`]+)` \|", DOCS, re.MULTILINE))
    assert sorted(listed) == sorted(name for name, _ in commands(main.cli))
    assert all(example.startswith(name) for name, example in listed.items())


@pytest.mark.parametrize(
    "example", re.findall(r"^\| `[a-z ]+` \| `penstock ([^`]+)` \|", DOCS, re.MULTILINE)
)
def test_examples_are_well_formed(example: str) -> None:
    words, command = example.split(), main.cli  # type: list[str], click.Command
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


def test_exit_codes_are_those_of_the_errors() -> None:
    listed = set(map(int, re.findall(r"^\| (\d) \|", DOCS, re.MULTILINE)))
    every = {cls.exit_code for cls in vars(errors).values() if hasattr(cls, "exit_code")}
    assert listed == every | set(EXIT_CODES.values())
