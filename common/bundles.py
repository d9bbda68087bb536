"""Code that travels: a folder packed by content, kept in Redis, unpacked once on a node.

An execution names it as its code root: `bundle:<digest>`, or `bundle:<digest>/<folder>` where its
modules are imported from a folder inside. The same content has the same digest, whoever packs it; the
archive is a zip whose times and owners are left out.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .code import BUNDLE, SKIPPED, CodeRoot, of_bundles
from .errors import CodeMissing, InputError
from .filelock import FileLock
from .state import keys

#: the file of patterns that keep files out, in the syntax of .gitignore, which serves where it is missing
IGNORE_FILE = ".penstockignore"
#: unpacked bundles that nobody has used for so long go when another one comes, seconds
UNUSED_S = 7 * 86_400

_ROOT = re.compile(BUNDLE + r"([0-9a-f]{32})(?:/(.+))?")
_LONGEST_NAMES = 5
_MIB = 1024 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packed folder. `digest` is 32 hex digits, `python` the version that packed it, as `3.11`."""

    folder: Path
    digest: str
    python: str
    data: bytes

    def code(self, folder: Path) -> CodeRoot:
        """The code root of a folder inside. Raises InputError for one that is not."""
        inside = folder.resolve()
        if not inside.is_relative_to(self.folder):
            raise InputError(
                f"its functions are imported from {inside}, which is not in the bundle of {self.folder}; "
                "name a folder that holds both"
            )
        path = inside.relative_to(self.folder).as_posix()
        below = "" if path == "." else f"/{path}"
        return CodeRoot(f"{BUNDLE}{self.digest}{below}", self.digest)


def pack(folder: Path, limit_bytes: int) -> Bundle:
    """Packs what is in a folder, but for what IGNORE_FILE (or .gitignore) names, hidden files and
    folders, caches and virtual environments.

    Raises InputError where there is no such folder, or where it is larger than `limit_bytes` packed.
    """
    top = Path(folder).resolve()
    if not top.is_dir():
        raise InputError(f"{folder} is no folder that could be packed as a bundle")
    python = "{}.{}".format(*sys.version_info[:2])
    digest = hashlib.sha256(python.encode())
    packed, sizes = io.BytesIO(), {}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(_files(top)):
            path = top / name
            content = path.read_bytes()
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            digest.update(b"%d\0%s%d\0%d\0" % (len(name), os.fsencode(name), mode, len(content)))
            digest.update(content)
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, mode << 16
            archive.writestr(entry, content)
            sizes[name] = entry.compress_size
            if packed.tell() > limit_bytes:
                raise _too_large(top, sizes, limit_bytes)
    return Bundle(top, digest.hexdigest()[:32], python, packed.getvalue())


def store(client: Any, bundle: Bundle, ttl_s: int) -> None:
    """Puts a bundle into Redis, where it stays for `ttl_s` after it was last stored or fetched."""
    key = keys.bundle(bundle.digest)
    if client.expire(key, ttl_s):
        return
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(key, mapping={"data": bundle.data, "python": bundle.python, "ttl_s": ttl_s})
        pipe.expire(key, ttl_s)
        pipe.execute()


def unpacked(root: str, client: Any, cache: Path) -> Path:
    """The folder that a bundle's modules are imported from; fetched and unpacked, where it is not yet.

    `cache` holds a folder for each bundle. Raises CodeMissing.
    """
    found = _ROOT.fullmatch(root)
    assert found is not None
    digest, below = found[1], found[2] or ""
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = cache / digest
    in_use = _used_by_us(cache, digest)
    if not folder.is_dir():
        with FileLock(cache / "unpack.lock"):
            if not folder.is_dir():
                _sweep(cache)
                _fetch(digest, client, folder)
    os.utime(in_use)
    inside = (folder / below).resolve()
    of_bundles[str(inside)] = CodeRoot(root, digest)
    return inside


def missing_imports(folder: Path) -> list[str]:
    """Top-level modules that files of a folder import at once, and that are not installed here."""
    import ast
    from importlib.util import find_spec

    wanted: set[str] = set()
    for path in folder.rglob("*.py"):
        try:
            body = ast.parse(path.read_bytes()).body
        except (OSError, SyntaxError, ValueError):
            continue
        for statement in body:
            if isinstance(statement, ast.Import):
                wanted.update(name.name.partition(".")[0] for name in statement.names)
            elif isinstance(statement, ast.ImportFrom) and not statement.level:
                wanted.add((statement.module or "").partition(".")[0])
    own = {path.stem for path in folder.iterdir()}
    return sorted(name for name in wanted - own - {""} if find_spec(name) is None)


@lru_cache(maxsize=16)
def _used_by_us(cache: Path, digest: str) -> Path:
    """Says to others, as long as this process lives, that the bundle is used; the file that says so."""
    lock = FileLock(cache / f"{digest}.lock")
    lock.take(shared=True)
    _held.append(lock)
    return lock.path


_held: list[FileLock] = []


def _fetch(digest: str, client: Any, folder: Path) -> None:
    key = keys.bundle(digest)
    data, python, ttl_s = client.hmget(key, "data", "python", "ttl_s")
    if data is None:
        raise CodeMissing(
            f"the bundle {digest} is not in Redis any more, and not on this node: it is kept for as long as an "
            "execution after its end (PENSTOCK_STATE_TTL_S), counted from its last use; submit again with --bundle"
        )
    client.expire(key, int(ttl_s))
    draft = folder.with_suffix(f".{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, draft))
            path.chmod(entry.external_attr >> 16)
    draft.mkdir(exist_ok=True)
    here = "{}.{}".format(*sys.version_info[:2])
    if python.decode() != here:
        print(
            f"penstock: the bundle was packed with Python {python.decode()}, this node has {here}"
        )
    draft.replace(folder)


def _sweep(cache: Path) -> None:
    """Takes bundles away that nobody has used for long, and what a killed process left half unpacked."""
    import time

    for path in list(cache.iterdir()):
        if not path.is_dir():
            continue
        lock = cache / f"{path.stem}.lock"
        if path.suffix or not lock.exists() or time.time() - lock.stat().st_mtime > UNUSED_S:
            mine = FileLock(lock)
            if path.suffix or mine.take(blocking=False):
                shutil.rmtree(path, ignore_errors=True)
            mine.release()


def _files(top: Path) -> Iterator[str]:
    """The names of the files that go along, as paths from `top` with slashes."""
    ignored = _ignored(top)
    for folder, folders, files in os.walk(top):
        at = Path(folder).relative_to(top).as_posix()
        prefix = "" if at == "." else f"{at}/"
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in SKIPPED
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
            and not ignored.match_file(f"{prefix}{name}/")
        ]
        for name in files:
            path = os.path.join(folder, name)
            plain = not name.startswith(".") and os.path.isfile(path)
            if plain and not ignored.match_file(prefix + name):
                yield prefix + name


def _ignored(top: Path) -> Any:
    from pathspec import GitIgnoreSpec

    for name in (IGNORE_FILE, ".gitignore"):
        if (top / name).is_file():
            return GitIgnoreSpec.from_lines((top / name).read_text().splitlines())
    return GitIgnoreSpec.from_lines([])


def _too_large(top: Path, sizes: dict[str, int], limit_bytes: int) -> InputError:
    largest = sorted(sizes.items(), key=lambda pair: -pair[1])[:_LONGEST_NAMES]
    shown = ", ".join(f"{name} {size / _MIB:.1f} MiB" for name, size in largest)
    return InputError(
        f"the bundle of {top} is larger than {limit_bytes / _MIB:.0f} MiB packed (PENSTOCK_BUNDLE_LIMIT_BYTES); "
        f"the largest of what was packed so far: {shown}. Name what the jobs do not need in {IGNORE_FILE}"
    )
