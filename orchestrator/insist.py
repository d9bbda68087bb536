"""Commands that are sent again after a lost reply: they may have arrived, and may arrive twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import redis

from ..common.errors import RedisUnavailable
from ..common.state.connection import why_refused
from ..common.state.states import EXECUTION_TERMINAL
from ..common.state.store import Store

AnswerT = TypeVar("AnswerT")

#: a command whose reply was lost is sent again this often, and for so long, seconds
AGAIN_S = 0.2
INSIST_S = 5.0


def insist(ask: Callable[[], AnswerT]) -> AnswerT:
    """Asks again after a lost reply.

    Raises RedisUnavailable where Redis refuses to write, redis-py's error when it stays away.
    """
    till = time.monotonic() + INSIST_S
    while True:
        try:
            return ask()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            if time.monotonic() >= till:
                raise
            time.sleep(AGAIN_S)
        except redis.exceptions.ResponseError as error:
            if why := why_refused(error):
                raise RedisUnavailable(f"{why}. Nothing was changed") from error
            raise


def retry(store: Store, execution: str, status: str) -> str:
    """As `Store.retry`, of an execution that had this status.

    One that had ended badly, and has not when it is asked again, runs by our first request.
    """
    asked = 0

    def ask() -> str:
        nonlocal asked
        asked += 1
        return store.retry(execution)

    verdict = insist(ask)
    had_ended = status in EXECUTION_TERMINAL and status != "succeeded"
    arrived = asked > 1 and had_ended and verdict in ("OPEN", "SUCCEEDED")
    return "RUNNING" if arrived else verdict
