"""The names of keys in Python and Lua agree, and the chart in the docs is the table."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from penstock.common.state import keys, states
from penstock.common.state.scripts import Request, Script, Scripts, run

ROOT = Path(__file__).parents[2]
FUNCTIONS = [
    (name, function)
    for name, function in inspect.getmembers(keys, inspect.isfunction)
    if function.__module__ == keys.__name__
]


@pytest.mark.parametrize(("name", "function"), FUNCTIONS)
def test_lua_builds_the_same_key(server, name, function):
    count = len(inspect.signature(function).parameters)
    arguments = ["first", "second"][:count]
    given = ", ".join(["ARGV[1]", "'sec' .. ARGV[2]"][:count])
    upkeep = (ROOT / "common/state/lua/lib/upkeep.lua").read_text()
    asked = f"{upkeep}register('key', {{}}, function(ARGV) return K.{name}({given}) end)\n"
    library = Scripts(replace={"upkeep": asked}).library
    request = Request(Script("key", library), ["first", "ond"])
    assert run(server.client, request).decode() == function(*arguments)
    server.client.function_delete(library.name)


def test_every_key_says_its_type_and_its_life():
    for name, function in FUNCTIONS:
        words = function.__doc__.split()
        assert words[0].strip(":,") in {
            "Hash",
            "List",
            "Set",
            "Zset",
            "String",
            "Stream",
            "Pub/sub",
        }, name


def test_every_script_has_its_contract():
    for name in Scripts():
        own = (ROOT / f"common/state/lua/{name}.lua").read_text()
        assert "-- RETURNS" in own, name
    assert Scripts().library.text.count("redis.call('TIME')") == 1


def test_charts_in_the_docs_are_the_tables():
    text = (ROOT / "docs/architecture.md").read_text()
    for chart in states.charts():
        assert chart in text


def test_tables_are_closed():
    for table, terminal in (
        (states.JOB, states.JOB_TERMINAL),
        (states.EXECUTION, states.EXECUTION_TERMINAL),
    ):
        assert terminal <= set(table)
        assert {target for targets in table.values() for target in targets} <= set(table)
