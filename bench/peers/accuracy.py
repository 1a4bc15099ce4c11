"""How far fastnce at each precision, and plain float32 NumPy, are from float64, on the named shapes.

    python bench/peers/accuracy.py --shapes w2v,lm

Writes one JSON file and prints a Markdown table. The truth, the NumPy route and what an element may be off are those of
the tests. FASTNCE_ISA chooses the instruction set.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import fastnce
from options import ROOT, add_output, header, names
from report import accuracy_table, save
from shapes import SHAPES, Candidates, Case, Shape

sys.path.append(str(ROOT / "tests"))
from cases import Problem
from rounding import magnitude, naive_float32
from tolerances import Results, allowed_error

LEVELS = ("highest", "high", "medium")


def problem_of(shape: Shape) -> Problem:
    """The first batch with the given sample, and of the table only the rows that occur in them."""
    case = Case(shape)
    (labels, inputs), candidates = case.batches[0], case.candidates()
    weights, biases = case.table()
    ids = np.unique(np.concatenate([labels.ravel(), candidates.ids]))
    sampled_values = Candidates(np.searchsorted(ids, candidates.ids), *candidates[1:])
    return Problem(weights[ids], biases[ids], np.searchsorted(ids, labels), inputs, sampled_values, len(ids))


def errors(actual: Results, truth: Results) -> dict[str, dict[str, float]]:
    """Of each tensor: the largest error over the largest element, and the same in Euclidean norms."""
    return {
        name: {
            "max": float(np.abs(ours - true).max() / np.abs(true).max()),
            "norm": float(np.linalg.norm(ours - true) / np.linalg.norm(true)),
        }
        for name, ours, true in zip(Results._fields, actual, truth, strict=True)
    }


def worst_element(actual: Results, truth: Results, scale: Results, naive: Results, level: str) -> float:
    """Of all elements of all tensors, the largest error as a share of what tests/test_precision.py allows."""
    return max(
        float((np.abs(true - ours) / allowed_error(true, size, plain, ours.dtype, level)).max())
        for ours, true, size, plain in zip(actual, truth, scale, naive, strict=True)
    )


def measure(shape: Shape) -> dict[str, Any]:
    problem = problem_of(shape)
    truth, scale, naive = problem.truth()[1], magnitude(problem), naive_float32(problem)
    measured: dict[str, Any] = {}
    for level in LEVELS:
        actual = problem.solve(precision=level)[1]
        measured[level] = {
            "tensors": errors(actual, truth),
            "worst_element": worst_element(actual, truth, scale, naive, level),
        }
    return {**measured, "numpy": {"tensors": errors(naive, truth)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_output(parser)
    parser.add_argument("--shapes", type=names(SHAPES), default=list(SHAPES), metavar="w2v,lm,...")
    options = parser.parse_args()
    results: dict[str, Any] = {**header(), "versions": {"fastnce": fastnce.config()}, "shapes": {}}
    for shape in options.shapes:
        print(f"{shape} ...", file=sys.stderr)
        results["shapes"][shape] = measure(SHAPES[shape])
    print(f"written: {save('accuracy', results, options.output)}", file=sys.stderr)
    print("\n".join(accuracy_table(results)))


if __name__ == "__main__":
    main()
