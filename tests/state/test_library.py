"""The library of scripts: how Redis comes to know it, and what a call leaves behind: nothing."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import redis

from penstock.common.jobs import Settlement, Token
from penstock.common.state import keys
from penstock.common.state.scripts import OTHERS_KEPT, Limits, Scripts, load, run, run_all
from penstock.common.state.store import settlement_args
from support.histories import LIB
from support.scripted import done, new_job


def known(client):
    return [name.decode() for name in _names(client.function_list())]


def _names(rows):
    for row in rows:
        yield row[b"library_name"] if isinstance(row, dict) else row[1]


def test_a_server_that_forgot_the_scripts_is_given_them(cluster):  # Q10
    cluster.submit(new_job("a"))
    cluster.client.function_flush()
    assert cluster.store.drain_outbox() == 0
    cluster.client.function_flush()
    request = cluster.store.results_request(cluster.id, ["a"])
    assert run_all(cluster.client, [request, request]) == [[None], [None]]


def test_where_memory_is_full_what_adds_is_refused_and_what_keeps_or_ends_goes_on(redis7):
    client, refused = redis7.client, set()
    scripts = Scripts()
    load(client, scripts.library)
    client.config_set("maxmemory", 1)
    try:
        for name, script in scripts.items():
            try:
                client.fcall(script.function, 0)  # what lacks its arguments fails later
            except redis.exceptions.OutOfMemoryError:
                refused.add(name)
            except redis.exceptions.ResponseError:
                pass
    finally:
        client.config_set("maxmemory", 0)
    assert refused == {
        "agenda_take", "control_enqueue", "control_fail", "control_settle", "control_start", "execution_extend",
        "execution_retry", "execution_submit", "group_open", "job_log", "lock_acquire", "node_advance", "node_wait",
    }  # fmt: skip


def test_whoever_comes_second_finds_it_there(server):
    scripts = Scripts(Limits(max_crashes=77))
    load(server.client, scripts.library)
    load(server.client, scripts.library)
    assert known(server.client).count(scripts.library.name) == 1


def test_libraries_of_other_versions_do_not_pile_up(server):
    for number in range(OTHERS_KEPT + 1):
        name = f"penstock_{number:012}"
        text = f"#!lua name={name}\nredis.register_function('{name}_f', function() return 1 end)"
        server.client.function_load(text, replace=True)
    server.client.function_load(
        "#!lua name=theirs\nredis.register_function('theirs_f', function() return 1 end)",
        replace=True,
    )
    scripts = Scripts(Limits(max_crashes=78))
    load(server.client, scripts.library)
    assert sorted(known(server.client)) == [scripts.library.name, "theirs"]
    server.client.function_delete("theirs")


def test_what_a_call_had_collected_when_it_failed_is_not_written_by_the_next(cluster):
    cluster.submit(new_job("a"))
    node = cluster.node()
    (job,) = node.claim(1)
    leases = cluster.client.hgetall(keys.node_leases(node.id))
    request = cluster.store.advance_request(
        node.id,
        node.incarnation,
        f"{node.incarnation}.2",
        [settlement_args(Settlement(job.token, "finished", b"1"))],
        0,
        {},
        {},
    )
    at = request.args.index("finished")
    request.args[at + 2] = "not a number"  # how long it took: it fails after the lease was given up
    with pytest.raises(redis.exceptions.ResponseError, match="took_ms"):
        run(cluster.client, request)
    other = Token("none-x", 1, "c")
    node.turn = 2
    node.advance(Settlement(other, "finished", b"1"))
    assert cluster.client.hgetall(keys.node_leases(node.id)) == leases
    node.advance(done(job))
    assert cluster.statuses("a") == ["finished"]


def test_no_two_parts_of_the_library_give_one_name_to_two_things():
    """They share one scope: the later one would hide the other from all that comes behind it."""
    declared = re.compile(r"^local (?:function )?([\w, ]+?)(?:\(.*| = .*| --.*)?$", re.MULTILINE)
    names = Counter(
        name.strip()
        for path in LIB.glob("*.lua")
        for found in declared.findall(path.read_text())
        for name in set(found.split(","))
    )
    assert len(names) > 100
    assert [name for name, times in names.items() if times > 1] == []
