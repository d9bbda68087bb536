"""Small workflows for the model and the search, as what the scripts are told of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from penstock.common.state.chunks import NewJob
from support.scripted import new_job


@dataclass(frozen=True)
class Spec:
    """A job as its workflow has it. `after`: its upstreams, `a?` where a's outcome does not matter.

    A fan-out makes `size` children, `limit` of them (0: all) at once, `window` of them unended; with
    `folds` those that have finished may be taken out of Redis, with `stops` one that gives what is looked for
    ends the others.
    """

    name: str
    after: tuple[str, ...] = ()
    kind: str = "run"
    tags: tuple[str, ...] = ()
    priority: int = 5
    cpus: int = 0
    retries: int = 0
    on_failure: str = "fail"
    tolerated: bool = False
    custom: bool = False
    size: int = 0
    limit: int = 0
    window: int = 1000
    folds: bool = False
    stops: bool = False
    group: str = ""

    @property
    def stop_when(self) -> str:
        """As the scripts take it."""
        return '{"metric_name":"m","at_least":0.5}' if self.stops else ""

    @property
    def class_(self) -> str:
        return "+".join(sorted(self.tags)) or "any"

    def child(self, index: int) -> Spec:
        """The `index`th job of this fan-out."""
        return replace(
            self,
            name=f"{self.name}_{index}",
            after=(),
            kind="run",
            group=self.name,
            size=0,
            limit=0,
        )


Shape = tuple[Spec, ...]


def fan_in(name: str, source: str, custom: bool = False) -> Spec:
    return Spec(name, (f"{source}?",), "fan-in", custom=custom)


DIAMOND: Shape = (
    Spec("a"), Spec("b", ("a",)), Spec("c", ("a",), tags=("gpu",)), Spec("d", ("b", "c")),
)  # fmt: skip
FAN: Shape = (
    Spec("f", kind="fan-out", size=3, window=2, retries=1, tolerated=True, folds=True), fan_in("in", "f"),
    Spec("z", ("in",)),
)  # fmt: skip
GATED: Shape = (
    Spec("f", kind="fan-out", size=4, limit=2, on_failure="continue"),
    fan_in("in", "f", custom=True), Spec("s", cpus=2, priority=9), Spec("y", ("s", "f")),
)  # fmt: skip
STOPS: Shape = (
    Spec("f", kind="fan-out", size=6, limit=2, window=4, retries=1, folds=True, stops=True), fan_in("in", "f"),
    Spec("z", ("f",)), Spec("y", ("in",)),
)  # fmt: skip
WIDE: Shape = (
    Spec("p", priority=1), Spec("q", cpus=2), Spec("r", tags=("gpu",), priority=9, retries=1),
    Spec("s", on_failure="continue"), Spec("t", ("s", "p"), retries=2), Spec("u", ("q?",)),
)  # fmt: skip
EMPTY: Shape = (Spec("f", kind="fan-out"), fan_in("in", "f"), Spec("e", ("f",)))
NAMED = (DIAMOND, FAN, GATED, STOPS, WIDE, EMPTY)


@cache
def shape(number: int) -> Shape:
    """The named ones first, then drawn ones."""
    if number < len(NAMED):
        return NAMED[number]
    draw = random.Random(number)
    made: list[Spec] = []
    for index in range(draw.randint(2, 5)):
        name = f"j{index}"
        after = tuple(one.name for one in made if draw.random() < 0.35 and not one.group)
        after += tuple(
            f"{one.name}?" for one in made if one.name not in after and draw.random() < 0.1
        )
        made += _drawn(draw, name, after)
    return tuple(made)


def _drawn(draw: random.Random, name: str, after: tuple[str, ...]) -> list[Spec]:
    common: dict[str, Any] = {
        "tags": draw.choice([(), (), (), ("gpu",)]),
        "priority": draw.choice([5, 5, 9]),
        "on_failure": draw.choice(["fail", "fail", "continue"]),
        "retries": draw.choice([0, 0, 1, 2]),
    }
    if draw.random() < 0.65:
        return [Spec(name, after, cpus=0 if common["tags"] else draw.choice([0, 0, 2]), **common)]
    tolerated, joined = draw.random() < 0.5, draw.random() < 0.7
    sizes = {"size": draw.randint(0, 5), "limit": draw.choice([0, 1, 2])}
    window = draw.choice([2, 3, 1000])
    custom = draw.random() < 0.4
    source = Spec(
        name, after, "fan-out", tolerated=tolerated and joined, window=window,
        folds=joined and not custom, stops=draw.random() < 0.25, **sizes, **common,
    )  # fmt: skip
    return [source, fan_in(f"{name}in", name, custom)] if joined else [source]


def dependents(shape: Shape, name: str) -> tuple[str, ...]:
    """Who waits for `name`, in the workflow's order; `b?` where its outcome does not matter."""
    found = []
    for one in shape:
        found += [one.name + up[len(name) :] for up in one.after if up.removesuffix("?") == name]
    return tuple(found)


def as_new_job(shape: Shape, one: Spec, session: bool = False) -> NewJob:
    """What an orchestrator would tell the scripts of it, or a program, which does not know of later ones."""
    fields: dict[str, Any] = {"retries": one.retries}
    if one.cpus:
        fields["needs"] = f"cpus={one.cpus}"
    if one.on_failure == "continue":
        fields["on_failure"] = "continue"
    if one.tolerated:
        fields["tolerated"] = 1
    if one.group:
        return new_job(one.name, tags=one.tags, priority=one.priority, group=one.group, **fields)
    if not session:
        fields["dependents"] = " ".join(dependents(shape, one.name))
    if one.kind == "run" or one.custom:
        fields |= {"kind": one.kind, "tags": one.tags, "priority": one.priority}
        return new_job(one.name, one.after, **fields)
    return NewJob(one.name, one.after, {"kind": one.kind, **fields})
