"""Words per second of the training loop of skip-gram, on a file of word ids, as a Markdown table.

    python bench/word2vec/loop.py IDS.npy [--rounds 3] [--threads 1 2] [--dim 100] [--ids 4000000]

IDS.npy holds int32 ids by falling count, -1 at the end of a paragraph. Each round trains new tables in every
configuration; numbers are medians over rounds. Seconds of the processor, over all threads, are less disturbed by other
programs than those of the clock. Instruction sets: one run each, with FASTNCE_ISA set.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastnce
from fastnce import _core

PIECE = 2**20
"""Ids of one call."""
RATES = (0.05, 0.0)


def train(ids: NDArray[np.int32], counts: NDArray[np.int64], dim: int, threads: int, precision: str) -> list[float]:
    """Seconds of the clock and of the processor, and the loss of a pair."""
    rng = np.random.default_rng(1)
    vectors = (rng.random((len(counts), dim), np.float32) - np.float32(0.5)) / dim
    outputs = np.zeros_like(vectors)
    model = _core.SkipGram(vectors, outputs, counts, precision=precision)
    rate = lambda at: RATES[0] + (RATES[1] - RATES[0]) * at / len(ids)  # noqa: E731
    loss, pairs = 0.0, 0
    clock, processor = time.perf_counter(), time.process_time()
    for at in range(0, len(ids), PIECE):
        piece = ids[at : at + PIECE]
        of_piece = model.train(piece, at, (rate(at), rate(at + len(piece))), threads)
        loss, pairs = loss + of_piece[0], pairs + of_piece[1]
    return [time.perf_counter() - clock, time.process_time() - processor, loss / pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--ids", type=int, default=4_000_000, help="the first so many of the file")
    options = parser.parse_args()
    whole = np.load(options.file, mmap_mode="r")
    counts = np.bincount(whole[whole >= 0]).astype(np.int64)
    ids = np.array(whole[: options.ids], np.int32)
    words = int((ids >= 0).sum())
    configurations = [(threads, level) for threads in options.threads for level in ("highest", "medium")]
    rounds = [
        [train(ids, counts, options.dim, threads, level) for threads, level in configurations]
        for _ in range(options.rounds)
    ]
    print(f"{words:,} words, V = {len(counts):,}, D = {options.dim}, {fastnce.config()['isa']}\n")
    print("| threads | precision | M words/s | M words per second of the processor | loss of a pair |")
    print("|---|---|---|---|---|")
    for (threads, level), results in zip(configurations, zip(*rounds, strict=True), strict=True):
        clock, processor, loss = (statistics.median(values) for values in zip(*results, strict=True))
        print(f"| {threads} | {level} | {words / clock / 1e6:.2f} | {words / processor / 1e6:.2f} | {loss:.3f} |")


if __name__ == "__main__":
    main()
