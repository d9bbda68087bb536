"""What the exhaustive search looks at: small workflows, and what may go wrong with them."""

from __future__ import annotations

from .shapes import Spec, fan_in
from .world import Budget, Scenario

DIAMOND = (Spec("a"), Spec("b", ("a",)), Spec("c", ("a",)), Spec("d", ("b", "c")))
FAN = (Spec("f", kind="fan-out", size=2), fan_in("in", "f"))
CUSTOM = (Spec("f", kind="fan-out", size=3, window=2), fan_in("in", "f", custom=True))
STOPS = (Spec("f", kind="fan-out", size=3, window=2, stops=True), fan_in("in", "f"))
STOPPED = (Spec("f", kind="fan-out", size=2, stops=True), Spec("z", ("f",)))
TWO = (Spec("a"), Spec("b"))
PAIR = (Spec("a", retries=1), Spec("b", ("a",)))

#: the form for CI: all states, in about a minute
SHORT = {
    "diamond, a death": Scenario(DIAMOND, Budget(deaths=1)),
    "diamond, a copy": Scenario(DIAMOND, Budget(copies=1)),
    "diamond, an answer lost": Scenario(DIAMOND, Budget(lost=1)),
    "diamond, a silence": Scenario(DIAMOND, Budget(silences=1)),
    "diamond, a failure": Scenario(DIAMOND, Budget(failures=1)),
    "diamond, a failure, fail-fast": Scenario(DIAMOND, Budget(failures=1), policy="fail_fast"),
    "diamond in chunks, a cancel": Scenario(
        DIAMOND, Budget(cancels=1), orchestrators=2, chunk=2, step_limit=3
    ),
    "pair, a copy and a silence": Scenario(PAIR, Budget(silences=1, copies=1)),
    "two jobs, a copy and a silence": Scenario(TWO, Budget(silences=1, copies=1)),
    "pair, a pause": Scenario(PAIR, Budget(pauses=1, failures=1)),
    "pair, a cancel and a retry": Scenario(PAIR, Budget(cancels=1, retries=1), step_limit=3),
    "fan-out and fan-in, two orchestrators": Scenario(FAN, orchestrators=2),
    "fan-out and fan-in, a death": Scenario(FAN, Budget(deaths=1)),
    "fan-out and fan-in, a cancel": Scenario(FAN, Budget(cancels=1)),
    "fan-out that stops early": Scenario(STOPS, Budget(met=1), step_limit=3),
    "fan-out that stops early, then a cancel and a retry": Scenario(
        STOPPED, Budget(met=1, cancels=1, retries=1), nodes=1
    ),
}

#: a break of breaking.py -> the scenario that shows it
SHOWN = {
    "any token of a job that runs settles it": "diamond, a silence",
    "a settle does not look at its token": "diamond, a silence",
    "a claim does not see that the execution is closed": "diamond in chunks, a cancel",
    "a job that is told of an upstream's end need not wait": "diamond, a failure, fail-fast",
    "a fan-out may end twice": "fan-out and fan-in, a cancel",
    "an advance that is sent again is done again": "diamond, an answer lost",
    "an advance that comes late claims": "two jobs, a copy and a silence",
    "chunks are not counted": "diamond in chunks, a cancel",
    "an upstream that failed does not matter": "diamond, a failure",
    "an answer on its way is no lease": "diamond, an answer lost",
    "a pause is no pause": "pair, a pause",
    "a retry runs what need not run": "fan-out that stops early, then a cancel and a retry",
    "a fan-out that was stopped early goes on": "fan-out that stops early",
    "what is left over is forgotten": "diamond in chunks, a cancel",
}

#: the long form: each until all its states were seen, or its time is up
LONG = {
    "diamond, two deaths and a copy": Scenario(
        DIAMOND, Budget(deaths=2, copies=1), orchestrators=2
    ),
    "diamond, a death, an answer lost and a copy": Scenario(
        DIAMOND, Budget(deaths=1, lost=1, copies=1)
    ),
    "diamond, a silence, a copy and a failure": Scenario(
        DIAMOND, Budget(silences=1, copies=1, failures=1)
    ),
    "diamond, a cancel, a retry and a death": Scenario(
        DIAMOND, Budget(cancels=1, retries=1, deaths=1), step_limit=3
    ),
    "diamond, a pause, a cancel and a copy": Scenario(
        DIAMOND, Budget(pauses=1, cancels=1, copies=1)
    ),
    "fan-out and fan-in, two orchestrators, a death and a copy": Scenario(
        FAN, Budget(deaths=1, copies=1), orchestrators=2
    ),
    "fan-out and fan-in, a cancel and a death": Scenario(
        FAN, Budget(cancels=1, deaths=1), orchestrators=2
    ),
    "fan-out that stops early, a death and a copy": Scenario(
        STOPS, Budget(met=1, deaths=1, copies=1), orchestrators=2
    ),
    "fan-out that stops early, a cancel and a retry": Scenario(
        STOPS, Budget(met=2, cancels=1, retries=1), step_limit=3
    ),
    "custom fan-in in windows, a death": Scenario(CUSTOM, Budget(deaths=1), orchestrators=2),
    "custom fan-in in windows, a failure and a retry": Scenario(
        CUSTOM, Budget(failures=1, retries=1)
    ),
}
