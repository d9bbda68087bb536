"""The figures as a picture: a panel a workload, a bar a system, its best configuration."""

from __future__ import annotations

from pathlib import Path

from . import report

#: (title, workload, figure, is more better?)
PANELS = [
    ("W1: no-op jobs a second", "W1", "jobs_per_s", True),
    ("a full queue drained, jobs a second", "drain", "jobs_per_s", True),
    ("W2: 1 -> 1,000 -> 1, s", "W2", "s_1000", False),
    ("W3: ms a hop", "W3", "ms_a_hop", False),
    ("W4: there and back, p50, ms", "W4", "p50_ms", False),
    ("W5: bytes a queued job (40)", "W5", "bytes_40", False),
]
_COLOURS = {report.OURS: "tab:blue", report.FLOOR: "tab:green"}


def plot(results: report.Results, file: Path) -> None:
    """Draws all panels; the best system is on top."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7))
    for (title, workload, name, more), axis in zip(PANELS, axes.flat, strict=True):
        bars = _bars(results, workload, name, more)
        labels = [system for system, _ in bars]
        values = [value for _, value in bars]
        colours = [_COLOURS.get(label, "0.6") for label in labels]
        drawn = axis.barh(labels, values, color=colours)
        axis.bar_label(drawn, [report.plain(value) for value in values], fontsize=8, padding=2)
        axis.set_title(title, fontsize=10)
        if workload != "W5":  # all within one power of ten
            axis.set_xscale("log")
        axis.margins(x=0.25)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _bars(results: report.Results, workload: str, name: str, more: bool) -> list[tuple[str, float]]:
    systems = dict.fromkeys(title.partition("/")[0] for title in results["systems"])
    choose = max if more else min
    found = {
        system: value[1]
        for system in systems
        if (value := report.best(results, workload, name, choose, system)) is not None
    }
    return sorted(found.items(), key=lambda pair: pair[1], reverse=not more)
