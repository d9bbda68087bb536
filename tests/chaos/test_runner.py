"""What the runner makes of a run: its figures, its verdict, its exit code."""  # Q13

from __future__ import annotations

import json

import pytest

from chaos import runner
from chaos.checker import Violation
from chaos.scenario import SCENARIOS, Run, Scenario


def run_of(recoveries=(), *, count=4, short=False, bound_s=1.0, delays=None):
    scenario = Scenario("s", "F00", 4, 2, bound_s, {"gone": 1.0}, lambda run: None)
    run = Run(scenario, target=4, seed=1, short=short, keep=None, count=count)
    run.recoveries_s = list(recoveries)
    run.delays_s = {"gone": list(delays or ())}
    return run


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 2), (0.99, 4), (1.0, 4), (0.25, 1), (0.26, 2), (0.75, 3)]
)
def test_quantiles_are_by_nearest_rank(share, value):
    assert runner.quantile([4, 1, 3, 2], share) == value


def test_a_run_passes_with_its_number_and_its_bounds():
    result = runner.judged(run_of([0.1, 0.2], delays=[0.5]), 1.0)
    assert result["passed"]
    assert (result["p50_s"], result["p99_s"], result["max_s"]) == (0.1, 0.2, 0.2)
    assert "rate < 0.75" in runner.row(result)[-1]
    assert runner.line(result).startswith("ok")


@pytest.mark.parametrize(
    "run",
    [run_of([0.1, 1.2]), run_of(count=3), run_of(delays=[0.1, 1.5])],
    ids=["late", "too few", "lives on"],
)
def test_a_run_fails_on_a_missed_bound_or_number(run):
    assert not runner.judged(run, 1.0)["passed"]


def test_the_short_form_is_judged_by_the_median():
    assert runner.judged(run_of([0.1, 1.2], short=True), 1.0)["passed"]
    assert not runner.judged(run_of([0.1, 1.2, 1.3], short=True), 1.0)["passed"]


def test_a_violation_fails_a_run_and_is_shown_with_its_trace(capsys):
    run = run_of([0.1])
    run.violations.append(Violation("I2", "x/a", "two results", ({"what": "committed"},)))
    result = runner.judged(run, 1.0)
    runner.show_violations(result)
    assert not result["passed"]
    assert "I2 x/a: two results\n    {'what': 'committed'}" in capsys.readouterr().out


@pytest.fixture
def scenarios(monkeypatch, tmp_path):
    """Two scenarios in place of the real ones: `good`, and `bad`, which raises."""

    def good(run):
        while run.goes_on():
            run.hit()

    def bad(run):
        raise RuntimeError("no")

    monkeypatch.setattr(runner, "load", lambda: None)
    for name in list(SCENARIOS):
        monkeypatch.delitem(SCENARIOS, name)
    for body in (good, bad):
        one = Scenario(body.__name__, "F00", 5, 2, None, {}, body)
        monkeypatch.setitem(SCENARIOS, body.__name__, one)
    return tmp_path


def test_the_exit_code_tells(scenarios, capsys):
    figures = scenarios / "figures.json"
    keep = ["--keep", str(scenarios)]
    assert runner.main(["--only", "good", "--seed", "7", "--json", str(figures), *keep]) == 0
    (result,) = json.loads(figures.read_text())
    assert (result["injections"], result["target"], result["seed"]) == (5, 5, 7)
    assert runner.main(["--short", *keep]) == 1
    assert "RuntimeError: no" in capsys.readouterr().out


def test_an_unknown_scenario_is_refused(scenarios):
    with pytest.raises(SystemExit, match="no scenario other"):
        runner.main(["--only", "other"])
