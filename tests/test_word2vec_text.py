"""Text becomes ids of words: the C++ reader against Python's decode() and split(), files, sentences, errors."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastnce import _core
from fastnce.word2vec import Word2Vec, _corpus

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
TEXT = "to be or not to be\n\nthat is the question\r\nna\u00efve caf\u00e9s: \u4e2d\u6587\tto be \U0001f600\n"
WHITESPACE = " \t\v\f\r"


def words_of_python(text: bytes, errors: str) -> list[list[str]]:
    """The paragraphs that have words, by decode() and split() at ASCII whitespace."""
    decoded = text.decode(errors=errors)
    for space in WHITESPACE:
        decoded = decoded.replace(space, " ")
    paragraphs = ([word for word in line.split(" ") if word] for line in decoded.split("\n"))
    return [paragraph for paragraph in paragraphs if paragraph]


def words_of_reader(pieces: list[bytes], errors: str) -> list[list[str]]:
    reader = _core.TextReader(errors)
    reader.begin("text")
    ids = np.concatenate([*(reader.read(piece) for piece in pieces), reader.end()])
    words = reader.words(np.arange(len(reader.counts)))
    assert reader.counts.tolist() == [Counter(ids.tolist())[i] for i in range(len(words))]
    return paragraphs_of(ids, words)


def paragraphs_of(ids: np.ndarray, words: list) -> list[list]:
    """The words of ids, paragraph by paragraph."""
    ends = np.flatnonzero(ids == _corpus.PARAGRAPH_END)
    assert len(ids) == 0 or ends[-1] == len(ids) - 1
    return [[words[i] for i in part if i >= 0] for part in np.split(ids, ends + 1)[:-1]]


def all_ids(corpus: _corpus.Corpus) -> np.ndarray:
    return corpus.piece(0, corpus.length)


def test_a_text_may_be_cut_at_every_byte() -> None:
    text = TEXT.encode()
    expected = words_of_python(text, "strict")
    for cut in range(len(text) + 1):
        assert words_of_reader([text[:cut], text[cut:]], "strict") == expected
    assert words_of_reader([text[i : i + 1] for i in range(len(text))], "strict") == expected


@pytest.mark.parametrize("errors", ["replace", "ignore"])
def test_bytes_that_are_no_utf8_become_what_python_makes_of_them(errors: str) -> None:
    draw = random.Random(3)
    likely = [b" ", b"\n", b"a", b"b", b"\0", b"\x1c", b"\x80", b"\xbf", b"\xc0", b"\xc3", b"\xe0", b"\xed", b"\xa0"]
    likely += [b"\xf0", b"\x90", b"\xf4", b"\xff", b"\xef\xbf\xbd", "\u4e2d".encode(), "\U0001f600".encode()]
    for _ in range(300):
        text = b"".join(draw.choices(likely, k=draw.randrange(40)))
        cut = draw.randrange(len(text) + 1)
        assert words_of_reader([text[:cut], text[cut:]], errors) == words_of_python(text, errors), text


def test_a_word_of_unusual_characters_is_a_word() -> None:
    assert words_of_reader([b"a\0b \x1c \xc2\xa0x"], "strict") == [["a\0b", "\x1c", "\u00a0x"]]


def test_the_vocabulary_falls_by_count_and_keeps_the_order_of_the_text_among_equals(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("c b a\nb a\nb a z\nd d\nonce\nz\n")
    corpus = _corpus.read_files([path], min_count=2)
    assert corpus.words == ["b", "a", "z", "d"]
    assert corpus.counts.tolist() == [3, 3, 2, 2]
    assert (corpus.total, corpus.length) == (12, 15)
    # "c" and "once" are left out, the paragraph that has no other word with them.
    assert paragraphs_of(all_ids(corpus), corpus.words) == [["b", "a"], ["b", "a"], ["b", "a", "z"], ["d", "d"], ["z"]]


def test_a_large_text_has_the_ids_of_a_small_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    lines = [[f"w{int(draw.paretovariate(0.6))}" for _ in range(draw.randrange(30))] for _ in range(2000)]
    path = tmp_path / "a.txt"
    path.write_text("\n".join(map(" ".join, lines)))
    monkeypatch.setattr(_corpus, "_BLOCK", 1000)  # ids in the file are renumbered in several steps
    counts = Counter(word for line in lines for word in line)
    kept = [[word for word in line if counts[word] >= 3] for line in lines]
    for corpus in (_corpus.read_files([path], 3), _corpus.read_sentences(lines, 3)):
        assert corpus.words == sorted((w for w, n in counts.items() if n >= 3), key=lambda w: (-counts[w],))
        assert corpus.counts.tolist() == [counts[word] for word in corpus.words]
        assert paragraphs_of(all_ids(corpus), corpus.words) == [line for line in kept if line]
        assert corpus.total == sum(map(len, lines))


def test_pieces_end_where_paragraphs_end() -> None:
    corpus = _corpus.read_sentences([["a", "b", "c"], ["a", "b"], ["a"] * 20, ["b", "c"]], 1)
    start, ends, joined = 0, [], []
    while start < corpus.length:
        ids = corpus.piece(start, 8)
        joined.append(ids)
        start += len(ids)
        ends.append(start)
    assert ends == [7, 15, 23, 31]  # the long paragraph is cut
    np.testing.assert_array_equal(np.concatenate(joined), all_ids(corpus))


@pytest.mark.parametrize("suffix", COMPRESS, ids=["plain", "gz", "xz"])
def test_compressed_files_and_several_files_are_one_text(tmp_path: Path, suffix: str) -> None:
    paths = []
    for i, part in enumerate(["a b a\nb", "b a c c\n"]):
        paths.append(tmp_path / f"{i}.txt{suffix}")
        paths[-1].write_bytes(COMPRESS[suffix](part.encode()))
    corpus = _corpus.read_files(paths, 1)
    # A file ends a word and a paragraph, whether or not it ends with a line feed.
    assert paragraphs_of(all_ids(corpus), corpus.words) == [["a", "b", "a"], ["b"], ["b", "a", "c", "c"]]


def test_the_standard_input_is_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a b\na\n")))
    assert _corpus.read_files(["-"], 1).words == ["a", "b"]


def test_a_closed_standard_input_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match=r"^the standard input is closed: expected a text there, or the name of a f"):
        _corpus.read_files(["-"], 1)


def test_sessions_of_item_ids_are_a_text() -> None:
    corpus = _corpus.read_sentences(iter([np.array([7, 3, 7]), (3, 7), [], [5]]), 1)
    assert corpus.words == [7, 3, 5]
    assert all(type(word) is int for word in corpus.words)
    assert paragraphs_of(all_ids(corpus), corpus.words) == [[7, 3, 7], [3, 7], [5]]


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (["to be or not"], "sentences: number 0 is a str: expected a list of words"),
        ([["a"], [["b"]]], "sentences: number 1: unhashable type"),
        ([["a"], 3], "sentences: number 1: 'int' object is not iterable"),
        ([["a", 1]], "sentences hold both str and int"),
        ([["a", None]], "sentences hold None, which is None: expected words, all str, or ids of items, all int"),
    ],
    ids=["str", "nested", "no list", "mixed", "none"],
)
def test_sentences_of_the_wrong_kind_are_refused_by_number(sentences: list, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        Word2Vec(sentences)


def test_ids_of_items_have_64_bits() -> None:
    assert _corpus.read_sentences([[-(2**63), 2**63 - 1]], 1).words == [-(2**63), 2**63 - 1]
    for large in (2**63, -(2**63) - 1, np.uint64(2**63)):
        with pytest.raises(ValueError, match=rf"^sentences hold {large}: expected ids of items of at most 64 bits"):
            Word2Vec([[1, large]])


def test_a_sentence_of_any_length_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_corpus, "_BLOCK", 100)
    sizes = []
    append = _corpus.IdFile.append

    def noted(ids: _corpus.IdFile, block: np.ndarray) -> None:
        sizes.append(len(block))
        append(ids, block)

    monkeypatch.setattr(_corpus.IdFile, "append", noted)
    corpus = _corpus.read_sentences([["a"], iter(["b", "c"] * 500), ["c"]], 1)
    assert max(sizes) <= 200
    assert paragraphs_of(all_ids(corpus), corpus.words) == [["a"], ["b", "c"] * 500, ["c"]]


def test_a_file_may_have_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.txt")
    path.write_bytes(b"a b\n")
    assert _corpus.read_files([path], 1).words == ["a", "b"]
    path.write_bytes(b"a \xff\n")
    with pytest.raises(ValueError, match="\ufffd\\.txt, line 1, byte 2: 0xff is not UTF-8"):
        _corpus.read_files([path], 1)


def test_bytes_that_are_no_utf8_are_refused_by_file_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes("good\nna\u00efve".encode("latin1"))
    with pytest.raises(
        ValueError, match=r"latin1.txt, line 2, byte 7: 0xef is not UTF-8: expected text in UTF-8; con.*"
    ):
        Word2Vec(corpus_file=path)
    assert _corpus.read_files([path], 1, "replace").words == ["good", "na\ufffdve"]
    assert _corpus.read_files([path], 1, "ignore").words == ["good", "nave"]
    with pytest.raises(ValueError, match="errors = 'loose': expected 'strict', 'replace' or 'ignore'"):
        Word2Vec(corpus_file=path, errors="loose")


def test_a_line_of_a_gigabyte_without_spaces_is_refused_before_it_is_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.touch()
    os.truncate(path, 1 << 30)  # takes no space on the disk
    with pytest.raises(
        ValueError, match=r"zeros, line 1, byte 0: a word of more than 65536 bytes: .*is this a text file"
    ):
        Word2Vec(corpus_file=path)


@pytest.mark.parametrize("text", ["", "\n \n\n"], ids=["empty", "blank"])
def test_a_text_without_words_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^the text has no words: expected words separated by spaces"):
        Word2Vec(corpus_file=path)


def test_a_vocabulary_of_one_word_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a a a b b\n")
    for min_count, left in ((3, 1), (4, 0)):
        with pytest.raises(
            ValueError, match=rf"^min_count = {min_count} leaves {left} of 2 words .*'a', occurs 3 times"
        ):
            Word2Vec(corpus_file=path, min_count=min_count)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    packed = COMPRESS[suffix](TEXT.encode() * 100)
    for damaged in (packed[: len(packed) // 2], b"no archive", packed[:-9] + b"x" + packed[-8:]):
        path = tmp_path / f"a.txt{suffix}"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"a.txt{suffix} is damaged, or no {suffix} file: "):
            Word2Vec(corpus_file=path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_temporary_folder_says_what_to_do(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=f"{os.strerror(number)}, .*set TMPDIR to a folder with more") as raised:
        Word2Vec([["a", "b"]])
    assert raised.value.errno == number


def test_a_file_that_is_missing_is_known_before_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("a b\n")
    monkeypatch.setattr(_corpus, "read_files", None)
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        Word2Vec(corpus_file=["-", tmp_path / "a.txt", tmp_path / "none.txt"])


def test_either_sentences_or_files_are_given() -> None:
    with pytest.raises(TypeError, match=r"^neither sentences nor corpus_file is given: expected one of them$"):
        Word2Vec()
    for second in ("a.txt", 50):  # a number is meant as the width, or as the rate
        with pytest.raises(
            TypeError,
            match=rf"^both sentences and corpus_file \(the second argument without a name, {second!r}\) are given: .*"
            "options need their names, as in vector_size=50$",
        ):
            Word2Vec([["a"]], second)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^corpus_file is an empty list: expected at least one file$"):
        Word2Vec(corpus_file=[])
    for wrong in (50, 0):
        with pytest.raises(
            TypeError, match=r"^corpus_file is an int: expected the name of a file, or a list of names$"
        ):
            Word2Vec(corpus_file=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["text.txt", b"text.txt", Path("text.txt")], ids=["str", "bytes", "Path"])
def test_a_file_in_the_place_of_sentences_is_told_its_argument(name: object) -> None:
    with pytest.raises(TypeError, match=r"^sentences is a \w+: expected an .* of words; give a file as corpus_file=$"):
        Word2Vec(name)  # type: ignore[arg-type]
