"""The Markdown tables of one results file of `run.py`: `python bench/peers/report.py results/peers-....json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from math import floor, log10
from pathlib import Path
from statistics import median
from typing import Any

from client import EVERYBODY, FASTNCE, FASTNCE_SOFTMAX, FRONT_ENDS, MEMBERS, SOFTMAX_MEMBERS, TRAINING_MEMBERS
from limits import fma_peak, medians
from shapes import Shape

# Share of the machine that others may take before the report says so.
OTHER_LOAD = 0.05
# What --allocator means.
ALLOCATED = {
    "retain": "glibc set to keep freed memory (`--allocator retain`)",
    "system": "glibc's default allocator (`--allocator system`)",
}


def save(kind: str, results: dict[str, Any], folder: Path) -> Path:
    """Write the results under a name made of their kind and date; the path."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = "".join(c for c in results["date"].removesuffix("+00:00") if c.isalnum())
    path = folder / f"{kind}-{stamp}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def newest(folder: Path, kind: str, isa: str | None = None) -> dict[str, Any] | None:
    """By date, among the results of that kind and instruction set asked for."""
    files = [json.loads(path.read_text()) for path in folder.glob(f"{kind}-*.json")]
    return max((r for r in files if r.get("isa") == isa), key=lambda r: r["date"], default=None)


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table, first column to the left and the others to the right."""
    head = list(head)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|---" + "|--:" * (len(head) - 1) + "|", *lines[1:]]


def digits(value: float) -> str:
    """Three significant ones, without exponents."""
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}" if 0 < value < 100 else f"{value:,.0f}"


def setting(results: dict[str, Any]) -> list[str]:
    """Where and with what it was measured."""
    machine, versions = results["machine"], results["versions"]
    libraries = (
        f"{key} {value}"
        for name, facts in versions.items()
        if MEMBERS[name].environment is not None
        for key, value in facts.items()
        if key != "python"
    )
    # The precision of each fastnce is in its name; everything runs on the CPU.
    ours = (
        f"{key} {value}"
        for key, value in versions[FASTNCE].items()
        if isinstance(value, str | int) and key not in ("precision", "cuda")
    )
    return [
        f"- Measured {results['date']} on {machine['cpu']}, {machine['cores']} cores ({' '.join(machine['flags'])}), "
        f"{results['threads']} threads, {ALLOCATED[results['allocator']]}.",
        f"- fastnce at {results['fastnce_commit'] or 'unknown commit'}: {', '.join(ours)}.",
        f"- Peers: {', '.join(dict.fromkeys(libraries))}.",
    ]


def times_table(results: dict[str, Any]) -> list[str]:
    """Median ms per call, and in brackets the ratio to fastnce's time, median over rounds."""
    names = list(results["versions"])

    def cell(measured: dict[str, Any], name: str) -> str:
        milliseconds = digits(measured["median_ms"][name])
        return milliseconds if name == FASTNCE else f"{milliseconds} ({measured['ratio'][name]:.2f}x)"

    rows = ([shape, *(cell(measured, name) for name in names)] for shape, measured in results["shapes"].items())
    return markdown(["ms", *(EVERYBODY[name].label for name in names)], rows)


def ratio(measured: dict[str, Any], name: str, base: str) -> float:
    """Time of one member relative to that of another, median over rounds."""
    rounds = measured["round_seconds"]
    return median(theirs / own for theirs, own in zip(rounds[name], rounds[base], strict=True))


def softmax_tables(results: dict[str, Any]) -> list[str]:
    """Of a results file of `sampled_softmax.py`: median ms per call, and in brackets the ratio: of fastnce's time to
    that of its nce_loss, of the others' times to fastnce's."""
    measured = results["shapes"]
    names = [name for name in results["versions"] if name in SOFTMAX_MEMBERS]

    def cell(shape: str, name: str) -> str:
        base = FASTNCE if name == FASTNCE_SOFTMAX else FASTNCE_SOFTMAX
        return f"{digits(measured[shape]['median_ms'][name])} ({ratio(measured[shape], name, base):.2f}x)"

    rows = (
        [shape, digits(facts["median_ms"][FASTNCE]), *(cell(shape, name) for name in names)]
        for shape, facts in measured.items()
    )
    return [
        *markdown(["ms", "fastnce, `nce_loss`", *(EVERYBODY[name].label for name in names)], rows),
        *disturbed({shape: facts["other_load"] for shape, facts in measured.items()}),
        *left_out(results),
    ]


def training_tables(results: dict[str, Any]) -> list[str]:
    """Of a results file of `train_step.py`: median ms per step, and in brackets the ratio: of fastnce's own steps to
    its loss and gradients alone, of the others' to `train_step` with Adagrad."""
    measured = results["shapes"]
    names = [name for name in results["versions"] if name in TRAINING_MEMBERS]

    def cell(shape: str, name: str) -> str:
        base = FASTNCE if TRAINING_MEMBERS[name].environment is None else "train_step"
        return f"{digits(measured[shape]['median_ms'][name])} ({ratio(measured[shape], name, base):.2f}x)"

    rows = (
        [shape, digits(facts["median_ms"][FASTNCE]), *(cell(shape, name) for name in names)]
        for shape, facts in measured.items()
    )
    return [
        *markdown(["ms", "loss and gradients", *(EVERYBODY[name].label for name in names)], rows),
        *disturbed({shape: facts["other_load"] for shape, facts in measured.items()}),
        *left_out(results),
    ]


def frontends_tables(results: dict[str, Any]) -> list[str]:
    """The times of `frontends.py`, and the overhead of the front ends over the NumPy functions in microseconds."""
    measured = results["shapes"]
    names = [name for name in results["versions"] if name in FRONT_ENDS and name != "autograd"]

    def added(shape: str, name: str) -> str:
        own, theirs = (measured[shape]["round_seconds"][which] for which in (FASTNCE, name))
        return f"{1e6 * median(there - here for here, there in zip(own, theirs, strict=True)):,.0f}"

    rows = ([shape, *(added(shape, name) for name in names)] for shape in measured)
    return [
        *times_table(results),
        "",
        *markdown(["overhead, us", *(EVERYBODY[name].label for name in names)], rows),
        *disturbed({shape: facts["other_load"] for shape, facts in measured.items()}),
        *left_out(results),
    ]


def gflops(measured: dict[str, Any], name: str) -> float:
    """Effective: of the three products alone, whatever else was computed."""
    return Shape(**measured["shape"]).flops / (1e6 * measured["median_ms"][name])


def rates_table(results: dict[str, Any]) -> list[str]:
    """Effective GFLOP/s of each fastnce, and in brackets as a share of the measured peak of float32 multiply-adds."""
    names = [name for name in results["versions"] if MEMBERS[name].environment is None]
    peak = fma_peak(medians(results["limits"]), results["versions"][FASTNCE]["isa"])

    def cell(rate: float) -> str:
        return f"{rate:.0f}" + (f" ({rate / peak:.0%})" if peak else "")

    rows = ([shape, *(cell(gflops(measured, name)) for name in names)] for shape, measured in results["shapes"].items())
    return markdown(["GFLOP/s (of the peak)", *(MEMBERS[name].label for name in names)], rows)


def limits_table(results: dict[str, Any]) -> list[str]:
    """Medians over the runs of `fastnce_limits`, and the range."""
    runs = results["limits"]

    def cells(name: str, median: float) -> list[str]:
        what, unit = name.rsplit("_", 1)
        values = [run[name] for run in runs]
        shown = {"gflops": "GFLOP/s", "gbs": "GB/s"}[unit]
        return [what.replace("_", " "), f"{median:.1f} {shown}", f"{min(values):.1f} - {max(values):.1f}"]

    return markdown(["limit", "median", "range"], (cells(*limit) for limit in medians(runs).items()))


def accuracy_table(results: dict[str, Any]) -> list[str]:
    """Of a results file of `accuracy.py`: errors in Euclidean norm, in brackets the largest over the largest value."""

    def row(shape: str, level: str, measured: dict[str, Any]) -> list[str]:
        cells = [f"{error['norm']:.1e} ({error['max']:.1e})" for error in measured["tensors"].values()]
        worst = measured.get("worst_element")
        return [shape, level, *cells, "" if worst is None else f"{worst:.2f}"]

    rows = (row(shape, *level) for shape, levels in results["shapes"].items() for level in levels.items())
    return markdown(["shape", "precision", "loss", "dX", "row weights", "row biases", "worst element"], rows)


def disturbed(load: dict[str, float]) -> list[str]:
    """A warning, where the share of the machine that others took was too large."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in load.items() if share > OTHER_LOAD)
    return ["", f"Do not trust these times. Other processes used the machine meanwhile: {shares}."] if shares else []


def left_out(results: dict[str, Any]) -> list[str]:
    return [line for name, reason in results["missing"].items() for line in ("", f"Left out: {name} ({reason}).")]


def notes(results: dict[str, Any]) -> list[str]:
    """The figures that fastnce alone has, and the peers that were not there."""
    overhead = results["overhead"]
    lowest, median = (f"{overhead[key]:.1f} us" for key in ("min_us", "median_us"))
    lines = [f"Smallest call: {lowest} at best, median {median}."]
    if memory := results.get("memory"):
        extra, returned = (f"{memory[key] / 2**20:.1f} MiB" for key in ("extra_bytes", "output_bytes"))
        where = f"{memory['shape']}, by {memory['method']}"
        lines += ["", f"Extra peak memory of one call ({where}): {extra} beside {returned} of results."]
    lines += disturbed({name: measured["other_load"] for name, measured in results["shapes"].items()})
    return lines + left_out(results)


def tables(results: dict[str, Any]) -> str:
    """All of the above."""
    parts = [setting(results), times_table(results), rates_table(results)]
    if results["limits"]:
        parts.append(limits_table(results))
    return "\n\n".join("\n".join(part) for part in (*parts, notes(results)))


def main() -> None:
    for path in sys.argv[1:]:
        print(tables(json.loads(Path(path).read_text())))


if __name__ == "__main__":
    main()
