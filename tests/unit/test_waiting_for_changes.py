"""Waiting for an execution's end: told of each change, not held up by those that do not matter."""  # A2

from __future__ import annotations

import math

import pytest

from penstock.common.errors import WaitTimeout
from penstock.orchestrator import service


class Changes:
    """A subscription that has these messages, and then none."""

    def __init__(self, *statuses: str | None) -> None:
        self.left = list(statuses)

    def get_message(self, timeout: float) -> dict[str, bytes] | None:
        status = self.left.pop(0) if self.left else None
        return None if status is None else {"data": status.encode()}


def test_changes_that_come_together_are_one():
    changes = Changes("running", "running", "running")
    service._await_change(changes, "x", math.inf)
    assert changes.left == []


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
def test_nothing_more_is_waited_for_at_the_end(end):
    changes = Changes("running", end, "later")
    service._await_change(changes, "x", math.inf)
    assert changes.left == ["later"]


def test_without_a_word_it_is_looked_again():
    changes = Changes(None, "later")
    service._await_change(changes, "x", math.inf)
    assert changes.left == ["later"]


def test_the_deadline_ends_the_wait():
    with pytest.raises(WaitTimeout, match="penstock wait x"):
        service._await_change(Changes("running"), "x", -math.inf)
