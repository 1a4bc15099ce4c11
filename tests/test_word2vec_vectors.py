"""Word vectors: queries against NumPy, files in every format, and the evaluations against gensim's loops."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnce.word2vec import KeyedVectors
from fastnce.word2vec._evaluate import correlation, mean_ranks
from fastnce.word2vec._files import replacing, require_writable
from tolerances import COSINE_ABSOLUTE

SUFFIXES = (".txt", ".vec", ".bin", ".npz", ".npy", ".safetensors", ".txt.gz", ".bin.gz")


@pytest.fixture
def vectors() -> KeyedVectors:
    """200 words, w0 the most frequent one, in 7 dimensions."""
    rng = np.random.default_rng(1)
    return KeyedVectors(
        [f"w{i}" for i in range(200)], rng.normal(0, 1, (200, 7)).astype(np.float32), np.arange(200, 0, -1)
    )


def cosines(vectors: KeyedVectors, query: np.ndarray) -> np.ndarray:
    """``[V]``, in float64."""
    table = vectors.vectors.astype(np.float64)
    return table @ query / np.linalg.norm(table, axis=1) / np.linalg.norm(query)


def unit(vectors: KeyedVectors, word: str) -> np.ndarray:
    vector = vectors[word].astype(np.float64)
    return vector / np.linalg.norm(vector)


def same(found: list[tuple[str, float]], scores: np.ndarray, rows: list[int]) -> None:
    """That these are the words of ``rows``, in their order, with their scores."""
    assert [word for word, _ in found] == [f"w{i}" for i in rows]
    np.testing.assert_allclose([score for _, score in found], scores[rows], rtol=0, atol=COSINE_ABSOLUTE)


def best(scores: np.ndarray, count: int, without: list[int]) -> list[int]:
    return [i for i in np.argsort(-scores) if i not in without][:count]


def test_the_nearest_words_have_the_largest_cosines(vectors: KeyedVectors) -> None:
    scores = cosines(vectors, unit(vectors, "w3"))
    same(vectors.most_similar("w3"), scores, best(scores, 10, [3]))
    same(vectors.most_similar("w3", topn=3, restrict_vocab=50), scores, best(scores[:50], 3, [3]))
    same(vectors.most_similar("w99", topn=1, restrict_vocab=50), *one_of_fifty(vectors))
    assert len(vectors.most_similar("w3", topn=1000)) == 199


def one_of_fifty(vectors: KeyedVectors) -> tuple[np.ndarray, list[int]]:
    scores = cosines(vectors, unit(vectors, "w99"))
    return scores, best(scores[:50], 1, [])


def test_analogies_add_and_subtract_unit_vectors(vectors: KeyedVectors) -> None:
    scores = cosines(vectors, unit(vectors, "w1") + unit(vectors, "w2") - unit(vectors, "w3"))
    same(vectors.most_similar(["w1", "w2"], ["w3"]), scores, best(scores, 10, [1, 2, 3]))
    query = np.arange(7.0) - 2
    scores = cosines(vectors, query + unit(vectors, "w1"))
    same(vectors.most_similar(["w1", query], topn=4), scores, best(scores, 4, [1]))


def test_lookups_are_those_of_gensim(vectors: KeyedVectors) -> None:
    np.testing.assert_array_equal(vectors["w5"], vectors.vectors[5])
    np.testing.assert_array_equal(vectors[["w5", "w7"]], vectors.vectors[[5, 7]])
    assert vectors.similarity("w5", "w7") == pytest.approx(
        cosines(vectors, unit(vectors, "w5"))[7], abs=COSINE_ABSOLUTE
    )
    assert ("w5" in vectors, "x" in vectors, len(vectors), vectors.vector_size) == (True, False, 200, 7)
    for lookup in (lambda: vectors["x"], lambda: vectors.similarity("w1", "x"), lambda: vectors.most_similar("x")):
        with pytest.raises(KeyError, match="'x' is not among the 200 words"):
            lookup()


def test_vectors_are_iterated_by_word(vectors: KeyedVectors) -> None:
    assert list(vectors) == vectors.index_to_key
    assert list(KeyedVectors([30, 10], np.eye(2, dtype=np.float32))) == [30, 10]


def test_a_zero_vector_is_near_to_nothing() -> None:
    vectors = KeyedVectors(["a", "b", "c"], np.array([[0, 0], [1, 2], [2, 4]], np.float32))
    assert vectors.most_similar("a") == [("b", 0.0), ("c", 0.0)]
    assert vectors.most_similar("b") == [("c", pytest.approx(1)), ("a", 0.0)]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_cosines_do_not_depend_on_the_scale_of_vectors(vectors: KeyedVectors, scale: float) -> None:
    scaled = KeyedVectors(vectors.index_to_key, vectors.vectors * np.float32(scale))
    scores = cosines(vectors, unit(vectors, "w3"))
    same(scaled.most_similar("w3"), scores, best(scores, 10, [3]))


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "f2"])
def test_vectors_of_other_floats_answer_queries(tmp_path: Path, vectors: KeyedVectors, dtype: str) -> None:
    """As in arrays that another program has written; here with columns in one piece."""
    path = tmp_path / "v.npz"
    words = np.frombuffer("".join(f"w{i}\n" for i in range(200)).encode(), np.uint8)
    np.savez(path, words=words, vectors=np.asfortranarray(vectors.vectors).astype(dtype))
    read = KeyedVectors.load(path)
    scores = cosines(read, unit(read, "w3"))
    same(read.most_similar("w3"), scores, best(scores, 10, [3]))
    read.save(tmp_path / "v.bin")
    np.testing.assert_array_equal(KeyedVectors.load(tmp_path / "v.bin").vectors, read.vectors.astype(np.float32))


def test_arrays_that_are_no_word_vectors_are_refused(tmp_path: Path) -> None:
    words, table = np.frombuffer(b"a\nb\n", np.uint8), np.eye(2, dtype=np.float32)
    for arrays in (
        {"words": words, "vectors": np.eye(2, dtype=int)},
        {"words": words, "vectors": np.array([["a", "b"]] * 2)},
        {"words": words, "vectors": np.float32(1)},
        {"words": np.array(["a", "b"]), "vectors": table},
        {"words": np.eye(2, dtype=np.int64), "vectors": table},
        {"words": words, "vectors": table, "counts": np.ones(3, np.int64)},
    ):
        np.savez(tmp_path / "v.npz", **arrays)
        with pytest.raises(
            ValueError, match=r"v\.npz is damaged, or no file of word vectors: (vectors|words|counts) are "
        ):
            KeyedVectors.load(tmp_path / "v.npz")
    (tmp_path / "v.npz").rename(tmp_path / "v.npy")
    (tmp_path / "v.words.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"v\.npy is damaged"):
        KeyedVectors.load(tmp_path / "v.npy")


def test_wrong_queries_and_tables_say_what_is_expected(vectors: KeyedVectors) -> None:
    with pytest.raises(ValueError, match=r"^positive and negative are empty: expected a word or a vector$"):
        vectors.most_similar()
    with pytest.raises(ValueError, match=r"^a vector of the query is \[3\]: expected \[7\]$"):
        vectors.most_similar([np.ones(3)])
    with pytest.raises(TypeError, match=r"^a query is a float: expected a word, a vector, or a list of such$"):
        vectors.most_similar(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^topn = None: expected an integer$"):
        vectors.most_similar("w1", topn=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^topn = -1: expected 0 to "):
        vectors.most_similar("w1", topn=-1)
    with pytest.raises(ValueError, match=r"^vectors are \[2, 3\]: expected \[V, D\] with V = 1"):
        KeyedVectors(["a"], np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"^keys hold 'a' twice: expected different ones$"):
        KeyedVectors(["a", "b", "a"], np.zeros((3, 3), np.float32))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_saved_is_read_to_the_bit(tmp_path: Path, vectors: KeyedVectors, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="pip install safetensors")
    vectors.vectors[:3] *= np.array([[1e-40], [1e38], [1.00000012]], np.float32)  # denormal, huge, next to 1
    keys = ["the", "caf\u00e9", "\u4e2d\u6587", "a\u00a0b", *vectors.index_to_key[4:]]
    # Rows at a distance, as the trainer has them.
    padded = np.zeros((200, 16), np.float32)
    padded[:, :7] = vectors.vectors
    path = tmp_path / f"vectors{suffix}"
    KeyedVectors(keys, padded[:, :7], vectors.counts).save(path)
    read = KeyedVectors.load(path)
    assert read.index_to_key == keys
    np.testing.assert_array_equal(read.vectors, vectors.vectors)
    if suffix in (".npz", ".safetensors"):
        np.testing.assert_array_equal(read.counts, vectors.counts)


def test_word2vec_formats_are_those_of_word2vec(tmp_path: Path) -> None:
    vectors = KeyedVectors(["to", "be"], np.array([[0.5, -1], [0.1, 2]], np.float32))
    path = tmp_path / "v"
    vectors.save_word2vec_format(path)
    assert path.read_bytes() == b"2 2\nto 0.5 -1\nbe 0.100000001 2\n"
    rows = [row.tobytes() for row in vectors.vectors]
    vectors.save_word2vec_format(path, binary=True)
    assert path.read_bytes() == b"2 2\nto " + rows[0] + b"\nbe " + rows[1] + b"\n"
    # gensim writes no line feeds between words, and fastText a space at the end of a line.
    path.write_bytes(b"2 2\nto " + rows[0] + b"be " + rows[1])
    np.testing.assert_array_equal(KeyedVectors.load_word2vec_format(path, binary=True)["be"], vectors["be"])
    path.write_bytes(b"2 2\r\nto 0.5 -1 \r\nbe 1e-1 2 \r\n")
    np.testing.assert_array_equal(KeyedVectors.load_word2vec_format(path).vectors, vectors.vectors)
    packed = tmp_path / "v.gz"
    vectors.save_word2vec_format(packed)
    assert gzip.decompress(packed.read_bytes()).startswith(b"2 2\nto 0.5")


def test_ids_of_items_stay_integers_in_files_of_arrays(tmp_path: Path) -> None:
    vectors = KeyedVectors([30, 10, 20], np.eye(3, dtype=np.float32))
    vectors.save(tmp_path / "v.npz")
    assert KeyedVectors.load(tmp_path / "v.npz").index_to_key == [30, 10, 20]
    vectors.save(tmp_path / "v.txt")
    assert KeyedVectors.load(tmp_path / "v.txt").index_to_key == ["30", "10", "20"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"begins with b'': expected a line with two numbers"),
        (b"to 0.5 -1\n", r"begins with b'to 0.5 -1.*': expected a line with two numbers"),
        (b"2 2\nto 0.5 -1\n", "line 3: the file ends: expected a word and 2 numbers"),
        (b"2 2\nto 0.5 -1\nbe 1\n", "line 3: 1 numbers: expected a word and 2 numbers"),
        (b"1 2\nnew york 0.5 -1\n", "line 2: 3 numbers: expected a word and 2 numbers"),
        (b"1 2\nto 0.5 x\n", "lines 2 to 2: could not convert string to float: .*: expected numbers"),
        (b"2 1\nto 1\nto 2\n", "has the word 'to' twice: expected different words"),
        (b"1 1\nto 1\nbe 2\n", "goes on after 1 words: expected as many as its first line says"),
        (b"1 1\n\xff 1\n", "words 1 on: .*: expected words in UTF-8"),
    ],
    ids=["empty", "no header", "short", "narrow", "space", "no number", "twice", "long", "latin1"],
)
def test_a_broken_text_file_is_refused_by_name_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"v\.txt.*{message}"):
        KeyedVectors.load(path)


@pytest.mark.parametrize("suffix", [".bin", ".npz", ".npy", ".safetensors", ".bin.gz"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, vectors: KeyedVectors, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="pip install safetensors")
    path = tmp_path / f"v{suffix}"
    vectors.save(path)
    for size in (path.stat().st_size - 10, 0):
        os.truncate(path, size)
        with pytest.raises(ValueError, match=rf"v{suffix}.*(damaged|ends in word|begins with)"):
            KeyedVectors.load(path)


def test_a_missing_package_is_no_damage(vectors: KeyedVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.safetensors"
    path.write_bytes(b"whole")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for use in (lambda: KeyedVectors.load(path), lambda: vectors.save(path)):
        with pytest.raises(ImportError, match=r"^\.safetensors files need the package safetensors: pip install safet"):
            use()
    assert path.read_bytes() == b"whole"


def test_names_that_say_no_format_are_refused(vectors: KeyedVectors, tmp_path: Path) -> None:
    for name in ("v", "v.foo", "v.npz.gz", "v.gz"):
        with pytest.raises(ValueError, match=rf"{name}: the name says no format: expected one that ends in \.txt, "):
            vectors.save(tmp_path / name)
    for save in (vectors.save, vectors.save_word2vec_format):
        with pytest.raises(ValueError, match=r"not written as \.xz: expected \.gz"):
            save(tmp_path / "v.txt.xz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["new york", "", "a\nb"])
def test_words_that_word2vecs_formats_cannot_hold_are_refused(tmp_path: Path, word: str) -> None:
    vectors = KeyedVectors([word, "b"], np.zeros((2, 2), np.float32))
    path = tmp_path / "v.txt"
    path.write_text("good")
    with pytest.raises(ValueError, match="empty, or has a space or a line feed, which end words in word2vec's formats"):
        vectors.save(path)
    assert path.read_text() == "good"
    if "\n" not in word:
        vectors.save(tmp_path / "v.npz")
        assert KeyedVectors.load(tmp_path / "v.npz").index_to_key == [word, "b"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, vectors: KeyedVectors, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="pip install safetensors")
    path = tmp_path / f"v{suffix}"
    vectors.save(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    other = KeyedVectors(vectors.index_to_key[::-1], vectors.vectors + 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # as if no block were left
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            other.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert raised.value.filename.startswith(str(tmp_path / "v"))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_links_stay_and_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    with replacing("/dev/null") as file:
        file.write(b"lost")
    assert Path("/dev/null").is_char_device()


def test_unwritable_places_are_known_beforehand(tmp_path: Path) -> None:
    require_writable(tmp_path / "v.txt")
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] no such folder"):
        require_writable(tmp_path / "none" / "v.txt")
    with pytest.raises(IsADirectoryError, match=r"^\[Errno 21\] is a folder: expected a file"):
        require_writable(tmp_path)
    with pytest.raises(OSError, match="File name too long"):
        require_writable(tmp_path / ("v" * 250))
    (tmp_path / "v.txt.partial").write_text("of a process that was killed")
    require_writable(tmp_path / "v.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["v.txt.partial"]


def analogies_of_gensim(vectors: KeyedVectors, lines: list[str], restrict_vocab: int) -> dict[str, tuple[int, int]]:
    """Per section how many are correct and incorrect, by a loop over NumPy's sorted cosines."""
    known: dict[str, int] = {}
    for i, word in enumerate(vectors.index_to_key[:restrict_vocab]):
        known.setdefault(str(word).upper(), i)
    result: dict[str, tuple[int, int]] = {}
    for line in lines:
        if line.startswith(": "):
            section = line[2:]
            result[section] = (0, 0)
            continue
        words = line.upper().split()
        if len(words) != 4 or any(word not in known for word in words):
            continue
        a, b, c = (unit(vectors, str(vectors.index_to_key[known[word]])) for word in words[:3])
        order = np.argsort(-cosines(vectors, b - a + c)[:restrict_vocab])
        nearest = [i for i in order if i not in [known[word] for word in words[:3]]][:5]
        names = [str(vectors.index_to_key[i]).upper() for i in nearest]
        answer = next((name for name in names if name not in words[:3]), None)
        right, wrong = result[section]
        result[section] = (right + (answer == words[3]), wrong + (answer != words[3]))
    return result


def test_analogies_are_counted_as_gensim_counts_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    base, shift = rng.normal(0, 1, (30, 8)), rng.normal(0, 1, 8)
    words = [f"s{i}" for i in range(30)] + [f"p{i}" for i in range(30)] + ["S1", "P2", "rare"]
    table = np.concatenate([base, base + shift + rng.normal(0, 0.5, (30, 8)), rng.normal(0, 1, (3, 8))])
    vectors = KeyedVectors(words, table.astype(np.float32))
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    lines = [": plural", *(f"s{i} p{i} s{j} P{j}" for i, j in pairs), "three words only", "s1 p1 s2 unknown"]
    lines += [": back", *(f"p{i} s{i} p{j} s{j}" for i, j in pairs), "s1 p1 s2 rare", ": empty"]
    path = tmp_path / "analogies.txt"
    path.write_text("\n".join(lines) + "\n")
    for restrict_vocab in (62, 60):
        expected = analogies_of_gensim(vectors, lines, restrict_vocab)
        score, sections = vectors.evaluate_word_analogies(path, restrict_vocab)
        got = {s["section"]: (len(s["correct"]), len(s["incorrect"])) for s in sections[:-1]}
        assert got == expected
        right, wrong = (sum(column) for column in zip(*expected.values(), strict=True))
        assert score == right / (right + wrong)
        assert 0.2 < score < 0.95
        assert sections[-1]["section"] == "Total accuracy"
    assert ("S1", "P1", "S2", "P2") in sections[0]["correct"] + sections[0]["incorrect"]


def test_pairs_correlate_by_their_cosines(tmp_path: Path, vectors: KeyedVectors) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("# a comment\nword 1\tword 2\tmean\nW1\tw2\t3\nw3\tw4\t1.5\nw5\tw6\t3\nw7\tw8\t9\nw1\tnone\t2\n\n")
    cosine = [vectors.similarity(f"w{i}", f"w{i + 1}") for i in (1, 3, 5, 7)]
    pearson, spearman, unknown = vectors.evaluate_word_pairs(path)
    assert pearson == pytest.approx(np.corrcoef(cosine, [3, 1.5, 3, 9])[0, 1], abs=COSINE_ABSOLUTE)
    ranks = np.argsort(np.argsort(cosine)) + 1
    assert spearman == pytest.approx(np.corrcoef(ranks, [2.5, 1, 2.5, 4])[0, 1])
    assert unknown == 20
    assert vectors.evaluate_word_pairs(path, case_insensitive=False).oov_ratio == 40
    by_spaces = path.read_text().replace("\t", " by ")
    path.write_text(by_spaces)
    assert vectors.evaluate_word_pairs(path, delimiter=" by ") == (pearson, spearman, unknown)
    path.write_text("a\tb\t3\nw1\tw2\t3\n")
    with pytest.raises(ValueError, match=r"pairs.tsv has 1 pairs whose words are both known: expected 2 or more"):
        vectors.evaluate_word_pairs(path)
    path.write_text("w1 w2 3\nw3 w4 3\n")
    with pytest.raises(ValueError, match=r"pairs.tsv has 0 lines of the form 'word<tab>word<tab>number': expected 2"):
        vectors.evaluate_word_pairs(path)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    np.testing.assert_array_equal(mean_ranks(np.array([3.0, 1, 3, 2, 3])), [4, 1, 4, 2, 4])
    assert np.isnan(correlation(np.ones(3), np.arange(3.0)))


def test_analogies_that_cannot_be_counted_say_why(tmp_path: Path, vectors: KeyedVectors) -> None:
    path = tmp_path / "a.txt"
    path.write_text("w1 w2 w3 w4\n")
    with pytest.raises(ValueError, match=r"a.txt, line 1: expected ': ' and the name of a section first"):
        vectors.evaluate_word_analogies(path)
    path.write_text(": s\nw1 w2 w3\n")
    with pytest.raises(ValueError, match=r"a.txt has no analogy: expected lines 'a b c d' after a line ': ' and the n"):
        vectors.evaluate_word_analogies(path)
    path.write_text(": s\na b c d\n")
    with pytest.raises(ValueError, match="expected at least one analogy 'a b c d' whose words are all known"):
        vectors.evaluate_word_analogies(path)
