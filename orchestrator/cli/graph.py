"""The DAG as Mermaid text: pure functions of a workflow and, for colours, an execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Fill and line of each job status.
COLOURS = {
    "finished": "fill:#d7f2dc,stroke:#2e8b57",
    "started": "fill:#d6ecfa,stroke:#1f77b4",
    "failed": "fill:#fadbd8,stroke:#c0392b",
    "canceled": "fill:#fdebd0,stroke:#b9770e",
    "stopped": "fill:#fdebd0,stroke:#b9770e",
    "scheduled": "fill:#fff8dc,stroke:#b8860b",
    "queued": "fill:#f4f6f7,stroke:#7f8c8d",
    "deferred": "fill:#ffffff,stroke:#b3b6b7,stroke-dasharray:4 3",
}

#: Brackets around a job's label, by its control type.
SHAPES = {"fan-out": ("[[", "]]"), "fan-in": ("[/", "\\]"), "approval": ("{{", "}}")}


@dataclass(frozen=True, slots=True)
class Node:
    """A job of the graph: its id, its type, what is written below its id, its upstreams."""

    id: str
    type: str
    note: str
    upstreams: Sequence[str]


def mermaid(nodes: Sequence[Node], statuses: Mapping[str, str] | None = None) -> str:
    """The jobs as a Mermaid flowchart, coloured where `statuses` (by job id) are given."""
    # Ids of their own: a job may be called `end`, which Mermaid does not survive.
    names = {node.id: f"j{i}" for i, node in enumerate(nodes)}
    lines = ["flowchart TD"]
    for node in nodes:
        left, right = SHAPES.get(node.type, ("[", "]"))
        label = _escape(node.id) + (f"<br/>{_escape(node.note)}" if node.note else "")
        lines.append(f'    {names[node.id]}{left}"{label}"{right}')
    for node in nodes:
        lines += [
            f"    {names[upstream]} --> {names[node.id]}"
            for upstream in node.upstreams
            if upstream in names
        ]
    return "\n".join(lines + _classes(names, statuses or {}))


def _classes(names: Mapping[str, str], statuses: Mapping[str, str]) -> list[str]:
    used = [status for status in COLOURS if status in statuses.values()]
    lines = [f"    classDef {status} {COLOURS[status]}" for status in used]
    for status in used:
        members = [names[job] for job in names if statuses.get(job) == status]
        lines.append(f"    class {','.join(members)} {status}")
    return lines


def _escape(text: str) -> str:
    return "".join(f"#{ord(c)};" if c in '"<>&#' else c for c in " ".join(text.split()))
