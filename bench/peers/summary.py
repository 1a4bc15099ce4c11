"""The speed claim and the table of README.md, from the newest results in bench/results.

    python bench/peers/summary.py            rewrites them
    python bench/peers/summary.py --check    fails if README.md says something else

Every library is compared with the front end that its users would call: TensorFlow with the NumPy functions, PyTorch
with `fastnce.torch`, JAX with `fastnce.jax`. Ratios are medians over rounds of one run: both times share a run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from client import FASTNCE
from options import ROOT
from report import digits, markdown, newest, ratio

Results = dict[str, Any]


class Pair(NamedTuple):
    """A front end of ours and the peer that it replaces."""

    kind: str
    """Of the results file that holds both."""
    ours: str
    peers: tuple[str, ...]
    """Several variants of one library: the fastest counts, per shape."""
    our_label: str
    label: str
    claim: str
    """With `{}` for the range of ratios."""


PAIRS = (
    Pair(
        "peers",
        FASTNCE,
        ("tensorflow",),
        "`fastnce` (NumPy)",
        "TensorFlow",
        "the NumPy function, with tables in NumPy arrays, is {} times as fast as `tf.nn.nce_loss`",
    ),
    Pair(
        "frontends",
        "fastnce_torch",
        ("pytorch", "pytorch_compile"),
        "`fastnce.torch`",
        "PyTorch by hand",
        "`fastnce.torch` {} times as fast as NCE written by hand in PyTorch",
    ),
    Pair(
        "frontends",
        "fastnce_jax",
        ("jax",),
        "`fastnce.jax`",
        "JAX by hand",
        "`fastnce.jax` {} times as fast as NCE written by hand in JAX",
    ),
)


def best(measured: Results, names: tuple[str, ...]) -> str:
    """The variant with the least median time."""
    return min((name for name in names if name in measured["median_ms"]), key=measured["median_ms"].__getitem__)


def speedup(measured: Results, pair: Pair) -> float:
    """How many times as long the peer takes, median over rounds."""
    return ratio(measured, best(measured, pair.peers), pair.ours)


def cells(measured: Results, pair: Pair) -> Iterator[str]:
    """Our time, and the peer's time with the ratio in brackets."""
    times = measured["median_ms"]
    yield digits(times[pair.ours])
    yield f"{digits(times[best(measured, pair.peers)])} ({speedup(measured, pair):.1f}x)"


def table(results: dict[str, Results]) -> list[str]:
    """One row per shape: its letters, and for every pair two columns of milliseconds."""
    shapes = results["peers"]["shapes"]

    def row(name: str) -> Iterator[str]:
        yield name
        yield from (f"{shapes[name]['shape'][letter]:,}" for letter in "VDBTS")
        for pair in PAIRS:
            yield from cells(results[pair.kind]["shapes"][name], pair)

    head = ["shape", *"VDBTS", *(label for pair in PAIRS for label in (pair.our_label, pair.label))]
    return [*markdown(head, map(row, shapes)), "", *overheads(results)]


def overheads(results: dict[str, Results]) -> list[str]:
    """What a module costs on the smallest shape, and the scratch memory of a call."""
    shape, measured = next(iter(results["frontends"]["shapes"].items()))
    slower = ratio(measured, "fastnce_torch", FASTNCE)
    memory = results["peers"]["memory"]
    large = memory["shape"]
    letters = results["peers"]["shapes"][large]["shape"]
    extra, matrix = memory["extra_bytes"] / 2**20, 4 * letters["B"] * letters["S"] / 2**20
    return [
        f"A module adds overhead: on {shape}, `fastnce.torch` takes {slower:.1f} times as long as the NumPy function.",
        f"On {large}, a call needs {extra:.1f} MiB of scratch memory; `[B, S]` logits would take {matrix:.0f} MiB.",
    ]


def replaced_table(results: Results) -> list[str]:
    """Of a results file of `frontends.py`: for every pair in it, the ratio on each shape."""
    pairs = [pair for pair in PAIRS if pair.kind == "frontends"]
    shapes = results["shapes"]
    rows = ([name, *(f"{speedup(shapes[name], pair):.2f}x" for pair in pairs)] for name in shapes)
    return markdown(["shape", *(f"{pair.label} / {pair.our_label}" for pair in pairs)], rows)


def claim(results: dict[str, Results]) -> list[str]:
    """The least and the largest ratio over the shapes, for every pair."""

    def of_pair(pair: Pair) -> str:
        ratios = [speedup(measured, pair) for measured in results[pair.kind]["shapes"].values()]
        return pair.claim.format(f"{min(ratios):.1f} to {max(ratios):.1f}")

    *lines, end = map(of_pair, PAIRS)
    return [*(f"  {line}," for line in lines), f"  {end}."]


def filled(text: str, results: dict[str, Results]) -> str:
    """README.md with its two generated parts written anew."""
    for name, lines in (("speed", claim(results)), ("table", table(results))):
        start, end = f"<!-- {name}: written by bench/peers/summary.py -->\n", f"<!-- end of {name} -->"
        part = f"({re.escape(start)}).*?( *{re.escape(end)})"
        text, count = re.subn(part, lambda m, lines=lines: "\n".join([m[1].strip(), *lines, m[2]]), text, flags=re.S)
        if count != 1:
            raise SystemExit(f"README.md: expected one part between {start.strip()!r} and {end!r}")
    return text


def main() -> int:
    folder, page = ROOT / "bench" / "results", ROOT / "README.md"
    results = {kind: newest(folder, kind) for kind in ("peers", "frontends")}
    before = page.read_text()
    after = filled(before, results)
    if sys.argv[1:] == ["--check"]:
        if before != after:
            print("README.md does not say what bench/results say: run bench/peers/summary.py")
        return int(before != after)
    page.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
