"""Finding out, before anything is queued, that the functions of a workflow can be imported.

The user's code is imported in one child process (`probe.py`), never in ours: started with
Python's safe path, given the user's folder explicitly, ended after a minute. Types without a
`run` of their own are bound to their handlers in the same go.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import IO, TYPE_CHECKING, Any

from ..errors import Fault, SpecError
from ..handlers import CONTROL_TYPES, HANDLERS_MODULE, registered
from .arguments import Signature, argument_problems
from .places import Places
from .wording import near

if TYPE_CHECKING:
    from .models import Aggregation, Job, Workflow
    from .places import Path, Problem

#: Functions (`module:function`) that can be imported, and how they can be called.
Known = dict[str, Signature | None]
#: How long all imports together may take, in seconds.
IMPORT_LIMIT_S = 60.0
_CHILD = "penstock.common.spec.probe"


def check_functions(functions: Mapping[str, str], root: FilePath) -> list[Fault]:
    """Faults of functions (place -> `module:function`) that cannot be imported from `root`."""
    if not functions:
        return []
    answers = _ask(root, list(dict.fromkeys(functions.values())), [], check=True)
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
    answers = _ask(root, functions, handled, check=check) if named or types else _Answers()
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


class _Answers:
    """What the child found out."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.signatures: Known = {}
        self.runs: dict[str, str | None] = {}
        self.bindings: list[str] = []
        self.broken: list[Problem] = []
        self.step: dict[str, Any] = {}
        self.done = False

    def take(self, answer: dict[str, Any]) -> None:
        """Note one line of the child's."""
        if "importing" in answer:
            self.step = answer
        elif "function" in answer:
            name, error, found = answer["function"], answer["error"], answer["signature"]
            if error:
                self.errors[name] = error
            else:
                self.signatures[name] = found and Signature(
                    tuple(found["names"]),
                    tuple(found["required"]),
                    found["open"],
                    found["first"],
                )
        elif "handlers" in answer:
            if answer["handlers"]:
                self.broken.append(((f"{HANDLERS_MODULE}.py",), answer["handlers"]))
        elif "types" in answer:
            self.runs, self.bindings = answer["types"], answer["known"]
        elif "done" in answer:
            self.done = True

    def cut_short(self, functions: list[str], why: str) -> None:
        """The child ended before it was done: blame what it was importing."""
        module = self.step.get("importing", "")
        message = f"importing '{module}' {why}; move what it does at import into functions"
        blamed = [name for name in functions if name.split(":")[0] == module]
        self.errors |= dict.fromkeys(blamed, message)
        if not blamed:
            place = (f"{module}.py",) if module else ()
            self.broken.append((place, message if module else f"the check of functions {why}"))

    def fault_of_type(self, name: str) -> str:
        """What is wrong with the handler of a type; nothing if it has a good one."""
        run = self.runs.get(name)
        if run:
            error = self.errors.get(run)
            return f"its handler: {error}" if error else ""
        if self.broken or not self.done:
            return ""
        hint = near(name, [*self.bindings, *CONTROL_TYPES])
        return (
            f"no handler for the type '{name}'{hint}; give the job run: or command:, or bind a"
            f" function with @penstock.handler('{name}') in {HANDLERS_MODULE}.py beside the file"
        )


def _ask(root: FilePath, functions: list[str], types: list[str], *, check: bool) -> _Answers:
    """Let one child import what is named."""
    request = {
        "functions": functions,
        "types": types,
        "registered": registered() if types else {},
        "check": check,
        "limit_s": IMPORT_LIMIT_S,
    }
    answers = _Answers()
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            start_new_session=True,
        )
    except OSError as error:
        answers.broken.append(((), f"the code's folder {root} cannot be used: {error.strerror}"))
        return answers
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(json.dumps(request).encode())
        ended = _listen(child.stdout, answers)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # with whatever the imports started
        code = child.wait()
        child.stdout.close()
    if not answers.done:
        why = f"ended the process (exit code {code})" if ended else _too_long()
        answers.cut_short(functions, why)
    return answers


def _too_long() -> str:
    return f"took longer than {IMPORT_LIMIT_S:g} s"


def _listen(stream: IO[bytes], answers: _Answers) -> bool:
    """Take answers until the child is done (or has ended: True); False if its time is up."""
    deadline = time.monotonic() + IMPORT_LIMIT_S
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            data = os.read(stream.fileno(), 65536)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):
                    answers.take(json.loads(line))
            if answers.done or not data:
                return True
    return False
