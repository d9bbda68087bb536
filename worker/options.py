"""What a worker was started with, as the supervisor hands it to its daemon."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from ..common.errors import InputError
from ..common.nodename import node_name
from . import resources

if TYPE_CHECKING:
    from ..common.settings import Settings

#: What a daemon says to its supervisor when its incarnation is registered.
REGISTERED = "registered"
#: What it says when it was told to finish what it runs and to end.
STOPPING = "stopping"

_TAG = re.compile(r"[a-z0-9._-]+")
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Options:
    """A node: its name, its tags, its slots, and what it offers (ram and disk in bytes)."""

    name: str
    capabilities: tuple[str, ...]
    concurrency: int
    cpus: float
    gpus: tuple[str, ...]
    ram: int
    disk: int

    def dump(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Options:
        """The inverse of `dump`."""
        fields = json.loads(text)
        fields["capabilities"] = tuple(fields["capabilities"])
        fields["gpus"] = tuple(fields["gpus"])
        return cls(**fields)

    @property
    def totals(self) -> dict[str, float]:
        """What jobs may take of the node, by the names of their needs."""
        offered = {"cpus": self.cpus, "gpus": len(self.gpus), "ram": self.ram, "disk": self.disk}
        return {name: float(amount) for name, amount in offered.items()}


def options(
    *,
    name: str | None = None,
    capabilities: str | None = None,
    concurrency: str = "auto",
    cpus: float | None = None,
    gpus: int | None = None,
    ram: str | None = None,
) -> Options:
    """The options, what is not given read from the machine. Raises InputError.

    `auto` is one slot a core. Without tags a node has `cpu`, and `gpu` if there is one.
    """
    name = node_name(name or f"{_hostname()}-{secrets.token_hex(3)}")
    names = resources.detect_gpus() if gpus is None else resources.gpu_names(gpus)
    cores = float(resources.detect_cpus()) if cpus is None else cpus
    if cores <= 0:
        raise InputError(f"--cpus {cores:g}: must be more than 0")
    return Options(
        name=name,
        capabilities=_tags(capabilities, bool(names)),
        concurrency=_slots(concurrency, cores),
        cpus=cores,
        gpus=tuple(names),
        ram=resources.detect_ram() if ram is None else _bytes(ram),
        disk=resources.detect_disk(),
    )


def dump_settings(settings: Settings) -> str:
    """The settings as JSON text, but for what is secret: the key, and the URL, which may hold a password."""
    return settings.model_dump_json(exclude={"redis_url", "pickle_key"})


def load_settings(text: str) -> Settings:
    """The inverse of `dump_settings`: what was read and checked once is only read here.

    So a daemon, which has to be back quickly, does not wait for pydantic's import.
    """
    return cast("Settings", SimpleNamespace(**json.loads(text)))


def _hostname() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:50] or os.uname().sysname


def _tags(text: str | None, has_gpu: bool) -> tuple[str, ...]:
    if text is None:
        return ("cpu", "gpu") if has_gpu else ("cpu",)
    tags = [tag.strip().lower() for tag in text.split(",") if tag.strip()]
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise InputError(
                f"--capabilities: {tag!r} is no tag; use letters, digits, `.`, `_`, `-`"
            )
    return tuple(sorted(set(tags)))


def _slots(text: str, cores: float) -> int:
    if text == "auto":
        return max(1, int(cores))
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--concurrency {text!r}: must be a number from 1, or auto")
    return int(text)


def _bytes(text: str) -> int:
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise InputError(f"--ram {text!r}: write it as 8GiB, 512MiB or in bytes")
    return int(float(found[1]) * _UNITS.get(found[2].lower(), 1))
