"""The options of a task, as a workflow has them for a job."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ...common.errors import InputError
from ...common.spec.models import Template
from ...common.spec.places import Path
from ...common.spec.spelling import RESOURCES, TEMPLATE
from ...common.spec.wording import near_or_all, problems_of

#: Slurm's names for settings of a job
_SETTINGS = {"time": "timeout_s"}
#: fields of a job that no option stands for
_OWN = frozenset({"type", "run", "command", "config", "resources", "name_pattern"})
#: the options that set the name under which a job is shown
_NAMES = ("job_name", "name")


def work_of(name: str, run: str, options: dict[str, Any]) -> Template:
    """What a task's jobs are: `run`, and the options of `@task`. One that raises is not run again,
    unless `retry` says so, as Python's executors have it.

    Raises InputError that names the task, for an option that there is not and for all wrong values.
    """
    resources: dict[str, Any] = {}
    written: dict[str, str] = {}
    retries = {} if TEMPLATE.given("retry", options) else {"retry": 0}
    work: dict[str, Any] = {"run": run, "resources": resources, **retries}
    for option, value in options.items():
        field = TEMPLATE.name_of(_SETTINGS.get(option, option))
        written |= {field: option, RESOURCES.name_of(option): option}
        if RESOURCES.name_of(option) in RESOURCES.fields:
            resources[option] = value
        elif option in _NAMES:
            work["name_pattern"] = value
        elif field in TEMPLATE.fields and field not in _OWN:
            work[option if option not in _SETTINGS else field] = value
        else:
            raise InputError(
                f"@task of {name}: no option {option!r}{near_or_all(option, _known())}"
            )
    try:
        return Template.model_validate(work)
    except ValidationError as error:
        faults = [
            f"@task of {name}: {_place(path, written)}{text}"
            for path, text in problems_of(error, ())
        ]
        raise InputError("\n".join(faults)) from None


def _known() -> list[str]:
    settings = [name for name in TEMPLATE.fields if name not in _OWN]
    return [*_SETTINGS, *RESOURCES.known(), *settings, *_NAMES]


def _place(path: Path, written: dict[str, str]) -> str:
    """`option: ` where a fault is, under the names that the options were given; '' for no one option."""
    steps = [written.get(str(step), str(step)) for step in path if step != "resources"]
    return f"{'.'.join(steps)}: " if steps else ""
