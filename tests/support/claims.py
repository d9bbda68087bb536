"""Jobs as a daemon gets them with a claim."""

from __future__ import annotations

from typing import Any

from penstock.common.jobs import Claimed, Token


def claimed(**given: Any) -> Claimed:
    fields: dict[str, Any] = {
        "token": Token("x-a", 1, "c"),
        "execution": "x",
        "name": "a",
        "run": "m:f",
        "root": "/r",
        "digest": "d",
        "config": b"{}",
        "refs": (),
        "timeout_s": 60.0,
        "needs": {},
        "priority": 5,
        "queue": "any.p5",
        "retry": {},
        "retries_left": 3,
        "rider": False,
    }
    return Claimed(**{**fields, **given})
