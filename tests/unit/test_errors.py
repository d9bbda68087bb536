"""The tree of errors: exit codes, faults, what a message holds."""

import pickle

import pytest

import penstock
from penstock.common import errors
from penstock.common.errors import AggregationError, Fault, PenstockError, SpecError


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("PenstockError", 1),
        ("ExecutionFailed", 1),
        ("InputError", 2),
        ("SpecError", 2),
        ("Conflict", 2),
        ("ExecutionCanceled", 3),
        ("WaitTimeout", 4),
        ("NotFound", 5),
        ("RedisUnavailable", 6),
        ("UnsafeRedis", 6),
        ("LockHeld", 1),
        ("LockLost", 1),
        ("JobFailed", 1),
        ("JobCanceled", 3),
        ("ClientGone", 1),
        ("StaleToken", 1),
        ("CodeMissing", 1),
        ("NoSuchPart", 2),
        ("ValueFailed", 1),
        ("NotTrusted", 1),
        ("AggregationError", 1),
    ],
)
def test_every_error_has_its_exit_code_and_stands_in_the_drawn_tree(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, PenstockError)
    assert kind.exit_code == code
    assert f" {name} " in (errors.__doc__ or "")


def test_a_spec_error_has_one_line_a_fault() -> None:  # W3
    faults = [Fault("flow.yaml:12: jobs.a.priority", "11 is not between 1 and 10"), Fault("", "x")]
    assert str(SpecError(faults)).splitlines() == [
        "flow.yaml:12: jobs.a.priority: 11 is not between 1 and 10",
        "x",
    ]


def test_a_spec_error_keeps_all_faults_but_shows_the_first() -> None:
    error = SpecError(Fault("f", str(number)) for number in range(1000))
    assert len(error.faults) == 1000
    assert str(error).splitlines()[-1] == "... and 800 more"


def test_errors_travel_between_processes() -> None:
    spec = pickle.loads(pickle.dumps(SpecError([Fault("a", "b")])))
    assert spec.faults == [Fault("a", "b")]
    fan_in = pickle.loads(pickle.dumps(AggregationError("FANIN_NO_RESULTS", "none", index=3)))
    assert (fan_in.code, str(fan_in)) == ("FANIN_NO_RESULTS", "FANIN_NO_RESULTS: none")
    assert fan_in.about == {"index": 3}


def test_what_is_raised_can_be_imported_from_where_the_docs_say() -> None:
    from penstock import context as module
    from penstock.context import current
    from penstock.errors import JobFailed

    assert module.current is current
    assert JobFailed is errors.JobFailed
    ours = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, PenstockError)
    }
    assert ours | {"Fault"} == set(penstock.errors.__all__)
