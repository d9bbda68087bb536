"""The jobs of a file as drafts: read one by one, parameters filled in, faults noted.

A job with faults still becomes a draft, without its wrong fields, so that the checks between jobs
can go on and all faults are reported together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..errors import InputError
from ..handlers import FAN_OUT, normalise_type
from . import spelling
from .fields import identifier
from .models import Job
from .placeholders import Malformed, Placeholder, bind, lookup, placeholders, substitute
from .places import Mark, Path, Places, Problem
from .wording import problems_of, short

#: Fields whose placeholders are filled when a fan-out expands or when the job runs.
_LATE = frozenset({"config", "command", "over"})
_LATE_IN_TEMPLATE = frozenset({"config", "command", "name_pattern"})
#: What a template takes from its fan-out where it says nothing itself.
_INHERITED = ("retry", "timeout_s", "timeout_ms", "priority", "resources", "capabilities", "cache")


@dataclass(frozen=True, slots=True)
class Draft:
    """A job, and the fields of it that were wrong (left at their defaults, not to be judged)."""

    job: Job
    bad: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A job as it stands in the file: its id, or None, and the step that leads to it."""

    id: str | None
    data: Any
    step: str | int


def draft_jobs(
    jobs: Any, params: Mapping[str, Any], places: Places, problems: list[Problem]
) -> list[Draft]:
    """Drafts of the jobs of a list or mapping, in order; faults are added to `problems`."""
    entries = _entries(jobs, problems)
    _mark_ids(entries, places)
    drafts: dict[str, Draft] = {}
    for entry in entries:
        if entry.id is None:
            continue
        if entry.id in drafts:
            line = places.line(("jobs", entry.id))
            first = f", in line {line}" if line else ""
            message = f"the id '{entry.id}' is there already{first}; rename one of the jobs"
            problems.append((("jobs", entry.step, "id"), message))
            continue
        drafts[entry.id] = _draft(entry.id, entry.data, params, problems)
    return list(drafts.values())


def canonical(
    data: Mapping[Any, Any], keys: spelling.Spelling, path: Path, problems: list[Problem]
) -> dict[Any, Any]:
    """The mapping under canonical names; a field given twice is a fault."""
    try:
        return keys.canonical(data)
    except ValueError as error:
        problems.append((path, str(error)))
        kept: dict[Any, Any] = {}
        for key, value in data.items():
            if value is not None:
                kept.setdefault(keys.name_of(key), value)
        return kept


def bind_early(
    fields: Mapping[Any, Any],
    params: Mapping[str, Any],
    path: Path,
    problems: list[Problem],
    late: frozenset[str] = frozenset(),
) -> dict[Any, Any]:
    """The fields with their parameters filled in.

    Only the `late` ones may keep other placeholders. A field with a fault is left out, or as it is
    where it is late, since further faults can be found in it.
    """
    bound: dict[Any, Any] = {}
    for field, value in fields.items():
        found = list(_placeholder_faults(value, params, (*path, field), field in late))
        keep, names = field in late, {"params": params}
        if field == "command" and isinstance(value, str):
            found = list(_shell_faults(value, (*path, field)))
            keep = keep and not found
        problems += found
        if found:
            bound |= {field: value} if keep else {}
            continue
        try:
            bound[field] = bind(value, names) if keep else substitute(value, names, final=True)
        except InputError as error:
            problems.append(((*path, field), str(error)))
    return bound


def _entries(jobs: Any, problems: list[Problem]) -> list[_Entry]:
    listed: list[tuple[Any, str | int, Any]]
    if isinstance(jobs, Mapping):
        listed = [(job, str(key), str(key)) for key, job in jobs.items()]
    elif isinstance(jobs, list | tuple):
        listed = [(job, index, None) for index, job in enumerate(jobs)]
    else:
        what = "is required" if jobs is None else f"{short(jobs)} is not a list or a mapping"
        problems.append((("jobs",), f"{what}; list the jobs of the workflow"))
        return []
    if not listed:
        problems.append((("jobs",), "is empty; a workflow needs at least one job"))
    return [_entry(job, step, key, problems) for job, step, key in listed]


def _entry(data: Any, step: str | int, key: str | None, problems: list[Problem]) -> _Entry:
    if not isinstance(data, Mapping):
        problems.append((("jobs", step), f"{short(data)} is not a mapping that describes a job"))
        return _Entry(None, data, step)
    spelled = [data[name] for name in spelling.JOB.of("id") if data.get(name) is not None]
    given = spelled[0] if spelled else key
    if given is None:
        problems.append((("jobs", step, "id"), "is required; give each job an id of its own"))
        return _Entry(None, data, step)
    try:
        name = identifier(given)
    except ValueError as error:
        problems.append((("jobs", step, "id"), str(error)))
        return _Entry(None, data, step)
    if key is not None and name != key:
        message = f"'{name}' differs from the key '{key}' that the job stands under; keep one"
        problems.append((("jobs", step, "id"), message))
        return _Entry(key, data, step)
    return _Entry(name, data, step)


def _mark_ids(entries: list[_Entry], places: Places) -> None:
    """Let the lines of listed jobs be found by id too."""
    top = (places.root.children if places.root else None) or {}
    for name in spelling.WORKFLOW.of("jobs"):
        mark = top.get(name)
        if mark and mark.children is not None:
            marks: dict[str | int, Mark] = mark.children
            for entry in entries:
                if entry.id is not None and entry.step in marks:
                    marks.setdefault(entry.id, marks[entry.step])


def _draft(
    name: str, data: Mapping[Any, Any], params: Mapping[str, Any], problems: list[Problem]
) -> Draft:
    path: Path = ("jobs", name)
    fields = canonical(data, spelling.JOB, path, problems) | {"id": name}
    before = len(problems)
    kind = fields.get("type")
    is_fan_out = isinstance(kind, str) and normalise_type(kind) == FAN_OUT
    if "parameters" in fields and not is_fan_out:
        _parameters_are_config(fields, path, problems)
    template = fields.pop("template", None)
    bound = bind_early(fields, params, path, problems, _LATE)
    if template is not None:
        bound["template"] = _template(template, bound, params, (*path, "template"), problems)
    bad = {str(found[2]) for found, _ in problems[before:] if len(found) > 2}
    return _validated(name, bound, bad, problems)


def _parameters_are_config(fields: dict[Any, Any], path: Path, problems: list[Problem]) -> None:
    parameters = fields.pop("parameters")
    if "config" in fields:
        message = "'parameters' and 'config' mean the same on a job that is no fan-out; keep one"
        problems.append(((*path, "parameters"), message))
    else:
        fields["config"] = parameters


def _template(
    template: Any,
    fan_out: Mapping[Any, Any],
    params: Mapping[str, Any],
    path: Path,
    problems: list[Problem],
) -> Any:
    if not isinstance(template, Mapping):
        return template
    fields = canonical(template, spelling.TEMPLATE, path, problems)
    bound = bind_early(fields, params, path, problems, _LATE_IN_TEMPLATE)
    has_timeout = "timeout_s" in bound or "timeout_ms" in bound
    for name in _INHERITED:
        if name in fan_out and name not in fields and not (has_timeout and "timeout" in name):
            bound[name] = fan_out[name]
    return bound


def _validated(name: str, fields: dict[Any, Any], bad: set[str], problems: list[Problem]) -> Draft:
    """The job of these fields, or what is left of it without those that are wrong."""
    path: Path = ("jobs", name)
    try:
        return Draft(Job.model_validate(fields), frozenset(bad))
    except ValidationError as error:
        found = problems_of(error, path, spelling.JOB)
    problems += _without_inherited(found)
    wrong = {str(where[2]) for where, _ in found if len(where) > 2}
    kept = {key: value for key, value in fields.items() if key not in wrong}
    try:
        return Draft(Job.model_validate({**kept, "id": name}), frozenset(wrong | bad))
    except ValidationError:
        return Draft(Job(id=name, name=name), frozenset(Job.model_fields))


def _without_inherited(found: list[Problem]) -> list[Problem]:
    """Without faults of a template that only repeat those of its fan-out."""
    own = {(path[2:], message) for path, message in found}
    return [
        (path, message)
        for path, message in found
        if path[2:3] != ("template",) or (path[3:], message) not in own
    ]


def _shell_faults(command: str, path: Path) -> Iterator[Problem]:
    """A value inserted into a line for the shell would be run as code."""
    for where, found in placeholders(command, path):
        shown = found.text if isinstance(found, Placeholder) else "${"
        yield (
            where,
            f"{shown} cannot stand in a command for the shell, where values would run as code; give"
            ' the value in config and write "$NAME", or write the command as a list ($${ is a'
            " literal ${)",
        )


def _placeholder_faults(
    value: Any, params: Mapping[str, Any], path: Path, late: bool
) -> Iterator[Problem]:
    for where, found in placeholders(value, path):
        if isinstance(found, Malformed):
            yield where, str(found)
        elif found.name == "params":
            try:
                lookup(found, {"params": params})
            except InputError as error:
                yield where, str(error)
        elif not late:
            yield (
                where,
                f"{found.shown} cannot stand here; only ${{params.x}} can (results and axes belong"
                " into config, command or over; $${ is a literal ${)",
            )
