"""The child process of `importer.py`: imports the user's code and says what went wrong.

Reads one JSON request from standard input and answers in JSON lines, on a descriptor of its own,
so that user code may print. Run as `python -P -m penstock.common.spec.probe` in the user's
folder.
"""

import importlib
import inspect
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from ..context import importing
from ..handlers import ENTRY_POINT_GROUP, HANDLERS_MODULE, normalise_type, registered
from .arguments import signature_of
from .wording import near

#: functions of a module that are told of without being asked for
MOST_BESIDE = 200


class _Answering:
    """Writes answers to what was standard output, which from then on leads to standard error."""

    def __init__(self) -> None:
        self.descriptor = os.dup(1)
        os.dup2(2, 1)

    def say(self, **answer: Any) -> None:
        rest = json.dumps(answer).encode() + b"\n"
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]


def main() -> None:
    """Answer one request, then end at once: threads of user code are not waited for."""
    request = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.alarm(math.ceil(request["limit_s"]) + 1)
    root = os.getcwd()
    sys.path.insert(0, root)
    answering = _Answering()
    functions = list(request["functions"])
    if request["types"]:
        runs = _bindings(answering, request["registered"])
        found = {name: runs.get(name) for name in request["types"]}
        answering.say(types=found, known=sorted(runs))
        if request["check"]:
            functions += [run for run in dict.fromkeys(found.values()) if run]
    functions = list(dict.fromkeys(functions))
    for name in functions:
        module = name.split(":")[0]
        answering.say(importing=module)
        found, error = _function(name, root)
        signature = None if error else signature_of(found)
        answering.say(function=name, error=error, signature=signature and asdict(signature))
    for name, found in _beside(functions):
        signature = signature_of(found)
        answering.say(function=name, error=None, signature=signature and asdict(signature))
    answering.say(done=True)
    os._exit(0)


def _beside(asked: list[str]) -> Iterator[tuple[str, Any]]:
    """The other functions of the modules that were imported: a later workflow may name them."""
    for module in dict.fromkeys(name.split(":")[0] for name in asked):
        found = list(vars(sys.modules[module]).items()) if module in sys.modules else []
        own = (
            pair for pair in found if inspect.isfunction(pair[1]) and pair[1].__module__ == module
        )
        for name, one in islice(own, MOST_BESIDE):
            if f"{module}:{name}" not in asked:
                yield f"{module}:{name}", one


def _bindings(answering: _Answering, submitted: dict[str, str]) -> dict[str, str]:
    """Handlers by type: from the user's folder, the submitting process, installed packages."""
    from importlib.metadata import entry_points  # slow to import, and most workflows do without

    installed = {
        normalise_type(point.name): point.value for point in entry_points(group=ENTRY_POINT_GROUP)
    }
    error = None
    if Path(f"{HANDLERS_MODULE}.py").is_file() or Path(HANDLERS_MODULE).is_dir():
        answering.say(importing=HANDLERS_MODULE)
        _, error = _imported(HANDLERS_MODULE, os.getcwd())
    answering.say(handlers=error)
    return installed | submitted | registered()


def _function(name: str, root: str) -> tuple[Any, str | None]:
    """`module:function`, and what is wrong with it; None if it can be called."""
    module_name, _, way = name.partition(":")
    found, error = _imported(module_name, root)
    if error:
        return None, error
    for step in way.split("."):
        try:
            found = getattr(found, step)
        except AttributeError:
            what = f"'{module_name}'" if found is sys.modules[module_name] else repr(found)[:60]
            names = [known for known in dir(found) if not known.startswith("__")]
            return None, f"{what} has no function '{step}'{near(step, names)}"
        except BaseException as raised:
            return None, f"'{name}' cannot be read: {_last_line(raised)}"
    if not callable(found):
        return None, f"'{name}' is a {type(found).__name__}, not a function"
    return found, None


def _imported(module_name: str, root: str) -> tuple[Any, str | None]:
    """The module, or what its import raised (whatever that is: user code may even exit)."""
    try:
        with importing():
            return importlib.import_module(module_name), None
    except ModuleNotFoundError as raised:
        if raised.name and (module_name + ".").startswith(raised.name + "."):
            beside = near(raised.name, [path.stem for path in Path(root).glob("*.py")])
            return None, f"no module '{raised.name}' in {root} or installed{beside}"
        return None, f"cannot import '{module_name}': {_last_line(raised)}"
    except BaseException as raised:
        return None, f"cannot import '{module_name}': {_last_line(raised)}"


def _last_line(raised: BaseException) -> str:
    text = traceback.format_exception_only(type(raised), raised)[-1].strip()
    if isinstance(raised, SyntaxError) and raised.filename:
        return f"{text} ({raised.filename}:{raised.lineno})"
    return text


if __name__ == "__main__":
    main()
