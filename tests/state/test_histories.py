"""Random histories of a small cluster: whatever happens in whatever order, everything ends,
every count is right, and nothing is left over."""  # Q6 Q7 W7

from __future__ import annotations

import pytest

from penstock.common.state.store import Store
from support.histories import History, everything, frozen_scripts, scripts


@pytest.mark.parametrize("step_limit", [200, 5])
@pytest.mark.parametrize("ends", [False, True], ids=["", "cancel-and-retry"])
def test_everything_ends_and_adds_up(redis7, full, figure, step_limit, ends):
    count = 500 if full else 15
    store = Store(redis7.client, scripts=scripts(step_limit))
    for seed in range(count):
        redis7.client.flushall()
        history = History(store, seed, ends)
        try:
            for _ in range(history.draw.randint(30, 250)):
                history.step()
            history.finish()
            history.check()
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
    figure(f"{count} histories, 0 violations")


@pytest.mark.parametrize("step_limit", [200, 5])
def test_jobs_that_are_alike_come_out_as_any_others(redis7, full, step_limit):
    """`ride_along`, `settle_alike` and `claim_heir` are only quicker: without them the same history comes to the
    same."""
    for seed in range(300 if full else 20):
        outcomes = []
        for one_by_one in (False, True):
            redis7.client.flushall()
            store = Store(redis7.client, scripts=frozen_scripts(step_limit, one_by_one))
            history = History(store, seed, ends=seed % 2 == 0)
            for _ in range(history.draw.randint(30, 250)):
                history.step()
            outcomes.append(everything(redis7.client, history.id))
        assert outcomes[0] == outcomes[1], f"seed {seed}"
