"""The rigs themselves: each fault is there when it is set, and gone when it is over."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from chaos import namespaces, skew
from chaos.proxy import Proxy
from chaos.servers import RedisServer, Tmpfs, binary
from conftest import missing
from support.processes import until

from penstock.common.state.connection import connect


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    if binary() is None:
        missing("there is no redis-server")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.close()


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", redis_server.port)) as made:
        yield made


def pushes(request: list[bytes]) -> bool:
    return request[0] == b"RPUSH"


def test_relays_what_is_said(proxy: Proxy) -> None:
    with connect(proxy.url) as client:
        big = b"x" * 3_000_000
        client.set("big", big)
        assert client.get("big") == big
        assert client.ping()


def test_a_dropped_reply_was_a_request_that_arrived(
    proxy: Proxy, redis_server: RedisServer
) -> None:
    seen: list[Any] = []
    rule = proxy.drop_replies(pushes, 2, swallowed=seen.append)
    with connect(proxy.url) as client:
        for length in (1, 2):
            with pytest.raises(redis.ConnectionError):
                client.rpush("list", "a")
            assert redis_server.client.llen("list") == length
        assert client.rpush("list", "a") == 3
    assert rule.done == 2
    assert seen == [1, 2]


def test_a_reply_can_be_dropped_without_a_word(proxy: Proxy, redis_server: RedisServer) -> None:
    proxy.drop_replies(pushes, 1, hang=True)
    with connect(proxy.url, reply_timeout_s=0.2) as client:
        with pytest.raises(redis.TimeoutError):
            client.rpush("list", "a")
        assert redis_server.client.llen("list") == 1
        assert client.rpush("list", "a") == 2


def test_a_request_can_arrive_again(proxy: Proxy, redis_server: RedisServer) -> None:
    rule = proxy.repeat_requests(pushes, 1, copies=3)
    with connect(proxy.url) as client:
        client.rpush("list", "a")
        client.rpush("other", "a")
    until(lambda: rule.answered == 3, what="the copies arrive")
    assert redis_server.client.llen("list") == 4
    assert redis_server.client.llen("other") == 1


def test_half_open_down_the_request_arrives_and_the_reply_does_not(
    proxy: Proxy, redis_server: RedisServer
) -> None:
    with connect(proxy.url, reply_timeout_s=0.2) as client:
        client.ping()
        proxy.half_open("down")
        with pytest.raises(redis.TimeoutError):
            client.rpush("list", "a")
        assert redis_server.client.llen("list") == 1


def test_half_open_up_the_request_arrives_late(proxy: Proxy, redis_server: RedisServer) -> None:
    with connect(proxy.url, reply_timeout_s=0.2) as client:
        client.ping()
        proxy.half_open("up")
        with pytest.raises(redis.TimeoutError):
            client.rpush("list", "a")
        assert redis_server.client.llen("list") == 0
        proxy.normal()
        until(lambda: redis_server.client.llen("list") == 1, what="the late request")
        assert client.ping()


def test_what_was_under_way_is_lost_with_a_cut(proxy: Proxy, redis_server: RedisServer) -> None:
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


def test_a_killed_server_comes_back_with_its_data(redis_server: RedisServer) -> None:
    redis_server.client.rpush("list", "a", "b")
    redis_server.restart()
    assert redis_server.client.llen("list") == 2
    redis_server.pause()
    with connect(redis_server.url, reply_timeout_s=0.2) as client:
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.resume()
        assert client.ping()
    redis_server.forget()
    assert redis_server.client.llen("list") == 0


def test_an_aof_that_is_cut_short_loses_its_end(redis_server: RedisServer, tmp_path: Path) -> None:
    for number in range(10):
        redis_server.client.rpush("list", number)
    short = tmp_path / "short"
    short.mkdir()
    redis_server.copy_cut_short(short, 5)
    other = RedisServer(short)
    try:
        other.start()
        assert other.client.llen("list") == 9
    finally:
        other.close()


def test_a_full_disk_refuses_writes_until_there_is_room(tmp_path: Path) -> None:
    if binary() is None:
        missing("there is no redis-server")
    try:
        disk = Tmpfs(tmp_path / "disk", "2m")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted: {error}")
    server = RedisServer(disk.folder)
    try:
        server.start()
        ballast = disk.fill()

        def refused() -> bool:
            try:
                server.client.set("key", b"x" * 5000)
            except redis.ResponseError as error:
                return str(error).startswith("MISCONF")
            return False

        until(refused, what="MISCONF")
        ballast.unlink()
        until(lambda: not refused(), what="there is room again")
    finally:
        server.close()
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


def test_the_servers_clock_can_step(clock: skew.Clock, tmp_path: Path) -> None:
    if binary() is None:
        missing("there is no redis-server")
    server = RedisServer(tmp_path, **clock.environment)
    try:
        server.start()
        assert abs(server.client.time()[0] - time.time()) < 3
        for step in (10, -10, 3600, -3600):
            clock.set(step)
            assert abs(server.client.time()[0] - time.time() - step) < 3
    finally:
        server.close()


def test_a_namespace_and_its_cable(redis_server: RedisServer) -> None:
    if why := namespaces.why_not():
        pytest.skip(why)
    island = namespaces.Island()
    try:
        redis_server.listen_on(island.host)
        probe = (
            "import socket; s = socket.create_connection"
            f"(('{island.host}', {redis_server.port}), 0.5);"
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
