"""Plots of what perf/compare.py measured.

Solid lines and full marks are this server with its kinds of workers, dashed lines and open marks are others. The
colours are those of Okabe and Ito, which colour-blind people can tell apart, and each server has a mark of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from servers import Run

PERCENTILES = ("p50", "p90", "p99", "p99.9")
LATENCY_CONNECTIONS = 64
WIDTH, HEIGHT, DPI = 9.0, 4.6, 110
OURS = {  # worker class: label, colour, mark
    "featurestore": ("featurestore (default)", "#0072B2", "o"),
    "gevent": ("gevent", "#56B4E9", "s"),
    "gthread": ("gthread", "#009E73", "^"),
    "sync": ("sync", "#CC79A7", "D"),
}
OTHERS = {
    "nginx constant": ("nginx, a constant", "#7F7F7F", "*"),
    "nginx lua": ("nginx with LuaJIT", "#000000", "P"),
    "webdis": ("webdis, HGETALL", "#D55E00", "X"),
    "fastapi": ("FastAPI", "#E69F00", "v"),
}


def plot(folder: Path, runs: Sequence[Run], connections: Sequence[int], caption: str) -> None:
    """Draw throughput by connections, and latency percentiles at 64 connections.

    Args:
        folder: Where throughput.png and latency.png go.
        runs: GETs of one user.
        connections: The numbers of connections.
        caption: The machine and the date, in words.
    """
    figure, axes = canvas()
    for server in servers_of(runs):
        mine = [run for run in runs if run.server == server]
        axes.plot([run.connections for run in mine], [run.rate / 1000 for run in mine], **style(server))
    axes.set(xscale="log", xlabel="connections", ylabel="thousand requests a second",
             title="GET of one user, 10 features")  # fmt: skip
    axes.set_xticks(connections, [str(count) for count in connections])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    finish(figure, axes, caption, folder / "throughput.png")

    figure, axes = canvas()
    for run in runs:
        if run.connections == LATENCY_CONNECTIONS:
            values = [value / 1000 for value in (run.p50, run.p90, run.p99, run.p999)]
            axes.plot(PERCENTILES, values, **style(run.server))
    axes.set(yscale="log", ylabel="ms", title=f"Latency of a GET at {LATENCY_CONNECTIONS} connections")
    in_plain_numbers(axes.yaxis)
    finish(figure, axes, caption, folder / "latency.png")


def servers_of(runs: Sequence[Run]) -> list[str]:
    """Return the servers that were measured, this project's first."""
    measured = {run.server for run in runs}
    return [server for server in (*OURS, *OTHERS) if server in measured]


def style(server: str) -> dict[str, Any]:
    """Return how a server's line is drawn."""
    label, colour, mark = {**OURS, **OTHERS}[server]
    ours = server in OURS
    return {
        "label": label,
        "color": colour,
        "marker": mark,
        "markersize": 7,
        "linestyle": "-" if ours else "--",
        "linewidth": 2.2 if server == "featurestore" else 1.4,
        "markerfacecolor": colour if ours else "white",
        "zorder": 3 if server == "featurestore" else 2,
    }


def canvas() -> tuple[Any, Any]:
    """Return a figure and its axes."""
    import matplotlib as mpl  # noqa: PLC0415 - programs that draw nothing do without it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes.grid(alpha=0.3)
    return figure, axes


def in_plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis by 0.5, 1, 2, 5, 10 and so on."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def finish(figure: Any, axes: Any, caption: str, path: Path) -> None:
    """Add the legends, this server's kinds of workers apart from others, and the caption; write the picture."""
    handles, labels = axes.get_legend_handles_labels()
    drawn = dict(zip(labels, handles, strict=True))
    for title, servers, place in (("this server, by worker class", OURS, "upper"), ("others", OTHERS, "lower")):
        mine = [label for label, *_ in servers.values() if label in drawn]
        figure.legend([drawn[label] for label in mine], mine, title=title, loc=f"outside right {place}",
                      frameon=False, alignment="left", handlelength=3)  # fmt: skip
    figure.supxlabel(caption, fontsize=8, color="#555555", x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)
