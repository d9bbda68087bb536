"""Commands run in this process, on a service that answers from memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.common.code import CodeRoot
from penstock.common.settings import Settings
from penstock.common.spec.models import Workflow
from penstock.orchestrator.cli import loaded, main, session
from penstock.orchestrator.rediscli import redis_cli_line
from support.answers import WORKFLOW, FakeService, Said


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeService:
    fake = FakeService()
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PENSTOCK_REDIS_URL", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)

    @contextmanager
    def open_session(app: Any, unsafe: bool = False) -> Iterator[session.Session]:
        url = "redis://me:secret@host/0"
        cli = redis_cli_line(url)
        yield session.Session(fake, Settings(), url, cli, embedded=False)  # type: ignore[arg-type]

    def load(app: Any, file: str, assignments: Any = (), bundle: Any = None) -> loaded.Loaded:
        return loaded.Loaded(Workflow.model_validate(WORKFLOW), CodeRoot("/code", "0"))

    monkeypatch.setattr(session, "open_session", open_session)
    monkeypatch.setattr(loaded, "load", load)
    return fake


@pytest.fixture
def penstock(service: FakeService, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command; returns its exit code and what it wrote to stdout and to stderr."""

    def invoke(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.invoke(argv)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return invoke
