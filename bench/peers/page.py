"""Write the page benchmarks.md and its pictures from the newest results in a folder.

    python bench/peers/page.py --results bench/results

Takes the newest file of each kind in `PARTS`; results of `run.py --isa` get a table of their own. Needs matplotlib
(dependency group `bench`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plots
import summary
from client import FASTNCE, MEMBERS
from options import ROOT
from report import (
    accuracy_table,
    digits,
    disturbed,
    frontends_tables,
    left_out,
    limits_table,
    markdown,
    newest,
    notes,
    rates_table,
    setting,
    softmax_tables,
    times_table,
)

Results = dict[str, Any]

PICTURES = "benchmarks"

HEAD = """# Benchmarks

<!-- Written by bench/peers/page.py from the results in bench/results: change those, not this. -->

One call computes the loss, the gradient of the inputs and the row gradients, sampling included, on the CPU in float32.
Every library runs in its own process with the same inputs and the same number of threads; their calls are interleaved.
Trust the ratios, which are medians over rounds; absolute times vary from machine to machine.
[bench/peers/README.md](../bench/peers/README.md) describes the method.

To measure on your machine, run `make bench-peers` and leave the machine idle meanwhile: it installs the peers into
`.venv-peers/`, measures for about half an hour on two cores, and writes this page to `build/peers/`."""

RATIOS = """Milliseconds per call, and in brackets the slowdown relative to `fastnce.nce_loss_and_grad` on NumPy arrays
at the default precision, which is as accurate as plain float32; "high" and "medium" are [less accurate](precision.md).
TensorFlow is `tf.nn.nce_loss`; PyTorch and JAX are NCE written by hand. A module adds overhead to these times: for
`fastnce.torch` and `fastnce.jax` see [below](#in-pytorch-and-jax). MKL is a limit: the three GEMMs alone, without loss
or sampling."""

ROOFLINE = """Operations of the three GEMMs, 6 B (S + T) D, divided by the time of the whole call; in brackets the
share of the measured float32 FMA peak. bfloat16 units can exceed that peak."""

LIMITS = """Limits of the machine, measured by a native program on the same number of threads before, between and after
the shapes: arithmetic in registers, sequential reads, and reads of random rows of 512 and 2048 bytes, with and without
huge pages."""

GROWTH = """Measured {date} at {fastnce_commit}, {machine[cpu]}, {machine[cores]} cores, {threads} threads."""

MEMORY = """Increase of the peak resident memory during one call in a fresh process, less the results, in MiB; B =
{B:,}, D = {D:,}."""

SOFTMAX = """`sampled_softmax_loss` with its default arguments: accidental hits removed. The first column is `nce_loss`
in the same run. In brackets: time of fastnce's sampled softmax relative to its `nce_loss`, and of the other libraries
relative to fastnce's sampled softmax. TensorFlow is `tf.nn.sampled_softmax_loss`; PyTorch and JAX are written by
hand."""

FRONT_ENDS = """The same step through the front ends. fastnce.torch is the module, eager and compiled, with `backward`
and sparse gradients. fastnce.jax is `nce_value_and_rows` under `jit` with a fresh key. "autograd alone" computes
nothing: it passes ready-made gradients of the same sizes to PyTorch, the least that a module with sparse gradients
costs. In brackets: time relative to the NumPy function. The overhead below is the median over rounds of the difference
between two measured times. On large shapes it is small beside the noise of those times and can be negative: then no
overhead was measurable."""

OVERHEAD = """`python bench/torch_overhead.py --compiled` finds what `fastnce.torch` itself costs: one step, forward and
backward, of the module, eager and compiled, beside a bare `autograd.Function` around the NumPy function. That one has
neither checks nor reductions nor a stream of samples, and leaves the same sparse gradients. All take turns in one
process; `OMP_NUM_THREADS=1` before it measures one thread. On w2v, on one thread of an AMD EPYC (2026-11-27): bare
312 us, module 332 us (1.07 times), compiled 529 us."""

REPLACED = """Speedup of the front ends over the code that they replace: time of NCE written by hand (PyTorch: the
faster of eager and `torch.compile`) over the time of the front end (PyTorch: eager), median over rounds."""

ACCURACY = """Errors relative to the float64 reference, per tensor: Euclidean norm of the error over that of the
tensor; in brackets the largest error over the largest value. "numpy" is the same formula in float32 NumPy. The last
column is the largest error of a single element as a share of the bound in `tests/test_precision.py`."""


def picture(name: str, text: str) -> list[str]:
    return ["", f"![{text}]({PICTURES}/{name}.svg)"]


def shapes_table(results: Results) -> list[str]:
    shapes = {name: measured["shape"] for name, measured in results["shapes"].items()}
    rows = ([name, *(f"{shape[letter]:,}" for letter in "VDBTS")] for name, shape in shapes.items())
    return markdown(["shape", "V classes", "D width", "B examples", "T true each", "S sampled"], rows)


def peers_part(results: Results, pictures: Path) -> Iterator[list[str]]:
    yield setting(results)
    yield ["## Named shapes"]
    yield shapes_table(results)
    yield [RATIOS]
    yield times_table(results)
    yield picture("ratios", "Time of each library relative to fastnce's NumPy functions")
    yield notes(results)
    yield ["## Against the machine's limits", "", ROOFLINE]
    yield rates_table(results)
    plots.ratios(results, pictures / "ratios.svg")
    if results["limits"]:
        plots.roofline(results, pictures / "roofline.svg")
        yield picture("roofline", "Effective GFLOP/s of each shape against arithmetic intensity, under measured limits")
        yield [LIMITS]
        yield limits_table(results)


def softmax_part(results: Results, _pictures: Path) -> Iterator[list[str]]:
    yield ["## Sampled softmax", "", f"{SOFTMAX} {GROWTH.format(**results)}"]
    yield softmax_tables(results)


def frontends_part(results: Results, _pictures: Path) -> Iterator[list[str]]:
    yield ["## In PyTorch and JAX", "", f"{FRONT_ENDS} {GROWTH.format(**results)}"]
    yield frontends_tables(results)
    yield [OVERHEAD]
    yield [REPLACED]
    yield summary.replaced_table(results)


def isa_part(results: Results) -> Iterator[list[str]]:
    yield [
        f"## Held to {results['isa']}",
        "",
        "The same with `--isa`, so that all libraries use the same vector width.",
    ]
    yield setting(results)
    yield times_table(results)
    yield notes(results)
    yield rates_table(results)


def sweep_table(points: list[Results], letter: str) -> list[str]:
    """One row per point; a table other than float32 is named beside its size."""
    names = [name for name in MEMBERS if any(name in point["median_ms"] for point in points)]

    def size(point: Results) -> str:
        shape = point["shape"]
        return f"{shape[letter]:,}" + ("" if shape["table"] == "float32" else f", {shape['table']}")

    def row(point: Results) -> list[str]:
        times = point["median_ms"]
        return [size(point), *(digits(times[name]) if name in times else "" for name in names)]

    table = markdown([f"{letter} (ms)", *(MEMBERS[name].label for name in names)], map(row, points))
    return table + disturbed({size(point): point["other_load"] for point in points})


def sweep_part(results: Results, pictures: Path) -> Iterator[list[str]]:
    sweeps = results["sweeps"]

    def fixed(letter: str) -> str:
        """The letters that do not change, from the sweep's last point."""
        shape = sweeps[letter][-1]["shape"]
        return ", ".join(f"{other} = {shape[other]:,}" for other in "VDBTS" if other != letter)

    yield ["## Growth", "", f"One letter of the shape at a time. {GROWTH.format(**results)}"]
    if letters := [letter for letter in "SBD" if letter in sweeps]:
        plots.growth(results, pictures / "growth.svg", letters)
        yield ["### With S, B and D"]
        yield picture("growth", "Time per call against S, B and D")
    for letter in letters:
        yield [f"{fixed(letter)}:", "", *sweep_table(sweeps[letter], letter)]
    if "V" in sweeps:
        plots.flat_in_v(results, pictures / "classes.svg")
        yield ["### With V", "", f"{fixed('V')}. A call touches only the rows that occur in it."]
        yield picture("classes", "Time per call against the number of classes")
        yield sweep_table(sweeps["V"], "V")
    if results["memory"]:
        plots.memory(results, pictures / "memory.svg")
        yield ["### Memory, with S", "", MEMORY.format(**results["memory"][0]["shape"])]
        yield picture("memory", "Extra peak memory of one call against S")
        yield memory_table(results["memory"])
    yield left_out(results)


def memory_table(points: list[Results]) -> list[str]:
    names = list(points[0]["extra"])

    def row(point: Results) -> list[str]:
        shape = point["shape"]
        matrix = 4 * shape["B"] * shape["S"]
        values = (matrix, *(point["extra"][name]["extra_bytes"] for name in names))
        return [f"{shape['S']:,}", *(digits(value / 2**20) for value in values)]

    return markdown(["S", "one matrix [B, S]", *(MEMBERS[name].label for name in names)], map(row, points))


def promises(results: Results) -> list[str]:
    """The largest errors over all shapes and tensors, and the bounds of docs/precision.md."""
    shapes = results["shapes"].values()

    def norms(level: str) -> list[float]:
        return [error["norm"] for levels in shapes for error in levels[level]["tensors"].values()]

    ratio = max(ours / plain for ours, plain in zip(norms("highest"), norms("numpy"), strict=True))
    rows = [
        ["highest", "as plain float32", f"{ratio:.2f} times plain float32's"],
        ["high", "2e-5", f"{max(norms('high')):.1e}"],
        ["medium", "1e-2", f"{max(norms('medium')):.1e}"],
    ]
    return markdown(["precision", "bound per tensor", "largest measured"], rows)


def accuracy_part(results: Results, _pictures: Path) -> Iterator[list[str]]:
    isa = results["versions"][FASTNCE]["isa"]
    yield ["## Accuracy", "", f"On {isa}, measured {results['date']} at {results['fastnce_commit']}. {ACCURACY}"]
    yield promises(results)
    yield accuracy_table(results)


PARTS = {
    "peers": peers_part,
    "sampled_softmax": softmax_part,
    "frontends": frontends_part,
    "sweep": sweep_part,
    "accuracy": accuracy_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", metavar="DIR")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="DIR", help="(default docs)")
    options = parser.parse_args()
    pictures = options.output / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [[HEAD]]
    for kind, part in PARTS.items():
        if results := newest(options.results, kind):
            parts += part(results, pictures)
        if kind == "peers" and (held := newest(options.results, kind, "avx2")):
            parts += isa_part(held)
    page = options.output / "benchmarks.md"
    page.write_text("\n\n".join("\n".join(part).strip() for part in parts if part) + "\n")
    print(f"written: {page}")


if __name__ == "__main__":
    main()
