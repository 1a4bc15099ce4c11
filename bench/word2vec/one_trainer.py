"""One run of a trainer of word vectors, in the environment that has it: compare_trainers.py starts it.

    python one_trainer.py {fastnce,gensim,fasttext} TEXT VECTORS --threads 2 --epochs 1 --seed 1

Writes word2vec's text format to VECTORS, and as JSON to standard output `training_seconds` and `peak_mb`. The seconds
are those of the training loop; those of fastText include reading the text for its vocabulary. Options are each
trainer's defaults for skip-gram with 100 dimensions, window 5, 5 negatives, min_count 5 and sample 1e-3; fastText has
no subwords.
"""

from __future__ import annotations

import argparse
import json
import time


def fastnce(options: argparse.Namespace) -> float:
    from fastnce.word2vec import Word2Vec

    model = Word2Vec(
        corpus_file=options.text, epochs=options.epochs, workers=options.threads, seed=options.seed, sample=1e-3
    )
    model.wv.save_word2vec_format(options.vectors)
    return options.epochs * model.total_words / model.words_per_second


def gensim(options: argparse.Namespace) -> float:
    from gensim.models import Word2Vec

    model = Word2Vec(
        sg=1, vector_size=100, window=5, negative=5, min_count=5, sample=1e-3, workers=options.threads,
        seed=options.seed,
    )  # fmt: skip
    model.build_vocab(corpus_file=options.text)
    start = time.perf_counter()
    model.train(
        corpus_file=options.text,
        total_words=model.corpus_total_words,
        total_examples=model.corpus_count,
        epochs=options.epochs,
    )
    seconds = time.perf_counter() - start
    model.wv.save_word2vec_format(options.vectors)
    return seconds


def fasttext(options: argparse.Namespace) -> float:
    from fasttext import train_unsupervised

    start = time.perf_counter()
    model = train_unsupervised(
        options.text, model="skipgram", dim=100, ws=5, neg=5, minCount=5, t=1e-3, epoch=options.epochs,
        thread=options.threads, minn=0, maxn=0, bucket=0, verbose=0,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    words, vectors = model.get_words(), model.get_input_matrix()  # which has one word more, the end of a line
    with open(options.vectors, "w", encoding="utf-8") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, vector in zip(words, vectors, strict=True):
            file.write(f"{word} {' '.join(f'{value:.9g}' for value in vector)}\n")
    return seconds


def peak_mb() -> float:
    """Of resident memory, of this program: `ru_maxrss` would include that of the process that started it."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM:"))


def main() -> None:
    trainers = {trainer.__name__: trainer for trainer in (fastnce, gensim, fasttext)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainer", choices=trainers)
    parser.add_argument("text")
    parser.add_argument("vectors")
    for name in ("threads", "epochs", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    seconds = trainers[options.trainer](options)
    print(json.dumps({"training_seconds": seconds, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
