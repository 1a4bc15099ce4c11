"""Print the table of trainers of docs/word2vec.md and draw its plot, from the newest trainers-*.json of a folder.

    python bench/word2vec/trainers_measured.py [--results bench/results] [--output docs]

Needs matplotlib (dependency group `bench`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from options import ROOT
from plots import STYLES, plt
from report import digits, markdown, newest

Run = dict[str, Any]

LABELS = {"fastnce": "fastnce", "fastnce-avx2": "fastnce, AVX2 alone", "gensim": "gensim", "fasttext": "fastText"}
DRAWN = {"fastnce": STYLES["fastnce"], "gensim": STYLES["tensorflow"], "fasttext": STYLES["jax"]}
QUALITIES = {
    "similarity": "WordSim-353, Spearman's correlation",
    "analogies": "analogies solved, of the 30,000 most frequent words",
}


def words_per_second(run: Run, words: int) -> float:
    return run["epochs"] * words / run["training_seconds"]


def span(values: list[float], form: Callable[[float], str]) -> str:
    """The median, and in brackets the range."""
    if len(values) == 1:
        return form(values[0])
    return f"{form(median(values))} ({form(min(values))} - {form(max(values))})"


def table(results: dict[str, Any]) -> list[str]:
    """A line for each trainer with a number of threads and epochs. Ratios are to gensim's run of the same round."""
    runs: list[Run] = results["runs"]
    lines: dict[tuple[int, int, str], list[Run]] = {}
    for run in runs:
        lines.setdefault((run["epochs"], run["threads"], run["trainer"]), []).append(run)
    rows = []
    for (epochs, threads, trainer), own in sorted(lines.items(), key=lambda item: (item[0][0], -item[0][1])):
        gensim = {run["round"]: run["training_seconds"] for run in lines.get((epochs, threads, "gensim"), [])}
        ratios = [gensim[run["round"]] / run["training_seconds"] for run in own if run["round"] in gensim]
        ratios = [] if trainer == "gensim" else ratios
        rows.append(
            [
                LABELS[trainer],
                str(epochs),
                str(threads),
                span([words_per_second(run, results["words"]) / 1e6 for run in own], digits),
                span(ratios, lambda ratio: f"{ratio:.2g}" if ratio < 1 else f"{ratio:.1f}") if ratios else "",
                digits(median(run["whole_seconds"] for run in own)),
                digits(median(run["peak_mb"] for run in own if "peak_mb" in run)),
                f"{mean(run['similarity'] for run in own):.3f}".lstrip("0"),
                f"{100 * mean(run['analogies'] for run in own):.1f}",
            ]
        )
    head = [
        "",
        "epochs",
        "threads",
        "million words/s",
        "over gensim",
        "whole run, s",
        "peak MB",
        "WordSim",
        "analogies %",
    ]
    return markdown(head, rows)


def draw(results: dict[str, Any], path: Path) -> None:
    """How good the vectors are against the seconds from the text to the file, two threads; a line joins means."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, (key, title) in zip(panels, QUALITIES.items(), strict=True):
        for trainer, style in DRAWN.items():
            runs = [run for run in results["runs"] if run["trainer"] == trainer and run["threads"] == 2]
            axes.plot([run["whole_seconds"] for run in runs], [run[key] for run in runs], style.marker,
                      color=style.color, markersize=4, alpha=0.6)  # fmt: skip
            groups = [
                [run for run in runs if run["epochs"] == epochs] for epochs in sorted({run["epochs"] for run in runs})
            ]
            x, y = ([mean(run[of] for run in group) for group in groups] for of in ("whole_seconds", key))
            axes.plot(x, y, color=style.color, label=LABELS[trainer])
            for group, at, height in zip(groups, x, y, strict=True):
                epochs = group[0]["epochs"]
                axes.annotate(f"{epochs}", (at, height), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        axes.set(xscale="log", title=title, xlabel="seconds from the text to the file of vectors")
        axes.title.set_fontsize(10)
        axes.set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
        axes.margins(y=0.1)
    panels[0].legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", metavar="DIR")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="DIR", help="(default docs)")
    options = parser.parse_args()
    results = newest(options.results, "trainers")
    if results is None:
        raise SystemExit(f"--results {options.results}: expected a trainers-*.json")
    draw(results, options.output / "word2vec" / "quality.svg")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
