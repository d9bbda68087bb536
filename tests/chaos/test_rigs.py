"""The rigs themselves: each fault is there when it is set, and gone when it is over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import missing

from chaos import namespaces, skew
from chaos.history import read
from chaos.proxy import Proxy
from chaos.recorder import Recorder
from chaos.redis_faults import (
    Tmpfs,
    aof,
    cut_short,
    forget,
    listen_on,
    refuses_writes,
    restart,
    why_no_tmpfs,
)
from chaos.server import Server
from penstock.common.state import keys
from penstock.common.state.connection import connect
from support.processes import until


@contextmanager
def started(folder: Path, *options: str, **environment: str) -> Iterator[Server]:
    """A server in a folder of its own, with a `client`."""
    if shutil.which("redis-server") is None:
        missing("there is no redis-server")
    folder.mkdir(exist_ok=True)
    made = Server(folder, options, environment={**os.environ, **environment})
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    with started(home) as made:
        yield made


@pytest.fixture
def there(server: Server) -> Iterator[redis.Redis]:
    with connect(server.url) as made:
        yield made


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", server.port)) as made:
        yield made


def pushes(request: list[bytes]) -> bool:
    return request[0] == b"RPUSH"


def test_relays_what_is_said(proxy: Proxy) -> None:
    with connect(proxy.url) as client:
        big = b"x" * 3_000_000
        client.set("big", big)
        assert client.get("big") == big
        assert client.ping()


def test_a_dropped_reply_was_a_request_that_arrived(proxy: Proxy, there: redis.Redis) -> None:
    seen: list[Any] = []
    rule = proxy.drop_replies(pushes, 2, swallowed=seen.append)
    with connect(proxy.url) as client:
        for length in (1, 2):
            with pytest.raises(redis.ConnectionError):
                client.rpush("list", "a")
            assert there.llen("list") == length
        assert client.rpush("list", "a") == 3
    assert rule.done == 2
    assert seen == [1, 2]


def test_a_reply_can_be_dropped_without_a_word(proxy: Proxy, there: redis.Redis) -> None:
    proxy.drop_replies(pushes, 1, hang=True)
    with connect(proxy.url, reply_timeout_s=0.2) as client:
        with pytest.raises(redis.TimeoutError):
            client.rpush("list", "a")
        assert there.llen("list") == 1
        assert client.rpush("list", "a") == 2


def test_a_request_can_arrive_again(proxy: Proxy, there: redis.Redis) -> None:
    rule = proxy.repeat_requests(pushes, 1, copies=3)
    with connect(proxy.url) as client:
        client.rpush("list", "a")
        client.rpush("other", "a")
    until(lambda: rule.answered == 3, what="the copies arrive")
    assert there.llen("list") == 4
    assert there.llen("other") == 1


def test_half_open_down_the_request_arrives_and_the_reply_does_not(
    proxy: Proxy, there: redis.Redis
) -> None:
    with connect(proxy.url, reply_timeout_s=0.2) as client:
        client.ping()
        proxy.half_open("down")
        with pytest.raises(redis.TimeoutError):
            client.rpush("list", "a")
        assert there.llen("list") == 1


def test_half_open_up_the_request_arrives_late(proxy: Proxy, there: redis.Redis) -> None:
    with connect(proxy.url, reply_timeout_s=0.2) as client:
        client.ping()
        proxy.half_open("up")
        with pytest.raises(redis.TimeoutError):
            client.rpush("list", "a")
        assert there.llen("list") == 0
        proxy.normal()
        until(lambda: there.llen("list") == 1, what="the late request")
        assert client.ping()


def test_what_was_under_way_is_lost_with_a_cut(proxy: Proxy, there: redis.Redis) -> None:
    with connect(proxy.url, reply_timeout_s=0.2) as client:
        client.ping()
        proxy.black_hole()
        with pytest.raises(redis.TimeoutError):
            client.rpush("list", "a")
        proxy.cut()
        proxy.normal()
        assert client.rpush("list", "b") == 1
        proxy.refuse()
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            client.ping()


def test_delay_and_rate(proxy: Proxy) -> None:
    with connect(proxy.url) as client:
        client.set("big", b"x" * 50_000)
        proxy.shape("up", delay_s=0.1, jitter_s=0.05)
        began = time.monotonic()
        client.ping()
        assert time.monotonic() - began >= 0.1
        proxy.normal()
        proxy.shape("down", rate=500_000)
        began = time.monotonic()
        client.get("big")
        assert time.monotonic() - began >= 0.09


def test_a_killed_server_comes_back_with_its_data(server: Server, there: redis.Redis) -> None:
    there.rpush("list", "a", "b")
    restart(server)
    assert there.llen("list") == 2
    server.kill(signal.SIGSTOP)
    with connect(server.url, reply_timeout_s=0.2) as client:
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.kill(signal.SIGCONT)
        assert client.ping()
    forget(server)
    assert there.llen("list") == 0


def test_an_aof_that_is_cut_short_loses_its_end(
    server: Server, there: redis.Redis, home: Path
) -> None:
    for number in range(10):
        there.rpush("list", number)
    target = home / "short"
    target.mkdir()
    cut_short(server.folder, target, 5)
    with started(target) as other, connect(other.url) as client:
        assert client.llen("list") == 9


def test_a_full_disk_refuses_writes_until_there_is_room(home: Path) -> None:
    home.mkdir()
    if why := why_no_tmpfs(home):
        pytest.skip(why)
    disk = Tmpfs(home, "2m")
    try:
        with started(home) as server, connect(server.url) as client:
            ballast = disk.fill()
            until(lambda: refuses_writes(client, "MISCONF"), what="MISCONF")
            ballast.unlink()
            until(lambda: not refuses_writes(client, "MISCONF"), what="there is room again")
    finally:
        disk.close()


@pytest.fixture
def clock(tmp_path: Path) -> skew.Clock:
    if skew.compiler() is None:
        pytest.skip("there is no C compiler to build the clock's shim with")
    return skew.Clock(skew.build(tmp_path))


def test_a_skewed_clock_in_python(clock: skew.Clock) -> None:
    clock.set(-3600)
    said = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=clock.environment,
        capture_output=True,
        check=True,
    )
    assert -3610 < float(said.stdout) - time.time() < -3590


def test_the_servers_clock_can_step(clock: skew.Clock, home: Path) -> None:
    with started(home, **clock.environment) as server, connect(server.url) as client:
        assert abs(client.time()[0] - time.time()) < 3
        for step in (10, -10, 3600, -3600):
            clock.set(step)
            assert abs(client.time()[0] - time.time() - step) < 3


def test_a_namespace_and_its_cable(server: Server, there: redis.Redis) -> None:
    if why := namespaces.why_not():
        pytest.skip(why)
    island = namespaces.Island()
    try:
        listen_on(there, island.host)
        probe = (
            "import socket; s = socket.create_connection"
            f"(('{island.host}', {server.port}), 0.5);"
            "s.sendall(b'PING\\r\\n'); print(s.recv(10))"
        )

        def reaches() -> bool:
            command = island.inside(sys.executable, "-c", probe)
            done = subprocess.run(command, check=False, capture_output=True)
            return b"PONG" in done.stdout

        assert reaches()
        island.down()
        assert not reaches()
        island.up()
        until(reaches, what="the cable is in again")
    finally:
        island.close()


def test_the_recorder_notes_what_a_redis_did_not_remember(server: Server, home: Path) -> None:
    recorder = Recorder(server.url, home / "history")
    recorder.start()
    with connect(server.url) as client:
        ids = [tell(client, f"n{number}") for number in range(3)]
        recorder.catch_up()
        server.kill()
        text = aof(home).read_bytes()
        aof(home).write_bytes(text[: text.index(b"XADD", text.index(ids[1])) - len("*8\r\n$4\r\n")])
        server.start()
        ids.append(tell(client, "n3"))
        recorder.catch_up()
    recorder.stop()
    records = read(home / "history")
    assert [one["since"] for one in records if one["what"] == "undone"] == [ids[1].decode()]
    assert [one["event"].encode() for one in records if one["what"] == "node_left"] == ids


def tell(client: redis.Redis, node: str) -> Any:
    """One more event; its id."""
    return client.xadd(keys.events(), {"event": "node_left", "node": node})
