"""Measure examples/language_model.py: time per step, and quality after equal epochs, of each way to train it.

    python bench/language_model/run.py steps      # a few minutes; leave the machine alone meanwhile
    python bench/language_model/run.py quality    # most of an hour on two cores; other load does no harm

Needs PyTorch. JSON files go to `build/language_model/`; `page.py` writes docs/language_model.md from those in
`bench/results/`. To publish: commit first, so that they name a commit, measure, move them there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import language_model
import torch

import fastnce
from client import ALLOCATORS
from machine import busy_seconds
from options import ROOT, header
from report import save

# What is compared, as options of the example.
VARIANTS = {
    "softmax": "--loss softmax",
    "nce 256": "--loss nce --sampled 256",
    "nce 1024": "--loss nce --sampled 1024",
    "torch-nce 256": "--loss torch-nce --sampled 256",
    "torch-nce 1024": "--loss torch-nce --sampled 1024",
}
RATES = (0.025, 0.05, 0.1, 0.2)  # of which each variant gets the one that is best after an epoch of seed 1
SEEDS = (1, 2)
# A turn is one variant's share of a round: an untimed step, then these.
STEPS = 5
PAUSE_SECONDS = 0.02  # between turns
WORKERS = 2  # trainings at the same time, each on one thread

Results = dict[str, Any]


def arguments_of(name: str, options: str = "") -> argparse.Namespace:
    """The example's arguments for a variant."""
    return language_model.parse_arguments(f"{VARIANTS[name]} {options}".split())


def steps(threads: int, rounds: int) -> Results:
    """Time per step, in rounds in which the variants take turns on the same batches. Runs in a worker process."""
    torch.set_num_threads(threads)
    fastnce.set_num_threads(threads)
    default = arguments_of("nce 1024")
    corpus = language_model.read_corpus(default.corpus, default.min_count)
    batches = list(islice(language_model.batches(corpus.train), 1 + STEPS))
    trainers = {name: language_model.Trainer(corpus.counts, arguments_of(name)) for name in VARIANTS}
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    order = list(VARIANTS)
    busy, start = busy_seconds([]), time.monotonic()
    for _ in range(rounds):
        for name in order:
            time.sleep(PAUSE_SECONDS)
            state, taken = None, []
            for words, following in batches:
                step, state = trainers[name].step(words, following, state)
                taken.append((step.seconds, step.output_seconds))
            turns[name].append(tuple(map(statistics.median, zip(*taken[1:], strict=True))))
        order.reverse()
    processor_seconds = (time.monotonic() - start) * (os.cpu_count() or 1)
    return {
        "threads": threads,
        "rounds": rounds,
        "other_load": max(0.0, busy_seconds([]) - busy) / processor_seconds,
        "round_seconds": turns,
    }


def training(name: str, rate: float, seed: int, epochs: int) -> list[dict[str, float]]:
    """What the example tells after each epoch. Runs in a worker process."""
    torch.set_num_threads(1)
    fastnce.set_num_threads(1)
    args = arguments_of(name, f"--lr {rate} --seed {seed} --epochs {epochs}")
    corpus = language_model.read_corpus(args.corpus, args.min_count)
    return [
        {"loss": statistics.mean(step.loss for step in steps), **quality._asdict()}
        for steps, quality in language_model.train(corpus, args)
    ]


def quality(pool: ProcessPoolExecutor, epochs: int) -> Iterator[Results]:
    """Learning rates tried for an epoch, then full trainings with the best: the results so far after each seed."""
    trials = {(name, rate): pool.submit(training, name, rate, SEEDS[0], 1) for name in VARIANTS for rate in RATES}
    tried: dict[str, dict[float, float]] = {name: {} for name in VARIANTS}
    for (name, rate), trial in trials.items():
        tried[name][rate] = trial.result()[-1]["perplexity"]
        print(f"{name}, rate {rate}: {tried[name][rate]:.1f} after an epoch", flush=True)
    best = {name: min(rates, key=rates.__getitem__) for name, rates in tried.items()}

    runs: dict[tuple[int, str], Future[list[dict[str, float]]]] = {
        (seed, name): pool.submit(training, name, best[name], seed, epochs) for seed in SEEDS for name in VARIANTS
    }
    trained: dict[str, list[list[dict[str, float]]]] = {name: [] for name in VARIANTS}
    for seed in SEEDS:
        for name in VARIANTS:
            trained[name].append(runs[seed, name].result())
            print(f"{name}, seed {seed}: {trained[name][-1][-1]}", flush=True)
        yield {"epochs": epochs, "tried": tried, "rate": best, "trained": trained}


def setting() -> Results:
    """What the example was run with, beside VARIANTS."""
    args = arguments_of("nce 1024")
    corpus = language_model.read_corpus(args.corpus, args.min_count)
    return {
        **{name: getattr(args, name) for name in ("dim", "dropout", "min_count")},
        "streams": language_model.STREAMS,
        "chunk": language_model.CHUNK,
        "classes": len(corpus.counts),
        "train": len(corpus.train),
        "held_out": len(corpus.held_out),
        "torch": torch.__version__,
        "fastnce": fastnce.config(),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["steps", "quality"])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "language_model", metavar="DIR")
    parser.add_argument("--threads", type=int, default=2, help="for steps (default 2)")
    parser.add_argument("--rounds", type=int, default=25, help="for steps (default 25)")
    parser.add_argument("--epochs", type=int, default=3, help="for quality (default 3)")
    options = parser.parse_args()
    # For the worker processes: else every large matrix is fresh memory from the system, which the softmax suffers from.
    os.environ |= ALLOCATORS["retain"]
    results = {**header(), "setting": setting()}
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        if options.what == "steps":
            measured = iter([pool.submit(steps, options.threads, options.rounds).result()])
        else:
            measured = quality(pool, options.epochs)
        for part in measured:
            print(f"written: {save(f'language_model-{options.what}', results | part, options.output)}")


if __name__ == "__main__":
    main()
