"""The language model example, run as a user would."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", minversion="2.6", reason="fastnce.torch needs PyTorch 2.6 or later")

LANGUAGE_MODEL = Path(__file__).parents[1] / "examples" / "language_model.py"
WORDS = 50


def language_model(corpus: Path, options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LANGUAGE_MODEL), "--threads=1", f"--corpus={corpus}", *options.split()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def counting(documents: int) -> str:
    """Documents that count through 50 words, from anywhere: a word tells the next one. Each has a word of its own."""
    draw = random.Random(5)
    starts = (draw.randrange(WORDS) for _ in range(documents))
    counts = (" ".join(f"word{(start + i) % WORDS}" for i in range(300)) for start in starts)
    return "\n".join(f"{text}. Rare{i}!\n" for i, text in enumerate(counts))


@pytest.mark.parametrize("loss", ["nce", "softmax", "torch-nce"])
def test_language_model_learns_and_tells_its_perplexity(tmp_path: Path, loss: str) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(counting(documents=41))
    run = language_model(corpus, f"--loss {loss} --sampled 20 --dim 16 --epochs 2")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""

    classes = WORDS + 2  # the rare words are one, and there are ends of paragraphs
    assert f"corpus.txt: {38 * 302:,} words to train on, {3 * 302} held out, {classes} different ones\n" in run.stdout
    epochs = re.findall(
        r"^epoch +\d: loss ([\d.]+), [\d.]+ ms per step \([\d.]+ output layer\), held-out perplexity ([\d.]+) "
        r"\(self-normalised [\d.]+, mean log Z [+-][\d.]+\)$",
        run.stdout,
        re.MULTILINE,
    )
    assert len(epochs) == 2
    losses, perplexities = ([float(number) for number in column] for column in zip(*epochs, strict=True))
    assert losses[1] < 0.9 * losses[0]
    assert perplexities[1] < perplexities[0] < classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("to be or not to be\n", "expected more than 32 words in every part"),
        (counting(documents=21), "--sampled 1024: expected no more than the vocabulary of 52 words"),
    ],
)
def test_language_model_says_that_a_text_is_too_short(tmp_path: Path, text: str, message: str) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(text)
    run = language_model(corpus, "")
    assert run.returncode == 1
    assert message in run.stderr


def sharded_language_model(corpus: Path, processes: int, options: str) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [str(LANGUAGE_MODEL.with_name("sharded_language_model.py")), f"--corpus={corpus}", *options.split()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_sharded_language_model_learns_and_goes_on_with_fewer_processes(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(counting(documents=41))
    options = f"--sampled 20 --dim 16 --checkpoint {tmp_path / 'checkpoint'}"
    first = sharded_language_model(corpus, 2, f"{options} --epochs 1")
    assert first.startswith("2 processes, 52 words, 26 rows on rank 0\nepoch 1: loss ")
    second = sharded_language_model(corpus, 1, f"{options} --epochs 3")
    assert second.startswith("1 process, 52 words, 52 rows on rank 0\nepoch 2: loss ")
    perplexities = [float(number) for number in re.findall(r"held-out perplexity ([\d.]+)", first + second)]
    assert len(perplexities) == 3
    assert perplexities == sorted(perplexities, reverse=True)
    assert perplexities[0] < 52
