"""Back-off and the rules by error class."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common import errors
from penstock.common.retry import NEVER_MENDED, delay_s, retries
from penstock.common.spec.models import Retry
from penstock.worker import results

PLAIN = {"jitter": 0.0}


def test_the_default_is_5_10_and_20_seconds() -> None:  # W6
    assert Retry().max == 3
    assert [delay_s(Retry(), failures) for failures in (1, 2, 3)] == [5.0, 10.0, 20.0]
    assert [delay_s({}, failures) for failures in (1, 2, 3)] == [5.0, 10.0, 20.0]


@pytest.mark.parametrize(
    ("policy", "failures", "jitter", "expected"),
    [
        (PLAIN, 1, 1.0, 5.0),
        ({"jitter": 0.1}, 1, 1.0, 5.5),
        ({"jitter": 0.1}, 1, -1.0, 4.5),
        ({"jitter": 0.1}, 1, -7.0, 4.5),
        ({"factor": 1.0}, 9, 0.0, 5.0),
        ({"backoff_s": 0.0}, 4, 1.0, 0.0),
        ({"max_delay_s": 7.0}, 2, 0.0, 7.0),
        ({"max_delay_s": 7.0}, 2, 1.0, 7.0),
        (PLAIN, 0, 0.0, 5.0),
        (PLAIN, 1_000_000, 0.0, 300.0),
    ],
)
def test_delays(policy: dict[str, float], failures: int, jitter: float, expected: float) -> None:
    assert delay_s(policy, failures, jitter) == pytest.approx(expected)


@given(
    st.integers(1, 10_000),
    st.floats(-1, 1),
    st.floats(0, 100),
    st.floats(1, 10),
    st.floats(0, 1000),
    st.floats(0, 1),
)
def test_a_delay_is_never_negative_nor_over_the_longest(
    failures: int, draw: float, backoff: float, factor: float, longest: float, jitter: float
) -> None:
    policy = Retry(backoff_s=backoff, factor=factor, max_delay_s=longest, jitter=jitter)
    assert 0 <= delay_s(policy, failures, draw) <= longest
    assert delay_s(policy, failures) <= delay_s(policy, failures + 1)


MRO = ["ConnectionError", "OSError", "Exception", "BaseException", "object"]


@pytest.mark.parametrize(
    ("on", "not_on", "expected"),
    [
        ((), (), True),
        (("OSError",), (), True),
        (("ValueError",), (), False),
        ((), ("ValueError",), True),
        ((), ("OSError",), False),
        (("ConnectionError",), ("OSError",), False),
        (("builtins.OSError",), (), True),
    ],
)
def test_rules_by_error_class(
    on: tuple[str, ...], not_on: tuple[str, ...], expected: bool
) -> None:  # W6
    assert retries(Retry(on=on, not_on=not_on), MRO) is expected
    assert retries({"on": list(on), "not_on": list(not_on)}, MRO) is expected
    assert retries({"on": on, "not_on": not_on}, [f"lib.{name}" for name in MRO]) is expected


@pytest.mark.parametrize("name", sorted(NEVER_MENDED))
def test_what_would_fail_again_is_not_retried_unless_it_is_named(name: str) -> None:  # W6
    names = [name, "PenstockError", "Exception"]
    assert hasattr(errors, name) or hasattr(results, name)
    assert not retries({}, names)
    assert not retries({"max": 5, "not_on": ["ValueError"]}, names)
    assert retries({"on": [name]}, names)
