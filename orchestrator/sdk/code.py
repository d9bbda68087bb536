"""Where a worker finds the function of a task: `module:function`, and the folder of its code."""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ...common.context import current
from ...common.errors import InputError

#: folders of installed packages, which each node has by itself
INSTALLED = frozenset({"site-packages", "dist-packages"})
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_STANDARD = Path(sysconfig.get_paths()["stdlib"])


def located(function: Callable[..., Any]) -> tuple[str, Path | None]:
    """`module:function`, and the folder that its module is imported from; None where it is installed.

    A function of the program itself is found by the program's file. Raises InputError, with the way
    out, for one that a worker cannot import.
    """
    name = getattr(function, "__qualname__", "")
    module = getattr(function, "__module__", "") or ""
    if not name or not module:
        raise InputError(f"{function!r} has no name to import it by; give a plain function")
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type | ModuleType):
        raise InputError(
            f"{name} is a method of an object, which does not travel; write a function that is given what "
            "the object holds"
        )
    if "<lambda>" in name:
        raise InputError("a lambda has no name to import it by; write it as a function with def")
    if "<locals>" in name:
        inner, outer = name.rsplit(".<locals>.", 1)[::-1]
        raise InputError(
            f"{inner} is defined inside {outer}, where workers cannot import it; move it to the top of "
            "its module, and give it what it used of the other function as arguments"
        )
    if module == "__main__":
        module, program = _of_program(name)
        return f"{module}:{name}", program
    folder = _folder(module)
    installed = folder and (INSTALLED & set(folder.parts) or folder == _STANDARD)
    return f"{module}:{name}", None if installed else folder


def found_by(function: Callable[..., Any]) -> Any:
    """What stands under the function's own name in its module; None if nothing does."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found


def program_folder() -> Path:
    """The folder of the program that runs; the current one where it was typed in."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return Path(os.path.abspath(file)).parent if file else Path.cwd()


def program_name() -> str:
    """What a session is shown as: the job that opens it, or the name of the program's file."""
    if here := current():
        return here.job
    file = getattr(sys.modules["__main__"], "__file__", None)
    return Path(file).stem if file else "session"


def _of_program(name: str) -> tuple[str, Path]:
    program = sys.modules["__main__"]
    spec = getattr(program, "__spec__", None)
    if spec is not None and spec.name != "__main__":  # python -m package.module
        return spec.name, Path.cwd()
    file = getattr(program, "__file__", None)
    if file is None:
        raise InputError(
            f"{name} was typed in, and workers import functions from files: write it to a module, and "
            "import it from there"
        )
    path = Path(os.path.abspath(file))
    if not path.stem.isidentifier():
        raise InputError(
            f"{name} is in {path.name}, a name that Python cannot import; rename the file to letters, "
            "digits and _"
        )
    if name.partition(".")[0] in _only_when_run(path):
        raise InputError(
            f"{name} is defined under `if __name__ == ...` of {path.name}, which workers import and do not "
            "run; move it above that"
        )
    return path.stem, path.parent


@lru_cache(maxsize=8)
def _only_when_run(path: Path) -> frozenset[str]:
    """What a program defines only when it is run, not when it is imported."""
    when_run: set[str] = set()
    always: set[str] = set()
    for statement in ast.parse(path.read_bytes()).body:
        guarded = isinstance(statement, ast.If) and any(
            isinstance(part, ast.Name) and part.id == "__name__"
            for part in ast.walk(statement.test)
        )
        defined = (one for one in ast.walk(statement) if isinstance(one, _DEFINITIONS))
        (when_run if guarded else always).update(one.name for one in defined)
    return frozenset(when_run - always)


def _folder(module: str) -> Path | None:
    """The folder from which a module is imported; None if it has no file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return None
    path = Path(os.path.abspath(file))
    depth = module.count(".") + (path.name == "__init__.py")
    return path.parents[depth]
