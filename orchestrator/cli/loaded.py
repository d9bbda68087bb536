"""A workflow file on its way in: read, checked, with the code that it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .app import App

if TYPE_CHECKING:
    from ...common.bundles import Bundle
    from ...common.code import CodeRoot
    from ...common.spec.models import Workflow


@dataclass(frozen=True, slots=True)
class Loaded:
    """A workflow that has passed every check, and the code that it runs."""

    workflow: Workflow
    code: CodeRoot
    bundle: Bundle | None = None


def load(
    app: App,
    file: str,
    assignments: tuple[tuple[str, Any], ...] = (),
    bundle: str | None = None,
) -> Loaded:
    """Reads and checks a workflow file, and packs the folder `bundle`; writes nothing, starts nothing.

    Raises SpecError with every fault at once, InputError for a bundle that is none.
    """
    from ...common.spec import importer

    folder = Path(file).resolve().parent
    importer.start(folder)  # while the rest is imported
    from ...common.code import code_root
    from ...common.spec.functions import resolver
    from ...common.spec.loading import load_workflow

    limit = app.settings().spec_limit_bytes
    find = resolver(folder)
    workflow = load_workflow(file, dict(assignments), limit_bytes=limit, resolver=find)
    if bundle is None:
        return Loaded(workflow, code_root(folder))
    from ...common.bundles import pack

    packed = pack(Path(bundle), int(app.settings().bundle_limit_bytes))
    return Loaded(workflow, packed.code(folder), packed)


def cores() -> int:
    """The cores this process may use; 2 where that is not known."""
    try:
        return len(os.sched_getaffinity(0)) or 2
    except (AttributeError, OSError):
        return os.cpu_count() or 2


def slots(
    declared: bool | None,
    file_workers: int | str | None,
    *,
    parallel: bool | None,
    workers: int | str | None,
    cores: int,
) -> int:
    """How many slots a run on this machine gets.

    `declared` is the file's parallel_execution, None where it has none: then there is
    one slot a core unless told otherwise. A file that has it runs serially unless it
    or `--parallel` says parallel, and then with `auto` slots, one less than the cores;
    a number of workers alone does not make it parallel.
    """
    auto = max(1, cores - 1)
    if parallel is False or (declared is False and parallel is None):
        return 1
    chosen = workers if workers is not None else file_workers
    if chosen is None:
        chosen = cores if declared is None else "auto"
    return auto if chosen == "auto" else int(chosen)
