"""The strategies of a fan-in, whatever the order of the children."""

import json
import math
import random
from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common import folds
from penstock.common.aggregation import (
    AggregationError,
    ChildOutcome,
    aggregate,
    collect_outputs,
    options_of,
)
from penstock.common.folds import partial_of
from penstock.common.outcomes import PartialSum, canonical_json, metrics_of

NAN = math.nan
FOLDED = ("best-metric", "worst-metric", "top-k", "average-metrics", "quantiles", "count")


def finished(*outputs: Any) -> list[ChildOutcome]:
    return [ChildOutcome(index, output=output) for index, output in enumerate(outputs)]


def scores(*values: Any) -> list[ChildOutcome]:
    return finished(
        *({"metrics": {"acc": value}, "n": index} for index, value in enumerate(values))
    )


FAILED = ChildOutcome(1, "failed", error={"type": "ValueError", "message": "no data"})
ONE_FAILED = [ChildOutcome(0, output={"acc": 1}), FAILED, ChildOutcome(2, output={"acc": 3})]


def chosen(strategy: str, children: list[ChildOutcome], **options: Any) -> Any:
    return aggregate(strategy, children, metric_name="acc", **options)["aggregated_result"]


def test_the_output_says_how_it_was_made() -> None:  # F6
    made = aggregate("collect-all", finished("a", "b"), source_job_id="train")
    assert made == {
        "aggregated_result": ["a", "b"],
        "strategy": "collect-all",
        "input_count": 2,
        "source_job_id": "train",
    }


@pytest.mark.parametrize(
    ("strategy", "ascending", "values", "index"),
    [
        ("best-metric", False, (0.1, 0.9, 0.5), 1),
        ("best-metric", True, (0.1, 0.9, 0.5), 0),
        ("worst-metric", False, (0.5, 0.9, 0.1), 2),
        ("worst-metric", True, (0.5, 0.9, 0.1), 1),
        ("best-metric", False, (0.9, 0.9, 0.1), 0),
        ("best-metric", True, (0.9, 0.1, 0.1), 1),
        ("worst-metric", False, (0.1, 0.1, 0.9), 0),
        ("best-metric", False, (NAN, 0.2, NAN), 1),
        ("worst-metric", False, (NAN, 0.2, 0.3), 1),
        ("best-metric", False, (1, math.inf, 2), 1),
        ("best-metric", True, (-math.inf, 5, 2), 0),
        ("best-metric", False, (-0.0, 0.0, -1), 0),
    ],
)
def test_best_and_worst_give_the_whole_output(
    strategy: str, ascending: bool, values: tuple[float, ...], index: int
) -> None:  # F6
    for children in (scores(*values), scores(*values)[::-1]):
        assert chosen(strategy, children, ascending=ascending)["n"] == index


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.integers(1, 5), st.randoms())
def test_top_k_gives_the_best_outputs_in_their_order(values, k, rng) -> None:  # F7
    children = scores(*values)
    rng.shuffle(children)
    wanted = sorted(range(len(values)), key=lambda index: (-values[index], index))[:k]
    assert [one["n"] for one in chosen("top-k", children, k=k)] == wanted
    lowest = sorted(range(len(values)), key=lambda index: (values[index], index))[:k]
    assert [one["n"] for one in chosen("top-k", children, k=k, ascending=True)] == lowest


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.randoms())
def test_quantiles_are_those_of_numpy(values, rng) -> None:  # F7
    children = scores(*values)
    rng.shuffle(children)
    found = chosen("quantiles", children, quantiles=[0, 0.25, 0.9, 1])
    assert list(found) == ["0", "0.25", "0.9", "1"]
    assert list(found.values()) == pytest.approx(numpy.quantile(values, [0, 0.25, 0.9, 1]))
    assert list(chosen("quantiles", children)) == ["0", "0.25", "0.5", "0.75", "1"]


def test_quantiles_leave_nan_out_and_keep_infinities() -> None:  # F7
    assert chosen("quantiles", scores(NAN, 1, 3), quantiles=[0.5]) == {"0.5": 2.0}
    assert chosen("quantiles", scores(math.inf, math.inf), quantiles=[0.5]) == {"0.5": math.inf}
    with pytest.raises(AggregationError, match="no child has a 'acc' but NaN"):
        chosen("quantiles", scores(NAN))


def test_count_is_of_those_that_gave_an_output() -> None:  # F7 F8
    assert aggregate("count", finished(1, None, "x"))["aggregated_result"] == 3
    assert aggregate("count", ONE_FAILED, on_failed="skip")["aggregated_result"] == 2


def test_an_integer_that_floats_do_not_tell_apart_is_no_metric() -> None:  # F7
    assert chosen("best-metric", scores(2**53, 5))["n"] == 0
    with pytest.raises(
        AggregationError, match="child 1 has no number 'acc'; it is an integer beyond"
    ):
        chosen("best-metric", scores(5, 2**53 + 1))
    averaged = aggregate("average-metrics", finished({"acc": 1, "id": 10**18}))
    assert averaged["aggregated_result"] == {"acc": 1.0}


def test_a_metric_is_looked_up_in_metrics_then_at_the_top() -> None:  # F6
    outputs = finished({"metrics": {"acc": 1}, "acc": 9}, {"metrics": {"other": 1}, "acc": 2})
    assert chosen("best-metric", outputs)["acc"] == 2
    beside = [ChildOutcome(0, metrics={"acc": 3.0}), ChildOutcome(1, output={"acc": 1})]
    assert chosen("worst-metric", beside) == {"acc": 1}


def test_no_value_but_nan_gives_no_best() -> None:  # F6
    with pytest.raises(AggregationError, match="NaN") as raised:
        chosen("best-metric", scores(NAN, NAN))
    assert raised.value.code == "FANIN_NO_RESULTS"


@pytest.mark.parametrize(
    ("output", "exists"),
    [
        ({"metrics": {"loss": 1, "f1": 2}}, "it has: f1, loss"),
        ({"metrics": {"acc": True}}, "its output holds: metrics"),
        ({"metrics": {"acc": "0.9"}, "x": 1}, "its output holds: metrics, x"),
        ({}, "nothing"),
        ([1], "its output is a list"),
        (None, "its output is a NoneType"),
    ],
)
def test_a_missing_metric_names_the_child_and_what_exists(output: Any, exists: str) -> None:  # F8
    children = [*scores(1, 2), ChildOutcome(2, output=output), ChildOutcome(5, output=output)]
    for given_order in (children, children[::-1]):
        with pytest.raises(AggregationError) as raised:
            chosen("best-metric", given_order)
        assert raised.value.code == "FANIN_MISSING_METRIC"
        assert "child 2 has no number 'acc'" in str(raised.value)
        assert exists in str(raised.value)


def test_average_is_over_the_children_that_have_the_metric() -> None:  # F6
    children = finished(
        {"metrics": {"acc": 0.5, "loss": 2, "name": "x", "ok": True, "bad": NAN}},
        {"metrics": {"acc": 1.0}, "loss": 100},
        {"loss": 4, "acc": 0.0},
        "nothing",
    )
    assert chosen("average-metrics", children) == {"acc": 0.5, "loss": 3.0}


def test_average_without_any_number_is_an_error() -> None:  # F8
    with pytest.raises(AggregationError) as raised:
        chosen("average-metrics", finished({"a": "b"}, {}))
    assert raised.value.code == "FANIN_MISSING_METRIC"


@pytest.mark.parametrize(
    ("outputs", "winner"),
    [
        (["a", "b", "b"], "b"),
        (["a", "b"], "a"),
        (["b", "a", "a", "b"], "b"),
        ([{"x": 1, "y": [2]}, {"z": 0}, {"y": [2], "x": 1}], {"x": 1, "y": [2]}),
        ([1, True, True], True),
        ([2, 1, 1.0], 1),
        ([None, "null", None], None),
    ],
)
def test_vote_compares_whole_outputs_as_canonical_json(outputs: list[Any], winner: Any) -> None:
    made = chosen("majority-vote", finished(*outputs))  # F6
    assert canonical_json(made) == canonical_json(winner)


def test_a_vote_over_too_many_distinct_outputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "MOST_DISTINCT", 10)
    assert chosen("majority-vote", finished(*range(10))) == 0
    with pytest.raises(AggregationError) as raised:
        chosen("majority-vote", finished(*range(11)))
    assert raised.value.code == "FANIN_TOO_MANY_OUTPUTS"


def test_collect_all_and_custom_get_the_outputs_in_index_order() -> None:  # F6
    children = finished(*range(20))
    random.Random(1).shuffle(children)
    assert chosen("collect-all", children) == list(range(20))
    assert collect_outputs(children) == list(range(20))


STRATEGIES = ["collect-all", "best-metric", "worst-metric", "average-metrics", "majority-vote"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
def test_the_order_of_finishing_does_not_matter(strategy: str, data: st.DataObject) -> None:  # F7
    values = data.draw(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=12))
    children = [
        ChildOutcome(index, output={"acc": value, "bucket": 1})
        for index, value in enumerate(values)
    ]
    shuffled = data.draw(st.permutations(children))

    def outcome(given_order: list[ChildOutcome]) -> str:
        try:
            return canonical_json(chosen(strategy, given_order))
        except AggregationError as error:
            return str(error)

    assert outcome(children) == outcome(shuffled)


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.lists(st.integers(0, 4), max_size=3),
)
def test_a_mean_is_that_of_fsum_however_it_came_together(numbers, cuts) -> None:  # F7
    """In one sum, or in partial ones that are written down and taken in by another."""
    total, part = PartialSum(), PartialSum()
    for place, number in enumerate(numbers):
        part.add(number)
        if place in cuts:
            total.take(json.loads(json.dumps(part.state())))
            part = PartialSum()
    total.take(part.state())
    assert total.count == len(numbers)
    try:
        assert total.mean() == math.fsum(numbers) / len(numbers)
    except OverflowError:
        assert total.mean() == float(sum(map(Fraction, numbers)) / len(numbers))


def test_a_sum_beyond_the_floats_has_its_mean_all_the_same() -> None:
    huge = [1.7e308] * 3
    assert chosen("average-metrics", finished(*({"m": value} for value in huge))) == {"m": 1.7e308}


@pytest.mark.parametrize("strategy", [*FOLDED, "majority-vote"])
@given(data=st.data())
def test_folds_that_were_written_down_give_what_one_gives(strategy, data) -> None:  # F7
    """Children in any order, cut into parts of which some are folded by others before."""
    values = data.draw(
        st.lists(st.sampled_from([1e16, 1.0, -1e16, 0.5, NAN, math.inf]), min_size=1)
    )
    children = [
        ChildOutcome(index, output={"acc": value} if index % 5 else {"acc": value, "n": 1})
        for index, value in enumerate(values)
    ]
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(values) - 1))
        children[place] = ChildOutcome(place, output="no metric")
    shuffled = data.draw(st.permutations(children))
    cut = data.draw(st.integers(0, len(values)))
    options = options_of("acc", False, 2, None)
    folded = []
    for part in (shuffled[: cut // 2], shuffled[cut // 2 : cut]):
        fold = partial_of(strategy, options)
        for child in part:
            fold.add(child)
        folded.append((len(part), json.loads(json.dumps(fold.state()))))

    def made(children, folded):
        try:
            found = aggregate(strategy, children, metric_name="acc", k=2, folded=folded)
        except AggregationError as error:
            return str(error)
        return {**found, "aggregated_result": canonical_json(found["aggregated_result"])}

    assert made(shuffled[cut:], folded) == made(children, [])


@pytest.mark.parametrize("strategy", ["collect-all", "custom"])
def test_what_keeps_every_output_is_no_fold(strategy) -> None:  # F7
    assert partial_of(strategy, options_of(None, False, None, None)) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_failed_child_fails_the_fan_in_unless_it_says_otherwise(strategy: str) -> None:  # F8
    with pytest.raises(AggregationError) as raised:
        chosen(strategy, ONE_FAILED)
    assert raised.value.code == "FANIN_CHILD_FAILED"
    assert "1 of 3" in str(raised.value)
    assert "ValueError: no data" in str(raised.value)


def test_failed_children_can_be_left_out() -> None:  # F8
    made = aggregate("collect-all", ONE_FAILED, on_failed="skip")
    assert (made["aggregated_result"], made["input_count"]) == ([{"acc": 1}, {"acc": 3}], 2)
    assert chosen("average-metrics", ONE_FAILED, on_failed="skip") == {"acc": 2.0}


def test_failed_children_can_be_passed_on() -> None:  # F8
    made = aggregate("collect-all", ONE_FAILED, on_failed="pass")
    assert made["input_count"] == 3
    assert made["aggregated_result"][1] == {
        "index": 1,
        "status": "failed",
        "error": {"type": "ValueError", "message": "no data"},
    }
    assert collect_outputs(ONE_FAILED, on_failed="pass") == made["aggregated_result"]
    assert chosen("best-metric", ONE_FAILED, on_failed="pass") == {"acc": 3}
    assert aggregate("majority-vote", ONE_FAILED, on_failed="pass")["input_count"] == 2


@pytest.mark.parametrize(
    ("min_success", "enough"),
    [
        (2, True),
        (3, False),
        (0.66, True),
        (0.67, False),
        (2 / 3, True),
        (1.0, False),
        (None, True),
    ],
)
def test_min_success_is_a_count_or_a_fraction(
    min_success: float | None, enough: bool
) -> None:  # F8
    def run() -> Any:
        return aggregate("collect-all", ONE_FAILED, on_failed="skip", min_success=min_success)

    if enough:
        assert run()["input_count"] == 2
        return
    with pytest.raises(AggregationError) as raised:
        run()
    assert raised.value.code == "FANIN_TOO_FEW_RESULTS"


@pytest.mark.parametrize("on_failed", ["fail", "skip", "pass"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_jobs_and_no_results_are_clear_errors(strategy: str, on_failed: str) -> None:  # F5 F8
    with pytest.raises(AggregationError, match="no jobs") as raised:
        chosen(strategy, [], on_failed=on_failed)
    assert raised.value.code == "FANIN_NO_RESULTS"
    if on_failed == "skip":
        with pytest.raises(AggregationError, match="none of 1") as raised:
            chosen(strategy, [FAILED], on_failed="skip")
        assert raised.value.code == "FANIN_NO_RESULTS"


def test_what_cannot_be_folded_says_so() -> None:
    with pytest.raises(AggregationError, match="needs a metric_name"):
        aggregate("best-metric", finished(1))
    with pytest.raises(AggregationError, match="not folded here"):
        aggregate("custom", finished(1))


@pytest.mark.parametrize(
    ("output", "metrics"),
    [
        ({"metrics": {"a": 1, "b": "x", "c": True, "d": NAN, "e": math.inf}, "f": 2}, {"a": 1.0}),
        ({"a": 1, "metrics": 3}, {"a": 1.0, "metrics": 3.0}),
        ([1], {}),
        (None, {}),
    ],
)
def test_metrics_of_an_output(output: Any, metrics: dict[str, float]) -> None:
    assert metrics_of(output) == metrics
