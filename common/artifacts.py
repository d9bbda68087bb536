"""Files of values that do not travel inline: in a folder that all machines share, or behind a URL of fsspec.

Of each execution a folder, of each value a file, written once under a name of its own: what an attempt
wrote is seen by nobody before its result, which names it, is recorded. An execution's files go with it.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from .datafolder import DataFolder
from .errors import InputError, NotFound
from .settings import Settings

_KEY = re.compile(r"[0-9a-z]{12,26}/[A-Za-z0-9_-]+")
_HERE = ("", "localhost", "127.0.0.1", "::1")


class Artifacts:
    """The store at a folder, or at a URL such as `s3://bucket/folder`.

    `shared`: is it seen for sure by all that share the Redis? Raises InputError where a URL needs a
    package that is not installed.
    """

    def __init__(self, where: str, *, shared: bool = True) -> None:
        self.shared = shared
        self.where = where.rstrip("/")
        self._files = _Remote(self.where) if "://" in where else _Folder(Path(where))

    @staticmethod
    def key(execution: str, job: str, name: str) -> str:
        """The key of a file; `name` tells the files of a job apart."""
        return f"{execution}/{re.sub(r'[^A-Za-z0-9_-]', '_', job)}-{name}"

    @contextmanager
    def new(self, key: str) -> Iterator[IO[bytes]]:
        """The file to write; it is there when the block ends, and only if it ends well."""
        with self._files.writing(_checked(key)) as file:
            yield file

    @contextmanager
    def open(self, key: str) -> Iterator[IO[bytes]]:
        """The file of a key, to be read. Raises NotFound, or what reading it raises."""
        try:
            file = self._files.reading(_checked(key))
        except FileNotFoundError:
            raise NotFound(
                f"the value {key} is not in {self.where}: it went with its execution, or this machine does not "
                "share that place with the one that wrote it (PENSTOCK_ARTIFACTS names one that all share)"
            ) from None
        with file:
            yield file

    def has(self, key: str, size: int) -> bool:
        """Is there a file of this key, with so many bytes?"""
        return self._files.size(_checked(key)) == size

    def forget(self, execution: str) -> None:
        """Takes all files of an execution away. Raises what that raises."""
        self._files.remove(_checked(f"{execution}/_").partition("/")[0])


def artifacts(settings: Settings) -> Artifacts | None:
    """The store that is set; where Redis is on this machine, else a folder of its own. None without one."""
    if settings.artifacts:
        return Artifacts(settings.artifacts)
    url = settings.redis_url
    here = url is None or url.startswith("unix:") or (urlsplit(url).hostname or "") in _HERE
    if not here:
        return None
    private = DataFolder(settings.home).read_server()  # whose users all have this data folder
    alone = url is None or (private is not None and private.url == url)
    return Artifacts(str(settings.home / "artifacts"), shared=alone)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise InputError(f"{key!r} is no key of a value")
    return key


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with open(draft, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # its result may outlive a power cut
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def size(self, key: str) -> int | None:
        path = self._folder / key
        return path.stat().st_size if path.is_file() else None

    def reading(self, key: str) -> IO[bytes]:
        return open(self._folder / key, "rb")

    def remove(self, execution: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder / execution)


class _Remote:
    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs

            self._system, self._at = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"PENSTOCK_ARTIFACTS={url} cannot be used: {error}; `pip install 'penstock[artifacts]'`, and the "
                "package that fsspec names for this kind of URL"
            ) from None

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        path = f"{self._at}/{key}"
        draft = f"{path}.{uuid.uuid4().hex}"
        self._system.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with self._system.open(draft, "wb") as file:
                yield file
            self._system.mv(draft, path)
        except BaseException:
            with suppress(Exception):  # nobody knows of it
                self._system.rm_file(draft)
            raise

    def size(self, key: str) -> int | None:
        path = f"{self._at}/{key}"
        return int(self._system.size(path)) if self._system.exists(path) else None

    def reading(self, key: str) -> IO[bytes]:
        file: Any = self._system.open(f"{self._at}/{key}", "rb")
        return file  # type: ignore[no-any-return]

    def remove(self, execution: str) -> None:
        path = f"{self._at}/{execution}"
        if self._system.exists(path):
            self._system.rm(path, recursive=True)
