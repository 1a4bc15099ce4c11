"""The word2vec, sessions and next-word examples, run as a user would, and the text that ships with them."""

from __future__ import annotations

import gzip
import lzma
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fastnce.word2vec import KeyedVectors
from tolerances import CURVE_RELATIVE
from word2vec_text import TOPICS, two_topics

EXAMPLES = Path(__file__).parents[1] / "examples"
DATA = EXAMPLES / "data"
COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def text_with_commas() -> str:
    """300 sentences about two topics, with capitals and commas."""
    return "".join(f"The {', '.join(words[1:-1])}; {words[-1]}.\n" for words in two_topics())


def word2vec_numpy(options: str = "", **files: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("tqdm", reason="the example shows its progress with tqdm: pip install tqdm")
    command = [sys.executable, str(EXAMPLES / "word2vec_numpy.py"), "--threads", "1", *options.split()]
    command += [f"--{name}={path}" for name, path in files.items()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("suffix", COMPRESS, ids=["plain", "gz", "xz"])
def test_word2vec_numpy_learns_a_users_text(tmp_path: Path, suffix: str) -> None:
    text = text_with_commas()
    corpus, output = tmp_path / f"corpus.txt{suffix}", tmp_path / "vectors.txt"
    corpus.write_bytes(COMPRESS[suffix](text.encode()))
    options = "--dim 12 --negatives 6 --batch 32 --epochs 4 --sample 0"
    run = word2vec_numpy(options, corpus=corpus, output=output)
    assert run.returncode == 0, run.stderr

    losses = [float(loss) for loss in re.findall(r"epoch +\d+: loss ([\d.]+) per pair\n", run.stdout)]
    assert len(losses) == 4
    assert losses[-1] < 0.97 * losses[0]
    assert "words/s" in run.stdout
    assert "loss" in run.stderr  # the progress bar

    read = KeyedVectors.load(output)
    words, vectors = read.index_to_key, read.unit_vectors()
    counts = Counter(re.findall(r"\w+", text.lower()))
    assert sorted(words) == sorted(["the", *TOPICS[0], *TOPICS[1]])  # what occurs once is left out
    assert [counts[word] for word in words] == sorted((counts[word] for word in words), reverse=True)

    sea, field = (vectors[[words.index(word) for word in topic]] for topic in TOPICS)
    assert min((sea @ sea.T).mean(), (field @ field.T).mean()) > (sea @ field.T).mean() + 0.3
    assert "nearest neighbours:\n" in run.stdout


def test_word2vec_numpy_repeats_itself_with_a_seed(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(text_with_commas())
    saved = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        output = tmp_path / name
        run = word2vec_numpy(f"--negatives 6 --dim 4 --epochs 1 --seed {seed}", corpus=corpus, output=output)
        assert run.returncode == 0, run.stderr
        saved.append(output.read_bytes())
    assert saved[0] == saved[1] != saved[2]


def test_word2vec_numpy_says_that_a_text_is_too_short(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("to be or not to be\n")
    run = word2vec_numpy(corpus=corpus, output=tmp_path / "vectors.txt")
    assert run.returncode == 1
    assert "a vocabulary of 0 words is smaller than --negatives 128" in run.stderr
    assert not (tmp_path / "vectors.txt").exists()


def test_word2vec_numpy_reads_the_shipped_text_by_default(tmp_path: Path) -> None:
    run = word2vec_numpy("--dim 8 --negatives 16 --window 1 --epochs 1", output=tmp_path / "vectors.txt")
    assert run.returncode == 0, run.stderr
    words = KeyedVectors.load(tmp_path / "vectors.txt").index_to_key
    assert words[:3] == ["the", "of", "and"]
    assert re.search(r"^  war +\w+, ", run.stdout, re.MULTILINE)


def test_word2vec_trains_on_the_shipped_text_and_finds_related_pairs(tmp_path: Path) -> None:
    script = EXAMPLES / "word2vec.py"
    assert len(script.read_text().splitlines()) < 80
    command = [sys.executable, "-W", "error", str(script), "--epochs", "2", "--output", str(tmp_path / "vectors.txt")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert KeyedVectors.load(tmp_path / "vectors.txt").index_to_key[:3] == ["the", "of", "and"]
    assert re.search(r"^  war +\w+, ", run.stdout, re.MULTILINE)
    found = re.search(r"^related pairs found: (\d+) of 50$", run.stdout, re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= 5  # after two epochs of forty


def test_related_pairs_are_fifty_pairs_of_words_of_the_shipped_text() -> None:
    counts = Counter(lzma.decompress((DATA / "public_domain.txt.xz").read_bytes()).decode("ascii").split())
    pairs = [line.split("\t") for line in (DATA / "related_pairs.tsv").read_text().splitlines()]
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) == 50
    assert min(counts[word] for pair in pairs for word in pair) >= 10


def test_what_the_model_expects_next_in_a_session_beats_popularity() -> None:
    script = EXAMPLES / "sessions.py"
    command = [sys.executable, "-W", "error", str(script), "--sessions", "8000"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    rates = dict(re.findall(r"^items (.+): +hit rate@10 (0\.\d+), ", run.stdout, re.MULTILINE))
    assert rates.keys() == {"most popular", "of similar vectors", "expected next"}
    assert float(rates["expected next"]) > 1.5 * float(rates["most popular"])
    categories = re.search(r"of similar vectors: .* (\d+)% of the same category", run.stdout)
    assert categories is not None
    assert int(categories[1]) > 40  # by chance 1 / 40


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
