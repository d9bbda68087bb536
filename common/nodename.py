"""The names that nodes may have."""

from __future__ import annotations

import re

from .errors import InputError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def node_name(name: str) -> str:
    """The name, if a node may have it. Raises InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"--name {name!r}: a node's name is 1 to 64 of letters, digits, `.`, `_` and `-`"
        )
    return name
