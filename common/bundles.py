"""Code that travels: a folder packed by content, kept in Redis, unpacked once on a node.

An execution names it as its code root: `bundle:<digest>`, or `bundle:<digest>/<folder>` where its
modules are imported from a folder inside. The same content has the same digest, whoever packs it; the
archive is a zip whose times and owners are left out.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .code import BUNDLE, PYTHON, SKIPPED, CodeRoot, of_bundles
from .errors import CodeMissing, InputError
from .filelock import FileLock
from .state import keys

log = logging.getLogger("penstock.worker")

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
    """A packed folder. `digest` is 32 hex digits, `python` the version that packed it, as `3.11`; `names` are
    the files in it."""

    folder: Path
    digest: str
    python: str
    data: bytes
    names: tuple[str, ...]

    def code(self, folder: Path) -> CodeRoot:
        """The code root of a folder inside. Raises InputError for one that is not, or was left out."""
        inside = folder.resolve()
        if not inside.is_relative_to(self.folder):
            raise InputError(
                f"its functions are imported from {inside}, which is not in the bundle of {self.folder}; "
                "name a folder that holds both"
            )
        path = inside.relative_to(self.folder).as_posix()
        below = "" if path == "." else f"/{path}"
        if below and not any(name.startswith(f"{path}/") for name in self.names):
            raise InputError(
                f"the bundle of {self.folder} leaves {path} out, where its functions are imported from: hidden "
                f"folders, environments, and what {IGNORE_FILE} or .gitignore names do not travel"
            )
        return CodeRoot(f"{BUNDLE}{self.digest}{below}", self.digest)


def pack(folder: Path, limit_bytes: int) -> Bundle:
    """Packs what is in a folder, but for what IGNORE_FILE (or .gitignore files) name, hidden files and
    folders, compiled Python, caches and virtual environments.

    Raises InputError where there is no such folder, where something in it cannot be packed, or where it is
    larger than `limit_bytes` packed.
    """
    top = Path(folder).resolve()
    if not top.is_dir():
        raise InputError(f"{folder} is no folder that could be packed as a bundle")
    digest = hashlib.sha256(PYTHON.encode())
    packed, sizes = io.BytesIO(), {}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(_files(top)):
            mode = 0o755 if os.access(top / name, os.X_OK) else 0o644
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, mode << 16
            content = hashlib.sha256()
            try:
                with (
                    open(top / name, "rb") as file,
                    archive.open(entry, "w", force_zip64=True) as target,
                ):
                    while (chunk := file.read(_MIB)) and packed.tell() <= limit_bytes:
                        content.update(chunk)
                        target.write(chunk)
            except OSError as error:
                raise InputError(
                    f"{top / name} cannot be packed: {error.strerror}; name it in {IGNORE_FILE}"
                ) from None
            digest.update(f"{len(name)} {name} {mode} {content.hexdigest()} ".encode())
            sizes[name] = entry.compress_size
            if packed.tell() > limit_bytes:
                raise _too_large(top, sizes, limit_bytes)
    return Bundle(top, digest.hexdigest()[:32], PYTHON, packed.getvalue(), tuple(sizes))


def store(client: Any, bundle: Bundle, ttl_s: int) -> None:
    """Puts a bundle into Redis. It stays for `ttl_s` after it was last stored or fetched; the leader keeps
    those of executions that have not ended."""
    key = keys.bundle(bundle.digest)
    with client.pipeline(transaction=True) as pipe:
        pipe.exists(key)
        pipe.expire(key, ttl_s, gt=True)
        if pipe.execute()[0]:
            return
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
    folder = folder.resolve()
    of_bundles[str(folder)] = CodeRoot(f"{BUNDLE}{digest}", digest)
    if not (folder / below).is_dir():
        raise CodeMissing(f"the bundle {digest} has no folder {below}")
    return folder / below


def missing_imports(folder: Path) -> list[str]:
    """Top-level modules that files of a folder import at once, and that are not installed here."""
    import ast

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
    return sorted(name for name in wanted - own - {""} if not _is_installed(name))


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # such as `__main__`
        return True


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
    if python.decode() != PYTHON:
        print(
            f"penstock: the bundle was packed with Python {python.decode()}, this node has {PYTHON}"
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
            try:
                if path.suffix or mine.take(blocking=False):
                    # What is half taken away has another name: it is not taken for a whole bundle.
                    away = path.with_suffix(f".gone-{uuid.uuid4().hex}")
                    shutil.rmtree(path if path.suffix else path.rename(away), ignore_errors=True)
            except OSError as error:
                log.warning("event=bundle_left path=%s error=%r", path, str(error))
            finally:
                mine.release()


def _files(top: Path) -> Iterator[str]:
    """The names of the files that go along, as paths from `top` with slashes. Links to folders inside are
    followed. Raises InputError for what cannot be read, and for links that lead outside."""
    ignored = _Ignored(top)
    seen: set[str] = set()
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        real = os.path.realpath(top / prefix)
        if real in seen:
            continue
        seen.add(real)
        ignored.enter(prefix)
        for entry in _entries(top, prefix):
            name = prefix + entry.name
            is_folder, is_file = _kind(entry)
            if entry.name.startswith(".") or ignored.has(f"{name}/" if is_folder else name):
                continue
            there = is_folder or is_file
            if there and entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(top):
                raise InputError(
                    f"{top / name} is a link to outside of the bundle; put what it links to in its place, or name "
                    f"it in {IGNORE_FILE}"
                )
            environment = is_folder and os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))
            if is_folder and entry.name not in SKIPPED and not environment:
                waiting.append(f"{name}/")
            elif is_file and not name.endswith(".pyc"):
                yield name


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Is it a folder, is it a file? A link that leads nowhere is neither."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:
        return False, False


def _entries(top: Path, prefix: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(top / prefix) as entries:
            found = list(entries)
    except OSError as error:
        raise InputError(
            f"{top / prefix} cannot be packed: {error.strerror}; name it in {IGNORE_FILE}"
        ) from None
    for entry in found:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{top / prefix} holds a file whose name is no text ({entry.name!r}); rename it"
            ) from None
    return found


class _Ignored:
    """What stays behind: what IGNORE_FILE names, or the .gitignore of each folder."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._own = (top / IGNORE_FILE).is_file()
        self._specs: dict[str, Any] = {}
        if self._own:
            self._specs[""] = _spec(top / IGNORE_FILE)

    def enter(self, prefix: str) -> None:
        """A folder is looked into."""
        file = self._top / prefix / ".gitignore"
        if not self._own and file.is_file():
            self._specs[prefix] = _spec(file)

    def has(self, name: str) -> bool:
        """Is it named by any of the files above it?"""
        return any(
            name.startswith(prefix) and spec.match_file(name[len(prefix) :])
            for prefix, spec in self._specs.items()
        )


def _spec(file: Path) -> Any:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(file.read_text().splitlines())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None


def _too_large(top: Path, sizes: dict[str, int], limit_bytes: int) -> InputError:
    largest = sorted(sizes.items(), key=lambda pair: -pair[1])[:_LONGEST_NAMES]
    shown = ", ".join(f"{name} {size / _MIB:.1f} MiB" for name, size in largest)
    return InputError(
        f"the bundle of {top} is larger than {limit_bytes / _MIB:.0f} MiB packed (PENSTOCK_BUNDLE_LIMIT_BYTES); "
        f"the largest of what was packed so far: {shown}. Name what the jobs do not need in {IGNORE_FILE}"
    )
