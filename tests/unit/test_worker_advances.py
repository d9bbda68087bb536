"""How much a slot is given, what is told of an attempt, and when Redis is asked for more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.common.jobs import NOTHING, Coming, Token
from penstock.common.state.store import Store
from penstock.worker import settling
from penstock.worker.advances import Advances
from penstock.worker.batches import MAX_AHEAD, MAX_BATCH, MAX_FEED, RunTimes, riders_wanted
from penstock.worker.held import Held
from support.claims import claimed

# -- batches

KEY = ("/r", "d", "m:f")


@pytest.mark.parametrize(
    ("run_s", "feed", "ahead"),
    [
        (None, 1, 0),
        (0.00001, MAX_FEED, MAX_AHEAD),
        (0.0005, 8, 20),
        (0.003, 1, 3),
        (0.006, 1, 0),
        (9, 1, 0),
    ],
)
def test_only_short_functions_are_batched(run_s: float | None, feed: int, ahead: int) -> None:  # Q3
    times = RunTimes()
    if run_s is not None:
        times.add(KEY, run_s)
    assert (times.feed(KEY), times.ahead(KEY)) == (feed, ahead)


def test_one_long_run_ends_batching_for_a_while() -> None:  # Q3
    times = RunTimes()
    for _ in range(100):
        times.add(KEY, 0.00001)
    times.add(KEY, 60.0)
    assert times.feed(KEY) == 1
    for _ in range(20):
        times.add(KEY, 0.00001)
    assert times.feed(KEY) > 1


def test_riders_are_asked_for_what_is_missing() -> None:  # Q3
    times = RunTimes()
    times.add(KEY, 0.001)
    assert riders_wanted(times, {KEY: 2}, {}) == {"/r|d|m:f": 20}
    assert riders_wanted(times, {KEY: 2}, {KEY: 15}) == {"/r|d|m:f": 5}
    assert riders_wanted(times, {KEY: 2}, {KEY: 15}, coming=5) == {}
    assert riders_wanted(times, {("/r", "d", "m:g"): 2}, {}) == {}
    times.add(KEY, 0.0)
    for _ in range(100):
        times.add(KEY, 0.00001)
    assert riders_wanted(times, {KEY: 2}, {}) == {"/r|d|m:f": MAX_BATCH}


# -- settlements


@pytest.mark.parametrize(
    ("outcome", "error", "left", "policy", "retry_ms"),
    [
        ("failed", "ValueError", 3, {}, 5000),
        ("failed", "ValueError", 2, {}, 10000),
        ("failed", "ValueError", 1, {"max": 3}, 20000),
        ("failed", "ValueError", 0, {}, -1),
        ("failed", "ValueError", 3, {"on": ["KeyError"]}, -1),
        ("failed", "KeyError", 3, {"on": ["KeyError"]}, 5000),
        ("failed", "KeyError", 3, {"not_on": ["Exception"]}, -1),
        ("crashed", "JobCrashed", 0, {}, 0),
        ("stopped", "Stopped", 3, {}, -1),
    ],
)
def test_when_an_attempt_is_retried(
    outcome: str, error: str, left: int, policy: dict[str, Any], retry_ms: int
) -> None:  # W6
    held = Held.of(claimed(retry=policy, retries_left=left))
    verdict = settling.of_failure(outcome, error, "text")
    assert settling.settlement(held, verdict, draw=0.0).retry_ms == retry_ms


def test_a_time_out_says_what_to_do() -> None:  # W6
    held = Held.of(claimed(timeout_s=2.0))
    error = json.loads(settling.of_time_out(held, 2.05).error)
    assert error["type"] == "JobTimeout"
    assert "time limit of 2 s" in error["message"]


# -- settling and claiming


class FakeSender:
    """Takes the place of the exchange: keeps what was sent, answers when told."""

    def __init__(self) -> None:
        self.held: dict[Token, Held] = {}
        self.incarnation, self.node, self.urgent = "inc", "n1", False
        self.sent: list[tuple[Any, Any, Any]] = []
        self.answer_s, self.back = 0.0, []

    def hand_back(self, held: Held) -> None:
        self.back.append(held.token.job)

    def run(self, request: Any, done: Any, refused: Any = None, again: bool = True) -> None:
        self.sent.append((request.args, done, refused))

    def take(self, claimed: list[Held]) -> None:
        self.held.update((held.token, held) for held in claimed)


class FakeNode:
    """Has `room` free lanes."""

    def __init__(self) -> None:
        self.room, self.taken, self.is_unknown = 1, [], False

    def lanes(self, coming: Coming = NOTHING) -> int:
        return self.room - len(coming.heads)

    def free(self, coming: Coming = NOTHING) -> dict[str, float]:
        return {"cpus": 1.0 - len(coming.heads)}

    def riders(self, coming: int) -> dict[str, int]:
        return {"coming": coming}

    def take(self, claimed: list[Held]) -> None:
        self.taken += claimed

    def unknown(self) -> None:
        self.is_unknown = True


def reply(*rows: list[Any], status: bytes = b"OK", verdicts: bytes = b"") -> list[Any]:
    work: list[Any] = [b"x", b"m:f", b"", b"", b"", b"60", b"", 5, b"any.p5", b"", b"0"]
    return [status, verdicts, list(rows), [work] if rows else []]


def row(name: str, rider: int) -> list[Any]:
    return [1, rider, 1, name.encode(), b'["m.f", null, [], {}]']


@pytest.fixture
def advances() -> tuple[Advances, FakeSender, FakeNode]:
    sender, node = FakeSender(), FakeNode()
    return Advances(sender, Store(None), node), sender, node  # type: ignore[arg-type]


def settle(advances: Advances, sender: FakeSender, name: str) -> Token:
    held = Held.of(claimed(token=Token(name, 1, "c"), retries_left=0))
    sender.held[held.token] = held
    verdict = settling.of_failure("failed", "E", "m")
    advances.settle(held, settling.args_of(held, verdict))
    return held.token


def test_an_advance_goes_out_when_there_is_reason(advances: Any) -> None:  # Q4
    made, sender, node = advances
    assert made.send()
    _, done, _ = sender.sent.pop()
    done(reply())
    assert not made.send(), "nothing was found: the inbox tells"
    made.hungry = True
    node.room = 0
    assert not made.send(), "no lane is free"
    settle(made, sender, "a")
    assert made.send()
    args, done, _ = sender.sent.pop()
    assert args[:4] == ["n1", "inc", "inc-2", 0]
    done(reply(verdicts=b"OK"))
    assert not sender.held
    made.drain()
    assert made.send(), "Redis is told once"
    assert sender.sent[-1][0][5] == 1
    assert not made.send()


def test_every_lane_filled_means_that_there_may_be_more(advances: Any) -> None:  # Q4
    made, sender, node = advances
    assert made.send()
    sender.sent.pop()[1](reply(row("a", 0)))
    assert [held.token.job for held in node.taken] == ["x-a"]
    assert made.send()


def test_what_was_claimed_long_ago_is_not_begun(advances: Any) -> None:  # Q6
    """The daemon was stopped meanwhile, and its jobs may have been given away."""
    made, sender, node = advances
    assert made.send()
    sender.answer_s = 3.1
    sender.sent.pop()[1](reply(row("a", 0)))
    assert node.taken == []
    assert sender.back == ["x-a"]
    assert [token.job for token in sender.held] == ["x-a"]
    assert made.send()
    settle(made, sender, "b")
    sender.sent.pop()[1](reply(row("c", 0)))
    assert sender.sent == [], "what comes back is told of first"


def test_a_beat_knows_of_the_claims_that_were_answered(advances: Any) -> None:  # Q6
    made, sender, _ = advances
    assert made.send()
    assert made.answered == 0
    sender.sent.pop()[1](reply())
    assert made.answered == 1
    made.hungry = True
    assert made.send()
    sender.sent.pop()[2]("WRONGTYPE")
    assert made.answered == 2


def test_redis_goes_on_while_riders_are_unpacked(advances: Any) -> None:  # Q4
    made, sender, node = advances
    node.room = 0
    settle(made, sender, "a")
    assert made.send()
    settle(made, sender, "b")
    sender.sent.pop()[1](reply(row("r", 1), verdicts=b"OK"))
    assert len(sender.sent) == 1
    assert sender.sent[0][0][-2:] == ["coming", 1]
    assert [held.token.job for held in node.taken] == ["x-r"]


def test_the_lanes_that_what_came_leaves_free_are_claimed_for_meanwhile(
    advances: Any,
) -> None:  # Q4
    made, sender, node = advances
    node.room = 3
    assert made.send()
    settle(made, sender, "a")
    sender.sent.pop()[1](reply(row("h", 0), row("r", 1)))
    assert [args[3:5] for args, _, _ in sender.sent] == [[2, "cpus=0"]]
    made.drain()
    settle(made, sender, "b")
    sender.sent.pop()[1](reply(row("i", 0)))
    assert [args[3:6] for args, _, _ in sender.sent] == [[0, "cpus=0", 1]], "it is to end"
    assert sender.sent[0][0][-1] == b"", "no riders either"


def test_what_has_ended_is_told_before_more_is_claimed(advances: Any) -> None:  # Q6
    """Else what waits to be told, and holds leases meanwhile, could grow without an end."""
    made, sender, node = advances
    for number in range(3 * MAX_BATCH + 4):
        settle(made, sender, str(number))
    told = []
    while made.send():
        args, done, _ = sender.sent.pop()
        told.append((args[6], args[3], args[-2:] == ["coming", 0]))
        done(reply(verdicts=b" ".join([b"OK"] * args[6])))
    full = MAX_BATCH
    assert told == [(full, 0, False), (full, 0, False), (full, 1, True), (4, 1, True)]


def test_a_beat_that_is_due_goes_before_the_next_advance(advances: Any) -> None:  # Q4
    made, sender, node = advances
    node.room = 0
    settle(made, sender, "a")
    assert made.send()
    settle(made, sender, "b")
    sender.urgent = True
    sender.sent.pop()[1](reply(row("r", 1), verdicts=b"OK"))
    assert sender.sent == []
    assert made.waiting


def test_an_unknown_node_claims_nothing(advances: Any) -> None:  # Q6
    made, sender, node = advances
    assert made.send()
    sender.sent.pop()[1](reply(status=b"UNKNOWN"))
    assert node.is_unknown
    assert not node.taken


def test_an_unknown_node_keeps_what_it_claimed_before(advances: Any) -> None:  # Q6
    made, sender, node = advances
    assert made.send()
    sender.sent.pop()[1](reply(row("a", 0), status=b"UNKNOWN"))
    assert node.is_unknown
    assert [held.token.job for held in node.taken] == ["x-a"]


def test_a_settlement_that_redis_refuses_holds_up_nobody(advances: Any) -> None:  # Q6
    made, sender, node = advances
    node.room = 0
    bad, good = settle(made, sender, "bad"), settle(made, sender, "good")
    done_with, outcomes = set(), []
    while made.send():
        args, done, refused = sender.sent.pop()
        jobs = [args[at] for at in range(7, 7 + 11 * args[6], 11)]
        if "bad" in jobs:
            outcomes.append(args[14] if len(jobs) == 1 else "")
            refused("WRONGTYPE")
        else:
            done(reply(verdicts=b" ".join([b"OK"] * len(jobs))))
            done_with.update(jobs)
    assert done_with == {"good"}
    assert bad not in sender.held
    assert good not in sender.held
    assert outcomes[0] == ""
    assert len(outcomes) == 6
    assert "Redis refused to store the result" in outcomes[-1].decode()
