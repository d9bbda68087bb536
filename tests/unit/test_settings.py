"""Settings: command line over environment over default, and clear words for bad ones."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from penstock.common.errors import InputError
from penstock.common.settings import Settings
from penstock.worker.options import dump_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PENSTOCK_") or name == "XDG_DATA_HOME":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/somebody")


def test_defaults() -> None:  # Q4, Q7
    settings = Settings()
    assert settings.redis_url is None
    assert settings.home == Path("/home/somebody/.local/share/penstock")
    assert (settings.heartbeat_s, settings.node_timeout_s) == (1.0, 3.0)
    assert settings.state_ttl_s == 7 * 24 * 3600
    assert settings.log_limit_bytes == 1024 * 1024
    assert settings.lock_ttl_s == 30


def test_data_home_of_the_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data/of/somebody")
    assert Settings().home == Path("/data/of/somebody/penstock")


def test_command_line_over_environment_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://of-the-environment:6379/0")
    monkeypatch.setenv("PENSTOCK_MAX_CRASHES", "7")
    assert Settings.load().redis_url == "redis://of-the-environment:6379/0"
    settings = Settings.load(redis_url="redis://given:6379/0", max_crashes=None)
    assert settings.redis_url == "redis://given:6379/0"
    assert settings.max_crashes == 7


def test_override_gives_a_checked_copy() -> None:
    settings = Settings()
    slow = settings.override(heartbeat_s=30, node_timeout_s=90, redis_url=None)  # Q4
    assert (slow.heartbeat_s, slow.node_timeout_s) == (30, 90)
    assert settings.heartbeat_s == 1.0
    with pytest.raises(InputError, match="PENSTOCK_NODE_TIMEOUT_S"):
        settings.override(heartbeat_s=5)


@pytest.mark.parametrize(
    ("beat_s", "timeout_s", "least"), [(2.5, 3, "7.5"), (0.2, 1.5, "2.25"), (1, 2.9, "3")]
)
def test_a_time_out_is_three_beats_and_longer_than_a_pause_of_the_upkeep(
    beat_s, timeout_s, least
) -> None:  # Q4 Q6
    with pytest.raises(
        InputError, match=f"PENSTOCK_NODE_TIMEOUT_S .*PENSTOCK_HEARTBEAT_S .*set it to {least}"
    ):
        Settings.load(heartbeat_s=beat_s, node_timeout_s=timeout_s)
    assert Settings.load(heartbeat_s=beat_s, node_timeout_s=float(least))


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "")
    assert Settings().redis_url is None


def test_home_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.load(home="here").home == tmp_path / "here"
    assert Settings.load(home="~/there").home == Path("/home/somebody/there")


def test_offline_limit_goes_down_to_the_timeout() -> None:  # Q10
    assert Settings.load(offline_limit_s=3).offline_limit_s == 3
    with pytest.raises(InputError, match="PENSTOCK_OFFLINE_LIMIT_S"):
        Settings.load(offline_limit_s=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PENSTOCK_HEARTBEAT_S", "soon"),
        ("PENSTOCK_HEARTBEAT_S", "0"),
        ("PENSTOCK_NODE_TIMEOUT_S", "inf"),
        ("PENSTOCK_PATIENCE_MAX_S", "inf"),
        ("PENSTOCK_DRAIN_S", "nan"),
        ("PENSTOCK_MAX_CRASHES", "-1"),
        ("PENSTOCK_LOG_LIMIT_BYTES", "0"),
        ("PENSTOCK_REDIS_URL", "http://somewhere"),
        ("PENSTOCK_DOMAINS", ","),
    ],
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=name) as caught:
        Settings.load()
    assert caught.value.exit_code == 2
    assert value in str(caught.value)


@pytest.mark.parametrize("url", ["redis://h:6379/zz", "redis://:pass/word@h:6379/0"])
def test_a_database_is_a_number(url: str) -> None:  # redis-py would take database 0
    with pytest.raises(InputError, match="number of a database"):
        Settings.load(redis_url=url)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://:p%2Fw@h:6380/12", "unix:///run/redis.sock"]
)
def test_urls_that_name_a_redis(url: str) -> None:
    assert Settings.load(redis_url=url).redis_url == url


def test_a_setting_that_there_is_not() -> None:
    with pytest.raises(InputError, match="PENSTOCK_HEARTBEATS"):
        Settings.load(heartbeats=3)


def test_sizes_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_RESULT_LIMIT_BYTES", "2MiB")
    assert Settings().result_limit_bytes == 2 * 1024 * 1024


def test_the_key_of_pickles_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:  # W5
    monkeypatch.setenv("PENSTOCK_PICKLE_KEY", "short secret")
    with pytest.raises(InputError, match=r"PENSTOCK_PICKLE_KEY: .*16") as caught:
        Settings.load()
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("PENSTOCK_PICKLE_KEY", "a long secret that is good")
    with pytest.raises(InputError, match="must be at least") as caught:
        Settings.load(node_timeout_s=1)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("PENSTOCK_PICKLE_KEY", "a much longer secret")
    found = Settings.load()
    assert found.override(max_crashes=5).pickle_key == found.pickle_key is not None
    assert "secret" not in repr(found) + dump_settings(found)


def test_domains_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:  # Q8
    assert Settings().domains == ()
    monkeypatch.setenv("PENSTOCK_DOMAINS", "gpu, rag,gpu")
    assert Settings.load().domains == ("gpu", "rag")
    assert Settings.load(domains="vms").domains == ("vms",)
    with pytest.raises(InputError, match="names no domain"):
        Settings.load(domains="")
    monkeypatch.setenv("PENSTOCK_DOMAINS", "GPU cards")
    with pytest.raises(InputError, match=r"PENSTOCK_DOMAINS.*not a domain"):
        Settings.load()
