"""Real clusters for the system tests, and the figures that they measure.

`--full` runs the long forms (`make prove`); without it the same checks run in a
short form. Figures are printed at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .processes import Machines


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`: the long forms of the system tests, as `make prove` runs them."""
    parser.addoption("--full", action="store_true", help="run the long forms of the system tests")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Is this a run of the long forms?"""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes a measured figure, printed when all tests are done."""

    def note(text: str) -> None:
        request.node.user_properties.append(("figure", f"{request.node.name}: {text}"))

    return note


@pytest.fixture
def machines(redis7: Any, tmp_path: Path) -> Iterator[Machines]:
    """An empty Redis and nothing running on it."""
    redis7.client.flushall()
    made = Machines(redis7.url, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failing test shows what the processes printed."""
    outcome: Any = yield
    report = outcome.get_result()
    made = getattr(item, "funcargs", {}).get("machines")
    if report.when == "call" and report.failed and made is not None:
        report.sections.append(("processes", made.logs()[-20_000:]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the figures."""
    reports = [one for group in terminalreporter.stats.values() for one in group]
    for report in reports:
        if getattr(report, "when", "") == "call":
            for _, text in report.user_properties:
                terminalreporter.write_line(f"figure  {text}")
