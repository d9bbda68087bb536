"""Finding out, before anything is queued, that the functions of a workflow can be imported.

The user's code is imported in one child process (`importer.py`), never in ours. Types without a
`run` of their own are bound to their handlers in the same go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from ..errors import Fault, SpecError
from ..handlers import CONTROL_TYPES
from . import importer
from .arguments import argument_problems
from .importer import Answers, Known
from .places import Places

if TYPE_CHECKING:
    from .models import Aggregation, Job, Workflow
    from .places import Path, Problem


def check_functions(functions: Mapping[str, str], root: FilePath) -> list[Fault]:
    """Faults of functions (place -> `module:function`) that cannot be imported from `root`."""
    if not functions:
        return []
    answers = importer.ask(root, list(dict.fromkeys(functions.values())), [], check=True)
    wrong = ((place, answers.errors.get(name)) for place, name in functions.items())
    found = [Fault(place, error) for place, error in wrong if error]
    return found + Places().faults(answers.broken)


def resolve_functions(workflow: Workflow, root: FilePath, check: bool = True) -> Workflow:
    """The workflow in which every type with a handler has its function as `run`.

    With `check`, every function is imported too, and what it is given compared with what it
    takes. Raises SpecError with all faults.
    """
    resolved, problems = _resolve(workflow, root, check, {})
    if problems:
        raise SpecError(workflow.places.faults(problems))
    return resolved


def resolver(
    root: FilePath, check: bool = True, known: Known | None = None
) -> Callable[[Workflow], tuple[Workflow, list[Problem]]]:
    """`resolve_functions` as `load_workflow` takes it, to report all faults together.

    Functions that are `known` are not imported again; those that are found become known.
    """
    return lambda workflow: _resolve(workflow, root, check, {} if known is None else known)


def _resolve(
    workflow: Workflow, root: FilePath, check: bool, known: Known
) -> tuple[Workflow, list[Problem]]:
    named = {at: name for at, name in _named_functions(workflow) if check and name not in known}
    types = {
        path: work.type
        for path, work in workflow.work()
        if work.type and not (work.run or work.command or work.type in CONTROL_TYPES)
    }
    functions, handled = list(dict.fromkeys(named.values())), list(dict.fromkeys(types.values()))
    answers = importer.ask(root, functions, handled, check=check) if named or types else Answers()
    problems: list[Problem] = [
        (path, answers.errors[name]) for path, name in named.items() if name in answers.errors
    ]
    problems += answers.broken
    for path, name in types.items():
        if fault := answers.fault_of_type(name):
            problems.append(((*path, "type"), fault))
    resolved = _bound(workflow, answers.runs) if types else workflow
    known |= answers.signatures
    if check:
        problems += _unfit(resolved, known)
    return resolved, problems


def _unfit(workflow: Workflow, known: Known) -> Iterator[Problem]:
    """What functions are given and do not take, or take and are not given."""
    for path, work in workflow.work():
        signature = known.get(work.run) if work.run else None
        if work.run and signature and not work.command:
            yield from argument_problems(path, work.run, work.config, signature)
    for name, job in workflow.jobs.items():
        custom = job.aggregation.custom_aggregator if job.aggregation else None
        signature = known.get(custom) if custom else None
        if custom and signature and signature.first is None:
            where: Path = ("jobs", name, "aggregation", "custom_aggregator")
            yield (
                where,
                f"{custom.partition(':')[2]}() takes no list of outputs, which it is given first",
            )
        elif custom and signature:
            yield from argument_problems(
                ("jobs", name), custom, job.config, signature.behind_the_first()
            )
            if signature.first and signature.first in job.config and signature.open:
                what = f"is the list of outputs, which {custom.partition(':')[2]}() is given"
                yield ("jobs", name, "config", signature.first), what


def _named_functions(workflow: Workflow) -> Iterator[tuple[Path, str]]:
    for path, work in workflow.work():
        if work.run:
            yield (*path, "run"), work.run
    for name, job in workflow.jobs.items():
        aggregation: Aggregation | None = job.aggregation
        if aggregation and aggregation.custom_aggregator:
            where = ("jobs", name, "aggregation", "custom_aggregator")
            yield where, aggregation.custom_aggregator


def _bound(workflow: Workflow, runs: Mapping[str, str | None]) -> Workflow:
    """The workflow with the handlers of its types as `run`."""
    jobs: dict[str, Job] = {}
    for name, job in workflow.jobs.items():
        update: dict[str, Any] = {}
        if runs.get(job.type) and not (job.run or job.command):
            update["run"] = runs[job.type]
        template = job.template
        if template and runs.get(template.type) and not (template.run or template.command):
            update["template"] = template.model_copy(update={"run": runs[template.type]})
        jobs[name] = job.model_copy(update=update) if update else job
    return workflow.model_copy(update={"jobs": jobs})
