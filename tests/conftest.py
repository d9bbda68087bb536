"""The servers that tests run on, real ones started here, and what they may leave behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import fakeredis
import pytest
import redis
from hypothesis import settings

from penstock.common.datafolder import ping, socket_url
from penstock.common.embedded import EmbeddedServer
from penstock.common.errors import RedisUnavailable
from penstock.common.tied import tied

#: The configuration that we recommend, which is thereby tried.
REDIS_CONF = Path(__file__).resolve().parents[1] / "deploy" / "redis.conf"


pytest_plugins = ["support.clusters"]
# On a busy machine anything may take long once: no test fails by the clock.
settings.register_profile("no clock", settings(), deadline=None)
settings.load_profile("no clock")


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test. `url` is None for fakeredis, which lives in this process."""

    name: str
    url: str | None
    client: redis.Redis


def missing(what: str) -> NoReturn:
    """A server that a test needs is not there: fails in CI, skips elsewhere, with the reason."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and {what}", pytrace=False)
    pytest.skip(what)


# A shell that started us in the background ignores Ctrl-C, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home() -> Iterator[Path]:
    """A data folder with a path short enough for a socket, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="ps-") as folder:
        yield Path(folder) / "home"


@pytest.fixture(scope="session")
def redis7() -> Iterator[Server]:
    """Redis 7 or later from the system, on a socket of its own, with an AOF."""
    binary = shutil.which("redis-server")
    if binary is None:
        missing("there is no redis-server (`make test` installs it; apt-get install redis-server)")
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)", said)
    if version is None or int(version[1]) < 7:
        missing(f"{binary} is no Redis 7 or later: {said.strip()}")
    with tempfile.TemporaryDirectory(prefix="ps-") as folder:
        path = f"{folder}/redis.sock"
        places = ["--port", "0", "--unixsocket", path, "--unixsocketperm", "700", "--dir", folder]
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(
                tied([binary, str(REDIS_CONF), *places]), stdout=log, stderr=log
            )
        try:
            await_pong(path, process, Path(folder, "log"))
            with redis.Redis.from_url(socket_url(Path(path))) as client:
                yield Server("redis7", socket_url(Path(path)), client)
        finally:
            process.terminate()
            process.wait(10)


def await_pong(path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the server answers; fails the test if it does not within 10 s."""
    deadline = time.monotonic() + 10
    while ping(path) != "PONG":
        if process.poll() is not None or time.monotonic() > deadline:
            missing(f"redis-server did not start:\n{log.read_text()}")
        time.sleep(0.01)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    """The embedded server, as `penstock run` starts it."""
    with tempfile.TemporaryDirectory(prefix="ps-") as folder:
        server = EmbeddedServer(Path(folder))
        try:
            server.start()
        except RedisUnavailable as error:
            missing(f"the embedded server did not start: {error}")
        try:
            with redis.Redis.from_url(server.url) as client:
                yield Server("valkey", server.url, client)
        finally:
            server.close()


@pytest.fixture
def fake() -> Iterator[Server]:
    """fakeredis, a fresh one: quick, with Lua, and without concurrency or durability."""
    with fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,))) as client:
        yield Server("fake", None, client)


@pytest.fixture(params=["fake", "valkey", "redis7"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the three servers in turn, empty before and after."""
    found: Server = request.getfixturevalue(request.param)
    found.client.flushall()
    yield found
    found.client.flushall()
