"""The restart budget."""

from __future__ import annotations

from penstock.common.restarts import RestartBudget


def test_so_many_within_so_long() -> None:
    times = [0, 10, 20, 30, 59, 60, 61, 70, 71]
    budget = RestartBudget(3, within_s=60, clock=iter(times).__next__)
    spent = [budget.spend() for _ in times]
    assert spent == [True, True, True, False, False, True, False, True, False]
