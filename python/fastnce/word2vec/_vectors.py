"""Word vectors by word, and which of them are near each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import fastnce
from fastnce._errors import is_a
from fastnce.word2vec import _evaluate, _formats
from fastnce.word2vec._options import integer
from fastnce.word2vec._words import Keys

Floats = npt.NDArray[np.float32]
Key = str | int
Query = Key | npt.NDArray[Any]
"""A word, or a vector."""
Path = str | os.PathLike[str]

_MOST = (1 << 31) - 1
"""Words."""


class KeyedVectors:
    """Vectors ``[V, D]`` with a word, or an item's id, for each row. Names and results are those of gensim's class.

    ``vectors[i]`` is that of ``index_to_key[i]``; words come by falling frequency where they come from a text. Queries
    normalise a copy of the vectors once: do not change these afterwards.
    """

    def __init__(self, keys: Keys, vectors: Floats, counts: npt.NDArray[np.int64] | None = None) -> None:
        if vectors.ndim != 2 or len(vectors) != len(keys):
            raise ValueError(
                f"vectors are {list(vectors.shape)}: expected [V, D] with V = {len(keys)}, one for each key"
            )
        self.index_to_key = keys
        self.key_to_index: dict[Any, int] = {key: i for i, key in enumerate(keys)}
        if len(self.key_to_index) != len(keys):
            twice = next(key for i, key in enumerate(keys) if self.key_to_index[key] != i)
            raise ValueError(f"keys hold {twice!r} twice: expected different ones")
        self.vectors = vectors
        self.counts = counts
        """``[V]``: how often each word occurred, where that is known."""
        self._unit: Floats | None = None

    @property
    def vector_size(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.index_to_key)

    def __iter__(self) -> Iterator[Any]:
        """The words, in the order of the rows."""
        return iter(self.index_to_key)

    def __contains__(self, key: object) -> bool:
        return key in self.key_to_index

    def __getitem__(self, key: Any) -> Floats:
        """``[D]``, the vector of a word, or ``[n, D]``, those of a list of words."""
        one = isinstance(key, str | int | np.integer)
        vectors: Floats = self.vectors[self.get_index(key) if one else [self.get_index(each) for each in key]]
        return vectors

    def get_index(self, key: Key) -> int:
        """The row of a word. Raises ``KeyError``."""
        try:
            return self.key_to_index[key]
        except KeyError:
            raise KeyError(f"{key!r} is not among the {len(self)} words") from None

    def unit_vectors(self) -> Floats:
        """``[V, D]``, float32: the vectors divided by their norms; zero vectors stay."""
        if self._unit is None:
            norms = np.sqrt(np.einsum("vd,vd->v", self.vectors, self.vectors, dtype=np.float64))
            norms[norms == 0] = 1
            unit = np.empty(self.vectors.shape, np.float32)
            self._unit = np.divide(self.vectors, norms[:, None], out=unit, casting="same_kind")
        return self._unit

    def similarity(self, a: Key, b: Key) -> float:
        """The cosine of the vectors of two words."""
        unit = self.unit_vectors()
        return float(unit[self.get_index(a)] @ unit[self.get_index(b)])

    def most_similar(
        self,
        positive: Query | Sequence[Query] | None = None,
        negative: Query | Sequence[Query] | None = None,
        topn: int = 10,
        restrict_vocab: int | None = None,
    ) -> list[tuple[Any, float]]:
        """The words whose vectors have the largest cosine with the sum of unit vectors of ``positive``.

        ``most_similar("king")`` gives neighbours of a word; ``most_similar(["king", "woman"], ["man"])`` solves an
        analogy: man is to king as woman is to ... The words of the query are not among the results.

        Args:
            positive: A word, a vector, or a list of such.
            negative: Their unit vectors are subtracted.
            topn: How many; ``len(vectors)`` for all.
            restrict_vocab: Only the first so many words, the most frequent ones.

        Returns:
            ``[(word, cosine)]``, the nearest first.
        """
        queries = [*((query, 1.0) for query in _listed(positive)), *((query, -1.0) for query in _listed(negative))]
        if not queries:
            raise ValueError("positive and negative are empty: expected a word or a vector")
        count = integer("topn", topn, 0, _MOST)
        unit = self.unit_vectors()
        target = np.zeros(self.vector_size, np.float64)
        known = []
        for query, sign in queries:
            if isinstance(query, np.ndarray):
                if query.shape != target.shape:
                    raise ValueError(f"a vector of the query is {list(query.shape)}: expected [{self.vector_size}]")
                target += sign * query
            else:
                known.append(self.get_index(query))
                target += sign * unit[known[-1]]
        norm = np.linalg.norm(target)
        rows = unit[:restrict_vocab]
        direction = (target / norm if norm > 0 else target).astype(np.float32)[None]
        # Words beyond restrict_vocab are no classes, so they cannot be excluded; nor need they.
        excluded = np.array([i for i in dict.fromkeys(known) if i < len(rows)], np.int64)
        exclude = fastnce.Ragged(excluded, np.array([0, len(excluded)], np.int64))
        scores, ids = fastnce.top_k(rows, None, direction, min(count, len(rows)), exclude)
        return [(self.index_to_key[i], float(score)) for i, score in zip(ids[0], scores[0], strict=True) if i >= 0]

    def evaluate_word_analogies(
        self, analogies: Path, restrict_vocab: int | None = 300_000, case_insensitive: bool = True
    ) -> tuple[float, list[dict[str, Any]]]:
        """How many analogies of a file are solved: the numbers of gensim's function.

        Lines are ``a b c d`` (a is to b as c is to d), in sections that begin with ``: name``; the first line begins
        one. An analogy counts as
        solved if d is nearest to b - a + c; those with unknown words are left out.

        Returns:
            ``(share of solved ones, sections)``, each section a dict with its name (``"section"``) and lists of the
            analogies in it, ``"correct"`` and ``"incorrect"``; the last is the sum, ``"Total accuracy"``.
        """
        return _evaluate.word_analogies(self, analogies, restrict_vocab, case_insensitive)

    def evaluate_word_pairs(
        self,
        pairs: Path,
        delimiter: str = "\t",
        restrict_vocab: int | None = 300_000,
        case_insensitive: bool = True,
    ) -> _evaluate.WordPairs:
        """How the cosines of pairs of words correlate with people's judgements: the numbers of gensim's function.

        Lines are ``word, word, similarity``, separated by ``delimiter``; lines that begin with ``#`` are skipped. Pairs
        with unknown words are left out.

        Returns:
            ``(pearson, spearman, oov_ratio)``, the last one the percentage of pairs with unknown words.
        """
        return _evaluate.word_pairs(self, pairs, delimiter, restrict_vocab, case_insensitive)

    def save(self, path: Path) -> None:
        """Write to a file whose name says the format.

        ``.txt``, ``.vec`` and ``.bin`` are word2vec's text and binary formats, also with ``.gz`` behind; ``.npz``, and
        ``.npy`` with the words in ``.words.txt``, are NumPy's; ``.safetensors`` needs the package of that name. The
        file is replaced when all is written.
        """
        _formats.save(path, self.index_to_key, self.vectors, self.counts)

    @classmethod
    def load(cls, path: Path) -> KeyedVectors:
        """Read a file that :meth:`save` has written; the name says the format."""
        return cls(*_formats.load(path))

    def save_word2vec_format(self, path: Path, binary: bool = False) -> None:
        """Write word2vec's text or binary format, whatever the name; with ``.gz`` at its end, compressed."""
        _formats.save(path, self.index_to_key, self.vectors, self.counts, "binary" if binary else "text")

    @classmethod
    def load_word2vec_format(cls, path: Path, binary: bool = False) -> KeyedVectors:
        """Read word2vec's text or binary format, whatever the name; ``.gz`` and ``.xz`` are decompressed."""
        return cls(*_formats.load(path, "binary" if binary else "text"))


def _listed(query: Query | Sequence[Query] | None) -> Iterable[Query]:
    if query is None:
        return []
    if isinstance(query, str | int | np.integer) or (isinstance(query, np.ndarray) and query.ndim == 1):
        return [query]
    if not isinstance(query, Iterable):
        raise TypeError(f"a query {is_a(query)}: expected a word, a vector, or a list of such")
    return query
