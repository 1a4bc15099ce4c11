"""Samples per second of every sampler, TensorFlow's op, torch.multinomial and NumPy's choice, as a Markdown table.

    python bench/samplers.py [--rounds 15] [--threads 1]

In an environment with fastnce, tensorflow-cpu 2.21 and torch 2.13. Each number is a median over rounds, in which all
contenders have a turn; every call continues its stream. fastnce's and TensorFlow's times include expected counts, which
the others do not compute. TensorFlow's op runs in a graph, so that its kernel is made once; unigrams come from a file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import torch

import fastnce

Draw = Callable[[], Any]
LABELS = np.zeros((1, 1), np.int64)
SIZES = [(100_000, 64), (100_000, 8192), (1_000_000, 64), (1_000_000, 8192)]
SECONDS = 0.02
"""Of one turn: calls are repeated that long."""
SLOW = 0.5
"""Seconds of one call from which on a single round is enough."""


def word_counts(V: int) -> np.ndarray:
    """Zipf's law to the power of 3/4, word2vec's noise."""
    return (1.0 / np.arange(1, V + 1) ** 0.75).astype(np.float32)


def of_tensorflow(op: str, V: int, S: int, unique: bool, **attributes: Any) -> Draw:
    true_classes = tf.constant(LABELS)
    function = getattr(tf.raw_ops, op)
    sizes = {"num_true": 1, "num_sampled": S, "unique": unique, "range_max": V, "seed": 1, "seed2": 2}
    draw: Draw = tf.function(lambda: function(true_classes=true_classes, **sizes, **attributes))
    return draw


def contenders(kind: str, V: int, S: int, unique: bool, vocabulary: str) -> dict[str, Draw]:
    rng = np.random.default_rng(1)
    options = {"unique": unique, "seed": (1, 2)}
    if kind == "log-uniform":
        ours = fastnce.LogUniformSampler(V, S, **options)
        return {
            "fastnce": lambda: ours(LABELS),
            "TensorFlow": of_tensorflow("LogUniformCandidateSampler", V, S, unique),
        }
    if kind == "uniform":
        ours = fastnce.UniformSampler(V, S, **options)
        ones = torch.ones(V)
        return {
            "fastnce": lambda: ours(LABELS),
            "TensorFlow": of_tensorflow("UniformCandidateSampler", V, S, unique),
            "torch.multinomial": lambda: torch.multinomial(ones, S, replacement=not unique),
            "NumPy choice": lambda: rng.choice(V, S, replace=not unique),
        }
    if kind == "unigram":
        weights = word_counts(V)
        ours = fastnce.UnigramSampler(weights, S, **options)
        tensor, p = torch.from_numpy(weights), weights.astype(np.float64) / weights.sum(dtype=np.float64)
        return {
            "fastnce": lambda: ours(LABELS),
            "TensorFlow": of_tensorflow("FixedUnigramCandidateSampler", V, S, unique, vocab_file=vocabulary),
            "torch.multinomial": lambda: torch.multinomial(tensor, S, replacement=not unique),
            "NumPy choice": lambda: rng.choice(V, S, replace=not unique, p=p),
        }
    ours = fastnce.LearnedUnigramSampler(V, S, **options)
    return {
        "fastnce": lambda: ours(LABELS),
        "TensorFlow": of_tensorflow("LearnedUnigramCandidateSampler", V, S, unique),
    }


def seconds_per_call(draw: Draw, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        draw()
    return (time.perf_counter() - begin) / calls


def medians(draws: dict[str, Draw], rounds: int) -> dict[str, float]:
    """Seconds per call."""
    once = {}
    for name, draw in draws.items():
        draw()
        once[name] = seconds_per_call(draw, 1)
    times: dict[str, list[float]] = {name: [] for name in draws}
    for turn in range(rounds):
        for name, draw in draws.items():
            if turn == 0 or once[name] < SLOW:
                times[name].append(seconds_per_call(draw, max(int(SECONDS / once[name]), 1)))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    fastnce.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        print_table(arguments, Path(folder))


def print_table(arguments: argparse.Namespace, folder: Path) -> None:
    columns = ["fastnce", "TensorFlow", "torch.multinomial", "NumPy choice"]
    print(f"Million samples per second, {arguments.threads} thread(s), median of {arguments.rounds} rounds; ", end="")
    print(f"TensorFlow {tf.__version__}, torch {torch.__version__}, NumPy {np.__version__}\n")
    print("| sampler | V | S | " + " | ".join(columns) + " |")
    print("|---|---|---|" + "---|" * len(columns))
    for kind in ("log-uniform", "uniform", "unigram", "learned unigram"):
        for unique in (True, False):
            for V, S in SIZES:
                vocabulary = folder / f"{V}.csv"
                vocabulary.write_text("".join(f"{weight!r}\n" for weight in word_counts(V).tolist()))
                found = medians(contenders(kind, V, S, unique, str(vocabulary)), arguments.rounds)
                cells = [f"{S / found[name] / 1e6:.3g}" if name in found else "" for name in columns]
                name = f"{kind}, {'unique' if unique else 'repeated'}"
                print(f"| {name} | {V:,} | {S:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
