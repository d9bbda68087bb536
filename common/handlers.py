"""Handlers: which function runs the jobs of a `type`.

A team binds its own function to a type in one of three ways; the first that names the type wins:

1. a module `penstock_handlers.py` beside the workflow file, which uses the decorator below;
2. `register_handler` in the process that submits;
3. an installed package with an entry point in the group `penstock.handlers`
   (`model-training = "pkg.mod:func"`).

Only the *name* of a function is kept (`module:function`): the code runs on the workers.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from .errors import InputError

#: The module beside a workflow file in which handlers are registered.
HANDLERS_MODULE = "penstock_handlers"
#: The entry-point group in which installed packages name their handlers.
ENTRY_POINT_GROUP = "penstock.handlers"

FAN_OUT = "fan-out"
FAN_IN = "fan-in"
#: Types that steer the workflow instead of running code.
CONTROL_TYPES = (FAN_OUT, FAN_IN, "approval", "subworkflow", "study")
#: Types of machine learning work that a team binds its handlers to.
BUILTIN_TYPES = (
    "data-preprocessing",
    "feature-extraction",
    "model-training",
    "model-validation",
    "hyperparameter-tuning",
    "model-deployment",
    "batch-inference",
    "model-evaluation",
    "train",
    "evaluate",
    "process",
    "preprocessing",
)

_JOINED = {"fanout": FAN_OUT, "fanin": FAN_IN}
_registry: dict[str, str] = {}
Function = TypeVar("Function", bound=Callable[..., Any])


def normalise_type(name: str) -> str:
    """`Model_Training` -> `model-training`: lower case, with hyphens."""
    plain = name.strip().lower().replace("_", "-")
    return _JOINED.get(plain, plain)


def handler(type_name: str) -> Callable[[Function], Function]:
    """Decorator: the function runs the jobs of this type. The function itself is unchanged."""

    def bind(function: Function) -> Function:
        register_handler(type_name, function)
        return function

    return bind


def register_handler(type_name: str, function: Callable[..., Any] | str) -> None:
    """Bind a function (or its name, `module:function`) to a type; the latest binding holds.

    Raises InputError for a control type, and for a function that a worker cannot import.
    """
    name = normalise_type(type_name)
    if not name or name in CONTROL_TYPES:
        raise InputError(f"{type_name!r} cannot have a handler; choose another type name")
    _registry[name] = function if isinstance(function, str) else function_name(function)


def function_name(function: Callable[..., Any]) -> str:
    """`module:function` for a function that workers can import; InputError says why it is not."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not module or not name:
        raise InputError(f"{function!r} has no name to import it by; give a plain function")
    if "<" in name:
        raise InputError(
            f"{module}:{name} is a lambda or lives inside another function, so that workers cannot"
            " import it; define it at the top of a module"
        )
    if module == "__main__":
        raise InputError(
            f"{name} lives in the script itself, which workers do not import; move it to a module"
            " beside the script"
        )
    return f"{module}:{name}"


def registered() -> dict[str, str]:
    """The bindings made in this process: type -> `module:function`."""
    return dict(_registry)
