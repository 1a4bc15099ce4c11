"""A text as ids of words: the vocabulary in memory, the ids in a temporary file, 4 bytes a word."""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._errors import is_a
from fastnce.word2vec import _text

Ids = npt.NDArray[np.int32]
Keys = list[str] | list[int]
Path = str | os.PathLike[str]

PARAGRAPH_END = -1
_DROPPED = -2
_BLOCK = 1 << 20
"""Ids at a time."""


class IdFile:
    """Ids in an unnamed file, which vanishes with the process, in the folder that ``TMPDIR`` names."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self.length = 0

    def append(self, ids: Ids) -> None:
        self.write(ids, self.length)
        self.length += len(ids)

    def write(self, ids: Ids, start: int) -> None:
        rest = np.ascontiguousarray(ids).view(np.uint8).data
        try:
            while len(rest):
                rest = rest[os.pwrite(self._descriptor, rest, 4 * start + ids.nbytes - len(rest)) :]
        except OSError as error:
            message = (
                f"{error.strerror}, of the ids of the text, 4 bytes a word: set TMPDIR to a folder with more space"
            )
            raise OSError(error.errno, message, tempfile.gettempdir()) from error

    def read(self, start: int, count: int) -> Ids:
        """Up to ``count`` ids from this place on."""
        ids = np.empty(min(count, self.length - start), np.int32)
        rest = ids.view(np.uint8).data
        while len(rest):
            rest = rest[os.preadv(self._descriptor, [rest], 4 * start + ids.nbytes - len(rest)) :]
        return ids

    def truncate(self, length: int) -> None:
        os.truncate(self._descriptor, 4 * length)
        self.length = length


class Corpus:
    """A text of which the ids are ranks: 0 is the most frequent word."""

    words: Keys
    """The vocabulary, V words or items by falling frequency; equally frequent ones by their first occurrence."""
    counts: npt.NDArray[np.int64]
    """``[V]``: how often each of them occurs."""
    total: int
    """Words of the text, with those that are too rare for the vocabulary."""
    length: int
    """Ids, with a ``PARAGRAPH_END`` after each paragraph."""
    digest: str
    """Two texts whose digests and words are equal are the same."""

    def __init__(
        self,
        ids: IdFile,
        counts: npt.NDArray[np.int64],
        words_of: Callable[[npt.NDArray[np.int64]], Keys],
        min_count: int,
    ) -> None:
        """``ids`` and ``counts`` by first occurrence, ``words_of`` the words of such numbers."""
        if len(counts) == 0:
            raise ValueError("the text has no words: expected words separated by spaces, one paragraph a line")
        order = np.argsort(-counts, kind="stable")
        order = order[: np.count_nonzero(counts >= min_count)]
        if len(order) < 2:
            first = int(counts.argmax())
            word = words_of(np.array([first]))[0]
            raise ValueError(
                f"min_count = {min_count} leaves {len(order)} of {len(counts)} words in the vocabulary (the commonest, "
                f"{word!r}, occurs {counts[first]} times): expected 2 or more; lower min_count, or use more text"
            )
        self.words = words_of(order)
        self.counts = counts[order]
        self.total = int(counts.sum())
        self._ids = ids
        self.digest = self._renumber(order, len(counts))
        self.length = ids.length

    def _renumber(self, order: npt.NDArray[np.int64], size: int) -> str:
        """Turn numbers by first occurrence into ranks, in place, without dropped words and empty paragraphs."""
        rank = np.full(size + 1, _DROPPED, np.int32)
        rank[order] = np.arange(len(order))
        rank[PARAGRAPH_END] = PARAGRAPH_END  # the last entry
        written, checksum, last = 0, 0, PARAGRAPH_END
        for start in range(0, self._ids.length, _BLOCK):
            ranks = rank[self._ids.read(start, _BLOCK)]
            ranks = ranks[ranks != _DROPPED]
            before = np.concatenate([np.array([last], np.int32), ranks[:-1]])
            ranks = ranks[(ranks != PARAGRAPH_END) | (before != PARAGRAPH_END)]
            last = ranks[-1] if len(ranks) else last
            checksum = zlib.crc32(ranks.tobytes(), checksum)
            self._ids.write(ranks, written)
            written += len(ranks)
        self._ids.truncate(written)
        return f"{written} ids, crc32 {checksum:08x}"

    def close(self) -> None:
        """Give the space of the ids back, which only training reads."""
        del self._ids

    def piece(self, start: int, size: int) -> Ids:
        """Up to ``size`` ids, from the id number ``start`` on.

        It ends where a paragraph ends, unless that would leave less than half of it.
        """
        ids = self._ids.read(start, size)
        half = len(ids) // 2
        if start + len(ids) < self.length:
            ends = np.flatnonzero(ids[half:] == PARAGRAPH_END)
            ids = ids[: half + int(ends[-1]) + 1] if len(ends) else ids
        return ids


def read_files(
    paths: Sequence[Path], min_count: int, errors: str = "strict", report: Callable[[int], None] | None = None
) -> Corpus:
    """A corpus of text files, one after the other; ``report`` is called with the number of bytes of each piece."""
    reader = _core.TextReader(errors)
    ids = IdFile()
    for path in paths:
        reader.begin(_text.readable_name(path))
        for piece in _text.pieces(path):
            ids.append(reader.read(piece))
            if report is not None:
                report(len(piece))
        ids.append(reader.end())
    return Corpus(ids, reader.counts, reader.words, min_count)


def read_sentences(sentences: Iterable[Iterable[Any]], min_count: int) -> Corpus:
    """A corpus of lists of words, or of items that have integers as names."""
    number: defaultdict[Any, int] = defaultdict()
    number.default_factory = number.__len__  # an unknown word gets the next free number
    counts = np.zeros(0, np.int64)
    ids, pending = IdFile(), list[int]()

    def flush() -> None:
        nonlocal counts
        block = np.array(pending, np.int32)
        counts = np.concatenate([counts, np.zeros(len(number) - len(counts), np.int64)])
        np.add.at(counts, block[block != PARAGRAPH_END], 1)
        ids.append(block)
        pending.clear()

    for i, sentence in enumerate(sentences):
        if isinstance(sentence, str | bytes):
            raise TypeError(f"sentences: number {i} {is_a(sentence)}: expected a list of words, as of .split()")
        try:
            words = map(number.__getitem__, sentence)
            pending.extend(itertools.islice(words, _BLOCK))
            while len(pending) >= _BLOCK:  # a sentence may be a text without end
                flush()
                pending.extend(itertools.islice(words, _BLOCK))
        except TypeError as error:  # no list, or something in it that has no hash
            raise TypeError(f"sentences: number {i}: {error}: expected a list of words, or of ids of items") from error
        pending.append(PARAGRAPH_END)
    flush()
    keys = _keys(list(number))
    return Corpus(ids, counts, lambda numbers: [keys[i] for i in numbers], min_count)


def _keys(names: list[Any]) -> Keys:
    """The words, all str, or all int."""
    if all(isinstance(name, str) for name in names):
        return names
    if all(isinstance(name, int | np.integer) for name in names):
        items = [int(name) for name in names]
        large = next((item for item in items if not -(1 << 63) <= item < 1 << 63), None)
        if large is not None:
            raise ValueError(f"sentences hold {large}: expected ids of items of at most 64 bits, as int64 has")
        return items
    odd = [f"{name!r}, which {is_a(name)}" for name in names if not isinstance(name, str | int | np.integer)]
    what = odd[0] if odd else "both str and int"
    raise TypeError(f"sentences hold {what}: expected words, all str, or ids of items, all int")
