"""The pictures of docs/benchmarks.md, each drawn from a results file and saved as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from client import FASTNCE, MEMBERS
from limits import fma_peak, medians
from report import gflops
from shapes import Shape

Results = dict[str, Any]


class Style(NamedTuple):
    color: str
    marker: str


# Okabe and Ito's palette, which the colour-blind can tell apart, fastnce in blues; markers for who prints in grey.
STYLES = {
    FASTNCE: Style("#0072B2", "o"),
    "fastnce_high": Style("#2A8FCF", "v"),
    "fastnce_medium": Style("#7CC4EE", "s"),
    "tensorflow": Style("#E69F00", "^"),
    "pytorch": Style("#D55E00", "D"),
    "pytorch_compile": Style("#CC79A7", "P"),
    "jax": Style("#009E73", "X"),
    "mkl_gemms": Style("#777777", "|"),
}
MUTED = "#555555"
plt.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e3e3e3",
        "legend.frameon": False,
        "lines.markersize": 6,
        # The same results give the same file.
        "svg.hashsalt": "fastnce",
    }
)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)


def _plain(value: float, _position: int) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _log(axes: Axes, which: str, subs: Sequence[float] = (1.0,)) -> None:
    """A logarithmic axis, "x" or "y", labelled with plain numbers."""
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_formatter(NullFormatter())


def _legend_above(figure: Any, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, handletextpad=0.4)


def ratios(results: Results, path: Path) -> None:
    """Time as a multiple of fastnce's, for each shape and library."""
    figure, axes = plt.subplots(figsize=(8.5, 3.6), layout="constrained")
    shapes = list(results["shapes"])
    for name in results["versions"]:
        if name != FASTNCE:
            times = [results["shapes"][shape]["ratio"][name] for shape in shapes]
            style = STYLES[name]
            thick = {"markeredgewidth": 2.5, "markersize": 13} if style.marker == "|" else {"markersize": 8}
            axes.plot(times, shapes, style.marker, color=style.color, label=MEMBERS[name].label, **thick)
    axes.axvline(1, color=STYLES[FASTNCE].color, linewidth=2)
    axes.text(1, 1.01, "fastnce", color=STYLES[FASTNCE].color, ha="center", transform=axes.get_xaxis_transform())
    _log(axes, "x", (1, 2, 5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.margins(y=0.1)
    axes.invert_yaxis()
    axes.grid(axis="x", which="minor", visible=False)
    axes.set_xlabel("time of one call relative to fastnce's NumPy functions (log scale; further right is slower)")
    _legend_above(figure, axes, 4)
    _save(figure, path)


def roofline(results: Results, path: Path) -> None:
    """Effective arithmetic rate of each shape and precision, under what the machine can do at best."""
    figure, axes = plt.subplots(figsize=(8.5, 4.6), layout="constrained")
    limits = medians(results["limits"])
    shapes = [Shape(**measured["shape"]) for measured in results["shapes"].values()]
    intensities = [shape.flops / shape.least_bytes for shape in shapes]
    left, right = min(intensities) / 20, max(intensities) * 2.5
    bandwidth = max(value for name, value in limits.items() if name.startswith("read_"))
    bfloat16 = max((value for name, value in limits.items() if name.startswith("bf16_")), default=None)
    float32 = fma_peak(limits, results["versions"][FASTNCE]["isa"])
    roofs = {"float32 multiply-adds": float32, "bfloat16 products": bfloat16}
    peaks = {label: peak for label, peak in roofs.items() if peak is not None}
    for label, peak in peaks.items():
        axes.plot([peak / bandwidth, right], [peak, peak], color=MUTED, linewidth=1)
        axes.text(right, peak, f" {label},\n {peak:,.0f} GFLOP/s", color=MUTED, va="center", fontsize=9)
    top = max(peaks.values(), default=bandwidth * right) / bandwidth
    axes.plot([left, top], [left * bandwidth, top * bandwidth], color=MUTED, linewidth=1)
    foot = (left * 1.2, left * 1.2 * bandwidth)
    label = f"reading memory, {bandwidth:.0f} GB/s"
    axes.annotate(label, foot, (8, 0), textcoords="offset points", va="top", color=MUTED, fontsize=9)
    for name in (name for name in results["versions"] if MEMBERS[name].environment is None):
        rates = [gflops(measured, name) for measured in results["shapes"].values()]
        style = STYLES[name]
        # The default precision in front: where less gains nothing, the points lie on each other.
        front = 4 if name == FASTNCE else 3
        axes.plot(intensities, rates, style.marker, color=style.color, label=MEMBERS[name].label, zorder=front)
    # Neighbours in intensity are labelled alternately above and below, or their names would collide.
    by_intensity = sorted(zip(intensities, results["shapes"].items(), strict=True), key=lambda item: item[0])
    for turn, (intensity, (shape, measured)) in enumerate(by_intensity):
        ours = [gflops(measured, name) for name in results["versions"] if MEMBERS[name].environment is None]
        at, offset, side = (max(ours), 8, "bottom") if turn % 2 else (min(ours), -8, "top")
        over_lines = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
        axes.annotate(
            shape, (intensity, at), (0, offset), textcoords="offset points", ha="center", va=side, bbox=over_lines
        )
    axes.margins(y=0.15)
    _log(axes, "x")
    _log(axes, "y", (1, 2, 5))
    axes.set_xlim(left, right)
    axes.set_xlabel("arithmetic per byte that has to be moved at least (FLOP / byte)")
    axes.set_ylabel("GFLOP/s of the three products")
    _legend_above(figure, axes, 3)
    _save(figure, path)


def growth(results: Results, path: Path, letters: Sequence[str]) -> None:
    """Time against one letter of the shape, one panel each."""
    figure, panels = plt.subplots(1, len(letters), figsize=(10, 3.8), layout="constrained", squeeze=False, sharey=True)
    meaning = {"S": "S, sampled classes", "B": "B, examples", "D": "D, width"}
    for letter, axes in zip(letters, panels[0], strict=True):
        points = results["sweeps"][letter]
        for name in STYLES:
            line = [(p["shape"][letter], p["median_ms"][name]) for p in points if name in p["median_ms"]]
            if line:
                style = STYLES[name]
                axes.plot(*zip(*line, strict=True), f"{style.marker}-", color=style.color, label=MEMBERS[name].label)
        _log(axes, "y")
        axes.set_xscale("log", base=2)
        ticks = [point["shape"][letter] for point in points]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45, ha="right", rotation_mode="anchor")
        axes.xaxis.set_minor_locator(plt.NullLocator())
        axes.set_xlabel(meaning[letter])
    panels[0][0].set_ylabel("ms per call")
    _legend_above(figure, panels[0][0], 5)
    _save(figure, path)


def flat_in_v(results: Results, path: Path) -> None:
    """Time against the number of classes, for each library and kind of table."""
    figure, axes = plt.subplots(figsize=(8.5, 3.6), layout="constrained")
    tables = {"float32": ("-", ""), "bfloat16": ("--", ", bfloat16 table"), "memmap": ("", ", memory-mapped file")}
    for name in STYLES:
        for table, (dashes, suffix) in tables.items():
            points = [p for p in results["sweeps"]["V"] if p["shape"]["table"] == table and name in p["median_ms"]]
            if points:
                line = [(p["shape"]["V"], p["median_ms"][name]) for p in points]
                style = STYLES[name]
                # Hollow markers keep points apart that lie on each other.
                face = "white" if suffix else style.color
                label = MEMBERS[name].label + suffix
                marker = "*" if table == "memmap" else style.marker
                axes.plot(
                    *zip(*line, strict=True),
                    linestyle=dashes,
                    marker=marker,
                    markersize=11 if marker == "*" else 6,
                    color=style.color,
                    markerfacecolor=face,
                    label=label,
                )
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("V, classes")
    axes.set_ylabel("ms per call")
    _legend_above(figure, axes, 4)
    _save(figure, path)


def memory(results: Results, path: Path) -> None:
    """Memory of one call beyond inputs and outputs, against S."""
    figure, axes = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
    points = results["memory"]
    for name in STYLES:
        line = [(p["shape"]["S"], p["extra"][name]["extra_bytes"] / 2**20) for p in points if name in p["extra"]]
        if line:
            style = STYLES[name]
            axes.plot(*zip(*line, strict=True), f"{style.marker}-", color=style.color)
            axes.annotate(
                f"  {MEMBERS[name].label}", line[-1], (4, 0), textcoords="offset points", va="center", color=style.color
            )
    matrix = [(p["shape"]["S"], 4 * p["shape"]["B"] * p["shape"]["S"] / 2**20) for p in points]
    axes.plot(*zip(*matrix, strict=True), ":", color=MUTED)
    axes.annotate("  one matrix [B, S]", matrix[-1], (4, 0), textcoords="offset points", va="center", color=MUTED)
    _log(axes, "y")
    axes.set_xscale("log", base=2)
    ticks = [p["shape"]["S"] for p in points]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlabel("S, sampled classes")
    axes.set_ylabel("MiB beyond inputs and outputs")
    _save(figure, path)
