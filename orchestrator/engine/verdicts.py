"""What the scripts answer to an orchestrator that does an item of the agenda."""

from __future__ import annotations


class NotNow(Exception):
    """The item cannot be done now, or another has it who may have died: it must come up again."""


class TurnOver(Exception):
    """The item was worked on for its turn: it goes on where it is when others had theirs."""


def goes_on(verdict: str) -> bool:
    """Does an execution take further jobs, after this answer of `Store.extend`? Raises NotNow."""
    if verdict == "RETRYING":
        raise NotNow
    return verdict != "CLOSED"
