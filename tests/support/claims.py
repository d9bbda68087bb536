"""Jobs as a daemon gets them with a claim."""

from __future__ import annotations

from typing import Any

from penstock.common.jobs import Claimed, Token, Work

OWN = ("token", "name", "config", "rider")


def claimed(**given: Any) -> Claimed:
    """A job with some of its fields as given."""
    fields: dict[str, Any] = {
        "token": Token("x-a", 1, "c"),
        "name": "a",
        "config": b"{}",
        "rider": False,
        "execution": "x",
        "run": "m:f",
        "root": "/r",
        "digest": "d",
        "refs": (),
        "timeout_s": 60.0,
        "needs": {},
        "priority": 5,
        "queue": "any.p5",
        "retry": {},
        "retries_left": 3,
        **given,
    }
    own = {name: fields.pop(name) for name in OWN}
    return Claimed(**own, work=Work(**fields))
