"""Which code a job runs: a folder, and a digest of what its Python files say."""

from __future__ import annotations

import os
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

SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True, slots=True)
class CodeRoot:
    """The folder that a job's modules are imported from. `digest` is 16 hex digits."""

    root: str
    digest: str


def code_root(folder: Path) -> CodeRoot:
    """The code root of a folder: equal content at equal relative paths gives an equal digest.

    Hidden folders, caches and virtual environments do not count; nor does a file
    that vanishes while it is read. Raises NotADirectoryError.
    """
    top = Path(folder).resolve()
    if not top.is_dir():
        raise NotADirectoryError(f"{top} is no folder to import code from")
    digest = blake2b(digest_size=8)
    files = room = 0
    for path in _python_files(top):
        try:
            stat = path.stat()
            files, room = files + 1, room + stat.st_size
            if files <= MAX_FILES and room <= MAX_BYTES:
                said = b"content\0" + blake2b(path.read_bytes()).digest()
            else:
                said = b"stat\0%d\0%d" % (stat.st_size, stat.st_mtime_ns)
        except OSError:
            continue
        # Lengths first, so that no two different trees give the same bytes.
        name = os.fsencode(path.relative_to(top))
        digest.update(b"%d\0%s%d\0%s" % (len(name), name, len(said), said))
    return CodeRoot(str(top), digest.hexdigest())


def _python_files(top: Path) -> Iterator[Path]:
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
                    folders.append(folder / entry.name)
            elif entry.name.endswith(".py") and entry.is_file():
                yield folder / entry.name
