#!/usr/bin/env python3
"""Word vectors of a text: train them, ask which words are near each other, draw a map.

    python examples/word2vec.py                      # the shipped text: some seconds
    python examples/word2vec.py mine.txt.gz          # your own: one paragraph a line, plain, .gz or .xz

`fastnce word2vec` does the same from the command line, with all options. What is computed, step by step in NumPy, is in
word2vec_numpy.py.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from fastnce.word2vec import KeyedVectors, Word2Vec, plot_map

DATA = Path(__file__).parent / "data"
PROBES = ["war", "peace", "president", "economy", "tax", "water", "north", "france", "church", "schools"]


def related_pairs_found(vectors: KeyedVectors) -> str:
    """How many pairs of related words (iron and steel, north and south) are among the ten nearest of either word."""
    lines = (DATA / "related_pairs.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    known = [(a, b) for a, b in pairs if a in vectors and b in vectors]
    nearest = {word: [near for near, _ in vectors.most_similar(word)] for pair in known for word in pair}
    return f"{sum(b in nearest[a] or a in nearest[b] for a, b in known)} of {len(pairs)}"


def main() -> None:
    """Train, save, show."""
    parser = argparse.ArgumentParser(description="Train word vectors and show some neighbours.")
    add = parser.add_argument
    add("corpus", nargs="?", type=Path, default=DATA / "public_domain.txt.xz", help="a text (default: the shipped one)")
    add("--epochs", type=int, default=40, help="passes over the text; a large text needs fewer (default: %(default)s)")
    add("--output", type=Path, default=Path("word2vec.txt"), help="file for the vectors (default: %(default)s)")
    add("--plot", type=Path, help="image file for a map of the words shown (needs Matplotlib)")
    args = parser.parse_args()

    start = time.perf_counter()
    model = Word2Vec(corpus_file=args.corpus, epochs=args.epochs, min_count=10, sample=3e-3, progress=True)
    print(f"{model.total_words:,} words, {len(model.wv):,} different ones that occur 10 times or more")
    print(f"{time.perf_counter() - start:.1f} s, {model.words_per_second:,.0f} words/s")

    model.wv.save(args.output)  # gensim reads it, too
    print(f"saved {args.output}\n\nnearest neighbours:")
    probes = [probe for probe in PROBES if probe in model.wv] or model.wv.index_to_key[:10]
    for probe in probes:
        print(f"  {probe:<10} {', '.join(word for word, _ in model.wv.most_similar(probe, topn=8))}")
    print(f"\nrelated pairs found: {related_pairs_found(model.wv)}")
    if args.plot is not None:
        plot_map(args.plot, model.wv, probes)
        print(f"map of these words: {args.plot.absolute()}")


if __name__ == "__main__":
    main()
