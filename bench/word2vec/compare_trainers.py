"""Trainers of word vectors side by side: words per second, memory, and how good the vectors are.

    python bench/word2vec/compare_trainers.py TEXT --similarity wordsim353.tsv --analogies questions-words.txt \
        --venvs VENVS [--rounds 3] [--runs fastnce:2:1 gensim:2:1 fastnce-avx2:2:1 ...] [--extend FILE]
    python bench/word2vec/trainers_measured.py    # table and plot of docs/word2vec.md, from bench/results

A run is TRAINER:THREADS:EPOCHS; `fastnce-avx2` is fastnce with AVX2 alone. Each round has every run once, in this
order; its number in this call is the seed, but fastText has no choice of one. VENVS holds the virtual environments
`gensim` and `fasttext`; fastnce runs in this one. TEXT is plain. The JSON file goes to `build/word2vec/`; FILE is such
a file, of the same text, that is to have more runs. To publish: commit first, so that it names a commit, measure, move
it to `bench/results/`.

Every run is a process of its own, from the text to the file of vectors. `whole_seconds` and `cpu_seconds` are those of
the process; `training_seconds` and `peak_mb` are from one_trainer.py; `other_load` is the number of cores that were
busy with anything else meanwhile. `similarity` is Spearman's correlation, `analogies` the share that is solved among
the 30,000 most frequent words.
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

from fastnce.word2vec import KeyedVectors
from machine import busy_seconds
from options import add_output, header
from report import save

RUNS = [f"{trainer}:2:1" for trainer in ("fastnce", "gensim", "fastnce-avx2", "fasttext")]
RUNS += [f"{trainer}:1:1" for trainer in ("fastnce", "gensim", "fastnce-avx2", "fasttext")]
RUNS += [f"{trainer}:2:5" for trainer in ("fastnce", "gensim", "fasttext")]
ONE_TRAINER = Path(__file__).with_name("one_trainer.py").resolve()


def measured(run: str, seed: int, vectors: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train, and measure the process."""
    name, threads, epochs = run.split(":")
    trainer, _, isa = name.partition("-")
    python = sys.executable if trainer == "fastnce" else str(options.venvs / trainer / "bin" / "python")
    command = [python, str(ONE_TRAINER), trainer, str(options.text), vectors]
    command += ["--threads", threads, "--epochs", epochs, "--seed", str(seed)]
    environment = os.environ | ({"FASTNCE_ISA": isa} if isa else {})
    start, busy = time.perf_counter(), busy_seconds([])
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        printed = process.stdout.read()  # what one_trainer.py has to say: until its end
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, busy = time.perf_counter() - start, busy_seconds([]) - busy
    if process.returncode != 0:
        raise SystemExit(f"{run} failed: see above")
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "trainer": name,
        "threads": int(threads),
        "epochs": int(epochs),
        "seed": seed,
        **json.loads(printed),
        "whole_seconds": seconds,
        "cpu_seconds": cpu,
        "other_load": max(0.0, busy - cpu) / seconds,
    }


def scores(vectors: str, options: argparse.Namespace) -> dict[str, float]:
    """How good the vectors of a file are."""
    words = KeyedVectors.load_word2vec_format(vectors)
    share, _ = words.evaluate_word_analogies(options.analogies, restrict_vocab=30_000)
    return {"similarity": words.evaluate_word_pairs(options.similarity).spearman, "analogies": share}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    for name in ("similarity", "analogies", "venvs"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", nargs="+", default=RUNS)
    parser.add_argument("--extend", type=Path, metavar="FILE")
    add_output(parser, "word2vec")
    options = parser.parse_args()
    with options.text.open("rb") as text:
        results = header() | {"words": sum(len(line.split()) for line in text), "runs": []}
    if options.extend:
        results = json.loads(options.extend.read_text())
        options.output = options.extend.parent
    rounds_before = max((run["round"] for run in results["runs"]), default=0)
    with tempfile.TemporaryDirectory() as folder:
        vectors = str(Path(folder) / "vectors.txt")
        for seed in range(1, options.rounds + 1):
            for run in options.runs:
                result = measured(run, seed, vectors, options) | scores(vectors, options)
                results["runs"].append({"round": rounds_before + seed, **result})
                print(results["runs"][-1], flush=True)
                path = save("trainers", results, options.output)
    print(path)


if __name__ == "__main__":
    main()
