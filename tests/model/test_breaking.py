"""Both layers notice when the product is broken: a check that cannot fail proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from model.breaking import BREAKS
from model.machine import run
from model.scenarios import SHORT, SHOWN
from model.search import Search
from model.server import InProcess

#: most are found within 50 runs
RUNS, STEPS, SEED = 2000, 50, 3
#: which random runs meet too seldom: the search shows them at once
RARE = {
    "a claim does not see that the execution is closed",
    "an advance that comes late claims",
    "a fan-out that was stopped early goes on",
    "a retry runs what need not run",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", [what for what in BREAKS if what not in RARE])
def test_the_state_machine_notices(what, capsys):
    with pytest.raises((AssertionError, ResponseError)):
        run(InProcess(), RUNS, STEPS, SEED, dict([BREAKS[what]]), shrink=False)
    capsys.readouterr()


def test_nothing_goes_unnoticed():
    assert set(SHOWN) >= RARE


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", SHOWN)
def test_the_search_notices(what):
    broken = replace(SHORT[SHOWN[what]], breaks=dict([BREAKS[what]]))
    with pytest.raises((AssertionError, ResponseError)):
        Search(broken, InProcess()).run()
