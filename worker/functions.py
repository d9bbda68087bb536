"""Finds the function that a job names, `mod:func` or `pkg.mod:Class.method`, and calls it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import CoroutineType
from typing import Any

from ..common.code import is_bundle
from ..common.context import importing
from ..common.errors import CodeMissing


class Functions:
    """The functions of one code root. What is found stays found; what is not is tried again."""

    def __init__(self) -> None:
        self._root = ""
        #: a bundle that has yet to be fetched and unpacked: with the first job, whose error it is if it fails
        self.bundle = ""
        self._unpacked = False
        self._found: dict[str, Callable[..., Any]] = {}

    def load(self, root: str) -> None:
        """Makes `root` the first place to import from, and the working directory.

        A root that is not on this machine is no error yet: the code may be installed. Of a bundle
        nothing is done before `unpack`.
        """
        if is_bundle(root):
            self.bundle = root
            return
        self._root = root
        if root:
            sys.path.insert(0, root)
            importlib.invalidate_caches()
            if os.path.isdir(root):
                os.chdir(root)

    def unpack(self) -> None:
        """Makes the bundle that was loaded the first place to import from. Raises CodeMissing."""
        from ..common import bundles  # slow to import, and most slots do without
        from ..common.settings import Settings
        from ..common.state.connection import connect

        settings = Settings.load()
        client = connect(settings.redis_url or "")
        try:
            root = bundles.unpacked(self.bundle, client, settings.home / "bundles")
        finally:
            client.close()
        self.bundle = ""
        self.load(str(root))
        self._unpacked = True

    def find(self, run: str) -> Callable[..., Any]:
        """The function. Raises CodeMissing, or whatever importing its module raises."""
        found = self._found.get(run)
        if found is None:
            found = self._found[run] = self._import(run)
        return found

    def _module(self, name: str) -> Any:
        with importing():
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                if not f"{name}.".startswith(f"{error.name}."):
                    raise  # one that it imports itself
                importlib.invalidate_caches()  # the folder may have come since it was looked for
                return importlib.import_module(name)

    def _import(self, run: str) -> Callable[..., Any]:
        module_name, _, path = run.partition(":")
        try:
            target = self._module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing and (module_name == missing or module_name.startswith(f"{missing}.")):
                raise CodeMissing(self._advice(run, f"there is no module {missing!r}")) from None
            if self._unpacked:
                raise CodeMissing(self._advice(run, f"there is no module {missing!r}")) from None
            raise
        for part in path.split("."):
            try:
                target = getattr(target, part)
            except AttributeError:
                where = getattr(target, "__file__", None) or module_name
                raise CodeMissing(self._advice(run, f"{where} has no {part!r}")) from None
        if not callable(target):
            raise CodeMissing(self._advice(run, f"it is a {type(target).__name__}, no function"))
        # A task (`@penstock.task`) would submit itself where a session is open in this process.
        called: Callable[..., Any] = getattr(target, "penstock_function", target)
        return called

    def _advice(self, run: str, why: str) -> str:
        if self._unpacked:
            from ..common import bundles

            missing = bundles.missing_imports(Path(self._root))
            more = f"; not installed on this node: {', '.join(missing)}" if missing else ""
            return f"cannot run {run!r}: {why} in the bundle or among the installed packages{more}"
        if self._root and not os.path.isdir(self._root):
            return (
                f"cannot run {run!r}: {why}, and its folder {self._root} is not on this node; "
                "share the folder with the node, or install the code there as a package"
            )
        where = f"in {self._root} or among the installed packages" if self._root else "installed"
        return f"cannot run {run!r}: {why} ({where}); check the name in the workflow's `run`"


def call(function: Callable[..., Any], /, *args: Any, **config: Any) -> Any:
    """The function's value; a coroutine is run to its end in an event loop of its own.

    `config` may hold any name, `function` too.
    """
    value = function(*args, **config)
    if isinstance(value, CoroutineType):
        import asyncio  # slow to import, and most jobs do without

        return asyncio.run(value)
    return value
