"""Every setting: the command line over `PENSTOCK_<NAME>` in the environment over the default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import InputError
from .spec import fields

MIB = 1024 * 1024
DAY_S = 86400.0
#: A node may be silent for so many beats at least; with fewer, a single late one would be a death.
BEATS = 3
#: With a shorter time-out, a pause of all the upkeep (1.5 s, node_beat.lua) would look like the
#: silence of the nodes; in seconds.
NODE_TIMEOUT_MIN_S = 2.25

#: characters
SHORTEST_KEY = 16

#: URL schemes that redis-py understands.
SCHEMES = ("redis://", "rediss://", "unix://")

Limit = Annotated[ByteSize, Field(gt=0)]


def default_home() -> Path:
    """The data folder of this user: `$XDG_DATA_HOME/penstock`, or `~/.local/share/penstock`."""
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "penstock"


class Settings(BaseSettings):
    """What an operator may set. Times are in seconds, sizes in bytes (`1MiB` is read too)."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,  # what is given may be secret
    )

    #: The Redis to use; None means the private server of `home`.
    redis_url: str | None = None
    #: Data folder of the private server, and of bundles that a node has unpacked; absolute.
    home: Path = Field(default_factory=default_home)
    #: How often a node tells that it lives, in seconds.
    heartbeat_s: PositiveFloat = 1.0
    #: Silence after which a node counts as gone, in seconds; at least 2.25 and three heartbeats.
    node_timeout_s: PositiveFloat = 3.0
    #: How long a node computes on without Redis before it stops its jobs, in seconds.
    offline_limit_s: PositiveFloat = 600.0
    #: How long an execution is kept after its end, in seconds.
    state_ttl_s: PositiveFloat = 7 * DAY_S
    #: Most output kept of one job, in bytes; of more, what came first.
    log_limit_bytes: Limit = ByteSize(MIB)
    #: Largest result of one job that stays in Redis, in bytes of JSON; a larger one is a file in
    #: `artifacts`.
    inline_limit_bytes: Limit = ByteSize(256 * 1024)
    #: The same where `artifacts` is not set and Redis is not the private server: others may not see
    #: the files.
    result_limit_bytes: Limit = ByteSize(4 * MIB)
    #: Where values go that are no JSON, or too large for it: a folder that all machines share, or a
    #: URL of fsspec. None is a folder in `home`, where Redis is on this machine.
    artifacts: str | None = None
    #: A secret of 16 characters or more: values of any type travel as pickles, signed with it; whoever
    #: has it can run code on all machines that have it. None: nothing is pickled.
    pickle_key: SecretStr | None = None
    #: Largest workflow file, in bytes.
    spec_limit_bytes: Limit = ByteSize(MIB)
    #: Largest folder that travels as a bundle, packed, in bytes.
    bundle_limit_bytes: Limit = ByteSize(32 * MIB)
    #: Life of a lock that is not renewed, in seconds.
    lock_ttl_s: PositiveFloat = 30.0
    #: How often a job may take its process down before it counts as poison.
    max_crashes: PositiveInt = 3
    #: How often a job may lose its node before it is given up.
    max_losses: PositiveInt = 10
    #: A silent node keeps an attempt for this share of its run time so far, if that is longer
    #: than the time-out.
    patience_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    #: Longest that a silent node keeps an attempt for its run time, in seconds.
    patience_max_s: Annotated[float, Field(ge=0)] = 25.0
    #: How long a session of a Python program stays open when the program is not heard of, in seconds.
    session_hold_s: PositiveFloat = 60.0
    #: Most jobs of one fan-out that are made and have not ended.
    fanout_window: PositiveInt = 1000
    #: How long a node that is told to stop lets its jobs finish, in seconds.
    drain_s: Annotated[float, Field(ge=0)] = 30.0
    #: Domains that an orchestrator serves, as `gpu,rag`; none means all.
    domains: Annotated[tuple[str, ...], NoDecode, BeforeValidator(fields.domains)] = ()

    @classmethod
    def load(cls, **given: Any) -> Self:
        """The settings with those of the command line in front; None means not given.

        Raises InputError, which names each bad setting by its variable.
        """
        try:
            return cls(**_present(given))
        except ValidationError as error:
            raise InputError(_explain(error)) from None

    def override(self, **given: Any) -> Self:
        """A copy with these settings in place, checked; None means not given.

        Raises InputError as `load` does.
        """
        return self.load(**{**self.model_dump(), **_present(given)})

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(SCHEMES):
            raise ValueError(f"a Redis URL begins with {', '.join(SCHEMES)}, this one is {url!r}")
        database = "" if url is None or url.startswith("unix:") else urlsplit(url).path.strip("/")
        if database and not database.isdecimal():  # redis-py would take 0
            raise ValueError(
                "a Redis URL ends with the number of a database, as redis://host:6379/0; "
                "a / in its password is written %2F"
            )
        return url

    @field_validator("artifacts")
    @classmethod
    def _anywhere(cls, where: str | None) -> str | None:
        if where is None or "://" in where:
            return where
        folder = os.path.expanduser(where)
        if not os.path.isabs(folder):  # jobs run in the folder of their code
            raise ValueError("must be an absolute folder, or a URL such as s3://bucket/folder")
        return folder

    @field_validator("pickle_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        count = SHORTEST_KEY if key is None else len(key.get_secret_value().strip())
        if count < SHORTEST_KEY:
            raise ValueError(f"needs {SHORTEST_KEY} characters or more, has {count}")
        return key

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return Path(os.path.abspath(home.expanduser()))

    @model_validator(mode="after")
    def _times_in_order(self) -> Self:
        beats_s = BEATS * self.heartbeat_s
        if self.node_timeout_s < max(NODE_TIMEOUT_MIN_S, beats_s):
            least = max(NODE_TIMEOUT_MIN_S, beats_s)
            raise ValueError(
                f"PENSTOCK_NODE_TIMEOUT_S ({self.node_timeout_s:g}) must be at least {least:g}: "
                f"{NODE_TIMEOUT_MIN_S:g} s, and {BEATS} times PENSTOCK_HEARTBEAT_S "
                f"({self.heartbeat_s:g}); set it to {least:g}"
                + (", or beat more often" if beats_s > NODE_TIMEOUT_MIN_S else "")
            )
        if self.offline_limit_s < self.node_timeout_s:
            raise ValueError(
                f"PENSTOCK_OFFLINE_LIMIT_S ({self.offline_limit_s:g}) must be at least "
                f"PENSTOCK_NODE_TIMEOUT_S ({self.node_timeout_s:g})"
            )
        return self


def _present(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _explain(error: ValidationError) -> str:
    faults = []
    for fault in error.errors():
        message = fault["msg"].removeprefix("Value error, ")
        if fault["loc"]:
            variable = f"PENSTOCK_{fault['loc'][0]}".upper()
            if fault["loc"][0] != "pickle_key":
                message = f"{message} (given: {fault['input']!r})"
            message = f"{variable}: {message}"
        faults.append(message)
    return f"a setting is wrong: {'; '.join(faults)}"
