"""From a file or a mapping to a checked Workflow, with all faults at once."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from ..errors import Fault, SpecError
from . import spelling
from .document import Unreadable, read_document
from .drafting import bind_early, canonical, draft_jobs
from .fields import json_object
from .models import Workflow
from .places import Places, Problem
from .validation import CODE_FIELDS, check
from .wording import near_or_all, problems_of, short

#: The largest workflow file, in bytes, unless the caller says otherwise.
LIMIT_BYTES = 1_048_576

#: Finds further faults in what could be read (`functions.resolver`).
Resolver = Callable[[Workflow], tuple[Workflow, list[Problem]]]


def load_workflow(
    path: FilePath | str,
    params: Mapping[str, Any] | None = None,
    *,
    limit_bytes: int = LIMIT_BYTES,
    resolver: Resolver | None = None,
) -> Workflow:
    """The workflow of a YAML or JSON file; `params` override the file's.

    A `resolver` (`functions.resolver(root)`) also checks the functions and binds handlers, so
    that its faults are reported together with all others. Raises SpecError with every fault.
    """
    source = str(path)
    try:
        text = _read(FilePath(path), limit_bytes)
        document = read_document(
            text, limit=limit_bytes, prefer_json=source.lower().endswith(".json")
        )
    except Unreadable as error:
        place = f"{source}:{error.line}" if error.line else source
        raise SpecError([Fault(place, error.message)]) from None
    places = Places(source, document.mark)
    return _Parser(document.data, params or {}, places, document.problems).workflow(resolver)


def parse_workflow(
    data: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    source: str = "<workflow>",
    *,
    resolver: Resolver | None = None,
) -> Workflow:
    """The workflow of a mapping as a file would hold it. Raises SpecError with every fault."""
    try:
        return _Parser(data, params or {}, Places(source), []).workflow(resolver)
    except RecursionError:
        fault = Fault(source, "lists and mappings lie too deep, or hold themselves")
        raise SpecError([fault]) from None


def _read(path: FilePath, limit: int) -> str:
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise Unreadable(0, f"{what}; name a YAML or JSON file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise Unreadable(0, f"cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise Unreadable(
            0,
            f"is larger than {limit:,} bytes; keep data in files of its own, or raise"
            " PENSTOCK_SPEC_LIMIT_BYTES",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, "is not UTF-8 text; save it as UTF-8") from None


class _Parser:
    """Reads one workflow, gathering faults instead of stopping at the first."""

    def __init__(
        self, data: Any, params: Mapping[str, Any], places: Places, problems: list[Problem]
    ) -> None:
        self.data = data
        self.given = params
        self.places = places
        self.problems = list(problems)

    def workflow(self, resolver: Resolver | None) -> Workflow:
        if not isinstance(self.data, Mapping):
            kind = "empty" if self.data is None else f"no mapping but {short(self.data)}"
            raise SpecError([self.places.fault(((), f"is {kind}; begin with 'name:' and 'jobs:'"))])
        top = canonical(self.data, spelling.WORKFLOW, (), self.problems)
        params = self._params(top.pop("params", {}))
        drafts = draft_jobs(top.pop("jobs", None), params, self.places, self.problems)
        workflow = self._top(top, params)
        jobs = {draft.job.id: draft.job for draft in drafts}
        workflow = workflow.model_copy(update={"params": params, "jobs": jobs}).placed(self.places)
        self.problems += check(workflow, drafts)
        if resolver:
            workflow, found = resolver(workflow)
            unsure = {draft.job.id for draft in drafts if draft.bad & CODE_FIELDS}
            unread = {draft.job.id for draft in drafts if "config" in draft.bad}
            for path, message in found:
                in_doubt = unsure | unread if "config" in path[2:] else unsure
                if not in_doubt.intersection(path[1:2]):
                    self.problems.append((path, message))
        if self.problems:
            raise SpecError(self.places.faults(self.problems))
        return workflow

    def _params(self, declared: Any) -> dict[str, Any]:
        """The file's parameters under those that were given."""
        params, given = self._values(declared), self._values(self.given)
        for name in given.keys() - params.keys():
            hint = near_or_all(name, params) or "; it has none"
            self.problems.append((("params",), f"the workflow has no parameter '{name}'{hint}"))
        return params | {name: value for name, value in given.items() if name in params}

    def _values(self, values: Any) -> dict[str, Any]:
        try:
            return json_object(values)
        except ValueError as error:
            self.problems.append((("params",), str(error)))
            return {}

    def _top(self, top: dict[Any, Any], params: Mapping[str, Any]) -> Workflow:
        """The workflow without its jobs; wrong fields are reported and left out."""
        top = bind_early(top, params, (), self.problems)
        name = top.get("name")
        top.setdefault("id", _slug(name if name is not None else FilePath(self.places.source).stem))
        top.setdefault("name", top["id"])
        try:
            return Workflow.model_validate(top)
        except ValidationError as error:
            found = problems_of(error, (), spelling.WORKFLOW)
            self.problems += found
            bad = {path[0] for path, _ in found if path}
            kept = {key: value for key, value in top.items() if key not in bad}
            return Workflow.model_validate({"id": "workflow", **kept})


def _slug(name: object) -> str:
    """An id made of a name: `Model Training` -> `Model-Training`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", str(name)).strip("-")[:100] or "workflow"
