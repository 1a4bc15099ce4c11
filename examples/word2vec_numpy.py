#!/usr/bin/env python3
"""How word embeddings are trained, step by step: word2vec's skip-gram model in NumPy, with fastnce's NCE loss.

To train vectors, use `fastnce.word2vec` (word2vec.py beside this file), which is faster. This shows what is computed.

A word's vector should tell which words stand near it, so every word of a text is asked to predict its
neighbours out of a vocabulary of V words. A softmax would need V dot products for each pair of words.
Noise-contrastive estimation only distinguishes the neighbour from S sampled words. `fastnce.nce_loss_and_grad`
does that for a whole batch of pairs, and returns gradients only of the rows that occur in it.

    python examples/word2vec_numpy.py                                   # some ten seconds
    python examples/word2vec_numpy.py --corpus mine.txt.gz --dim 200    # your own text: plain, .gz or .xz

The vectors are saved in word2vec's text format, which gensim's `KeyedVectors.load_word2vec_format` reads.

Shape letters: N words in the text, V in the vocabulary, D width of a vector, P pairs in a batch.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import math
import re
import sys
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import fastnce

SHIPPED_CORPUS = Path(__file__).parent / "data" / "public_domain.txt.xz"
PROBES = ["war", "peace", "president", "economy", "tax", "water", "north", "france", "church", "schools"]
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Corpus(NamedTuple):
    """A text as word ids. Ids are ranks: 0 is the most frequent word, as the log-uniform sampler expects."""

    words: list[str]
    """The vocabulary, V words by falling frequency."""
    counts: Ids
    """``[V]``: how often each of them occurs."""
    ids: Ids
    """``[N]``: the text."""
    paragraphs: Ids
    """``[N]``: the number of the line that each word stands on; contexts end where a line ends."""


def read_corpus(path: Path, min_count: int) -> Corpus:
    """Read a text, lower-cased, without the words that occur fewer than ``min_count`` times."""
    openers: dict[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".xz": lzma.open}
    first_seen: defaultdict[str, int] = defaultdict()
    first_seen.default_factory = first_seen.__len__  # an unknown word gets the next free number
    ids, line_ends = array("q"), array("q")
    with openers.get(path.suffix, open)(path, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            ids.extend(first_seen[match[0]] for match in WORD.finditer(line.lower()))
            line_ends.append(len(ids))

    text = np.array(ids, np.int64)
    counts = np.bincount(text, minlength=len(first_seen))
    by_frequency = np.argsort(-counts, kind="stable")
    by_frequency = by_frequency[counts[by_frequency] >= min_count]
    rank = np.full(len(counts), -1)
    rank[by_frequency] = np.arange(len(by_frequency))

    paragraphs = np.repeat(np.arange(len(line_ends)), np.diff(line_ends, prepend=0))
    known = rank[text] >= 0
    names = list(first_seen)
    words = [names[i] for i in by_frequency]
    return Corpus(words, counts[by_frequency], rank[text[known]], paragraphs[known])


def keep_probability(counts: Ids, sample: float) -> Doubles:
    """word2vec's subsampling, ``[V]``: words more frequent than ``sample`` are thinned out.

    "The" is a neighbour of everything and tells nothing; without most of it the windows reach farther.
    """
    if sample <= 0:
        return np.ones(len(counts))
    ratio: Doubles = sample * counts.sum() / counts
    return np.minimum(1, np.sqrt(ratio) + ratio)


def skip_gram_batches(
    ids: Ids, paragraphs: Ids, window: int, batch: int, rng: np.random.Generator
) -> Iterator[tuple[Ids, Ids, float]]:
    """Go through a text in random order, ``batch`` words at a time.

    Yields ``(centres [P], neighbours [P], share of the text done)``. The reach of each word is drawn from
    1 to ``window``, so that near neighbours count more than far ones. Centres come sorted, so that those that
    repeat within a batch stand together.
    """
    around = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])
    places = window + rng.permutation(len(ids))
    ids = np.pad(ids, window)
    paragraphs = np.pad(paragraphs, window, constant_values=-1)  # nobody's neighbours
    for start in range(0, len(places), batch):
        here = places[start : start + batch]
        here = here[np.argsort(ids[here])]
        there = here[:, None] + around
        reach = rng.integers(1, window, size=(len(here), 1), endpoint=True)
        paired = (np.abs(around) <= reach) & (paragraphs[there] == paragraphs[here, None])
        if paired.any():
            centres = np.repeat(ids[here], paired.sum(axis=1))
            yield centres, ids[there[paired]], (start + len(here)) / len(places)


class Table:
    """A table of parameters whose rows are trained by Adagrad, with one step size per row.

    The step shrinks with the gradients that a row has seen: frequent words settle, rare ones still move far.
    """

    def __init__(self, rows: Doubles) -> None:
        self.rows = rows.astype(np.float32)
        self._squares = np.full(len(rows), 1e-6, np.float32)  # not 0: a zero gradient must not divide by it

    def descend(self, ids: Ids, gradient: Floats, rate: float) -> None:
        """Move the rows ``ids``, which must not repeat, against their gradient."""
        flat = gradient.reshape(len(ids), -1)  # biases have rows of one number
        self._squares[ids] += np.vecdot(flat, flat) / flat.shape[1]
        steps = rate / np.sqrt(self._squares[ids])
        self.rows[ids] -= (steps[:, None] * flat).reshape(gradient.shape)


def sum_runs(ids: Ids, rows: Floats) -> tuple[Ids, Floats]:
    """Add up the rows of equal ids, which must stand together: ``(unique ids, their sums)``.

    ``table[ids] -= rows`` would count one row of each id only; ``np.subtract.at`` is right, but slower.
    """
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    return ids[starts], np.add.reduceat(rows, starts, axis=0)


class SkipGram:
    """The model: word w has neighbour k with log-probability ``embeddings[w] . weights[k] + biases[k]``."""

    def __init__(self, counts: Doubles, dim: int, negatives: int, rng: np.random.Generator) -> None:
        scale = 1 / np.sqrt(dim)
        self.embeddings = Table(rng.uniform(-scale, scale, (len(counts), dim)))
        self.weights = Table(np.zeros((len(counts), dim)))
        # Starting from each word's own log-probability, the vectors learn only what the context adds to it.
        self.biases = Table(np.log(counts / counts.sum()))
        self.sampler = fastnce.LogUniformSampler(len(counts), negatives, seed=int(rng.integers(2**31)))

    def step(self, centres: Ids, neighbours: Ids, rate: float) -> Floats:
        """Train on a batch of pairs with sorted centres; the loss of each, ``[P]``."""
        loss: Floats
        loss, gradients = fastnce.nce_loss_and_grad(
            self.weights.rows,
            self.biases.rows,
            labels=neighbours,
            inputs=self.embeddings.rows[centres],
            num_sampled=self.sampler.num_sampled,
            num_classes=self.sampler.range_max,
            sampled_values=self.sampler(neighbours),
        )
        ids, weights, biases = gradients.rows  # of the neighbours and the samples: ascending, each once
        self.weights.descend(ids, weights, rate)
        self.biases.descend(ids, biases, rate)
        self.embeddings.descend(*sum_runs(centres, gradients.inputs), rate)
        return loss


def train(corpus: Corpus, args: argparse.Namespace) -> Floats:
    """Learn the embeddings, ``[V, D]``."""
    rng = np.random.default_rng(args.seed)
    keep = keep_probability(corpus.counts, args.sample)
    model = SkipGram(keep * corpus.counts, args.dim, args.negatives, rng)

    total = args.epochs * len(corpus.ids)  # words, with those that subsampling drops
    done, smoothed = 0.0, math.nan
    with tqdm(total=total, unit="words", unit_scale=True, mininterval=0.5) as progress:
        for epoch in range(args.epochs):
            kept = np.flatnonzero(rng.random(len(corpus.ids)) < keep[corpus.ids])
            text = corpus.ids[kept], corpus.paragraphs[kept]
            losses: list[float] = []
            for centres, neighbours, share in skip_gram_batches(*text, args.window, args.batch, rng):
                loss = float(model.step(centres, neighbours, args.lr * (1 - done)).mean())
                losses.append(loss)
                smoothed = loss if math.isnan(smoothed) else 0.98 * smoothed + 0.02 * loss
                done = (epoch + share) / args.epochs
                progress.set_postfix_str(f"loss {smoothed:.3f}", refresh=False)
                progress.update(round(done * total) - progress.n)
            if losses:
                progress.write(f"epoch {epoch + 1:2}: loss {np.mean(losses):.3f} per pair")
    return model.embeddings.rows


def nearest(word: str, words: list[str], embeddings: Floats, count: int = 8) -> list[str]:
    """The words whose vectors have the largest cosine with that of ``word``, without itself."""
    cosine = embeddings @ embeddings[words.index(word)] / np.linalg.norm(embeddings, axis=1)
    return [words[i] for i in np.argsort(-cosine)[1 : count + 1]]


def save_word2vec(path: Path, words: list[str], embeddings: Floats) -> None:
    """word2vec's text format: a line "V D", then each word and its vector, the most frequent first."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{len(words)} {embeddings.shape[1]}\n")
        for word, vector in zip(words, embeddings.tolist(), strict=True):
            file.write(f"{word} {' '.join(f'{x:.6g}' for x in vector)}\n")


def principal_plane(vectors: Floats) -> Doubles:
    """The plane in which unit vectors ``[N, D]`` spread most (principal components), as coordinates ``[N, 2]``."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    left, scales, _ = np.linalg.svd((unit - unit.mean(axis=0)).astype(np.float64), full_matrices=False)
    plane: Doubles = left[:, :2] * scales[:2]
    return plane


def plot_map(path: Path, groups: dict[str, list[str]], words: list[str], embeddings: Floats) -> None:
    """Draw a map of some words: each group in one colour, words that occur in several in that of the first."""
    from matplotlib.figure import Figure  # without pyplot: no display is needed

    group_of = {word: group for group in reversed(groups) for word in (group, *groups[group])}
    shown = list(group_of)
    plane = principal_plane(embeddings[[words.index(word) for word in shown]])
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots()
    for index, group in enumerate(groups):
        members = [i for i, word in enumerate(shown) if group_of[word] == group]
        axes.scatter(*plane[members].T, s=12, color=f"C{index % 10}")
        for i in members:
            weight = "bold" if shown[i] == group else "normal"
            axes.annotate(
                shown[i],
                plane[i],
                (3, 3),
                textcoords="offset points",
                fontsize=8,
                color=f"C{index % 10}",
                weight=weight,
            )
    axes.set_title("Word vectors, projected on their two principal components")
    axes.set_xticks([])
    axes.set_yticks([])
    figure.savefig(path, dpi=150)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Train word2vec (skip-gram) with noise-contrastive estimation.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--corpus", type=Path, default=SHIPPED_CORPUS, help="text, one paragraph per line; plain, .gz or .xz")
    add("--dim", type=natural, default=100, help="width of a vector")
    add("--negatives", type=natural, default=128, help="number of sampled words per batch (num_sampled)")
    add("--window", type=natural, default=5, help="largest distance between a word and its neighbour")
    add("--batch", type=natural, default=256, help="words per step; each has up to 2 * window neighbours")
    add("--epochs", type=natural, default=6, help="passes over the text")
    add("--lr", type=float, default=0.2, help="initial learning rate of Adagrad; falls linearly")
    add("--min-count", type=natural, default=10, help="words that occur less often are left out")
    add("--sample", type=float, default=1e-4, help="more frequent words are dropped at random (subsampling); 0: none")
    # Steps of half a millisecond gain little from a second thread, and lose much if other programs use the cores.
    add("--threads", type=natural, default=1, help="threads of fastnce")
    add("--seed", type=int, default=1, help="random seed of weights, subsampling and samples")
    add("--probes", nargs="*", default=PROBES, metavar="WORD", help="words whose nearest neighbours are printed")
    add("--plot", type=Path, help="image file for a 2-D map of the probes and their neighbours (needs Matplotlib)")
    add(
        "--output",
        type=Path,
        default=Path("word2vec_numpy.txt"),
        help="file for the vectors, in word2vec's text format",
    )
    args = parser.parse_args()
    if not args.corpus.is_file():
        parser.error(f"--corpus {args.corpus}: no such file")
    for option, path in (("--output", args.output), ("--plot", args.plot)):
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"{option} {path}: no such directory")
    return args


def natural(text: str) -> int:
    """An integer of at least 1, for the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 1")
    return int(text)


def main() -> None:
    """Read, train, save, show."""
    args = parse_arguments()
    fastnce.set_num_threads(args.threads)
    corpus = read_corpus(args.corpus, args.min_count)
    print(
        f"{args.corpus.name}: {len(corpus.ids):,} words, {len(corpus.words):,} different ones, each "
        f"{args.min_count} times or more"
    )
    if len(corpus.words) < args.negatives:
        sys.exit(
            f"a vocabulary of {len(corpus.words)} words is smaller than --negatives {args.negatives}: lower that, "
            f"or --min-count {args.min_count}"
        )

    start = time.perf_counter()
    embeddings = train(corpus, args)
    seconds = time.perf_counter() - start
    print(f"{seconds:.1f} s, {args.epochs * len(corpus.ids) / seconds:,.0f} words/s")

    save_word2vec(args.output, corpus.words, embeddings)
    print(f"saved {args.output}\n\nnearest neighbours:")
    # Another text may have none of the probes: then words that are frequent, yet not mere function words.
    probes = [probe for probe in args.probes if probe in corpus.words] or corpus.words[:110][-10:]
    groups = {probe: nearest(probe, corpus.words, embeddings) for probe in probes}
    for probe, neighbours in groups.items():
        print(f"  {probe:<10} {', '.join(neighbours)}")
    if args.plot is not None:
        plot_map(args.plot, {probe: neighbours[:5] for probe, neighbours in groups.items()}, corpus.words, embeddings)
        print(f"\nmap of these words: {args.plot.absolute()}")


if __name__ == "__main__":
    main()
