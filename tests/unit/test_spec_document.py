"""Reading YAML and JSON: types, lines, and files that mean harm."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common.spec.document import Document, Unreadable, read_document
from penstock.common.spec.places import Places

LIMIT = 1_000_000


def read(text: str, **options: Any) -> Document:
    return read_document(text, limit=LIMIT, **options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("007", 7),
        ("1_000", "1_000"),
        ("00:03:00", "00:03:00"),
        ("10:00:00", "10:00:00"),
        ("2026-01-01", "2026-01-01"),
        ("true", True),
        ("yes", True),
        ("no", False),
        ("'no'", "no"),
        ("null", None),
        ("~", None),
        ("'null'", "null"),
        (".inf", float("inf")),
        ("-.inf", float("-inf")),
        ("v1.2", "v1.2"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("! 5", "5"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars(text: str, value: Any) -> None:  # W1
    found = read(f"k: {text}").data["k"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_it_is_written() -> None:
    assert read("on: 1\n1: 2\ntrue: 3\n~: 4\n1.50: 5").data == {
        "on": 1,
        "1": 2,
        "true": 3,
        "~": 4,
        "1.50": 5,
    }


def test_anchors_and_merge_keys() -> None:
    text = (
        "base: &b {x: 1, y: 2}\nlist: &l [1]\na: {<<: *b, y: 3}\nb: {<<: [{z: 0, x: 9}, *b]}\nc: *l"
    )
    document = read(text)
    assert document.data["a"] == {"x": 1, "y": 3}
    assert document.data["b"] == {"z": 0, "x": 9, "y": 2}
    assert document.data["c"] == [1]


YAML = """name: x
jobs:
  - id: a
    config:
      lr: 1
      list:
        - 1
        - 2
  - {id: b,
     run: c}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("name",), 1),
        (("jobs",), 2),
        (("jobs", 0), 3),
        (("jobs", 0, "config", "lr"), 5),
        (("jobs", 0, "config", "list", 1), 8),
        (("jobs", 0, "config", "list", 1, "deeper"), 8),
        (("jobs", 0, "nothing"), 3),
        (("jobs", 1, "run"), 10),
    ],
)
def test_every_part_knows_its_line(path: Any, line: int) -> None:  # W3
    assert Places("f", read(YAML).mark).line(path) == line


def test_lines_of_json_are_those_of_its_text() -> None:  # W3
    data = {
        "name": 'a "b" {[',
        "jobs": [{"id": "a", "n": [1, {"x": None}]}, {"id": "é😀"}],
        "e": {},
    }
    text = json.dumps(data, indent=2)
    document = read(text)
    assert document.data == data
    places = Places("f", document.mark)
    for path, needle in [
        (("jobs", 0, "id"), '"id": "a"'),
        (("jobs", 0, "n", 1, "x"), '"x"'),
        (("jobs", 1, "id"), '"id": "\\u'),
        (("e",), '"e"'),
    ]:
        assert needle in text.splitlines()[(places.line(path) or 0) - 1]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    assert read(json.dumps({"k": value}, indent=1)).data == {"k": value}


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: 2\na: 3",
        '{"a": 1,\n "b": 2,\n "a": 3}',
        '{"a": {"x": 1},\n"b": [{}],\n"a": {"x": 2}}',
    ],
)
def test_keys_given_twice_are_noted(text: str) -> None:  # W3
    document = read(text)
    assert document.problems == [(("a",), "is given in line 3 and in line 1; keep one")]


def test_a_key_given_twice_deep_inside_has_its_path() -> None:
    assert read("jobs:\n  - id: a\n    run: b\n    run: c").problems[0][0] == ("jobs", 0, "run")
    assert read('{"jobs": [{}, {"x": {"y": 1,\n"y": 2}}]}').problems[0][0] == ("jobs", 1, "x", "y")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1", 1, "not valid YAML"),
        ("a:\n\tb: 1", 2, "not tabs"),
        ("a: b: c", 1, "not valid YAML"),
        ("a: \0", 0, "not valid YAML"),
        ("a: 1\n---\nb: 2", 3, "second document"),
        ("a: *x", 1, "no anchor"),
        ("a: &a [*a]", 1, "inside what it names"),
        ("a: &a {b: *a}", 1, "inside what it names"),
        ("? [a]\n: 1", 1, "a key must be text"),
        ("a: &a b\n*a : 1", 2, "a key must be text"),
        ("a: !!python/object/apply:os.system [ls]", 1, "is not allowed"),
        ("a: !!binary aGk=", 1, "is not allowed"),
        ("a: !!int x", 1, "not of the type"),
        ("<<: 5", 1, "takes a mapping"),
        (f"a: {'1' * 5000}", 1, "too many digits"),
        (f'{{"a": {"1" * 5000}}}', 0, "too many digits"),
        ("[" * 200_000, 1, "100 deep"),
        ("a:\n" + "- " * 5000 + "x", 2, "100 deep"),
        ('{"a":' * 100_000, 0, "100 deep"),
        ('{"a":' * 500 + "1" + "}" * 500, 1, "100 deep"),
    ],
)
def test_what_is_no_document_is_told_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as raised:  # W3
        read(text, prefer_json=text.startswith("{"))
    assert raised.value.line == line


def test_a_broken_json_file_gets_the_error_of_json() -> None:
    with pytest.raises(Unreadable, match="not valid JSON") as raised:
        read('{"a": 1,\n "b": [}', prefer_json=True)
    assert raised.value.line == 2


def laughs(depth: int = 30) -> str:
    lines = ["a0: &a0 [" + ",".join(["lol"] * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, depth)]
    return "\n".join(lines)


def long_string() -> str:
    return "a: &a " + "x" * 500_000 + "\nlist:\n" + "- *a\n" * 50_000


def merged() -> str:
    lines = ["a0: &a0 {k: [" + ",".join(["lol"] * 100) + "]}"]
    lines += [f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 40)]
    return "\n".join(lines)


@pytest.mark.parametrize("bomb", [laughs(), long_string(), merged()])
def test_alias_bombs_are_refused_at_once(bomb: str) -> None:  # W3
    started = time.perf_counter()
    with pytest.raises(Unreadable, match="aliases expand to more than 4,000,000"):
        read(bomb)
    assert time.perf_counter() - started < 1


@given(st.text(alphabet="{}[]:,&*!|>-?'\"\\ \n\tab1.#%@`~<$", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(Unreadable):
        read(text)
