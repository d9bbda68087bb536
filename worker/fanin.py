"""Runs a custom fan-in: the user's function over the outputs of a fan-out."""

from __future__ import annotations

from typing import Any

from .functions import Functions, call


def custom(
    function: str,
    outputs: list[Any],
    strategy: str,
    source_job_id: str,
    config: dict[str, Any] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Calls `function` (`mod:func`) with the list of outputs, in the fan-out's order, and `config` by name.

    Raises CodeMissing when there is no such function, and whatever it raises.
    """
    return {
        "aggregated_result": call(Functions().find(function), outputs, **(config or {})),
        "strategy": strategy,
        "input_count": len(outputs),
        "source_job_id": source_job_id,
    }
