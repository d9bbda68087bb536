"""Waiting for an execution's end: told of each change, not held up by those that do not matter."""  # A2

from __future__ import annotations

from typing import Any

import pytest

from penstock.orchestrator.changes import Subscription

CHANNEL = b"penstock:exec:x"


class PubSub:
    """A subscription that has these messages, and then none."""

    def __init__(self, *statuses: str) -> None:
        self.left = [self.message(status.encode()) for status in statuses]

    @staticmethod
    def message(data: Any, type: str = "message", channel: bytes = CHANNEL) -> dict[str, Any]:
        return {"type": type, "channel": channel, "data": data}

    def get_message(self, timeout: float) -> dict[str, Any] | None:
        return self.left.pop(0) if self.left else None


def test_changes_that_come_together_are_one():
    told = PubSub("running", "running", "running")
    Subscription(told, CHANNEL).change(5)
    assert told.left == []


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
def test_nothing_more_is_waited_for_at_the_end(end):
    told = PubSub("running", end, "later")
    Subscription(told, CHANNEL).change(5)
    assert [message["data"] for message in told.left] == [b"later"]
    told = PubSub("running", "running", end, "later")
    assert Subscription(told, CHANNEL).end(5) == end
    assert [message["data"] for message in told.left] == [b"later"]


def test_what_a_connection_was_told_for_another_execution_does_not_count():
    told = PubSub("failed", "succeeded")
    told.left[0]["channel"] = b"penstock:exec:before"
    told.left.insert(0, told.message(1, "unsubscribe", b"penstock:exec:before"))
    assert Subscription(told, CHANNEL).end(5) == "succeeded"


def test_without_a_word_there_is_no_end():
    assert Subscription(PubSub("running"), CHANNEL).end(0.01) is None
    assert Subscription(PubSub("succeeded"), CHANNEL).end(0) is None
