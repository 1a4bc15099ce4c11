"""Trainers of word vectors side by side: words per second, memory, and how good the vectors are.

    python bench/word2vec/compare_trainers.py TEXT --similarity wordsim353.tsv --analogies questions-words.txt \
        --environments ENVS [--rounds 3] [--runs fastnce:2:1 gensim:2:1 fastnce-avx2:2:1 ...] [--add FILE]

A run is TRAINER:THREADS:EPOCHS; `fastnce-avx2` is fastnce with AVX2 alone. Each round has every run once, in this
order; its number is the seed. ENVS holds the virtual environments `gensim` and `fasttext`; fastnce runs in this one.
TEXT is plain. The results, an object a run and one of the machine, go to build/word2vec/, or are added to FILE;
trainers_page.py makes the tables and the plot of docs/word2vec.md. To publish: commit first, so that the results name a
commit, measure, move the file to bench/results/.

Every run is a process of its own, from the text to the file of vectors. `whole_seconds`, `cpu_seconds` and `peak_mb`
are those of the process; `training_seconds` are those of the training loop (one_trainer.py); `other_load` is the number
of cores that were busy with anything else meanwhile. `similarity` is Spearman's correlation, `analogies` the share that
is solved among the 30,000 most frequent words.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from machine import busy_seconds, commit, machine

from fastnce.word2vec import KeyedVectors

HERE = Path(__file__).resolve().parent
RUNS = [
    f"{trainer}:{threads}:1" for threads in (2, 1) for trainer in ("fastnce", "gensim", "fastnce-avx2", "fasttext")
] + [f"{trainer}:2:5" for trainer in ("fastnce", "gensim", "fasttext")]


def measured(run: str, seed: int, vectors: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train, and measure the process."""
    name, threads, epochs = run.split(":")
    trainer, _, isa = name.partition("-")
    python = sys.executable if trainer == "fastnce" else str(options.environments / trainer / "bin" / "python")
    command = [python, str(HERE / "one_trainer.py"), trainer, str(options.text), vectors]
    command += ["--threads", threads, "--epochs", epochs, "--seed", str(seed)]
    environment = os.environ | ({"FASTNCE_ISA": isa} if isa else {})
    start, busy = time.perf_counter(), busy_seconds([])
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds, busy = time.perf_counter() - start, busy_seconds([]) - busy
    if status != 0:
        raise RuntimeError(f"{run} failed: {err.decode()[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "trainer": name,
        "threads": int(threads),
        "epochs": int(epochs),
        "seed": seed,
        "training_seconds": float(out),
        "whole_seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
        "other_load": max(0.0, busy - cpu) / seconds,
    }


def scores(vectors: str, options: argparse.Namespace) -> dict[str, float]:
    """How good the vectors of a file are."""
    words = KeyedVectors.load_word2vec_format(vectors)
    share, _ = words.evaluate_word_analogies(options.analogies, restrict_vocab=30_000)
    return {"similarity": words.evaluate_word_pairs(options.similarity).spearman, "analogies": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    for name in ("similarity", "analogies", "environments"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--runs", nargs="+", default=RUNS)
    parser.add_argument("--add", type=Path)
    options = parser.parse_args()
    words = sum(len(line.split()) for line in options.text.open("rb"))
    path = options.add or Path("build/word2vec") / time.strftime("trainers-%Y%m%dT%H%M%S.jsonl", time.gmtime())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as results, tempfile.TemporaryDirectory() as folder:
        header = {"machine": machine(), "commit": commit(), "words": words}
        print(json.dumps(header), file=results, flush=True)
        for seed in range(options.first_seed, options.first_seed + options.rounds):
            for run in options.runs:
                vectors = str(Path(folder) / "vectors.txt")
                result = measured(run, seed, vectors, options) | scores(vectors, options)
                print(json.dumps(result), file=results, flush=True)
                print(json.dumps(result), flush=True)
    print(path)


if __name__ == "__main__":
    main()
