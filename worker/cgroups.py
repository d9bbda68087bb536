"""One control group a supervisor, where the machine lets us make one.

A group holds whatever is started below a daemon, also a process that leaves its
session and its environment behind. It lies within the supervisor's own group, so a
service manager or a container that accounts for that one, or ends it, has all of it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("penstock.worker")

_PREFIX = "penstock-"
_NAME = re.compile(rf"/{_PREFIX}([0-9-]+)(?=/|$)", re.MULTILINE)
#: Hierarchies in which a group limits nothing by itself, the best first; "" is version 2.
_HIERARCHIES = ("", "freezer", "pids")


class Group:
    """The group of one supervisor, named by its mark."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def create(cls, mark: str) -> Group | None:
        """Makes the group; None where that is not allowed."""
        for folder in _own_folders():
            group = folder / f"{_PREFIX}{mark}"
            try:
                group.mkdir(exist_ok=True)
            except OSError as error:
                log.debug("event=no_group reason=%r", str(error))
                continue
            return cls(group)
        return None

    def add(self, pid: int) -> None:
        """What this process starts from now on belongs to the group, as it does itself."""
        try:
            (self._folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            log.debug("event=not_in_group pid=%d reason=%r", pid, str(error))

    def remove(self) -> None:
        """Takes the group away; call when nothing of it is left."""
        with suppress(OSError):
            self._folder.rmdir()


def mark_of(pid: int) -> str:
    """The mark of the innermost group of ours that a process is in; "" if it is in none."""
    try:
        found = _NAME.findall(Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        return ""
    return str(found[-1]) if found else ""


def remove_empty(is_dead: Callable[[str], bool]) -> None:
    """Takes away the empty groups whose marks are those of the dead."""
    for mount in {mount for mount, _ in _hierarchies()}:
        for folder, _, _ in os.walk(mount, topdown=False):
            name = os.path.basename(folder)
            if name.startswith(_PREFIX) and is_dead(name.removeprefix(_PREFIX)):
                with suppress(OSError):
                    os.rmdir(folder)


def _own_folders() -> Iterator[Path]:
    """The groups that this process is in, as folders, best first."""
    for mount, inside in _hierarchies():
        if not inside.startswith(".."):
            yield mount / inside


def _hierarchies() -> list[tuple[Path, str]]:
    """(where a hierarchy is mounted, this process's group in it), best first."""
    try:
        ours = _paths(Path("/proc/self/cgroup").read_text())
        mounts = _mounts(Path("/proc/self/mountinfo").read_text())
    except OSError:
        return []
    found = []
    for name in _HIERARCHIES:
        if name in ours and name in mounts:
            root, mount = mounts[name]
            found.append((mount, os.path.relpath(ours[name], root)))
    return found


def _paths(text: str) -> dict[str, str]:
    """/proc/self/cgroup: the group by the name of its controller, "" for version 2."""
    rows = (line.split(":", 2) for line in text.splitlines())
    return {name: path for _, names, path in rows for name in names.split(",")}


def _mounts(text: str) -> dict[str, tuple[str, Path]]:
    """/proc/self/mountinfo: what is mounted, and where, by the controller's name."""
    found: dict[str, tuple[str, Path]] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        root, mount = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            found.setdefault("", (root, Path(mount)))
        elif kind == "cgroup":
            for name in options.split(","):
                found.setdefault(name, (root, Path(mount)))
    return found
