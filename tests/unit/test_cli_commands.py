"""What each command prints and returns, on a service that answers from memory.  # A2"""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from redis.exceptions import OutOfMemoryError

from penstock.common.errors import (
    Conflict,
    Fault,
    NotFound,
    RedisUnavailable,
    SpecError,
    WaitTimeout,
)
from penstock.common.settings import Settings
from penstock.orchestrator import local
from penstock.orchestrator.cli import loaded, main, run, session
from support.answers import ID, FakeService, Said, execution, job

# Every command with arguments that make it succeed or answer on the fake service.
EVERY = [
    ["run", "f.yaml"],
    ["run", "-f", "f.yaml", "--dry-run"],
    ["submit", "f.yaml"],
    ["wait", ID],
    ["status"],
    ["status", ID],
    ["ls"],
    ["result", ID],
    ["logs", ID],
    ["logs", ID, "-f"],
    ["validate", "f.yaml"],
    ["graph", "f.yaml"],
    ["graph", ID],
    ["pause", ID],
    ["resume", ID],
    ["cancel", ID],
    ["retry", ID, "--failed"],
    ["doctor"],
    ["doctor", "--repair"],
    ["worker", "ls"],
    ["worker", "drain", "n1"],
    ["queue", "ls"],
    ["queue", "pause"],
    ["queue", "resume", "any.p5"],
    ["queue", "dead"],
    ["queue", "redrive", ID],
    ["queue", "redrive", "--all"],
]


@pytest.mark.parametrize("argv", EVERY, ids=" ".join)
def test_json_is_one_strict_value_on_stdout(
    penstock: Said, service: FakeService, argv: list[str]
) -> None:
    service.states = [execution(result={"loss": float("nan"), "best": float("inf")})]
    service.results = [float("nan"), "\x1b[1m"]
    service.printed = [("load", "hello\n")]

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    _, out, _ = penstock(*argv, "--json")
    json.loads(out, parse_constant=refuse)


@pytest.mark.parametrize("argv", EVERY, ids=" ".join)
def test_every_command_speaks_to_people_too(penstock: Said, argv: list[str]) -> None:
    code, out, err = penstock(*argv)
    assert out or err
    assert "Traceback" not in err
    assert code == (1 if argv[0] == "doctor" else 0)


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1), ("canceled", 3)])
@pytest.mark.parametrize("argv", [["run", "f.yaml"], ["wait", "last"]], ids=["run", "wait"])
def test_the_end_of_an_execution_is_the_exit_code(
    penstock: Said, service: FakeService, argv: list[str], status: str, code: int
) -> None:
    service.states = [execution("running"), execution(status)]
    assert penstock(*argv)[0] == code
    service.states = [execution(status)]
    assert json.loads(penstock(*argv, "--json")[1])["status"] == status


@pytest.mark.parametrize(
    ("argv", "redriven", "skipped", "code"),
    [
        (["--all"], True, False, 0), (["--all"], True, True, 0), (["--all"], False, False, 0),
        ([ID], False, True, 1), ([], True, False, 2), ([ID, "--all"], True, False, 2),
    ],
)  # fmt: skip
def test_redrive_says_what_runs_again_and_what_does_not(
    penstock: Said,
    service: FakeService,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    redriven: bool,
    skipped: bool,
    code: int,
) -> None:
    answer = service.redrive(None)
    answer = {
        "redriven": answer["redriven"] if redriven else [],
        "skipped": answer["skipped"] if skipped else [],
    }
    monkeypatch.setattr(service, "redrive", lambda id_: answer)
    said, out, err = penstock("queue", "redrive", *argv)
    assert said == code
    if code == 2:
        assert "--all" in err
        return
    assert (f"{ID}  load runs again" in out) == redriven
    assert ("skipped: it is running" in err) == skipped
    assert json.loads(penstock("queue", "redrive", *argv, "--json")[1]) == answer


def test_dead_letters_are_shown_with_each_attempt(
    penstock: Said, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = {"attempt": 4, "node": "box-1", "outcome": "crashed", "started_at": "2026-01-02T03:04:05Z",
               "ended_at": "2026-01-02T03:04:07Z", "error": {"type": "ProcessDied", "message": "signal 9"}}  # fmt: skip
    letter = {"execution": ID, "job": "load", "attempt": 4, "history": [attempt]}
    monkeypatch.setattr(service, "dead_letter", lambda limit: [letter])
    head, line = penstock("queue", "dead")[1].splitlines()
    assert head.split() == [ID, "load", *["4", "attempts,", "1", "on", "record"]]
    assert line.split()[:4] == ["4", "box-1", "crashed", "2.00s"]
    assert line.endswith("ProcessDied: signal 9")


def test_run_json_has_the_promised_fields(penstock: Said, service: FakeService) -> None:
    service.states = [execution("succeeded", 42, load=job("finished", result=42, error=None))]
    value = json.loads(penstock("run", "f.yaml", "--json")[1])
    assert {"id", "name", "status", "jobs", "result"} <= value.keys()
    assert {"status", "attempt", "node", "result", "error"} <= value["jobs"]["load"].keys()


def test_a_failed_job_is_told_with_the_command_that_shows_its_output(
    penstock: Said, service: FakeService
) -> None:
    trace = 'Traceback (most recent call last):\n  File "d.py", line 9, in load\n    1 / 0\n'
    error = {"type": "ZeroDivisionError", "message": "division by zero", "traceback": trace}
    service.states = [execution("failed", load=job("failed", error=error, attempt=4))]
    code, _, err = penstock("run", "f.yaml")
    assert code == 1
    assert "load failed in attempt 4:" in err
    assert "ZeroDivisionError: division by zero" in err
    assert 'File "d.py", line 9, in load' in err
    assert f"penstock logs {ID} load" in err


def test_the_result_goes_to_stdout_and_progress_to_stderr(
    penstock: Said, service: FakeService
) -> None:
    service.states = [execution("running"), execution(result=[{"C": 1, "accuracy": 0.97222222}])]
    _, out, err = penstock("run", "f.yaml")
    assert [line.split() for line in out.splitlines()] == [["C", "accuracy"], ["1", "0.972222"]]
    assert "running" in err
    assert "\x1b" not in out + err


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_has_ended_cannot_be_paused(penstock: Said, service: FakeService, verb: str) -> None:
    service.steered = "succeeded"
    code, out, err = penstock(verb, ID)
    assert (code, out) == (2, "")
    assert f"is succeeded: there is nothing to {verb}" in err
    assert penstock("cancel", ID)[0] == 0


ERRORS: list[tuple[Exception, int]] = [
    (Conflict("key 'k' belongs to another"), 2),
    (NotFound("no such execution"), 5),
    (RedisUnavailable("no Redis answers"), 6),
    (WaitTimeout("not yet"), 4),
    (RuntimeError("a fault of ours"), 1),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_errors_are_one_message_and_an_exit_code(
    penstock: Said, service: FakeService, error: Exception, code: int
) -> None:
    service.fault = error
    got, out, err = penstock("submit", "f.yaml")
    assert (got, out) == (code, "")
    assert str(error) in err
    assert "Traceback" not in err
    got, out, _ = penstock("submit", "f.yaml", "--json")
    assert got == code
    assert json.loads(out)["error"]["exit_code"] == code
    assert "Traceback" in penstock("submit", "f.yaml", "--debug")[2]


def test_a_redis_that_refuses_to_write_is_no_fault_of_ours(
    penstock: Said, service: FakeService
) -> None:
    service.fault = OutOfMemoryError("command not allowed when used memory > 'maxmemory'")
    code, _, err = penstock("submit", "f.yaml")
    assert code == 6
    assert "raise maxmemory" in err
    assert "report" not in err


def test_all_faults_of_a_file_are_told_and_nothing_is_started(  # W3
    penstock: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> Any:
        raise SpecError([Fault("f.yaml:3: jobs.a", "is a fault"), Fault("f.yaml:9", "another")])

    @contextmanager
    def open_session(app: Any) -> Iterator[session.Session]:
        raise AssertionError("nothing may be opened before the file is found to be good")
        yield

    monkeypatch.setattr(loaded, "load", load)
    monkeypatch.setattr(session, "open_session", open_session)
    for argv in (["run", "f.yaml"], ["submit", "f.yaml"], ["validate", "f.yaml"]):
        code, out, err = penstock(*argv)
        assert (code, out) == (2, "")
        assert "2 faults" in err
        assert "f.yaml:3: jobs.a: is a fault\nf.yaml:9: another\n" in err
        faults = json.loads(penstock(*argv, "--json")[1])["error"]["faults"]
        assert faults[1] == {"place": "f.yaml:9", "message": "another"}


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "f.yaml", "--workers", "abc"],  # P1
        ["run", "f.yaml", "--workers", "0"],
        ["run", "f.yaml", "-w", "-3"],
        ["run", "f.yaml", "--set", "novalue"],
        ["run", "f.yaml", "-f", "other.yaml"],
        ["run"],
        ["nonsense"],
        ["status", "--nonsense"],
        ["wait", ID, "--timeout", "soon"],
        ["worker", "start", "--capabilities", "a b"],
        ["worker", "start", "--ram", "lots"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2(penstock: Said, argv: list[str]) -> None:
    code, out, err = penstock(*argv)
    assert (code, out) == (2, "")
    assert "Error:" in err
    code, out, _ = penstock(*argv, "--json")
    assert json.loads(out)["error"]["exit_code"] == code == 2


def test_ctrl_c_cancels_a_run(penstock: Said, service: FakeService) -> None:
    service.states = [execution("running"), KeyboardInterrupt(), execution("canceled")]
    code, _, err = penstock("run", "f.yaml")
    assert code == 3
    assert ("cancel", ID) in service.asked
    assert f"canceling {ID}" in err


def test_sigterm_cancels_a_run(penstock: Said, service: FakeService) -> None:
    def watch(id_: str, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        if ("cancel", ID) not in service.asked:
            yield execution("running")
            os.kill(os.getpid(), signal.SIGTERM)
        yield execution("canceled")

    service.watch = watch  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    assert penstock("run", "f.yaml")[0] == 3
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_leaves_what_is_waited_for_alone(penstock: Said, service: FakeService) -> None:
    service.states = [execution("running"), KeyboardInterrupt()]
    code, _, err = penstock("wait", ID)
    assert code == 3
    assert service.asked == []
    assert "goes on" in err


def test_wait_passes_its_timeout_on(penstock: Said, service: FakeService) -> None:
    service.states = [execution("running"), WaitTimeout("has not ended yet")]
    assert penstock("wait", ID, "--timeout", "0.1")[0] == 4


def test_submit_prints_the_id_alone(penstock: Said, service: FakeService) -> None:
    assert penstock("submit", "f.yaml", "--key", "nightly")[:2] == (0, f"{ID}\n")
    assert service.asked == [("submit", "sweep", "nightly")]


def test_controls_pass_through(penstock: Said, service: FakeService) -> None:  # W7
    for verb, status in (("pause", "paused"), ("resume", "running"), ("cancel", "canceled")):
        assert penstock(verb, "last")[1] == f"{ID} {status}\n"
        assert (verb, ID) in service.asked
    penstock("retry", "last", "--failed")
    penstock("queue", "pause")
    penstock("queue", "resume", "any.p5")
    assert service.asked[-3:] == [
        ("retry", ID, True),
        ("pause_queues", None),
        ("resume_queues", ["any.p5"]),
    ]


def test_status_without_an_id_tells_where_redis_is(penstock: Said) -> None:
    value = json.loads(penstock("status", "--json")[1])
    assert value["redis_url"] == "redis://me:secret@host/0"
    assert {"redis_cli", "nodes", "queues", "executions"} <= value.keys()
    _, out, _ = penstock("status")
    assert "redis-cli -u redis://me:***@host/0" in out
    assert "secret" not in out


def test_logs_name_the_job_of_each_line_only_where_there_are_several(
    penstock: Said, service: FakeService
) -> None:
    service.printed = [("load", "a\nb\n"), ("end", "c")]
    assert penstock("logs", ID)[1] == "load  a\nload  b\nend  c\n"
    service.printed = [("load", "a\n")]
    assert penstock("logs", ID, "load")[1] == "a\n"
    service.printed = [("train_0", "a\n"), ("train_1", "b\n")]
    assert penstock("logs", ID, "train")[1] == "train_0  a\ntrain_1  b\n"


def test_following_logs_prints_each_line_once_and_whole(
    penstock: Said, service: FakeService
) -> None:
    texts = iter(["a\nhalf", "a\nhalf a line\nb", "a\nhalf a line\nb"])
    service.states = [execution("running"), execution("succeeded")]
    service.logs = lambda id_, job=None: [("load", next(texts))]  # type: ignore[method-assign]
    assert penstock("logs", ID, "load", "-f")[1] == "a\nhalf a line\nb\n"


def test_a_reader_that_goes_away_is_no_error(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    service.results = "x"
    with open(os.devnull, "w") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        monkeypatch.setattr(gone, "write", write, raising=False)
        assert main.invoke(["result", ID]) == 0


@pytest.mark.parametrize("argv", [[], ["--help"]], ids=["bare", "help"])
def test_help_has_examples(penstock: Said, argv: list[str]) -> None:
    code, out, _ = penstock(*argv)
    assert code == 0
    assert "penstock run sweep.yaml" in out
    assert penstock("--version")[1].startswith("penstock ")


def test_every_command_takes_json_and_says_what_it_does() -> None:
    def walk(command: click.Command) -> Iterator[click.Command]:
        yield command
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                yield from walk(inner)

    for command in [found for inner in main.cli.commands.values() for found in walk(inner)]:
        names = {name for param in command.params for name in param.opts}
        assert {"--json", "--debug", "--redis-url"} <= names, command.name
        assert not command.get_short_help_str(60).endswith("..."), command.name


def test_daemons_take_the_place_of_the_command(
    penstock: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *given: seen.append(given))
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://host:6379/1")
    argv = ["worker", "start", "--capabilities", "SSD,cpu", "--concurrency", "auto", "--ram", "1G"]
    code, out, _ = penstock(*argv, "--json")
    _, command, env = seen[0]
    assert code == 0
    assert command[1:4] == ["-P", "-m", "penstock.worker.supervisor"]
    options = ["--capabilities", "ssd,cpu", "--concurrency", "auto", "--ram", str(2**30)]
    assert command[4:] == options
    assert env["PENSTOCK_REDIS_URL"] == "redis://host:6379/1"
    assert json.loads(out) == {"pid": os.getpid(), "command": command}


def test_a_daemon_without_a_redis_is_not_started(penstock: Said) -> None:
    code, _, err = penstock("worker", "start")
    assert code == 6
    assert "PENSTOCK_REDIS_URL" in err
    assert penstock("orchestrator", "start")[0] == 6


@pytest.mark.parametrize("domains", ["", " , "])
def test_domains_that_name_none_are_not_all(penstock: Said, domains: str) -> None:
    code, _, err = penstock("orchestrator", "start", "--domains", domains)
    assert (code, "names no domain" in err) == (2, True)


def test_a_bad_setting_is_named(penstock: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HEARTBEAT_S", "often")
    code, _, err = penstock("worker", "start")
    assert code == 2
    assert "PENSTOCK_HEARTBEAT_S" in err


def test_a_cluster_is_told_nothing_about_slots(penstock: Said) -> None:
    assert "do nothing here" in penstock("run", "f.yaml", "-w", "3")[2]
    assert "do nothing here" not in penstock("run", "f.yaml")[2]


@pytest.mark.parametrize("already", [False, True])
def test_an_up_that_fails_ends_what_it_started(
    penstock: Said, service: FakeService, monkeypatch: pytest.MonkeyPatch, already: bool
) -> None:
    ended = []

    def await_node(timeout_s: float, ask: Callable[[], None]) -> None:
        raise WaitTimeout("no worker has registered")

    monkeypatch.setattr(service, "await_node", await_node, raising=False)
    monkeypatch.setattr(local, "up", lambda home, **options: local.Up(1, "u", "c", already))
    monkeypatch.setattr(local, "down", lambda home, url: ended.append(url))
    assert penstock("up", "--redis-url", "redis://h/1")[0] == 4
    assert ended == ([] if already else ["redis://h/1"])


def test_an_up_with_a_name_that_no_node_may_have_starts_nothing(
    penstock: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "start_detached", lambda *_, **__: pytest.fail("it started"))
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    code, _, err = penstock("up", "--name", "a b")
    assert (code, "--name 'a b'" in err) == (2, True)
    assert not (tmp_path / "home").exists()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> type:
    """A LocalHost that starts nothing."""

    class Host:
        owner = True
        failure: str | None = None
        made: list[dict[str, Any]] = []  # noqa: RUF012

        def __init__(self, home: Path, url: str, **options: Any) -> None:
            self.made.append(options)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.made.append({"stopped": True})

    Host.made = []
    monkeypatch.setattr("penstock.orchestrator.local.LocalHost", Host)
    return Host


def test_a_host_is_stopped_on_every_way_out(service: FakeService, host: Any) -> None:
    opened = session.Session(service, Settings(), "unix:///s", "", embedded=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out"), run.hosted(opened, 3):
        raise ValueError("out")
    assert host.made[0]["concurrency"] == 3
    assert host.made[-1] == {"stopped": True}


def test_a_host_that_does_not_stay_up_fails_the_run(service: FakeService, host: Any) -> None:
    opened = session.Session(service, Settings(), "unix:///s", "", embedded=True)  # type: ignore[arg-type]
    host.failure = "the worker died ten times"
    with run.hosted(opened, None) as check, pytest.raises(Exception, match="died ten times"):
        check()
