"""The examples that slurm-sdk publishes in its wheel, as programs of their own.

Their tasks and patterns are not touched: other imports, and a `main` that connects elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

#: the examples, by the name of their module
EXAMPLES = ("parallelization_patterns", "map_reduce")
OURS = "from penstock import Cluster, Job, task"

_IMPORTS = re.compile(r"^from slurm\.\w+ import \w+\n", re.MULTILINE)
_CONNECTS = re.compile(
    r"^    # Build cluster kwargs\n.*?from_args\(.*?\)\n", re.MULTILINE | re.DOTALL
)
#: lines of what they print that differ from run to run
_TIMES = re.compile(r"^.*(?:Speedup|Time):.*\n", re.MULTILINE)


def program(source: Path, imports: str, connect: str) -> str:
    """An example's text; `imports` stand for its own ('' keeps these), `connect` makes `cluster`."""
    text, connects = _CONNECTS.subn(f"    cluster = {connect}\n", source.read_text())
    text, imported = _IMPORTS.subn("", text) if imports else (text, 1)
    if connects != 1 or not imported:
        raise ValueError(f"{source.name} is not the example that it was")
    if not imports:
        return text
    future, rest = text.split("from __future__ import annotations\n")
    return f"{future}from __future__ import annotations\n\n{imports}\n{rest}"


def results(printed: str) -> list[str]:
    """What an example printed, without the times that it took."""
    return _TIMES.sub("", printed).splitlines()
