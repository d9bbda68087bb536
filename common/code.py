"""Which code a job runs: a folder, and a digest of what its Python files say."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

#: Beyond these, a file counts by its size and time instead of its content.
MAX_FILES = 5_000
MAX_BYTES = 64 * 1024 * 1024
#: Folders looked into, nearest first: a workflow file may lie in a home folder.
MAX_FOLDERS = 20_000

#: A file that was written to so long ago has another time when it is written to again.
SETTLED_NS = 2_000_000_000

#: the Python that runs this, as `3.11`
PYTHON = "{}.{}".format(*sys.version_info[:2])
#: how a code root begins that is a bundle
BUNDLE = "bundle:"
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True, slots=True)
class CodeRoot:
    """The folder that a job's modules are imported from, or a bundle (`bundles.py`). `digest` is that of
    what it holds: 16 hex digits, 32 of a bundle."""

    root: str
    digest: str


def is_bundle(root: str) -> bool:
    """Does a code root name a bundle, not a folder?"""
    return root.startswith(BUNDLE)


#: folders that this process has unpacked of bundles, by path
of_bundles: dict[str, CodeRoot] = {}

#: what was read of files, by path: size, time and number of the file, and its digest
_seen: dict[str, tuple[tuple[int, int, int], bytes]] = {}


def code_root(folder: Path) -> CodeRoot:
    """The code root of a folder: equal content at equal relative paths gives an equal digest.

    Hidden folders, caches and virtual environments do not count; nor does a file
    that vanishes while it is read. A folder that came in a bundle has that for a root.
    Raises NotADirectoryError.
    """
    inside = Path(folder).resolve()
    top = str(inside)
    for above in (inside, *inside.parents) if of_bundles else ():
        if (bundle := of_bundles.get(str(above))) is not None:
            below = inside.relative_to(above).as_posix()
            root = bundle.root if below == "." else f"{bundle.root}/{below}"
            return CodeRoot(root, bundle.digest)
    if not os.path.isdir(top):
        raise NotADirectoryError(f"{top} is no folder to import code from")
    digest = blake2b(digest_size=8)
    files = room = 0
    for path, stat in _python_files(top):
        files, room = files + 1, room + stat.st_size
        try:
            if files <= MAX_FILES and room <= MAX_BYTES:
                said = b"content\0" + _content(path, stat)
            else:
                said = b"stat\0%d\0%d" % (stat.st_size, stat.st_mtime_ns)
        except OSError:
            continue
        # Lengths first, so that no two different trees give the same bytes.
        name = os.fsencode(path[len(top) :].lstrip(os.sep))
        digest.update(b"%d\0%s%d\0%s" % (len(name), name, len(said), said))
    return CodeRoot(top, digest.hexdigest())


def _content(path: str, stat: os.stat_result) -> bytes:
    """The digest of a file, which is read again only when it is another one, or was written to."""
    state = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    known = _seen.get(path)
    if known is None or known[0] != state:
        with open(path, "rb") as file:
            known = (state, blake2b(file.read()).digest())
        # Two writes within a tick of the file system's clock look alike.
        if time.time_ns() - stat.st_mtime_ns > SETTLED_NS:
            if len(_seen) >= MAX_FILES:
                _seen.clear()
            _seen[path] = known
    return known[1]


def _python_files(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """All *.py files that count, folder by folder from the top, sorted within each."""
    folders = deque([top])
    seen = 0
    while folders and seen < MAX_FOLDERS:
        folder = folders.popleft()
        seen += 1
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        # The top itself may lie in an environment; what it holds was chosen.
        if folder != top and any(entry.name == "pyvenv.cfg" for entry in found):
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in SKIPPED:
                    folders.append(entry.path)
            elif entry.name.endswith(".py") and entry.is_file():
                try:
                    yield entry.path, entry.stat()
                except OSError:
                    continue
