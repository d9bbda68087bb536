"""The curves as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Curve -> (title, x, [(figure, label)], y).
PLOTS = {
    "queue": (
        "An advance of 96 beside a queue",
        "jobs queued",
        [("usec_per_call", "")],
        "us a call",
    ),
    "width": ("1 -> width -> 1", "width", [("ms_each", "")], "ms a child"),
    "chain": ("A chain", "hops", [("ms_each", "")], "ms a hop"),
    "nodes": ("Beating nodes", "nodes", [("core_share", "")], "share of a core"),
    "slots": (
        "One node",
        "slots",
        [("noop_per_s", "no-op"), ("wait_per_s", "waits 5 ms")],
        "jobs a second",
    ),
}
_LOGARITHMIC = ("queue", "width", "chain")


def plot(results: dict[str, Any], file: Path) -> None:
    """Draws all curves that are there."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = [name for name in PLOTS if name in results]
    if not names:
        return
    figure, axes = pyplot.subplots(1, len(names), figsize=(3.6 * len(names), 3.2), squeeze=False)
    for name, axis in zip(names, axes[0], strict=True):
        title, x_label, lines, y_label = PLOTS[name]
        x = [int(place) for place in results[name]]
        for figure_name, label in lines:
            y = [point[figure_name] for point in results[name].values()]
            axis.plot(x, y, marker="o", markersize=4, label=label or None)
        if name in _LOGARITHMIC:
            axis.set_xscale("log")
        highest = max(point[key] for point in results[name].values() for key, _ in lines)
        axis.set_ylim(0, 1.1 * highest)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(x_label, fontsize=9)
        axis.set_ylabel(y_label, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if len(lines) > 1:
            axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
