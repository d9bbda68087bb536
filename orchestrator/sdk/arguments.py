"""How the arguments of a task travel: as JSON, with other jobs' results as placeholders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...common.errors import InputError, ValueFailed
from ...common.jsontext import json_writer
from ...common.spec.placeholders import escape, references, unescape
from ...common.values import MARK_BYTES
from .jobs import Job, JobArray

#: lists and dicts may lie so deep in each other
DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Upstream:
    """Stands for the result of a job of the same session, by the job's name."""

    name: str


def bound(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """The arguments by name; `where` begins a message, such as `item 3: `.

    Raises TypeError as a call would, and InputError for arguments that have no name.
    """
    name = f"{where}{function.__name__}"
    try:
        found = _signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}(): {error}") from None
    except ValueError:
        raise InputError(
            f"{name} does not tell its arguments' names; wrap it in a function"
        ) from None
    named: dict[str, Any] = {}
    for parameter in found.signature.parameters.values():
        if parameter.name not in found.arguments:
            continue
        value = found.arguments[parameter.name]
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            shown = (
                f"*{parameter.name}"
                if parameter.kind is parameter.VAR_POSITIONAL
                else parameter.name
            )
            raise InputError(
                f"{name}(): a job's arguments travel by name, and {shown!r} takes them by place only; "
                "give the function a named argument in its stead, such as a list"
            )
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= value
        else:
            named[parameter.name] = value
    return named


_signature = lru_cache(maxsize=1024)(inspect.signature)


def item_arguments(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call that an item of `.map` stands for."""
    if isinstance(item, dict) and all(isinstance(key, str) for key in item):
        return (), item
    return (item if isinstance(item, tuple) else (item,)), {}


def inline(
    config: dict[str, Any], limit: int, keep: Callable[[bytes], dict[str, Any] | None]
) -> dict[str, Any]:
    """The arguments, of which those of more than `limit` bytes of JSON are files that `keep` writes, where it
    can. One that holds other jobs' results stays, since these are filled in, as does one that holds what is a
    file already: pickled anew it would be another file, and another call."""

    def kept(value: Any) -> Any:
        if not isinstance(value, str | list | dict) or references(value):
            return value
        text = _as_json(unescape(value)).encode()
        if len(text) <= limit or MARK_BYTES in text:
            return value
        return keep(text) or value

    if len(_as_json(config)) <= limit:
        return config
    return {name: kept(value) for name, value in config.items()}


_as_json = json_writer()


class Travelling:
    """Arguments on their way: `upstreams` are the jobs that they wait for, in order.

    `of_session` says whether a job is of the session that they are for. The result of any other is
    waited for, here. `keep` writes values of other types to files, and gives what stands for them.
    """

    def __init__(
        self,
        of_session: Callable[[Job[Any] | JobArray[Any]], bool],
        keep: Callable[[Any], dict[str, Any]],
    ):
        self._of_session, self._keep = of_session, keep
        self.upstreams: dict[str, None] = {}

    def wait_for(self, job: Job[Any] | JobArray[Any]) -> None:
        """Adds a job to `upstreams`."""
        if not isinstance(job, Job | JobArray):
            raise InputError(f".after() takes jobs and arrays of jobs; this is {job!r:.60}")
        if self._of_session(job):
            self.upstreams[job.name] = None
        elif isinstance(job, Job):
            job.get_result()
        else:
            job.get_results()

    def as_json(self, value: Any, place: str, deep: int = 0) -> Any:
        """What JSON holds of a value. Raises InputError, which names the place, for what it cannot."""
        if deep > DEEPEST:
            raise InputError(f"{place}: lists and dicts lie more than {DEEPEST} deep in each other")
        if isinstance(value, dict):
            return {
                self._key(key, place): self.as_json(one, f"{place}[{key!r}]", deep + 1)
                for key, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.as_json(one, f"{place}[{n}]", deep + 1) for n, one in enumerate(value)]
        if isinstance(value, Upstream | Job | JobArray):
            return self._result_of(value, place, deep)
        return self._scalar(value, place)

    def _result_of(self, job: Upstream | Job[Any] | JobArray[Any], place: str, deep: int) -> Any:
        if not isinstance(job, Upstream) and not self._of_session(job):
            found = job.get_result() if isinstance(job, Job) else job.get_results()
            return self.as_json(found, place, deep + 1)
        self.upstreams[job.name] = None
        if isinstance(job, JobArray):
            return [_placeholder(name) for name in job.names]
        return _placeholder(job.name)

    def _key(self, key: Any, place: str) -> str:
        if not isinstance(key, str):
            raise InputError(
                f"{place}: the key {key!r} is a {type(key).__name__}; arguments travel as JSON, whose "
                "keys are texts"
            )
        return str(escape(key))

    def _scalar(self, value: Any, place: str) -> Any:
        if isinstance(value, str):
            return escape(value)
        if value is None or isinstance(value, int | float):
            return value
        if getattr(value, "shape", None) == () and hasattr(value, "item"):  # of NumPy
            item = value.item()
            if type(item) is not type(value):  # such as a longdouble
                return self._scalar(item, place)
        try:
            return self._keep(value)
        except TypeError:
            raise InputError(
                f"{place}: a {type(value).__name__} cannot travel to a worker; give texts, numbers, lists, dicts, "
                "bytes, NumPy arrays or data frames, say how it is written with register_codec, or switch pickles on "
                "(PENSTOCK_PICKLE_KEY)"
            ) from None
        except ValueFailed as error:
            raise InputError(f"{place}: {error}") from None


def _placeholder(name: str) -> str:
    return f"${{jobs.{name}.result}}"
