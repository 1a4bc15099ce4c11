"""The word2vec and next-word examples, run as a user would, and the text that ships with them."""

from __future__ import annotations

import gzip
import lzma
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tolerances import CURVE_RELATIVE

EXAMPLES = Path(__file__).parents[1] / "examples"
WORD2VEC = EXAMPLES / "word2vec.py"
DATA = EXAMPLES / "data"
COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
TOPICS = (
    ["sea", "ship", "wave", "sailor", "harbour", "tide", "anchor", "fish", "sail", "storm"],
    ["field", "plough", "wheat", "farmer", "barn", "horse", "harvest", "seed", "mill", "cow"],
)


def two_topics() -> str:
    """300 sentences about two topics in turn, with words of falling frequency, capitals and commas."""
    draw = random.Random(5)
    by_rank = [1 / rank for rank in range(1, 11)]
    sentences = (draw.choices(TOPICS[i % 2], by_rank, k=12) for i in range(300))
    return "".join(f"The {', '.join(words)}; rare{i}.\n" for i, words in enumerate(sentences))


def word2vec(options: str = "", **files: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("tqdm", reason="the example shows its progress with tqdm: pip install tqdm")
    command = [sys.executable, str(WORD2VEC), "--threads", "1", *options.split()]
    command += [f"--{name}={path}" for name, path in files.items()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def read_word2vec(path: Path) -> tuple[list[str], np.ndarray]:
    """The words and the vectors of a file in word2vec's text format."""
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    count, dim = map(int, header.split())
    rows = [line.split(" ") for line in lines]
    vectors = np.array([row[1:] for row in rows], np.float32)
    assert vectors.shape == (count, dim)
    return [row[0] for row in rows], vectors


@pytest.mark.parametrize("suffix", COMPRESS, ids=["plain", "gz", "xz"])
def test_word2vec_learns_a_users_text(tmp_path: Path, suffix: str) -> None:
    text = two_topics()
    corpus, output = tmp_path / f"corpus.txt{suffix}", tmp_path / "vectors.txt"
    corpus.write_bytes(COMPRESS[suffix](text.encode()))
    options = "--dim 12 --negatives 6 --batch 32 --epochs 4 --sample 0"
    run = word2vec(options, corpus=corpus, output=output)
    assert run.returncode == 0, run.stderr

    losses = [float(loss) for loss in re.findall(r"epoch +\d+: loss ([\d.]+) per pair\n", run.stdout)]
    assert len(losses) == 4
    assert losses[-1] < 0.97 * losses[0]
    assert "words/s" in run.stdout
    assert "loss" in run.stderr  # the progress bar

    words, vectors = read_word2vec(output)
    counts = Counter(re.findall(r"\w+", text.lower()))
    assert sorted(words) == sorted(["the", *TOPICS[0], *TOPICS[1]])  # what occurs once is left out
    assert [counts[word] for word in words] == sorted((counts[word] for word in words), reverse=True)

    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sea, field = (vectors[[words.index(word) for word in topic]] for topic in TOPICS)
    assert min((sea @ sea.T).mean(), (field @ field.T).mean()) > (sea @ field.T).mean() + 0.3
    assert "nearest neighbours:\n" in run.stdout


def test_word2vec_repeats_itself_with_a_seed(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(two_topics())
    saved = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        output = tmp_path / name
        run = word2vec(f"--negatives 6 --dim 4 --epochs 1 --seed {seed}", corpus=corpus, output=output)
        assert run.returncode == 0, run.stderr
        saved.append(output.read_bytes())
    assert saved[0] == saved[1] != saved[2]


def test_word2vec_says_that_a_text_is_too_short(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("to be or not to be\n")
    run = word2vec(corpus=corpus, output=tmp_path / "vectors.txt")
    assert run.returncode == 1
    assert "a vocabulary of 0 words is smaller than --negatives 128" in run.stderr
    assert not (tmp_path / "vectors.txt").exists()


def test_word2vec_reads_the_shipped_text_by_default(tmp_path: Path) -> None:
    run = word2vec("--dim 8 --negatives 16 --window 1 --epochs 1", output=tmp_path / "vectors.txt")
    assert run.returncode == 0, run.stderr
    words, _ = read_word2vec(tmp_path / "vectors.txt")
    assert words[:3] == ["the", "of", "and"]
    assert re.search(r"^  war +\w+, ", run.stdout, re.MULTILINE)


def next_word(framework: str) -> np.ndarray:
    """Steps and losses that the example prints, ``[n, 2]``."""
    script = EXAMPLES / f"next_word_{framework}.py"
    assert len(script.read_text().splitlines()) < 40
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return np.array([line.split() for line in run.stdout.splitlines()], float)


def test_the_next_word_is_learnt() -> None:
    losses = next_word("numpy")[:, 1]
    assert losses[-5:].mean() < 0.9 * losses[:2].mean()


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_every_framework_trains_to_the_same_curve(framework: str) -> None:
    pytest.importorskip(framework, reason=f"{framework} is not installed")
    np.testing.assert_allclose(next_word(framework), next_word("numpy"), rtol=CURVE_RELATIVE)


def test_shipped_text_and_its_licence() -> None:
    packed = (DATA / "public_domain.txt.xz").read_bytes()
    assert 900_000 < len(packed) < 1_100_000
    text = lzma.decompress(packed).decode("ascii")
    documents = text.split("\n\n")
    assert (len(text), len(documents), len(text.split())) == (4_360_656, 229, 737_143)
    assert re.fullmatch(r"[a-z0-9' \n]+", text)

    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert "public_domain.txt.xz" in readme
    assert "public domain" in readme
    assert "Licence" in readme
