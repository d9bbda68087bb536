"""The embedded server with real processes: users that come, go and are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from penstock.common.datafolder import DataFolder
from penstock.common.embedded import EmbeddedServer
from penstock.common.errors import RedisUnavailable

pytestmark = pytest.mark.system

#: A process that uses the server until its standard input ends.
USER = """
import sys
from pathlib import Path
from penstock.common.embedded import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])) as server:
    print(server.url, server.pid, flush=True)
    sys.stdin.read()
"""


class User:
    """A process that uses the folder's server."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", USER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> tuple[str, int]:
        """Waits for the server; its URL and process id."""
        assert self.process.stdout is not None
        url, pid = self.process.stdout.readline().split()
        return url, int(pid)

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def users(home: Path, count: int) -> Iterator[list[User]]:
    """That many users at once; whoever is left afterwards is killed."""
    found = [User(home) for _ in range(count)]
    try:
        yield found
    finally:
        for user in found:
            user.kill()
            for pipe in (user.process.stdin, user.process.stdout):
                assert pipe is not None
                pipe.close()


def alive(pid: int) -> bool:
    """True for a process that runs; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(fact: Callable[[], bool], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def ask(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def pids(home: Path) -> tuple[int, int]:
    """Server and keeper, as the folder has them."""
    info = DataFolder(home).read_server()
    assert info is not None
    return info.pid, info.keeper_pid


def test_data_stays_and_no_process_does(home: Path) -> None:
    with EmbeddedServer(home) as server, ask(server.url) as client:
        client.set("kept", "1")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert server.redis_cli == f"redis-cli -s {home}/valkey.sock"
        assert EmbeddedServer.running(home)
        ours = pids(home)
        assert server.pid == ours[0]
    assert not any(alive(pid) for pid in ours)
    assert not EmbeddedServer.running(home)
    assert not (home / "server.json").exists()
    assert not (home / "valkey.sock").exists()
    with EmbeddedServer(home) as server, ask(server.url) as client:
        assert client.get("kept") == "1"


def test_nobody_else_may_enter(home: Path) -> None:
    with EmbeddedServer(home):
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / "valkey.sock").stat().st_mode & 0o777 == 0o700
        assert (home / "server.json").stat().st_mode & 0o777 == 0o600


def test_users_at_once_share_one_server(home: Path) -> None:
    with users(home, 4) as found:
        places = [user.ready() for user in found]
        assert len(set(places)) == 1
        server, keeper = pids(home)
        for user in found[:-1]:
            user.leave()
            assert EmbeddedServer.running(home)
        found[-1].leave()
        assert not alive(server)
        assert not alive(keeper)


def test_a_killed_user_leaves_nothing(home: Path) -> None:
    with users(home, 2) as found:
        for user in found:
            user.ready()
        server, keeper = pids(home)
        found[0].kill()  # also when it started the server
        with EmbeddedServer(home) as mine:
            assert mine.pid == server
        found[1].kill()
        eventually(lambda: not alive(server) and not alive(keeper))


def test_users_that_come_while_the_server_goes(home: Path) -> None:
    for _ in range(5):
        with users(home, 2) as found:
            found[0].ready()
            found[0].process.send_signal(signal.SIGKILL)
            url, _ = found[1].ready()
            with ask(url) as client:
                assert client.incr("visits") > 0
    with EmbeddedServer(home) as server, ask(server.url) as client:
        assert client.get("visits") == "5"


def test_a_killed_server_is_back_with_its_data(home: Path) -> None:
    with EmbeddedServer(home) as server, ask(server.url) as client:
        client.set("kept", "1")
        before = server.pid
        os.kill(before, signal.SIGKILL)
        eventually(lambda: server.pid != before and EmbeddedServer.running(home))
        assert client.get("kept") == "1"
        after = server.pid
    assert not alive(after)


def test_a_killed_keeper_is_replaced(home: Path) -> None:
    with EmbeddedServer(home) as server, ask(server.url) as client:
        client.set("kept", "1")
        old_server, old_keeper = pids(home)
        os.kill(old_keeper, signal.SIGKILL)
        eventually(lambda: pids(home)[1] != old_keeper and EmbeddedServer.running(home))
        assert client.get("kept") == "1"
        assert not alive(old_server)
        new_server, new_keeper = pids(home)
    assert not alive(new_server)
    assert not alive(new_keeper)


def test_a_server_that_dies_again_and_again_is_given_up(home: Path) -> None:
    with users(home, 1) as found:
        found[0].ready()
        server, keeper = pids(home)
        for _ in range(5):
            before = server
            os.kill(before, signal.SIGKILL)
            while server == before:
                time.sleep(0.01)
                server, _ = pids(home)
        found[0].process.send_signal(signal.SIGSTOP)  # or it would start another keeper
        os.kill(server, signal.SIGKILL)
        eventually(lambda: not alive(keeper))
    assert "died 6 times within a minute" in (home / "keeper.log").read_text()


@pytest.mark.parametrize(
    "stale",
    [
        "no JSON",
        json.dumps({"pid": 1}),
        json.dumps({"pid": 1, "keeper_pid": 1, "url": "unix:///nowhere", "socket": "/nowhere"}),
    ],
)
def test_a_stale_server_json(home: Path, stale: str) -> None:
    home.mkdir()
    (home / "server.json").write_text(stale)
    (home / "valkey.sock").touch()
    assert not EmbeddedServer.running(home)
    with EmbeddedServer(home) as server, ask(server.url) as client:
        assert client.ping()
        assert server.url == f"unix://{home}/valkey.sock"


def test_a_long_path(home: Path) -> None:
    deep = home.joinpath(*["a rather long name"] * 6)
    with EmbeddedServer(deep) as server, ask(server.url) as client:
        client.set("kept", "1")
        url, before, place = server.url, server.pid, Path(server.redis_cli.split()[-1]).parent
        assert place.stat().st_mode & 0o777 == 0o700
        os.kill(before, signal.SIGKILL)
        eventually(lambda: server.pid != before and EmbeddedServer.running(deep))
        assert (server.url, client.get("kept")) == (url, "1")
    assert not place.exists()


def test_a_name_that_a_url_would_misread(home: Path) -> None:
    with EmbeddedServer(home / "50% a?b#c") as server, ask(server.url) as client:
        assert client.ping()


def test_children_do_not_hold_the_server(home: Path) -> None:
    server = EmbeddedServer(home).start()
    process, _ = pids(home)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as executed:
        forked = os.fork()
        if forked == 0:
            time.sleep(60)
            os._exit(0)
        try:
            server.close()
            assert not alive(process)
        finally:
            os.kill(forked, signal.SIGKILL)
            os.waitpid(forked, 0)
            executed.kill()


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RedisUnavailable, match="PENSTOCK_HOME") as caught:
        EmbeddedServer(tmp_path / "file" / "home").start()
    assert caught.value.exit_code == 6


def test_data_that_cannot_be_read(home: Path) -> None:
    with EmbeddedServer(home) as server, ask(server.url) as client:
        client.set("kept", "1")
    manifest = next((home / "data").rglob("*.manifest"))
    manifest.write_text("this is no manifest\n")
    broken = EmbeddedServer(home)
    with pytest.raises(RedisUnavailable, match=r"(?s)did not start.*The end of .*keeper\.log"):
        broken.start()
    broken.close()
    with pytest.raises(RedisUnavailable, match="start"):
        _ = EmbeddedServer(home).url


def test_asking_writes_nothing(tmp_path: Path) -> None:
    assert not EmbeddedServer.running(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []
