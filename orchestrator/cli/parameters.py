"""The kinds of values that options take."""

from __future__ import annotations

import json
from typing import Any

import click


class Workers(click.ParamType["int | str"]):
    """A number of slots, or `auto` for one less than the cores."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """A positive number, or `auto`; fails as a usage error."""
        if value == "auto":
            return "auto"
        try:
            count = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor auto", param, ctx)
        if count < 1:
            self.fail(f"{value} is too few: 1 at least, or auto", param, ctx)
        return count


class Assignment(click.ParamType["tuple[str, Any]"]):
    """K=V, where V is JSON if it reads as JSON and text otherwise."""

    name = "K=V"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """The key and its value; fails as a usage error."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key.strip():
            self.fail(f"{value!r} is not of the form K=V", param, ctx)
        try:
            return key.strip(), json.loads(text, parse_constant=_no_constant)
        except ValueError:
            return key.strip(), text


def _no_constant(name: str) -> Any:
    """NaN and Infinity are no JSON: as text they reach the checks of the workflow."""
    raise ValueError(name)


class Duration(click.ParamType["float"]):
    """A time: seconds, or as 5m, 1h30m, 00:03:00."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, zero or more; fails as a usage error."""
        from ...common.spec.units import parse_duration_s

        try:
            return parse_duration_s(value, zero=True)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType["int"]):
    """A number of bytes, or as 256M, 4GB, 4GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes; fails as a usage error."""
        from ...common.spec.units import parse_size_bytes

        try:
            return parse_size_bytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Tags(click.ParamType["tuple[str, ...]"]):
    """Tags of capabilities, separated by commas."""

    name = "A,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The tags, lower case, each of [a-z0-9._-]; fails as a usage error."""
        if isinstance(value, tuple):
            return value
        tags = tuple(tag.strip().lower() for tag in str(value).split(",") if tag.strip())
        for tag in tags:
            if not all(c.isascii() and (c.isalnum() or c in "._-") for c in tag):
                self.fail(f"{tag!r} is no tag: letters, digits and . _ - only", param, ctx)
        return tags


class Domains(Tags):
    """Tags of domains, one at least: an empty list would mean all domains."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """As Tags; fails as a usage error where there is none, as from an unset variable."""
        tags = super().convert(value, param, ctx)
        if not tags:
            self.fail(f"{value!r} names no domain; leave it out to serve all", param, ctx)
        return tags


set_option = click.option(
    "--set",
    "assignments",
    type=Assignment(),
    multiple=True,
    help="Give a parameter of the workflow another value (JSON, else text); may be repeated.",
)
