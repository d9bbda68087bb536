"""A lost reply changes nothing: every script that writes may be asked again (F08, F09)."""  # Q5 Q6

from __future__ import annotations

import re
from typing import Any

import pytest

from chaos import lossy, replies
from chaos.proxy import Proxy, scripts
from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys
from penstock.common.state.connection import connect
from penstock.common.state.scripts import Scripts
from penstock.common.state.store import Store
from penstock.orchestrator.service import Service


def address(server: Any) -> str:
    return str(server.url).removeprefix("unix://").partition("?")[0]


def test_what_writes_is_known() -> None:
    found = replies.writing_scripts()
    assert "job_results" not in found
    assert {"node_advance", "agenda_done", "queue_pause", "lock_release"} <= set(found)
    assert replies.writes("redis.call(front and 'LPUSH' or 'RPUSH', key)")
    assert not replies.writes("redis.call('HGET', key, 'DEL')")
    rest = set(Scripts()) - set(found)
    text = Scripts().library.text
    assert (
        set(re.findall(r"register\('(\w+)', \{ 'no-writes' \}", text)) == rest
    )  # a full disk refuses the others


@pytest.mark.timeout(3600)
def test_a_request_sent_again_changes_nothing(redis7: Any, full: bool, figure: Any) -> None:
    target = 1000 if full else 6
    tally = lossy.lose_replies(redis7.url, address(redis7), target)
    assert tally.missing() == []
    assert [str(one) for one in tally.differences] == []
    figure(f"{len(tally.done)} scripts, {target} lost replies each, 0 differences")


@pytest.mark.timeout(3600)
def test_an_orchestrator_that_gets_no_reply_and_does_not_ask_again_harms_nothing(
    redis7: Any, full: bool, figure: Any
) -> None:
    histories = 1000 if full else 15
    tally = lossy.lose_orchestrators_replies(redis7.url, address(redis7), histories)
    assert tally.lost >= histories
    figure(f"{histories} histories, {tally.lost} lost replies")


def test_a_submit_without_a_reply_is_one_execution(redis7: Any) -> None:  # W12
    redis7.client.flushall()
    workflow = parse_workflow({"name": "w", "jobs": [{"id": "a", "run": "m:f"}]})
    with Proxy(address(redis7)) as proxy, connect(proxy.url) as client:
        rule = proxy.drop_replies(scripts(), 2)
        found = Service(Store(client), Settings()).submit(workflow)
        assert rule.done == 2
        assert redis7.client.zrange(keys.executions(), 0, -1) == [found.encode()]
