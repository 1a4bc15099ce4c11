"""Measure held-out perplexity against S of each loss with each sampler: a small language model on the shipped text.

    python bench/loss_choice/run.py        # a quarter of an hour on two cores; other load harms the times, first
    python bench/loss_choice/gradients.py  # a minute
    python bench/loss_choice/page.py       # writes docs/which_loss.md from the results in bench/results

JSON files go to `build/loss_choice/`. To publish: commit first, so that they name a commit, measure, move them to
`bench/results/`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
import fastnce
from model import BATCH, CONTEXT, MIN_COUNT, WIDTH, Data, Gradients, Ids, Loss, Model, read_data
from options import add_output, header
from report import save

SIZES = (16, 64, 256, 1024, 4096)  # S
TRIED_SIZE = 256  # at which the learning rate is chosen
RATES = (0.1, 0.2, 0.4)
SEEDS = (1, 2)
CALIBRATION = 0.75  # gBCE's t
TIMED_STEPS = 50
WORKERS = 2  # trainings at the same time, each on one thread
EXACT = "full softmax"

SAMPLERS: dict[str, Callable[[Ids, int, int], Any]] = {
    "log-uniform": lambda counts, S, seed: fastnce.LogUniformSampler(len(counts), S, seed=seed),
    "uniform": lambda counts, S, seed: fastnce.UniformSampler(len(counts), S, seed=seed),
    "unigram": lambda counts, S, seed: fastnce.UnigramSampler.from_counts(counts, S, power=1.0, seed=seed),
    "unigram^0.75": lambda counts, S, seed: fastnce.UnigramSampler.from_counts(counts, S, power=0.75, seed=seed),
}
CORRECTED = {"nce": "nce_loss_and_grad", "sampled softmax": "sampled_softmax_loss_and_grad"}
"""Losses that subtract log Q: their logits estimate log p. Those of the others estimate log p - log Q."""
LOSSES = (*CORRECTED, "negative sampling", "gBCE")


class Variant(NamedTuple):
    loss: str
    sampler: str = ""
    sampled: int = 0
    """S."""

    def step(self, counts: Ids, seed: int) -> tuple[Loss, Any]:
        """The loss's gradients of a batch, with new samples each time; and the sampler."""
        classes = len(counts)
        if self.loss == EXACT:
            everything = (np.arange(classes), None, None)

            def exact(*problem: Any) -> Gradients:
                return fastnce.sampled_softmax_loss_and_grad(*problem, classes, classes, sampled_values=everything)[1]

            return exact, None
        sampler = SAMPLERS[self.sampler](counts, self.sampled, seed)
        if self.loss in CORRECTED:
            function = getattr(fastnce, CORRECTED[self.loss])

            def corrected(weights: Any, biases: Any, labels: Any, inputs: Any) -> Gradients:
                problem = (weights, biases, labels, inputs)
                return function(*problem, self.sampled, classes, sampled_values=sampler(labels[:, None]))[1]

            return corrected, sampler
        weight = fastnce.gbce_weight(self.sampled, classes, CALIBRATION) if self.loss == "gBCE" else 1.0

        def plain(weights: Any, biases: Any, labels: Any, inputs: Any) -> Gradients:
            problem = (weights, biases, labels, inputs)
            ids = sampler(labels[:, None]).sampled_candidates
            return fastnce.negative_sampling_loss_and_grad(*problem, ids, positive_weight=weight)[1]

        return plain, sampler


class Result(NamedTuple):
    perplexity: float
    """Of logits that estimate log p: of a loss without log Q, log Q is added."""
    raw: float
    """Of the logits as they are."""


def training(variant: Variant, rate: float, seed: int, epochs: int) -> Result:
    """Train and evaluate. Runs in a worker process."""
    fastnce.set_num_threads(1)
    data = read_data()
    loss, sampler = variant.step(data.counts, seed)
    model, rng = Model(data.counts, seed), np.random.default_rng(seed)
    log_q = np.zeros(len(data.counts), np.float32)
    if variant.loss not in (EXACT, *CORRECTED):
        log_q = np.log(sampler(np.arange(len(log_q))[:, None]).true_expected_count[:, 0])
    model.biases.rows -= log_q
    for epoch in range(epochs):
        for number, batch in enumerate(data.train.batches(rng)):
            done = (epoch + number * BATCH / len(data.train.following)) / epochs
            model.step(batch, loss, rate * (1 - done))
    raw = model.perplexity(data.held_out)
    return Result(model.perplexity(data.held_out, log_q) if log_q.any() else raw, raw)


def variants() -> list[Variant]:
    sampled = (Variant(*axes) for axes in itertools.product(LOSSES, SAMPLERS, SIZES))
    return [Variant(EXACT), *sampled]


def milliseconds(data: Data) -> dict[Variant, float]:
    """The median time of a whole training step."""
    fastnce.set_num_threads(1)
    times = {}
    for variant in variants():
        loss, _ = variant.step(data.counts, 1)
        model, taken = Model(data.counts, 1), []
        for batch in itertools.islice(data.train.batches(np.random.default_rng(1)), TIMED_STEPS):
            start = time.perf_counter()
            model.step(batch, loss, RATES[0])
            taken.append(time.perf_counter() - start)
        times[variant] = 1e3 * statistics.median(taken)
    return times


def quality(pool: ProcessPoolExecutor, epochs: int) -> tuple[dict[Variant, float], dict[Variant, list[Result]]]:
    """The rate that is best at one S, for each loss with each sampler; then the results of all seeds."""
    trials: dict[tuple[Variant, float], Future[Result]] = {
        (variant, rate): pool.submit(training, variant, rate, SEEDS[0], epochs)
        for variant in variants()
        if variant.sampled in (0, TRIED_SIZE)
        for rate in RATES
    }
    tried: dict[tuple[str, str], dict[float, float]] = {}
    for (variant, rate), trial in trials.items():
        tried.setdefault((variant.loss, variant.sampler), {})[rate] = trial.result().perplexity
        print(f"{variant}, rate {rate}: {trial.result().perplexity:.1f}", flush=True)
    best = {v: min(tried[v.loss, v.sampler].items(), key=lambda item: item[1])[0] for v in variants()}
    runs = {v: [pool.submit(training, v, rate, seed, epochs) for seed in SEEDS] for v, rate in best.items()}
    results = {}
    for variant, futures in runs.items():
        results[variant] = [future.result() for future in futures]
        print(f"{variant}: {results[variant]}", flush=True)
    return best, results


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_output(parser, "loss_choice")
    parser.add_argument("--epochs", type=int, default=1, help="(default 1)")
    options = parser.parse_args()
    data = read_data()
    times = milliseconds(data)
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        rates, trained = quality(pool, options.epochs)
    results = {
        **header(),
        "setting": {
            "classes": len(data.counts),
            "train": len(data.train.following),
            "held_out": len(data.held_out.following),
            "epochs": options.epochs,
            "fastnce": fastnce.config(),
            "batch": BATCH,
            "width": WIDTH,
            "context": CONTEXT,
            "min_count": MIN_COUNT,
            "calibration": CALIBRATION,
            "seeds": len(SEEDS),
            "rates": RATES,
        },
        "variants": [
            {
                **variant._asdict(),
                "rate": rates[variant],
                "step_ms": times[variant],
                "perplexity": statistics.geometric_mean(result.perplexity for result in trained[variant]),
                "raw": statistics.geometric_mean(result.raw for result in trained[variant]),
            }
            for variant in variants()
        ],
    }
    print(f"written: {save('loss_choice-quality', results, options.output)}")


if __name__ == "__main__":
    main()
