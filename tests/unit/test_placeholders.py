"""Placeholders: types, text, escapes, stages, and values that look like placeholders."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common.errors import InputError
from penstock.common.spec.placeholders import (
    as_text,
    bind,
    escape,
    references,
    resolve,
    substitute,
    unescape,
)

NAMES = {
    "lr": 0.001,
    "bs": 32,
    "on": True,
    "none": None,
    "d": {"a": [1, 2], "k e": "deep"},
    "text": "x",
    "params": {"data": {"path": "/data"}, "list": [10, 20]},
    "item": {"id": 7, "tags": ["p", "q"]},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("${lr}", 0.001),
        ("lr=${lr}", "lr=0.001"),
        ("Train with lr=${lr} bs=${bs}", "Train with lr=0.001 bs=32"),
        ("${on}|${none}|${d}", 'true|null|{"a": [1, 2], "k e": "deep"}'),
        ("${on}", True),
        ("${none}", None),
        ("${d}", {"a": [1, 2], "k e": "deep"}),
        ("${d.a[0]}", 1),
        ("${d.a[-1]}", 2),
        ("${d.a.1}", 2),
        ('${d["k e"]}', "deep"),
        ("${params.data.path}/train", "/data/train"),
        ("${item.tags[1]}", "q"),
        ("/data/shard_${bs}.csv", "/data/shard_32.csv"),
        (
            {"model": {"learningRate": "${lr}", "optimizer": {"batchSize": "${bs}"}}},
            {"model": {"learningRate": 0.001, "optimizer": {"batchSize": 32}}},
        ),
        (["${lr}", ["${bs}"]], [0.001, [32]]),
        (("${lr}", 5), [0.001, 5]),
        ({"key_${bs}": 1}, {"key_32": 1}),
        ({"${d}": 1}, {'{"a": [1, 2], "k e": "deep"}': 1}),
        ("$${x}", "${x}"),
        ("a$${lr}b", "a${lr}b"),
        ("$$${lr}", "$${lr}"),
        ("$${${lr}}", "${0.001}"),
        ("$5 and $$ and $", "$5 and $$ and $"),
        (3, 3),
        (None, None),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_substitution(template: Any, expected: Any) -> None:  # W4 F2
    made = substitute(template, NAMES, final=True)
    assert made == expected
    assert type(made) is type(expected)
    assert unescape(bind(template, NAMES)) == expected


def test_booleans_keep_their_type_inside_a_list() -> None:  # F2
    assert substitute(["${on}", "${bs}"], NAMES, final=True)[0] is True


@pytest.mark.parametrize(
    "value",
    ["${b}", "${jobs.a.result}", "$${b}", "$", "$$", "a$", '${"$"}', "{b}", "${${b}}", "$\n", "${"],
)
@pytest.mark.parametrize(
    "template",
    ["${a}", "x${a}", "${a}${a}", "${a}{b}", "${a}${b}", "$${${a}}", "${a}$${b}", "${b}${a}"],
)
def test_inserted_values_are_never_resolved_again(template: str, value: str) -> None:  # W4
    names = {"a": value, "b": "{b}"}
    expected = template.replace("$${", "\0").replace("${a}", "\1").replace("${b}", "{b}")
    expected = expected.replace("\1", value).replace("\0", "${")
    assert substitute(template, names, final=True) == expected
    bound = bind(template, {"a": value})
    for _ in range(3):  # binding again changes nothing
        bound = bind(bound, {"a": "WRONG", "params": {}})
    assert substitute(bound, {"b": "{b}"}, final=True) == expected


@given(st.lists(st.sampled_from(list("${}ab\"'.[]\n"))).map("".join), st.text("${}a", max_size=5))
def test_escaping_and_unescaping_give_the_value_back(text: str, key: str) -> None:
    value = {key: [text], f"{key}x": text}
    assert unescape(escape(value)) == value
    assert references(escape(value)) == ()
    assert bind(escape(value), {"a": 1, "b": 2}) == escape(value)


@given(st.lists(st.sampled_from(["${a}", "${jobs.j.result}", "$${", "}", "x", "{", "$x"])))
def test_two_stages_give_what_one_gives(parts: list[str]) -> None:  # W4
    template = "".join(parts)
    value, result = "$", "{jobs.j.result}"
    names = {"a": value, "jobs": {"j": {"result": result}}}
    try:
        once = substitute(template, names, final=True)
    except InputError:
        return
    assert resolve(bind(template, {"a": value}), {"j": result}) == once


def test_references_wait_until_results_are_there() -> None:  # W4
    config = {
        "x": "${jobs.split.result.chunks[0]}",
        "n": "${jobs.a-b.result} of ${lr}",
        "y": "$${z}",
    }
    bound = bind(config, {"lr": 1})
    assert bound == {
        "x": "${jobs.split.result.chunks[0]}",
        "n": "${jobs.a-b.result} of 1",
        "y": "$${z}",
    }
    assert references(config) == references(bound) == ("split", "a-b")
    results = {"split": {"chunks": [{"k": 1}]}, "a-b": [1, "${lr}"]}
    assert resolve(bound, results) == {"x": {"k": 1}, "n": '[1, "${lr}"] of 1', "y": "${z}"}


def test_references_are_found_once_each_in_order() -> None:
    value = [{"${jobs.b.result}": "${jobs.a.result.x}${jobs.b.result}"}, "$${jobs.c.result}"]
    assert references(value) == ("b", "a")
    assert references("${jobs.a}") == ()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${jobs.a.result.nope}", "jobs.a.result holds x, list"),
        ("${jobs.a.result.lst}", "jobs.a.result holds x, list; did you mean 'list'?"),
        ("${jobs.a.result.list[7]}", "jobs.a.result.list is a list of 2"),
        ("${jobs.a.result.list.x}", "jobs.a.result.list is a list of 2"),
        ("${jobs.a.result.x.y}", "jobs.a.result.x is 1, which has no parts"),
        ("${jobs.z.result}", "jobs holds a"),
        ("${nope}", r"\$\{nope\} names nothing"),
        ("${${a}}", "is no placeholder"),
        ("${a b}", "'\\${a b}' is no placeholder"),
        ("${}", "is no placeholder"),
        ("${a", "is no placeholder"),
        ("x ${jobs.a.result.nope} y", "jobs.a.result holds"),
    ],
)
def test_a_placeholder_that_leads_nowhere_says_what_exists(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):  # W4
        resolve(template, {"a": {"x": 1, "list": [1, 2]}})


def test_malformed_placeholders_stop_binding_too() -> None:
    with pytest.raises(InputError, match="no placeholder"):
        bind("${${a}}", {"a": "b"})


def test_keys_that_become_equal_are_an_error() -> None:
    with pytest.raises(InputError, match="there already"):
        substitute({"${a}": 1, "x": 2}, {"a": "x"}, final=True)


def test_long_placeholders_are_cut_in_messages() -> None:
    with pytest.raises(InputError) as raised:
        resolve("${jobs" + ".a" * 100_000 + "}", {})
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001, "0.001"),
        (1e-5, "1e-05"),
        (1.0, "1.0"),
        ("é", "é"),
        (["é"], '["é"]'),
        (False, "false"),
    ],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert as_text(value) == text
