"""The files under deploy/ and docker-compose.yml say what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from penstock.common.keeper import CONFIG

ROOT = Path(__file__).resolve().parents[2]


def recommended() -> dict[str, str]:
    lines = (ROOT / "deploy" / "redis.conf").read_text().splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {name: value.strip('"') for name, value in pairs}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_the_embedded_server_is_set_as_we_recommend() -> None:
    embedded = dict(zip(CONFIG[::2], CONFIG[1::2], strict=True))
    ours = {name.removeprefix("--"): value for name, value in embedded.items()}
    shared = ours.keys() & recommended().keys()
    assert shared >= {"appendonly", "appendfsync", "save", "maxmemory-policy"}
    assert {name: ours[name] for name in shared} == {name: recommended()[name] for name in shared}


def test_compose_has_a_safe_redis_and_two_of_each() -> None:
    services = compose()["services"]
    assert recommended()["appendonly"] == "yes"
    assert recommended()["maxmemory-policy"] == "noeviction"
    redis = services["redis"]
    assert redis["image"] == "redis:7"
    assert "./deploy/redis.conf:/etc/penstock/redis.conf:ro" in redis["volumes"]
    assert "redis-data:/data" in redis["volumes"]
    assert redis["healthcheck"]
    assert redis["command"][-2:] == ["--requirepass", "${REDIS_PASSWORD:-penstock}"]
    assert all(port.startswith("127.0.0.1:") for port in redis["ports"])
    for name in ("orchestrator", "worker"):
        assert services[name]["deploy"]["replicas"] == 2
        url = services[name]["environment"]["PENSTOCK_REDIS_URL"]
        assert url == "redis://:${REDIS_PASSWORD:-penstock}@redis:6379/0"
        assert services[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
